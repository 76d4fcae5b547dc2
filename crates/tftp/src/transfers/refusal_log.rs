//! Rate-limited logging of refused requests.

use std::time::Duration;

use tracing::info;

use super::Arrival;
use crate::metrics::Refusal;
use crate::packet::Packet;

/// Lines per second.
const MAX_LINES: u32 = 10;

/// Limits the lines per second, so that a flood does not fill the disk.
#[derive(Debug, Default)]
pub(super) struct RefusalLog {
    second: u64,
    lines: u32,
    suppressed: u64,
}

impl RefusalLog {
    /// Logs a refused request, or counts it as suppressed.
    pub(super) fn refused(&mut self, arrival: &Arrival<'_>, refusal: Refusal, now: Duration) {
        self.on_clock(now);
        self.lines += 1;
        if self.lines > MAX_LINES {
            self.suppressed += 1;
            return;
        }
        let file = match Packet::parse(arrival.datagram) {
            Ok(Packet::Read(request)) => Some(
                String::from_utf8_lossy(&request.file[..request.file.len().min(200)]).into_owned(),
            ),
            _ => None,
        };
        let text = refusal.error().map(|(_, text)| text);
        info!(file, peer = %arrival.route.peer, outcome = refusal.name(), detail = text, "tftp");
    }

    /// Logs the number of suppressed lines once their second is over.
    pub(super) fn on_clock(&mut self, now: Duration) {
        if now.as_secs() == self.second {
            return;
        }
        if self.suppressed > 0 {
            info!(
                requests = self.suppressed,
                "more TFTP requests refused than logged; the metric tftp_refusals counts all"
            );
        }
        *self = Self {
            second: now.as_secs(),
            ..Self::default()
        };
    }
}
