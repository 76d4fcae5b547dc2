//! Sockets, connections and their limits.

mod connection;
mod limits;
mod request;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread;

use net::{Connection, Connections, Handler, Listener, RequestIds, WhenFull};
use tls::{PublicTls, Reloader};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

use crate::metrics::Metrics;
use crate::request_log::{RequestLog, RequestLogger};
use crate::service::BootService;
use crate::shed;

pub use limits::Limits;

/// Listening sockets, and what answers on them.
pub struct Server {
    /// One for each thread, all on the same address.
    listeners: Vec<Listener>,
    address: SocketAddr,
    context: Arc<ServerContext>,
}

/// What connections share.
struct ServerContext {
    boot: Arc<BootService>,
    /// Present where HTTPS is spoken, and nothing else is then.
    tls: Option<Arc<Reloader<PublicTls>>>,
    metrics: Metrics,
    logger: RequestLogger,
    limits: Limits,
    answer_bytes: Arc<AtomicUsize>,
    ids: RequestIds,
}

/// Everything that is said about one request beside its answer.
struct Peer {
    remote: SocketAddr,
    /// Its address, as each line of the log has it.
    ip: String,
    local: SocketAddr,
    scheme: &'static str,
}

/// Serves machines on one thread until `stop`.
struct ConnectionHandler {
    context: Arc<ServerContext>,
    stop: CancellationToken,
}

/// What the kernel may hold of an answer that a client does not take. More is ours to count.
const SEND_BUFFER_BYTES: usize = 128 * 1024;

// === impl Server ===

impl Server {
    /// Listens on an address. `[::]` takes IPv4 as well; where the machine has no IPv6, it is `0.0.0.0`.
    pub fn bind(
        address: SocketAddr,
        boot: Arc<BootService>,
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
        boot: Arc<BootService>,
        metrics: Metrics,
        log: Arc<dyn RequestLog>,
        limits: Limits,
    ) -> io::Result<Self> {
        Self::listen(address, Some(tls), boot, metrics, log, limits)
    }

    fn listen(
        address: SocketAddr,
        tls: Option<Arc<Reloader<PublicTls>>>,
        boot: Arc<BootService>,
        metrics: Metrics,
        log: Arc<dyn RequestLog>,
        limits: Limits,
    ) -> io::Result<Self> {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let listeners = Listener::bind_many(address, threads, SEND_BUFFER_BYTES)?;
        let context = ServerContext {
            boot,
            tls,
            metrics,
            logger: RequestLogger::new(log),
            limits,
            answer_bytes: Arc::default(),
            ids: RequestIds::new(),
        };
        Ok(Self {
            address: listeners[0].local_addr(),
            listeners,
            context: Arc::new(context),
        })
    }

    /// Where it listens; the port is the one that the system chose, if it was to choose.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }

    /// Serves a connection that was accepted elsewhere, to its end. The limit of connections does not count it.
    pub async fn serve_connection<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        remote: SocketAddr,
        stop: CancellationToken,
    ) -> io::Result<()> {
        let connection = Connection::uncounted(remote);
        let peer = self.context.peer(&connection, self.local_addr()?);
        let context = self.context.clone();
        context.serve(stream, peer, &connection, stop).await;
        Ok(())
    }

    /// Answers until `stop`, then ends connections as they fall idle, and after [`Limits::drain`] in any case.
    ///
    /// On a thread for each core: a connection stays where it was accepted, so that no request wakes a second thread. Which one accepts it
    /// is the system's choice. Fails where a thread can't be had.
    pub async fn run(self, stop: CancellationToken) -> io::Result<()> {
        let stop = stop.child_token();
        // Whoever drops this stop_guard, and so does the first thread that ends.
        let _stop_guard = stop.clone().drop_guard();
        let (running, mut all_ended) = mpsc::channel::<Infallible>(1);
        let limits = net::Limits {
            connections: self.context.limits.connections,
            per_peer: None,
            when_full: WhenFull::Shed(self.context.limits.shedding),
            drain: self.context.limits.drain,
        };
        let connections = Connections::new(self.context.scheme(), limits);
        for (index, listener) in self.listeners.into_iter().enumerate() {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            // A token that only this thread looks at, and no other has to wait for.
            let (running, stop_guard, stop) = (
                running.clone(),
                stop.clone().drop_guard(),
                stop.child_token(),
            );
            let handler = ConnectionHandler {
                context: self.context.clone(),
                stop: stop.clone(),
            };
            let serving = net::serve(listener, connections.clone(), handler, stop);
            let run = move || {
                let _until_the_end = (stop_guard, running);
                if let Err(error) = runtime.block_on(serving) {
                    error!(%error, "can't listen");
                }
            };
            thread::Builder::new()
                .name(format!("http-{index}"))
                .spawn(run)?;
        }
        drop(running);
        // Nothing is ever sent.
        all_ended.recv().await;
        Ok(())
    }
}

// === impl ServerContext ===

impl ServerContext {
    fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    fn peer(&self, connection: &Connection, local: SocketAddr) -> Peer {
        let remote = connection.peer();
        Peer {
            remote,
            ip: remote.ip().to_string(),
            local,
            scheme: self.scheme(),
        }
    }

    async fn serve_or_shed<S: AsyncRead + AsyncWrite + Unpin>(
        self: Arc<Self>,
        stream: S,
        peer: Peer,
        connection: &Connection,
        stop: CancellationToken,
    ) {
        if connection.is_shed() {
            shed::shed(stream).await;
        } else {
            self.serve(stream, peer, connection, stop).await;
        }
    }
}

// === impl ConnectionHandler ===

impl Handler for ConnectionHandler {
    // One type for connections with TLS and without, whose futures differ in size by four; and
    // what is in a box is not copied when it is spawned.
    type Served = Pin<Box<dyn Future<Output = ()> + Send>>;

    fn serve(&self, stream: TcpStream, connection: Connection) -> Self::Served {
        let Ok(local) = stream.local_addr() else {
            return Box::pin(std::future::ready(()));
        };
        let (context, stop) = (self.context.clone(), self.stop.clone());
        let peer = context.peer(&connection, local);
        if connection.is_shed() {
            context.metrics.connections_shed.inc();
        }
        let Some(tls) = context.tls.clone() else {
            return Box::pin(async move {
                context.serve_or_shed(stream, peer, &connection, stop).await;
            });
        };
        // A handshake is short: a server that stop_guard finishes it.
        Box::pin(async move {
            let handshake = connection.handshake(stream, &*tls, context.limits.head);
            match handshake.await {
                Ok(stream) => context.serve_or_shed(stream, peer, &connection, stop).await,
                Err(error) => {
                    let reason = tls::handshake_reason(&error);
                    debug!(peer = %peer.remote, %error, reason, "TLS handshake failed");
                }
            }
        })
    }

    fn accept_failed(&self) {
        self.context.metrics.accept_errors.inc();
    }
}
