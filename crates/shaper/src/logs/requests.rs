//! The lines of requests, which all have the same fields.

use std::io::{self, Write};

use api::{Line, RequestLog};

use super::queue::Queue;
use super::{Format, json, line, with_line};

/// Writes the lines of requests as all others look.
pub(super) struct Requests {
    pub(super) format: Format,
    pub(super) has_colours: bool,
    /// Without a thread for it, whoever logs writes.
    pub(super) queue: Option<Queue>,
}

impl RequestLog for Requests {
    fn write(&self, line: &Line<'_>) {
        with_line(|text| {
            match self.format {
                Format::Json => json::request(text, line),
                Format::Text => line::request(text, line, self.has_colours),
            }
            match &self.queue {
                Some(queue) => queue.push(text.as_bytes()),
                // Who can't write it can't say so either.
                None => drop(io::stderr().write_all(text.as_bytes())),
            }
        });
    }
}
