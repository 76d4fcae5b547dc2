//! The lines of requests, which all have the same fields.

use std::io::{self, Write};

use api::{LogEntry, RequestLog};

use super::queue::Queue;
use super::{Format, json, text, with_buffer};

/// Writes the lines of requests as all others look.
pub(super) struct RequestWriter {
    pub(super) format: Format,
    pub(super) has_colours: bool,
    /// Without a thread for it, whoever logs writes.
    pub(super) queue: Option<Queue>,
}

impl RequestLog for RequestWriter {
    fn write(&self, entry: &LogEntry<'_>) {
        with_buffer(|buffer| {
            match self.format {
                Format::Json => json::request(buffer, entry),
                Format::Text => text::request(buffer, entry, self.has_colours),
            }
            match &self.queue {
                Some(queue) => queue.push(buffer.as_bytes()),
                // Who can't write it can't say so either.
                None => drop(io::stderr().write_all(buffer.as_bytes())),
            }
        });
    }
}
