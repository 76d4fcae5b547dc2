//! How far a long look is, for a person at a terminal.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// A line on the terminal that says how far it is, once it takes longer than a moment. Nothing where nobody looks.
pub struct Progress {
    state: Arc<State>,
    teller: Option<(Sender<()>, JoinHandle<()>)>,
}

#[derive(Default)]
struct State {
    what: Mutex<&'static str>,
    done: AtomicUsize,
    total: AtomicUsize,
}

/// How often the line is written anew.
const STEP: Duration = Duration::from_millis(250);

// === impl Progress ===

impl Progress {
    /// Tells it on standard error, if that is a terminal.
    pub fn start() -> Self {
        if !std::io::stderr().is_terminal() {
            return Self::silent();
        }
        let state = Arc::new(State::default());
        let (sender, stop) = channel();
        let told = state.clone();
        let teller = std::thread::spawn(move || {
            let mut is_shown = false;
            while stop.recv_timeout(STEP) == Err(RecvTimeoutError::Timeout) {
                let what = *told.what.lock().unwrap_or_else(PoisonError::into_inner);
                let (done, total) = (
                    told.done.load(Ordering::Relaxed),
                    told.total.load(Ordering::Relaxed),
                );
                // Nobody minds if a line is lost.
                let _ = write!(std::io::stderr(), "\r\x1b[K{what}: {done} of {total}");
                is_shown = true;
            }
            if is_shown {
                let _ = write!(std::io::stderr(), "\r\x1b[K");
            }
        });
        Self {
            state,
            teller: Some((sender, teller)),
        }
    }

    /// Tells nobody.
    pub fn silent() -> Self {
        Self {
            state: Arc::default(),
            teller: None,
        }
    }

    /// The next part starts, which has so many steps.
    pub fn expect(&self, what: &'static str, total: usize) {
        *self
            .state
            .what
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = what;
        self.state.done.store(0, Ordering::Relaxed);
        self.state.total.store(total, Ordering::Relaxed);
    }

    /// Takes one step.
    pub fn count<T>(&self, step: impl FnOnce() -> T) -> T {
        let done = step();
        self.state.done.fetch_add(1, Ordering::Relaxed);
        done
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((stop, teller)) = self.teller.take() {
            drop(stop);
            let _ = teller.join();
        }
    }
}
