//! How long to wait for an acknowledgement.

use std::time::Duration;

/// Where nothing is known yet (RFC 6298).
const FIRST: Duration = Duration::from_secs(1);
const SHORTEST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(8);
/// What was sent less than this ago may still be on its way.
const LEAST_GUARD: Duration = Duration::from_millis(10);

/// What a transfer knows of its peer's pace.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// What the peer asked for.
    fixed: Option<Duration>,
    /// Smoothed round trip time, and how much it varies.
    round_trip: Option<(Duration, Duration)>,
}

impl Patience {
    /// `timeout` is the option of RFC 2349.
    pub(super) fn new(timeout: Option<u8>) -> Self {
        Self {
            fixed: timeout.map(|seconds| Duration::from_secs(seconds.into())),
            round_trip: None,
        }
    }

    /// A packet was acknowledged so long after it was sent.
    pub(super) fn learn(&mut self, sample: Duration) {
        self.round_trip = Some(match self.round_trip {
            None => (sample, sample / 2),
            Some((smooth, variation)) => (
                (smooth * 7 + sample) / 8,
                (variation * 3 + smooth.abs_diff(sample)) / 4,
            ),
        });
    }

    /// The time until the next repeat, after so many.
    pub(super) fn after(&self, repeats: u32) -> Duration {
        if let Some(fixed) = self.fixed {
            return fixed;
        }
        let first = self.round_trip.map_or(FIRST, |(smooth, variation)| {
            (smooth + variation * 4).clamp(SHORTEST, LONGEST)
        });
        (first * 2_u32.saturating_pow(repeats.min(8))).min(LONGEST)
    }

    /// The time after which something is not on its way any more, but lost.
    pub(super) fn guard(&self) -> Duration {
        self.round_trip
            .map_or(FIRST, |(smooth, _)| smooth * 2)
            .clamp(LEAST_GUARD, SHORTEST)
    }
}
