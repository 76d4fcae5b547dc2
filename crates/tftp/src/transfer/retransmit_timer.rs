//! Computes how long to wait for an acknowledgement.

use std::time::Duration;

/// The timeout before any measurement (RFC 6298).
const INITIAL_TIMEOUT: Duration = Duration::from_secs(1);
const MIN_TIMEOUT: Duration = Duration::from_millis(200);
const MAX_RETRANSMIT_TIMEOUT: Duration = Duration::from_secs(8);
/// The shortest time after which a packet is presumed lost rather than in flight.
const MIN_RESEND_GUARD: Duration = Duration::from_millis(10);

/// A peer's round-trip time and the timeouts derived from it.
#[derive(Clone, Copy, Debug)]
pub(super) struct RetransmitTimer {
    /// The timeout that the peer requested.
    fixed: Option<Duration>,
    /// The smoothed round-trip time and its variation.
    round_trip: Option<(Duration, Duration)>,
}

impl RetransmitTimer {
    /// `timeout` is the option of RFC 2349, in seconds.
    pub(super) fn new(timeout: Option<u8>) -> Self {
        Self {
            fixed: timeout.map(|seconds| Duration::from_secs(seconds.into())),
            round_trip: None,
        }
    }

    /// Records a round-trip time.
    pub(super) fn observe(&mut self, sample: Duration) {
        self.round_trip = Some(match self.round_trip {
            None => (sample, sample / 2),
            Some((smooth, variation)) => (
                (smooth * 7 + sample) / 8,
                (variation * 3 + smooth.abs_diff(sample)) / 4,
            ),
        });
    }

    /// The time until the next repeat after `repeats` repeats.
    pub(super) fn timeout(&self, repeats: u32) -> Duration {
        if let Some(fixed) = self.fixed {
            return fixed;
        }
        let first = self
            .round_trip
            .map_or(INITIAL_TIMEOUT, |(smooth, variation)| {
                (smooth + variation * 4).clamp(MIN_TIMEOUT, MAX_RETRANSMIT_TIMEOUT)
            });
        (first * 2_u32.saturating_pow(repeats.min(8))).min(MAX_RETRANSMIT_TIMEOUT)
    }

    /// The time after which an unacknowledged packet is presumed lost.
    pub(super) fn resend_guard(&self) -> Duration {
        self.round_trip
            .map_or(INITIAL_TIMEOUT, |(smooth, _)| smooth * 2)
            .clamp(MIN_RESEND_GUARD, MIN_TIMEOUT)
    }
}
