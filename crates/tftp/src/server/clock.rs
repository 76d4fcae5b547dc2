//! The thread that owns the clock, and ends all. It has no processor to stay on: what holds one of them must stop neither repeats nor the end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::socket::{Sender, Socket};
use super::worker::{ServerState, StopOnDrop};
use crate::metrics::Metrics;
use crate::outbox::Outbox;

/// How finely time is cut while transfers run: repeats come so much late at most.
const TICK: Duration = Duration::from_millis(50);
/// ... and while none does: so long it takes at most to see that one does, or that the server is to stop.
const IDLE_TICK: Duration = Duration::from_millis(250);

/// The clock of a server.
pub(super) struct Clock<'a> {
    /// By the number that routes have: what is repeated leaves through any thread's.
    pub(super) sockets: &'a [Socket],
    pub(super) stop: &'a AtomicBool,
    /// How long transfers may go on after that.
    pub(super) drain: Duration,
}

// === impl Clock ===

impl Clock<'_> {
    /// Ticks until the server is to stop and transfers are over.
    pub(super) fn run(&self, state: &ServerState, metrics: Metrics) {
        let _stop_on_drop = StopOnDrop(state);
        // What a full queue does not take is repeated some time later; those behind it must not wait for that.
        let mut sender = Sender::non_blocking(metrics);
        let mut outbox = Outbox::default();
        let mut drained_at = None;
        let mut tick = IDLE_TICK;
        while !state.is_stopped() {
            thread::sleep(tick);
            let (mut transfers, now) = state.transfers();
            if drained_at.is_none() && self.stop.load(Ordering::Relaxed) {
                transfers.drain();
                drained_at = Some(now + self.drain);
            }
            if drained_at.is_some_and(|end| now >= end || transfers.active() == 0) {
                return transfers.stop(now);
            }
            transfers.on_clock(now, &mut outbox);
            tick = if transfers.active() > 0 {
                TICK
            } else {
                IDLE_TICK
            };
            drop(transfers);
            sender.send(self.sockets, &outbox);
            outbox.clear();
        }
    }
}
