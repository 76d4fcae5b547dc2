//! Sockets, connections and their limits.

mod connection;
mod ids;
mod limits;
mod listen;
mod request;
mod trouble;
mod worker;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};
use std::thread;

use socket2::Socket;
use tls::{PublicTls, Reloader};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, error};

use crate::answer::Boot;
use crate::line::{Lines, RequestLog};
use crate::metrics::Metrics;
use crate::shed;

use ids::Ids;
use worker::Worker;

pub use limits::Limits;
pub use trouble::Trouble;

/// A listening socket, with what answers on it.
pub struct Server {
    /// One for each thread, all on the same address.
    sockets: Vec<Socket>,
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// What connections share.
struct Shared {
    boot: Arc<Boot>,
    /// Present where HTTPS is spoken, and nothing else is then.
    tls: Option<Arc<Reloader<PublicTls>>>,
    metrics: Metrics,
    lines: Lines,
    limits: Limits,
    connections: Arc<Semaphore>,
    /// Those that are sent away cost something as well.
    shedding: Arc<Semaphore>,
    trouble: Arc<Mutex<Trouble>>,
    answer_bytes: Arc<AtomicUsize>,
    ids: Ids,
}

/// Everything that is said about one request beside its answer.
struct Peer {
    remote: SocketAddr,
    /// Its address, as each line of the log has it.
    ip: String,
    local: SocketAddr,
    scheme: &'static str,
}

/// Where a connection counts.
enum Place {
    Served(OwnedSemaphorePermit),
    SentAway(OwnedSemaphorePermit),
}

// === impl Server ===

impl Server {
    /// Listens on an address. `[::]` takes IPv4 as well; where the machine has no IPv6, it is `0.0.0.0`.
    pub fn bind(
        address: SocketAddr,
        boot: Arc<Boot>,
        metrics: Metrics,
        log: Arc<dyn RequestLog>,
        limits: Limits,
    ) -> io::Result<Self> {
        Self::listen(address, None, boot, metrics, log, limits)
    }

    /// The same for HTTPS. While there is no certificate that can be used, connections are closed.
    pub fn bind_tls(
        address: SocketAddr,
        tls: Arc<Reloader<PublicTls>>,
        boot: Arc<Boot>,
        metrics: Metrics,
        log: Arc<dyn RequestLog>,
        limits: Limits,
    ) -> io::Result<Self> {
        Self::listen(address, Some(tls), boot, metrics, log, limits)
    }

    fn listen(
        address: SocketAddr,
        tls: Option<Arc<Reloader<PublicTls>>>,
        boot: Arc<Boot>,
        metrics: Metrics,
        log: Arc<dyn RequestLog>,
        limits: Limits,
    ) -> io::Result<Self> {
        let (sockets, address) = listen::listen(
            address,
            thread::available_parallelism().map_or(1, usize::from),
        )?;
        let shared = Shared {
            boot,
            tls,
            metrics,
            lines: Lines::new(log),
            connections: Arc::new(Semaphore::new(limits.connections)),
            shedding: Arc::new(Semaphore::new(limits.shedding)),
            limits,
            trouble: Arc::default(),
            answer_bytes: Arc::default(),
            ids: Ids::new(),
        };
        Ok(Self {
            sockets,
            address,
            shared: Arc::new(shared),
        })
    }

    /// Where it listens; the port is the one that the system chose, if it was to choose.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }

    /// Serves a connection that was accepted elsewhere, to its end. The limit of connections does not count it.
    pub async fn attend<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        remote: SocketAddr,
        stop: CancellationToken,
    ) -> io::Result<()> {
        let peer = Peer {
            remote,
            ip: remote.ip().to_string(),
            local: self.local_addr()?,
            scheme: self.shared.scheme(),
        };
        self.shared.clone().serve(stream, peer, stop).await;
        Ok(())
    }

    /// Answers until `stop`, then ends connections as they fall idle, and after [`Limits::drain`] in any case.
    ///
    /// On a thread for each core: a connection stays where it was accepted, so that no request wakes a second thread. Which one accepts it
    /// is the system's choice. Fails where a thread can't be had.
    pub async fn run(self, stop: CancellationToken) -> io::Result<()> {
        let stop = stop.child_token();
        // Whoever drops this stops, and so does the first thread that ends.
        let _stops = stop.clone().drop_guard();
        let (at_work, mut all_ended) = mpsc::channel::<Infallible>(1);
        for (number, socket) in self.sockets.into_iter().enumerate() {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            // A token that only this thread looks at, and no other has to wait for.
            let (shared, at_work, stops, stop) = (
                self.shared.clone(),
                at_work.clone(),
                stop.clone().drop_guard(),
                stop.child_token(),
            );
            let work = move || {
                let _at_end = (stops, at_work);
                if let Err(error) = runtime.block_on(Worker { socket, shared }.run(stop)) {
                    error!(%error, "can't listen");
                }
            };
            thread::Builder::new()
                .name(format!("machines-{number}"))
                .spawn(work)?;
        }
        drop(at_work);
        // Nothing is ever sent.
        all_ended.recv().await;
        Ok(())
    }
}

// === impl Shared ===

impl Shared {
    fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// A place for one more connection: among those that are served, or else among those that are sent away. Where there is none of either, the
    /// system's queue is a better place to wait in.
    async fn place(&self) -> Place {
        match self.free_place() {
            Some(place) => place,
            None => {
                const OPEN: &str = "nobody closes these semaphores";
                tokio::select! {
                    permit = self.connections.clone().acquire_owned() => Place::Served(permit.expect(OPEN)),
                    permit = self.shedding.clone().acquire_owned() => Place::SentAway(permit.expect(OPEN)),
                }
            }
        }
    }

    fn free_place(&self) -> Option<Place> {
        let served = self
            .connections
            .clone()
            .try_acquire_owned()
            .map(Place::Served);
        served
            .or_else(|_| {
                self.shedding
                    .clone()
                    .try_acquire_owned()
                    .map(Place::SentAway)
            })
            .ok()
    }

    fn take(
        self: Arc<Self>,
        stream: TcpStream,
        remote: SocketAddr,
        place: Place,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) {
        let Ok(local) = stream.local_addr() else {
            return;
        };
        let _ = stream.set_nodelay(true);
        let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
        let peer = Peer {
            remote,
            ip: remote.ip().to_string(),
            local,
            scheme: self.scheme(),
        };
        if matches!(place, Place::SentAway(_)) {
            self.metrics.connections_shed.inc();
        }
        let stop = stop.clone();
        // Two sorts of futures, as each is kept as long as its connection, and one with TLS is four times as large as one without. In a box,
        // or each would be copied ten times as it is spawned.
        match self.tls.clone() {
            None => tasks.spawn(Box::pin(self.serve_or_send_away(stream, peer, place, stop))),
            // A handshake is short: who stops waits for it.
            Some(tls) => tasks.spawn(Box::pin(async move {
                if let Some(stream) = self.accept(&tls, stream, &peer).await {
                    self.serve_or_send_away(stream, peer, place, stop).await;
                }
            })),
        };
    }

    /// What a connection gets at its place, which it has until it ends.
    async fn serve_or_send_away<S: AsyncRead + AsyncWrite + Unpin>(
        self: Arc<Self>,
        stream: S,
        peer: Peer,
        place: Place,
        stop: CancellationToken,
    ) {
        match place {
            Place::Served(permit) => {
                self.serve(stream, peer, stop).await;
                drop(permit);
            }
            Place::SentAway(permit) => {
                shed::send_away(stream).await;
                drop(permit);
            }
        }
    }

    async fn accept(
        &self,
        tls: &Reloader<PublicTls>,
        stream: TcpStream,
        peer: &Peer,
    ) -> Option<TlsStream<TcpStream>> {
        let shaken = tls.accept(stream, self.limits.head).await;
        shaken.inspect_err(|error| debug!(peer = %peer.remote, %error, reason = tls::handshake_reason(error), "TLS handshake failed")).ok()
    }
}
