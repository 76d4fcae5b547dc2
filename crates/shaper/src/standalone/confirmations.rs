//! Passes an operator's confirmations of a mass deletion to the loader.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::admin::Part;
use manifests::Waker;

/// Passes confirmations from the admin port to the loader's thread.
pub(super) struct Confirmations {
    is_confirmed: AtomicBool,
    /// The number of objects that the guard keeps.
    pub(super) held: AtomicUsize,
    waker: Waker,
}

impl Confirmations {
    pub(super) fn new(waker: Waker) -> Self {
        Self {
            is_confirmed: AtomicBool::new(false),
            held: AtomicUsize::new(0),
            waker,
        }
    }

    /// Returns whether a confirmation arrived since the last call.
    pub(super) fn take_confirmation(&self) -> bool {
        self.is_confirmed.swap(false, Ordering::AcqRel)
    }
}

impl Part for Confirmations {
    fn confirm(&self, _: Option<&str>) -> Option<usize> {
        let held = self.held.swap(0, Ordering::Relaxed);
        if held > 0 {
            self.is_confirmed.store(true, Ordering::Release);
            self.waker.wake();
        }
        Some(held)
    }
}
