//! Limits the log lines that strangers can cause.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use places::Source;
use tracing::warn;

/// Lines per second and at once, of all clients.
const TOTAL: Rate = Rate {
    per_second: 100,
    burst: 1_000,
};
/// Lines per second and at once, of one /24 (IPv6: /56).
const PREFIX: Rate = Rate {
    per_second: 10,
    burst: 100,
};
/// Number of buckets for prefixes. Those that meet in one bucket share it.
const PREFIXES: usize = 256;
/// How often lines that were left out are reported.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// Decides which lines about refused clients are logged: a flood from one network must fill neither
/// the disk nor the place of lines about others.
#[derive(Debug)]
pub struct LineLimit {
    state: Mutex<State>,
    hasher: RandomState,
}

/// The number of lines that were left out over some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// The number of lines.
    pub lines: u64,
    /// The time since the first of them.
    pub over: Duration,
}

#[derive(Debug)]
struct State {
    total: Bucket,
    prefixes: Box<[Bucket]>,
    left_out: u64,
    /// When the first line of `left_out` was left out.
    since: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Rate {
    per_second: u32,
    burst: u32,
}

/// A token bucket. Its level is a time: a full bucket is one whose time has passed.
#[derive(Clone, Copy, Debug)]
struct Bucket(Instant);

// === impl LineLimit ===

impl Default for LineLimit {
    fn default() -> Self {
        let now = Instant::now();
        Self {
            state: Mutex::new(State {
                total: Bucket(now),
                prefixes: vec![Bucket(now); PREFIXES].into(),
                left_out: 0,
                since: now,
            }),
            hasher: RandomState::new(),
        }
    }
}

impl LineLimit {
    /// Whether to log a line about this client. Counts the line if not.
    pub fn allows(&self, peer: IpAddr) -> bool {
        self.allows_at(peer, Instant::now())
    }

    /// Whether to log a line about this client. Counts the line if not, and now and then logs how
    /// many such lines were left out. `what` says what they are about.
    pub fn allows_or_reports(&self, peer: IpAddr, what: &str) -> bool {
        if let Some(LeftOut { lines, over }) = self.report() {
            warn!(
                lines,
                seconds = over.as_secs(),
                "more {what} than are logged"
            );
        }
        self.allows(peer)
    }

    /// Returns how many lines were left out since the last report, if a report is due.
    pub fn report(&self) -> Option<LeftOut> {
        self.report_at(Instant::now())
    }

    fn allows_at(&self, peer: IpAddr, now: Instant) -> bool {
        let at =
            usize::try_from(self.hasher.hash_one(Source::from(peer).prefix()) % PREFIXES as u64)
                .expect("the number of buckets fits");
        let mut state = self.state();
        // A prefix that is over its limit must not use up what others may log.
        let is_allowed = state.prefixes[at].take(PREFIX, now) && state.total.take(TOTAL, now);
        if !is_allowed {
            if state.left_out == 0 {
                state.since = now;
            }
            state.left_out += 1;
        }
        is_allowed
    }

    fn report_at(&self, now: Instant) -> Option<LeftOut> {
        let mut state = self.state();
        let over = now.saturating_duration_since(state.since);
        if state.left_out == 0 || over < REPORT_INTERVAL {
            return None;
        }
        Some(LeftOut {
            lines: std::mem::take(&mut state.left_out),
            over,
        })
    }

    /// Ignores poisoning: no code panics while it holds this lock.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Bucket ===

impl Bucket {
    /// Takes a token, if there is one.
    fn take(&mut self, rate: Rate, now: Instant) -> bool {
        let one = Duration::from_secs(1) / rate.per_second;
        let next = self.0.max(now) + one;
        let is_allowed = next <= now + one * rate.burst;
        if is_allowed {
            self.0 = next;
        }
        is_allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(limit: &LineLimit, peer: &str, lines: usize, now: Instant) -> usize {
        let peer = peer.parse().unwrap();
        (0..lines).filter(|_| limit.allows_at(peer, now)).count()
    }

    #[test]
    fn one_prefix_can_log_its_share_and_leaves_room_for_others() {
        let (limit, now) = (LineLimit::default(), Instant::now());
        assert_eq!(allowed(&limit, "192.0.2.7", 5_000, now), 100);
        assert_eq!(allowed(&limit, "192.0.2.99", 5_000, now), 0, "the same /24");
        assert_eq!(
            allowed(&limit, "::ffff:192.0.2.99", 10, now),
            0,
            "the same /24, mapped"
        );
        let later = now + Duration::from_secs(3);
        assert_eq!(allowed(&limit, "192.0.2.7", 5_000, later), 30);
    }

    #[test]
    fn all_prefixes_together_have_a_limit() {
        let (limit, now) = (LineLimit::default(), Instant::now());
        let of_prefix = |n: usize| allowed(&limit, &format!("2001:db8:{n:x}::1"), 100, now);
        assert_eq!((0..5_000).map(of_prefix).sum::<usize>(), 1_000);
    }

    #[test]
    fn lines_that_are_left_out_are_counted_and_reported_once() {
        let (limit, now) = (LineLimit::default(), Instant::now());
        allowed(&limit, "192.0.2.7", 150, now);
        assert_eq!(limit.report_at(now + Duration::from_secs(1)), None);
        let over = Duration::from_secs(11);
        assert_eq!(
            limit.report_at(now + over),
            Some(LeftOut { lines: 50, over })
        );
        assert_eq!(limit.report_at(now + 2 * over), None);
    }
}
