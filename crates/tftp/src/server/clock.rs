//! The thread that owns the clock: it sends retransmissions and stops the server.
//!
//! It is not pinned to a CPU, so that a busy CPU delays neither.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::socket::{Sender, Socket};
use super::worker::{ServerState, StopOnDrop};
use crate::metrics::Metrics;
use crate::outbox::Outbox;

/// The tick while transfers run, which bounds the delay of a retransmission.
const TICK: Duration = Duration::from_millis(50);
/// The tick while no transfer runs, which bounds the delay of noticing one or a stop.
const IDLE_TICK: Duration = Duration::from_millis(250);

/// The clock of a server.
pub(super) struct Clock<'a> {
    /// The sockets by index; retransmissions leave through those of any worker.
    pub(super) sockets: &'a [Socket],
    pub(super) stop: &'a AtomicBool,
    /// How long transfers may continue after `stop`.
    pub(super) drain: Duration,
}

// === impl Clock ===

impl Clock<'_> {
    /// Ticks until `stop` is set and transfers are over.
    pub(super) fn run(&self, state: &ServerState, metrics: Metrics) {
        let _stop_on_drop = StopOnDrop(state);
        // Don't wait for a full queue: its packets are sent again later, and must not delay those
        // for other peers.
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
