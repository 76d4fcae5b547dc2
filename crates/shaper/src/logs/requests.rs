//! The lines of requests, which all have the same fields.

use std::cell::RefCell;
use std::io::{self, Write};

use api::{Line, RequestLog};

use super::queue::Queue;
use super::{Format, json, line};

/// Writes the lines of requests as all others look.
pub(super) struct Requests {
    pub(super) format: Format,
    pub(super) has_colours: bool,
    /// Without a thread for it, whoever logs writes.
    pub(super) queue: Option<Queue>,
}

/// A line of usual length; room for a longer one is given back.
const USUAL_BYTES: usize = 4096;

impl RequestLog for Requests {
    fn write(&self, line: &Line<'_>) {
        thread_local! {
            /// The line that is being made.
            static TEXT: RefCell<String> = const { RefCell::new(String::new()) };
        }
        TEXT.with_borrow_mut(|text| {
            text.clear();
            match self.format {
                Format::Json => json::request(text, line),
                Format::Text => line::request(text, line, self.has_colours),
            }
            match &self.queue {
                Some(queue) => queue.push(text.as_bytes()),
                // Who can't write it can't say so either.
                None => drop(io::stderr().write_all(text.as_bytes())),
            }
            text.shrink_to(USUAL_BYTES);
        });
    }
}
