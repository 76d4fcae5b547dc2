//! How long to wait for an acknowledgement.

use std::time::Duration;

/// Where nothing is known yet (RFC 6298).
const INITIAL_TIMEOUT: Duration = Duration::from_secs(1);
const MIN_TIMEOUT: Duration = Duration::from_millis(200);
const MAX_RETRANSMIT_TIMEOUT: Duration = Duration::from_secs(8);
/// What was sent less than this ago may still be on its way.
const MIN_RESEND_GUARD: Duration = Duration::from_millis(10);

/// What a transfer knows of its peer's pace.
#[derive(Clone, Copy, Debug)]
pub(super) struct RetransmitTimer {
    /// What the peer asked for.
    fixed: Option<Duration>,
    /// Smoothed round trip time, and how much it varies.
    round_trip: Option<(Duration, Duration)>,
}

impl RetransmitTimer {
    /// `timeout` is the option of RFC 2349.
    pub(super) fn new(timeout: Option<u8>) -> Self {
        Self {
            fixed: timeout.map(|seconds| Duration::from_secs(seconds.into())),
            round_trip: None,
        }
    }

    /// A packet was acknowledged so long after it was sent.
    pub(super) fn observe(&mut self, sample: Duration) {
        self.round_trip = Some(match self.round_trip {
            None => (sample, sample / 2),
            Some((smooth, variation)) => (
                (smooth * 7 + sample) / 8,
                (variation * 3 + smooth.abs_diff(sample)) / 4,
            ),
        });
    }

    /// The time until the next repeat, after so many.
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

    /// The time after which something is not on its way any more, but lost.
    pub(super) fn resend_guard(&self) -> Duration {
        self.round_trip
            .map_or(INITIAL_TIMEOUT, |(smooth, _)| smooth * 2)
            .clamp(MIN_RESEND_GUARD, MIN_TIMEOUT)
    }
}
