//! A simulated network with random faults.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;

/// Probabilities of faults.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    pub(crate) lost: f64,
    pub(crate) copied: f64,
    /// Delayed long enough to be overtaken.
    pub(crate) delayed: f64,
}

/// Arrival time, sequence number, sender, receiver and content.
type Letter = (Duration, u64, SocketAddr, SocketAddr, Vec<u8>);

/// Datagrams in flight.
pub(crate) struct Network {
    rng: StdRng,
    faults: Faults,
    under_way: BinaryHeap<Reverse<Letter>>,
    sent: u64,
}

impl Network {
    pub(crate) fn new(rng: StdRng, faults: Faults) -> Self {
        Self {
            rng,
            faults,
            under_way: BinaryHeap::new(),
            sent: 0,
        }
    }

    pub(crate) fn send(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        datagram: Vec<u8>,
        now: Duration,
    ) {
        if self.rng.random_bool(self.faults.lost) {
            return;
        }
        let copies = if self.rng.random_bool(self.faults.copied) {
            2
        } else {
            1
        };
        for _ in 0..copies {
            let late = self.rng.random_bool(self.faults.delayed);
            let milliseconds = if late {
                self.rng.random_range(5..400)
            } else {
                1
            };
            self.sent += 1;
            // The sequence number orders datagrams that arrive at the same time.
            self.under_way.push(Reverse((
                now + Duration::from_millis(milliseconds),
                self.sent,
                from,
                to,
                datagram.clone(),
            )));
        }
    }

    /// Removes the next datagram that has arrived by now.
    pub(crate) fn next(&mut self, now: Duration) -> Option<(SocketAddr, SocketAddr, Vec<u8>)> {
        let arrives = self
            .under_way
            .peek()
            .is_some_and(|Reverse((at, ..))| *at <= now);
        arrives
            .then(|| self.under_way.pop())
            .flatten()
            .map(|Reverse((_, _, from, to, datagram))| (from, to, datagram))
    }

    /// Whether nothing arrives within 10 ms.
    pub(crate) fn is_quiet(&self, now: Duration) -> bool {
        self.under_way
            .peek()
            .is_none_or(|Reverse((at, ..))| *at > now + Duration::from_millis(10))
    }
}
