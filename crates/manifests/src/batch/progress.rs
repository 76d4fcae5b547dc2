//! Shows the progress of a long command on a terminal.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// A progress line on the terminal, shown once a command takes longer than a moment.
pub struct Progress {
    state: Arc<State>,
    reporter: Option<(Sender<()>, JoinHandle<()>)>,
}

#[derive(Default)]
struct State {
    what: Mutex<&'static str>,
    done: AtomicUsize,
    total: AtomicUsize,
}

/// The interval at which the line is rewritten.
const STEP: Duration = Duration::from_millis(250);

// === impl Progress ===

impl Progress {
    /// Shows progress on standard error if that is a terminal.
    pub fn start() -> Self {
        if !std::io::stderr().is_terminal() {
            return Self::silent();
        }
        let state = Arc::new(State::default());
        let (sender, stop) = channel();
        let told = state.clone();
        let reporter = std::thread::spawn(move || {
            let mut is_shown = false;
            while stop.recv_timeout(STEP) == Err(RecvTimeoutError::Timeout) {
                let what = *told.what.lock().unwrap_or_else(PoisonError::into_inner);
                let (done, total) = (
                    told.done.load(Ordering::Relaxed),
                    told.total.load(Ordering::Relaxed),
                );
                // A lost progress line is harmless.
                let _ = write!(std::io::stderr(), "\r\x1b[K{what}: {done} of {total}");
                is_shown = true;
            }
            if is_shown {
                let _ = write!(std::io::stderr(), "\r\x1b[K");
            }
        });
        Self {
            state,
            reporter: Some((sender, reporter)),
        }
    }

    /// Shows nothing.
    pub fn silent() -> Self {
        Self {
            state: Arc::default(),
            reporter: None,
        }
    }

    /// Starts the next part, with this many steps.
    pub fn expect(&self, what: &'static str, total: usize) {
        *self
            .state
            .what
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = what;
        self.state.done.store(0, Ordering::Relaxed);
        self.state.total.store(total, Ordering::Relaxed);
    }

    /// Runs one step and counts it.
    pub fn count<T>(&self, step: impl FnOnce() -> T) -> T {
        let done = step();
        self.state.done.fetch_add(1, Ordering::Relaxed);
        done
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((stop, reporter)) = self.reporter.take() {
            drop(stop);
            let _ = reporter.join();
        }
    }
}
