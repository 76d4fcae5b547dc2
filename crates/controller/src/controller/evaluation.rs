//! Paces the evaluation of what Machines boot, so that it never delays updates.

use std::time::Duration;

use tokio::time::Instant;

use super::State;

/// How long one slice of evaluation takes at most, before incoming updates are read again.
const SLICE: Duration = Duration::from_millis(2);
/// How many times as long as a slice the pause after it takes: a tenth of a core at most.
const PAUSE_PER_SLICE: u32 = 9;
/// The time between two full passes.
const PASS_INTERVAL: Duration = Duration::from_secs(2);
/// When to look again if there is nothing to evaluate.
const IDLE: Duration = Duration::from_secs(1);

/// When to evaluate next.
#[derive(Debug)]
pub(super) struct Pace {
    next_slice: Instant,
    next_pass: Instant,
}

// === impl Pace ===

impl Default for Pace {
    fn default() -> Self {
        let now = Instant::now();
        Self {
            next_slice: now,
            next_pass: now,
        }
    }
}

// === impl State ===

impl State {
    /// Evaluates for a moment, if anything is due, and queues the objects whose status may have to
    /// change. Returns when to call this again.
    pub(super) fn evaluate(&mut self, now: Instant) -> Instant {
        let pace = &mut self.evaluation_pace;
        if now < pace.next_slice {
            return pace.next_slice;
        }
        if self.index.placements().needs_pass() && now >= pace.next_pass {
            self.index.placements().begin_pass();
        }
        if !self.index.placements().has_work() {
            let idle = now + IDLE;
            return if self.index.placements().needs_pass() {
                pace.next_pass.min(idle)
            } else {
                idle
            };
        }
        let was_passing = self.index.placements().is_passing();
        let start = std::time::Instant::now();
        while self.index.placements().has_work() && start.elapsed() < SLICE {
            for name in self.index.evaluate_some() {
                self.queue.push(name);
            }
        }
        pace.next_slice = now + start.elapsed() * PAUSE_PER_SLICE;
        if was_passing && !self.index.placements().is_passing() {
            pace.next_pass = now + PASS_INTERVAL;
        }
        pace.next_slice
    }
}
