//! A worker thread: receives datagrams, passes them to the transfers, and sends the answers.

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tracing::warn;

use super::inbox::Inbox;
use super::socket::{Sender, Socket};
use crate::metrics::Metrics;
use crate::outbox::{Outbox, Route};
use crate::transfers::{Arrival, Transfers};

/// How long a worker waits for datagrams before it checks whether to stop.
const RECEIVE_TIMEOUT: Duration = Duration::from_millis(250);

/// State shared by all threads of a server.
pub(super) struct ServerState {
    transfers: Mutex<Transfers>,
    start: Instant,
    is_stopped: AtomicBool,
}

/// A worker thread's sockets.
pub(super) struct Worker {
    /// The sockets by index. The first receives requests; others, if any, are for transfers.
    pub(super) sockets: Arc<[Socket]>,
}

/// The state of a running worker.
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
        }
    }

    /// Locks the transfers. Also returns the time, which never goes backward between two holders of
    /// the lock.
    pub(super) fn transfers(&self) -> (MutexGuard<'_, Transfers>, Duration) {
        let transfers = self
            .transfers
            .lock()
            .expect("a panicking thread stops all threads");
        let now = self.start.elapsed();
        (transfers, now)
    }

    /// Makes all threads end.
    fn stop(&self) {
        self.is_stopped.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Relaxed)
    }
}

// === impl Worker ===

impl Worker {
    /// Moves datagrams until the server stops.
    pub(super) fn run(&self, state: &ServerState, metrics: Metrics) {
        let _stop_on_drop = StopOnDrop(state);
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

/// Stops all threads when dropped: the server must not continue without one of them.
pub(super) struct StopOnDrop<'a>(pub(super) &'a ServerState);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

// === impl WorkerLoop ===

impl WorkerLoop<'_> {
    /// Waits a short time for datagrams, and answers those that arrived.
    fn poll_once(&mut self) {
        // With a single socket, receiving itself waits; polling would cost another system call.
        if self.sockets.len() == 1 {
            return self.answer(0);
        }
        for socket in self.wait() {
            self.answer(socket);
        }
    }

    /// Waits for sockets that are ready to receive from.
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

    /// Receives from a socket and sends the answers.
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

/// Pauses after an unexpected error, so that a persistent one does not fill the log.
fn back_off(error: &io::Error) {
    if !matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    ) {
        warn!(%error, "receiving failed; trying again");
        std::thread::sleep(Duration::from_millis(100));
    }
}
