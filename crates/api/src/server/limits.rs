//! Limits on what clients may cost.

use std::time::Duration;

/// Limits on what clients may cost.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Open connections. A further client displaces the one that has proved least, or gets a 503.
    pub connections: usize,
    /// Connections beyond [`connections`](Self::connections) that get a 503 at a time. More
    /// connections wait briefly.
    pub shedding: usize,
    /// After this time without a request, a connection may be displaced by any newcomer.
    pub grace: Duration,
    /// Concurrent requests, over all servers that share [`Metrics`](crate::Metrics), until their
    /// response is handed to the connection. A request beyond gets a 503.
    pub in_flight: usize,
    /// Time from the end of one response, or the start of the connection, to the end of the next
    /// request's head. iPXE keeps an idle connection for 10 s.
    pub head: Duration,
    /// Time from the moment that a client's window is full until it has read the whole response.
    pub answer: Duration,
    /// Size of all headers of a request, in bytes.
    pub header_bytes: usize,
    /// Size of all handshakes and heads that have not arrived completely, except for the first 2 KiB
    /// of each. Beyond, connections of the network that holds most are closed.
    pub input_bytes: usize,
    /// Size of all long answers that clients have not read yet, in bytes. Beyond, clients that read
    /// nothing are disconnected; if there are none, the request gets a 503.
    pub answer_bytes: usize,
    /// Time for responses in progress once the server stops.
    pub drain: Duration,
}

// === impl Limits ===

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 16 * 1024,
            shedding: 2048,
            // A request that the kernel dropped in a crowd is sent again after 1, 3 and 7 s.
            grace: Duration::from_secs(10),
            in_flight: 4096,
            head: Duration::from_secs(15),
            answer: Duration::from_secs(30),
            header_bytes: 16 * 1024,
            input_bytes: 32 * 1024 * 1024,
            answer_bytes: 512 * 1024 * 1024,
            drain: Duration::from_secs(30),
        }
    }
}

impl Limits {
    /// Lowers the limits so that connections need at most this many open files. At least an eighth
    /// of them is reserved for connections that get a 503.
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
