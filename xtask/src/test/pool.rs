//! Runs test programs at the same time, as many as their weights allow.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::sync::{Condvar, Mutex, PoisonError};

use super::program::{Outcome, Program};

/// The remaining work.
struct State {
    queue: VecDeque<Program>,
    /// The total weight of the running programs.
    used: usize,
    outcome: Outcome,
    error: Option<anyhow::Error>,
}

/// Runs all programs with at most this total weight at a time, and adds up their results.
pub(super) fn run(
    queue: VecDeque<Program>,
    capacity: usize,
    environment: &[(OsString, OsString)],
) -> anyhow::Result<Outcome> {
    let state = Mutex::new(State {
        queue,
        used: 0,
        outcome: Outcome::default(),
        error: None,
    });
    let finished = Condvar::new();
    std::thread::scope(|scope| {
        for _ in 0..capacity {
            scope.spawn(|| {
                while let Some(program) = next(&state, &finished, capacity) {
                    let ran = program.run(environment);
                    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
                    state.used -= program.weight;
                    match ran {
                        Ok(outcome) => state.outcome.add(outcome),
                        Err(error) => state.error = Some(error),
                    }
                    finished.notify_all();
                }
            });
        }
    });
    let state = state.into_inner().unwrap_or_else(PoisonError::into_inner);
    state.error.map_or(Ok(state.outcome), Err)
}

/// Takes the first program whose weight fits; waits while none does.
fn next(state: &Mutex<State>, finished: &Condvar, capacity: usize) -> Option<Program> {
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        if state.queue.is_empty() {
            return None;
        }
        let free = capacity - state.used;
        if let Some(at) = state
            .queue
            .iter()
            .position(|program| program.weight <= free)
        {
            let program = state.queue.remove(at)?;
            state.used += program.weight;
            return Some(program);
        }
        state = finished.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
}
