//! The server: sockets, threads and the clock. [`Transfers`] makes all decisions; this module only
//! moves datagrams, many per system call.

mod clock;
mod inbox;
mod socket;
mod worker;

use std::io;
use std::net::SocketAddr;
use std::num::NonZero;
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

/// Maximum number of threads: one alone moves more than machines that boot by TFTP can take.
const MAX_THREADS: usize = 8;

/// Where to listen, and what peers can use.
#[derive(Clone, Debug)]
pub struct Config {
    /// The address that receives requests.
    pub listen: SocketAddr,
    /// The ports to answer from. If `None`, answers are sent from the port that received the
    /// request, as NAT and Kubernetes Services need.
    pub ports: Option<RangeInclusive<u16>>,
    /// Limits on what peers can use.
    pub limits: Limits,
}

/// A server that is bound to its address.
pub struct Server {
    /// At least one.
    workers: Vec<Worker>,
    limits: Limits,
    metrics: Metrics,
    transfers: Transfers,
}

/// The server can't listen.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The port is privileged.
    #[error(
        "no permission to bind port {port}. Either grant it to the program (setcap cap_net_bind_service=+ep \
         PATH-OF-shaper; in a systemd unit AmbientCapabilities=CAP_NET_BIND_SERVICE; in Kubernetes the capability NET_BIND_SERVICE), or lower the limit for all programs (sysctl \
         net.ipv4.ip_unprivileged_port_start={port}), or listen on another port, such as 6969, and forward port {port} to it"
    )]
    Privilege {
        /// The port.
        port: u16,
    },
    /// The address is in use.
    #[error(
        "{0} is in use, perhaps by another TFTP server (dnsmasq, tftpd-hpa, atftpd). Stop it, or listen on another address or port"
    )]
    InUse(SocketAddr),
    /// Another error.
    #[error("can't listen on {address}: {source}")]
    Other {
        /// The address.
        address: SocketAddr,
        /// The error from the operating system.
        source: io::Error,
    },
}

// === impl Server ===

impl Server {
    /// Binds the sockets. Nothing is answered before [`run`](Self::run).
    pub fn bind(config: &Config, library: Library, metrics: Metrics) -> Result<Self, BindError> {
        let threads = thread::available_parallelism().map_or(1, NonZero::get);
        Self::bind_with_threads(threads, config, library, metrics)
    }

    /// Does what [`bind`](Self::bind) does, with this many threads, up to eight.
    pub fn bind_with_threads(
        threads: usize,
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
            one_each(first, threads.min(MAX_THREADS))
        } else {
            vec![Worker {
                sockets: iter::once(first).chain(answering).collect(),
            }]
        };
        Ok(Self {
            workers,
            limits: config.limits,
            metrics,
            transfers,
        })
    }

    /// The address that receives requests, with the port that the system chose if it was 0.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.workers[0].sockets[0].local_addr()
    }

    /// The number of sockets that receive requests. Each has its own thread.
    pub fn threads(&self) -> usize {
        self.workers.len()
    }

    /// Serves until `stop` is set, then drains running transfers for at most [`Limits::drain`].
    ///
    /// The calling thread runs the clock. Fails if none of the worker threads can be started.
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
                // Their sockets are closed, so the kernel delivers their datagrams to the others.
                warn!(
                    failures,
                    "failed to start some worker threads; continuing with the others"
                );
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

/// Creates this many workers with a socket each, or one if the socket can't be split.
fn one_each(socket: Socket, count: usize) -> Vec<Worker> {
    let sockets = socket.split(count).into_iter();
    sockets
        .map(|socket| Worker {
            sockets: Arc::new([socket]),
        })
        .collect()
}
