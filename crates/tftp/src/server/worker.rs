//! A thread that moves datagrams: receives what is there, has all of it decided at once, sends what follows.

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tracing::{debug, warn};

use super::cpus::{self, Pinned};
use super::inbox::Inbox;
use super::socket::{Sender, Socket};
use crate::metrics::Metrics;
use crate::outbox::{Outbox, Route};
use crate::transfers::{Arrival, Transfers};

/// So long it takes at most to see that all is over.
const RECEIVE_TIMEOUT: Duration = Duration::from_millis(250);

/// What all threads of a server have in common.
pub(super) struct ServerState {
    transfers: Mutex<Transfers>,
    start: Instant,
    is_stopped: AtomicBool,
    pinned: Mutex<Vec<Pinned>>,
}

/// One of them.
pub(super) struct Worker {
    /// By the number that routes have. The first is for requests; the others, if any, are for transfers.
    pub(super) sockets: Arc<[Socket]>,
    /// The processor that it stays on.
    pub(super) cpu: Option<usize>,
}

/// What a thread works with.
struct WorkerLoop<'a> {
    state: &'a ServerState,
    sockets: &'a [Socket],
    inbox: Inbox,
    outbox: Outbox,
    sender: Sender,
}

// === impl ServerState ===

impl ServerState {
    pub(super) fn new(transfers: Transfers) -> Self {
        Self {
            transfers: Mutex::new(transfers),
            start: Instant::now(),
            is_stopped: AtomicBool::new(false),
            pinned: Mutex::default(),
        }
    }

    /// The transfers, and what time it is: it never runs back for them.
    pub(super) fn transfers(&self) -> (MutexGuard<'_, Transfers>, Duration) {
        let transfers = self
            .transfers
            .lock()
            .expect("a thread that panics ends all of them");
        let now = self.start.elapsed();
        (transfers, now)
    }

    /// Has all threads end, also those whose processor somebody else holds.
    fn stop(&self) {
        for thread in self
            .pinned
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .drain(..)
        {
            thread.release();
        }
        self.is_stopped.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Relaxed)
    }
}

// === impl Worker ===

impl Worker {
    /// Moves datagrams until all is over.
    pub(super) fn run(&self, state: &ServerState, metrics: Metrics) {
        let _stop_on_drop = StopOnDrop(state);
        match self.cpu.map(cpus::stay_on) {
            Some(Ok(pinned)) => state
                .pinned
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(pinned),
            Some(Err(error)) => debug!(%error, "a thread moves between processors"),
            None => {}
        }
        let sockets = &*self.sockets;
        if let [socket] = sockets {
            socket.set_receive_timeout(RECEIVE_TIMEOUT);
        }
        let inbox = Inbox::new(&sockets[0]);
        let mut worker_loop = WorkerLoop {
            state,
            sockets,
            inbox,
            outbox: Outbox::default(),
            sender: Sender::new(metrics),
        };
        while !state.is_stopped() {
            worker_loop.poll_once();
        }
    }
}

/// However a thread ends, the others must not go on without it.
pub(super) struct StopOnDrop<'a>(pub(super) &'a ServerState);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

// === impl WorkerLoop ===

impl WorkerLoop<'_> {
    /// Waits for datagrams, though not for long, and answers those that are there.
    fn poll_once(&mut self) {
        // A single socket is received from at once: that call waits by itself, and saves another.
        if self.sockets.len() == 1 {
            return self.answer(0);
        }
        for socket in self.wait() {
            self.answer(socket);
        }
    }

    /// The sockets to receive from.
    fn wait(&self) -> Vec<usize> {
        let mut ready: Vec<_> = self
            .sockets
            .iter()
            .map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN))
            .collect();
        match poll(
            &mut ready,
            PollTimeout::try_from(RECEIVE_TIMEOUT).unwrap_or(PollTimeout::ZERO),
        ) {
            Ok(_) => (0..ready.len())
                .filter(|index| ready[*index].any() == Some(true))
                .collect(),
            Err(error) => {
                back_off(&error.into());
                Vec::new()
            }
        }
    }

    /// Receives from this socket, and sends what follows from that.
    fn answer(&mut self, socket: usize) {
        let waits = self.sockets.len() == 1;
        if let Err(error) = self.inbox.receive(&self.sockets[socket], waits) {
            return back_off(&error);
        }
        let (mut transfers, now) = self.state.transfers();
        for received in self.inbox.received() {
            let route = Route {
                socket,
                peer: received.peer,
                local: received.local,
            };
            let arrival = Arrival {
                route,
                datagram: self.inbox.datagram(received),
                is_truncated: received.is_truncated,
            };
            transfers.on_datagram(&arrival, now, &mut self.outbox);
        }
        drop(transfers);
        self.send();
    }

    fn send(&mut self) {
        self.sender.send(self.sockets, &self.outbox);
        self.outbox.clear();
    }
}

/// Nothing came, or a signal did; anything else must not fill the log.
fn back_off(error: &io::Error) {
    if !matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    ) {
        warn!(%error, "can't receive for the moment");
        std::thread::sleep(Duration::from_millis(100));
    }
}
