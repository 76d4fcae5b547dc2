//! A thread that moves datagrams: receives what is there, has all of it decided at once, sends what follows.

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tracing::{debug, warn};

use super::cpus;
use super::inbox::Inbox;
use super::socket::{Sender, Socket};
use crate::metrics::Metrics;
use crate::outbox::{Outbox, Route};
use crate::transfers::{Arrival, Transfers};

/// How finely time is cut while transfers run: repeats come so much late at most.
const TICK: Duration = Duration::from_millis(50);
/// ... and while none does: so long it takes at most to see that one does, or that the server is to stop.
const IDLE_TICK: Duration = Duration::from_millis(250);

/// What all threads of a server have in common.
pub(super) struct Shared {
    transfers: Mutex<Transfers>,
    start: Instant,
    is_over: AtomicBool,
}

/// One of them.
pub(super) struct Worker {
    /// By the number that routes have. The first is for requests; the others, if any, are for transfers.
    pub(super) sockets: Vec<Socket>,
    /// The processor that it stays on.
    pub(super) cpu: Option<usize>,
}

/// The thread that also owns the clock, and ends all.
pub(super) struct Lead<'a> {
    pub(super) stop: &'a AtomicBool,
    /// How long transfers may go on after that.
    pub(super) drain: Duration,
}

/// What a thread works with.
struct Desk<'a> {
    shared: &'a Shared,
    sockets: &'a [Socket],
    inbox: Inbox,
    outbox: Outbox,
    sender: Sender,
    /// What the socket's patience was set for.
    patience: Option<Duration>,
}

// === impl Shared ===

impl Shared {
    pub(super) fn new(transfers: Transfers) -> Self {
        Self { transfers: Mutex::new(transfers), start: Instant::now(), is_over: AtomicBool::new(false) }
    }

    /// The transfers, and what time it is: it never runs back for them.
    fn transfers(&self) -> (MutexGuard<'_, Transfers>, Duration) {
        let transfers = self.transfers.lock().expect("a thread that panics ends all of them");
        let now = self.start.elapsed();
        (transfers, now)
    }

    /// Has all threads end.
    pub(super) fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }
}

// === impl Worker ===

impl Worker {
    /// Moves datagrams until all is over.
    pub(super) fn run(&self, shared: &Shared, metrics: Metrics) {
        let _ends_all = EndsAll(shared);
        let mut desk = self.desk(shared, metrics);
        while !shared.is_over() {
            desk.turn(IDLE_TICK);
        }
    }

    /// The same, with the clock, until the server is to stop.
    pub(super) fn lead(&self, lead: &Lead<'_>, shared: &Shared, metrics: Metrics) {
        let _ends_all = EndsAll(shared);
        let mut desk = self.desk(shared, metrics);
        let mut drained_at = None;
        let mut ticked = Duration::ZERO;
        let mut active = 0;
        while !shared.is_over() {
            desk.turn(if active > 0 { TICK } else { IDLE_TICK });
            let stops = lead.stop.load(Ordering::Relaxed);
            if shared.start.elapsed() < ticked + TICK && !stops {
                continue;
            }
            let (mut transfers, now) = shared.transfers();
            if stops && drained_at.is_none() {
                transfers.drain();
                drained_at = Some(now + lead.drain);
            }
            if drained_at.is_some_and(|end| now >= end || transfers.active() == 0) {
                return transfers.stop(now);
            }
            if now >= ticked + TICK {
                ticked = now;
                transfers.on_clock(now, &mut desk.outbox);
            }
            active = transfers.active();
            drop(transfers);
            desk.send();
        }
    }

    fn desk<'a>(&'a self, shared: &'a Shared, metrics: Metrics) -> Desk<'a> {
        if let Some(Err(error)) = self.cpu.map(cpus::stay_on) {
            debug!(%error, "a thread moves between processors");
        }
        let inbox = Inbox::new(&self.sockets[0]);
        Desk { shared, sockets: &self.sockets, inbox, outbox: Outbox::default(), sender: Sender::new(metrics), patience: None }
    }
}

/// However a thread ends, the others must not go on without it.
struct EndsAll<'a>(&'a Shared);

impl Drop for EndsAll<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

// === impl Desk ===

impl Desk<'_> {
    /// Waits for so long for datagrams, and answers those that are there.
    fn turn(&mut self, patience: Duration) {
        // A single socket is received from at once: that call waits by itself, and saves another.
        if let [socket] = self.sockets {
            if self.patience != Some(patience) {
                self.patience = Some(patience);
                socket.set_patience(patience);
            }
            return self.answer(0);
        }
        for socket in self.wait(patience) {
            self.answer(socket);
        }
    }

    /// The sockets to receive from.
    fn wait(&self, patience: Duration) -> Vec<usize> {
        let mut ready: Vec<_> = self.sockets.iter().map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN)).collect();
        match poll(&mut ready, PollTimeout::try_from(patience).unwrap_or(PollTimeout::ZERO)) {
            Ok(_) => (0..ready.len()).filter(|index| ready[*index].any() == Some(true)).collect(),
            Err(error) => {
                pause(&error.into());
                Vec::new()
            }
        }
    }

    /// Receives from this socket, and sends what follows from that.
    fn answer(&mut self, socket: usize) {
        let waits = self.sockets.len() == 1;
        if let Err(error) = self.inbox.receive(&self.sockets[socket], waits) {
            return pause(&error);
        }
        let (mut transfers, now) = self.shared.transfers();
        for arrived in self.inbox.arrived() {
            let route = Route { socket, peer: arrived.peer, local: arrived.local };
            let arrival = Arrival { route, datagram: self.inbox.datagram(arrived), is_cut: arrived.is_cut };
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
fn pause(error: &io::Error) {
    if !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted) {
        warn!(%error, "can't receive for the moment");
        std::thread::sleep(Duration::from_millis(100));
    }
}
