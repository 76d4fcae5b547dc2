//! The sockets and the clock. What is decided is decided by [`Transfers`]; here datagrams only move, as many in a system call as there are.

mod inbox;
mod socket;

use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tracing::warn;

use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::outbox::{Outbox, Route};
use crate::transfers::{Arrival, Library, Transfers};
use inbox::Inbox;
use socket::{Sender, Socket};

/// How finely time is cut while transfers run: repeats come so much late at most.
const TICK: Duration = Duration::from_millis(50);
/// ... and while none does: so long it takes at most to see that the server is to stop.
const IDLE_TICK: Duration = Duration::from_millis(250);

/// Where to listen, and what peers may take.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where requests arrive.
    pub listen: SocketAddr,
    /// Ports to answer from. None: answers leave from the port that was asked, as NAT and Kubernetes Services need.
    pub ports: Option<RangeInclusive<u16>>,
    /// What peers may take.
    pub limits: Limits,
}

/// A server that listens.
pub struct Server {
    /// The first is for requests; the others, if any, are for transfers.
    sockets: Vec<Socket>,
    limits: Limits,
    metrics: Metrics,
    transfers: Transfers,
    /// What the socket's patience was set for.
    is_busy: Option<bool>,
}

/// The server can't listen.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The port is one of those that not everybody may use.
    #[error(
        "port {port} needs a privilege that this process lacks. Either grant it to the program (setcap cap_net_bind_service=+ep \
         PATH-OF-shaper; in Kubernetes the capability NET_BIND_SERVICE), or allow it to everybody (sysctl \
         net.ipv4.ip_unprivileged_port_start={port}), or listen on another port, such as 6969, and have port {port} forwarded to it"
    )]
    Privilege {
        /// The port.
        port: u16,
    },
    /// Another server is there.
    #[error("{0} is in use. Is another TFTP server there (dnsmasq, tftpd-hpa, atftpd)? Stop it, or listen on another address or port")]
    InUse(SocketAddr),
    /// Anything else.
    #[error("can't listen on {address}: {source}")]
    Other {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
}

// === impl Server ===

impl Server {
    /// Listens. Nothing is answered before [`run`](Self::run).
    pub fn bind(config: &Config, library: Library, metrics: Metrics) -> Result<Self, BindError> {
        let first = Socket::bind(config.listen)?;
        let ip = first.local_addr().map_err(|source| BindError::Other { address: config.listen, source })?.ip();
        let mut sockets = vec![first];
        for port in config.ports.clone().into_iter().flatten() {
            sockets.push(Socket::bind(SocketAddr::new(ip, port))?);
        }
        let transfers = Transfers::new(config.limits, library, metrics.clone(), sockets.len() - 1);
        Ok(Self { sockets, limits: config.limits, metrics, transfers, is_busy: None })
    }

    /// Where it listens; the port is the one that the system chose, if it was to choose.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.sockets[0].local_addr()
    }

    /// Serves until `stop` is set, then lets transfers end, for as long as the limits say. Takes a thread.
    pub fn run(mut self, stop: &AtomicBool) {
        let start = Instant::now();
        let mut inbox = Inbox::new(&self.sockets[0]);
        let mut sender = Sender::new(self.metrics.clone());
        let mut outbox = Outbox::default();
        let mut ticked = Duration::ZERO;
        let mut drained_at = None;
        loop {
            let now = start.elapsed();
            if stop.load(Ordering::Relaxed) && drained_at.is_none() {
                self.transfers.drain();
                drained_at = Some(now + self.limits.drain);
            }
            if drained_at.is_some_and(|end| now >= end || self.transfers.active() == 0) {
                return self.transfers.stop(now);
            }
            for socket in self.wait() {
                if !self.receive(socket, &mut inbox) {
                    continue;
                }
                let now = start.elapsed();
                for arrived in inbox.arrived() {
                    let route = Route { socket, peer: arrived.peer, local: arrived.local };
                    let arrival = Arrival { route, datagram: inbox.datagram(arrived), is_cut: arrived.is_cut };
                    self.transfers.on_datagram(&arrival, now, &mut outbox);
                }
                sender.send(&self.sockets, &outbox);
                outbox.clear();
            }
            let now = start.elapsed();
            if now >= ticked + TICK {
                ticked = now;
                self.transfers.on_clock(now, &mut outbox);
                sender.send(&self.sockets, &outbox);
                outbox.clear();
            }
        }
    }

    fn tick(&self) -> Duration {
        if self.transfers.active() > 0 { TICK } else { IDLE_TICK }
    }

    /// The sockets to receive from. A single one is received from at once: that call waits by itself, and saves another.
    fn wait(&mut self) -> Vec<usize> {
        if let [socket] = &*self.sockets {
            let is_busy = self.transfers.active() > 0;
            if self.is_busy != Some(is_busy) {
                self.is_busy = Some(is_busy);
                socket.set_patience(self.tick());
            }
            return vec![0];
        }
        let mut ready: Vec<_> = self.sockets.iter().map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN)).collect();
        let patience = PollTimeout::try_from(self.tick()).unwrap_or(PollTimeout::ZERO);
        match poll(&mut ready, patience) {
            Ok(_) => (0..ready.len()).filter(|index| ready[*index].any() == Some(true)).collect(),
            Err(error) => {
                pause(&error.into());
                Vec::new()
            }
        }
    }

    /// Whether something has arrived.
    fn receive(&self, socket: usize, inbox: &mut Inbox) -> bool {
        let waits = self.sockets.len() == 1;
        match inbox.receive(&self.sockets[socket], waits) {
            Ok(()) => true,
            Err(error) => {
                pause(&error);
                false
            }
        }
    }
}

/// Nothing came, or a signal did; anything else must not fill the log.
fn pause(error: &io::Error) {
    if !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted) {
        warn!(%error, "can't receive for the moment");
        std::thread::sleep(Duration::from_millis(100));
    }
}
