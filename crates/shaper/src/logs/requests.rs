//! Writes the log lines of requests.

use std::io::{self, Write};

use api::{LogEntry, RequestLog};

use super::queue::Queue;
use super::{Format, json, text, with_buffer};

/// Writes requests in the same format as all other lines.
pub(super) struct RequestWriter {
    pub(super) format: Format,
    pub(super) has_colours: bool,
    /// `None` if the writer's thread could not be started; then each thread writes its own lines.
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
                // A failure can't be logged anywhere.
                None => drop(io::stderr().write_all(buffer.as_bytes())),
            }
        });
    }
}
