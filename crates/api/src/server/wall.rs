//! What the clock on the wall shows, for the log, without a question to the system for each request: it knows the other clock already.

use std::cell::Cell;
use std::time::{Duration, Instant, SystemTime};

/// A clock that is set meanwhile is seen after this.
const SOON: Duration = Duration::from_secs(1);

/// The time of day at a moment of the last second, or so.
pub(super) fn time(at: Instant) -> SystemTime {
    thread_local! {
        /// Both clocks at one moment.
        static BOTH: Cell<Option<(Instant, SystemTime)>> = const { Cell::new(None) };
    }
    if let Some((then, time)) = BOTH.get()
        && let Some(since) = at.checked_duration_since(then)
        && since < SOON
    {
        return time + since;
    }
    let (now, time) = (Instant::now(), SystemTime::now());
    BOTH.set(Some((now, time)));
    time - now.saturating_duration_since(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_clocks_agree() {
        let started = Instant::now();
        for back in [0, 1, 1, 500, 5000, 999, 0] {
            let (before, at) = (SystemTime::now(), Instant::now());
            let back = Duration::from_millis(back);
            let time = time(
                at.checked_sub(back)
                    .expect("the computer has run for longer"),
            ) + back;
            let after = SystemTime::now();
            // The clock on the wall may run a little faster or slower.
            let slack = Duration::from_millis(1) + started.elapsed() / 100;
            assert!(
                before - slack <= time && time <= after + slack,
                "{before:?} {time:?} {after:?}"
            );
        }
    }
}
