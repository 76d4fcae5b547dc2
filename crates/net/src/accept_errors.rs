//! Logs the start and the end of a run of `accept(2)` errors, instead of every error.

use std::io;
use std::time::{Duration, Instant};

use tracing::{info, warn};

/// How long `accept` must succeed before a run of errors counts as over.
const RECOVERY_PERIOD: Duration = Duration::from_secs(10);

/// A run of `accept` errors.
#[derive(Debug, Default)]
pub(crate) struct AcceptErrors {
    last_error: Option<Instant>,
}

// === impl AcceptErrors ===

impl AcceptErrors {
    /// Records a failed `accept`; logs the first failure of a run.
    pub(crate) fn failed(&mut self, server: &'static str, error: &io::Error) {
        if self.last_error.replace(Instant::now()).is_none() {
            warn!(
                server,
                %error,
                "can't accept connections, probably out of file descriptors; clients wait until it recovers"
            );
        }
    }

    /// Records a successful `accept`; logs the recovery once the run is over.
    pub(crate) fn succeeded(&mut self, server: &'static str) {
        if self
            .last_error
            .is_some_and(|last| last.elapsed() > RECOVERY_PERIOD)
        {
            self.last_error = None;
            info!(server, "connections are accepted again");
        }
    }
}

/// Whether an `accept` error concerns only the connection that was to be accepted, as when its
/// peer hung up while it waited. Such an error is no reason to slow down.
pub(crate) fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}
