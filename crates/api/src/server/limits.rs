//! What a client may cost.

use std::time::Duration;

/// What a client may cost.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Open connections. Beyond, a client is sent away with a 503.
    pub connections: usize,
    /// Connections beyond, which get their 503. Beyond these, the system's queue is where clients wait.
    pub shedding: usize,
    /// Requests being answered, by all servers that share [`Metrics`](crate::Metrics), until their
    /// answer is handed to the connection. Beyond, 503.
    pub in_flight: usize,
    /// From the end of one answer, or the start of the connection, to the end of the next request's head. iPXE keeps an idle connection for 10 s.
    pub head: Duration,
    /// From the moment that a client's window is full until it has taken the whole answer.
    pub answer: Duration,
    /// All headers of a request, in bytes.
    pub header_bytes: usize,
    /// Long answers that clients have not taken yet, in bytes. Beyond, 503.
    pub answer_bytes: usize,
    /// How long answers that are on their way may take when the server stops.
    pub drain: Duration,
}

// === impl Limits ===

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 16 * 1024,
            shedding: 2048,
            in_flight: 4096,
            head: Duration::from_secs(15),
            answer: Duration::from_secs(30),
            header_bytes: 16 * 1024,
            answer_bytes: 512 * 1024 * 1024,
            drain: Duration::from_secs(30),
        }
    }
}

impl Limits {
    /// The same where no more than so many files can be open for connections: an eighth of them at least is for those that are sent away.
    pub fn within(self, open_files: usize) -> Self {
        if self.connections + self.shedding <= open_files {
            return self;
        }
        let shedding = (open_files / 8).clamp(1, self.shedding);
        Self {
            connections: open_files
                .saturating_sub(shedding)
                .clamp(1, self.connections),
            shedding,
            ..self
        }
    }
}
