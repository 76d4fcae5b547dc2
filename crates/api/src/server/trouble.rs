//! When connections can't be accepted.

use std::io;
use std::time::{Duration, Instant};

use tracing::{info, warn};

/// Connections are accepted again when they were for so long.
const RECOVERED: Duration = Duration::from_secs(10);

/// Failures to accept connections, one after the other, are told once.
#[derive(Debug, Default)]
pub struct Trouble {
    last: Option<Instant>,
}

impl Trouble {
    /// Connections can't be accepted.
    pub fn tell(&mut self, error: &io::Error) {
        if self.last.replace(Instant::now()).is_none() {
            warn!(%error, "can't accept connections for the moment, most likely for want of open files; clients wait and are accepted later");
        }
    }

    /// A connection was accepted.
    pub fn is_over(&mut self) {
        if self.last.is_some_and(|last| last.elapsed() > RECOVERED) {
            self.last = None;
            info!("connections are accepted again");
        }
    }
}
