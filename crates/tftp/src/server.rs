//! The sockets, the threads and the clock. What is decided is decided by [`Transfers`]; here datagrams only move, as many in a system call as
//! there are.

mod clock;
mod cpus;
mod inbox;
mod socket;
mod worker;

use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::{iter, thread};

use tracing::warn;

use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::transfers::{Library, Transfers};
use clock::Clock;
use socket::Socket;
use worker::{ServerState, Worker};

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
    /// Never none.
    workers: Vec<Worker>,
    limits: Limits,
    metrics: Metrics,
    transfers: Transfers,
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
    #[error(
        "{0} is in use. Is another TFTP server there (dnsmasq, tftpd-hpa, atftpd)? Stop it, or listen on another address or port"
    )]
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
        Self::bind_for(&cpus::usable(), config, library, metrics)
    }

    /// The same, as if these were the processors that this process may use.
    pub fn bind_for(
        cpus: &[usize],
        config: &Config,
        library: Library,
        metrics: Metrics,
    ) -> Result<Self, BindError> {
        let first = Socket::bind(config.listen)?;
        let ip = first
            .local_addr()
            .map_err(|source| BindError::Other {
                address: config.listen,
                source,
            })?
            .ip();
        let answering: Result<Vec<_>, _> = config
            .ports
            .clone()
            .into_iter()
            .flatten()
            .map(|port| Socket::bind(SocketAddr::new(ip, port)))
            .collect();
        let answering = answering?;
        let transfers = Transfers::new(config.limits, library, metrics.clone(), answering.len());
        let workers = if answering.is_empty() {
            one_each(first, &cpus::places(cpus))
        } else {
            vec![Worker {
                sockets: iter::once(first).chain(answering).collect(),
                cpu: None,
            }]
        };
        Ok(Self {
            workers,
            limits: config.limits,
            metrics,
            transfers,
        })
    }

    /// Where it listens; the port is the one that the system chose, if it was to choose.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.workers[0].sockets[0].local_addr()
    }

    /// How many sockets there are for requests, each with a thread of its own.
    pub fn threads(&self) -> usize {
        self.workers.len()
    }

    /// Serves until `stop` is set, then lets transfers end, for as long as the limits say. Takes this thread for the clock and a few others,
    /// which may stay on a processor each. Fails where not one of those can be started.
    pub fn run(self, stop: &AtomicBool) -> io::Result<()> {
        let Self {
            workers,
            limits,
            metrics,
            transfers,
        } = self;
        let state = &ServerState::new(transfers);
        thread::scope(|scope| {
            let start = |worker: Worker| {
                let (sockets, metrics) = (worker.sockets.clone(), metrics.clone());
                thread::Builder::new()
                    .name("tftp".to_owned())
                    .spawn_scoped(scope, move || worker.run(state, metrics))?;
                Ok(sockets)
            };
            let (started, failed): (Vec<_>, Vec<_>) =
                workers.into_iter().map(start).partition(Result::is_ok);
            let failures = failed.len();
            let sockets: io::Result<Vec<_>> = if started.is_empty() { failed } else { started }
                .into_iter()
                .collect();
            let sockets = sockets?;
            if failures > 0 {
                // Their sockets are closed with that, and the kernel gives the others what would have come in there.
                warn!(failures, "threads can't be started; the others serve");
            }
            Clock {
                sockets: &sockets[0],
                stop,
                drain: limits.drain,
            }
            .run(state, metrics.clone());
            Ok(())
        })
    }
}

/// A thread for each of these places, with a socket of its own, or one for all.
fn one_each(socket: Socket, places: &[Option<usize>]) -> Vec<Worker> {
    let sockets = socket.split(places);
    let is_split = sockets.len() > 1;
    let cpu = |index: usize| places.get(index).copied().flatten().filter(|_| is_split);
    sockets
        .into_iter()
        .enumerate()
        .map(|(index, socket)| Worker {
            sockets: Arc::new([socket]),
            cpu: cpu(index),
        })
        .collect()
}
