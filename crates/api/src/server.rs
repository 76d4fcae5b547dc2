//! The HTTP server: sockets, connections and their limits.

mod connection;
mod limits;
mod request;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use net::{
    Connection, Connections, CountedInput, Handler, Listener, RequestIds, Source, Stage, Turns,
    WhenFull,
};
use tls::{PublicTls, Reloader};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

use crate::metrics::Metrics;
use crate::request_log::{RequestLog, RequestLogger};
use crate::service::BootService;
use crate::shed;

pub use limits::Limits;

/// The HTTP server: its listening sockets and the service behind them.
pub struct Server {
    /// One listener for each thread, all on the same address.
    listeners: Vec<Listener>,
    address: SocketAddr,
    context: Arc<ServerContext>,
}

/// The state that all connections share.
struct ServerContext {
    boot: Arc<BootService>,
    /// The certificates. If set, the server speaks only HTTPS.
    tls: Option<Arc<Reloader<PublicTls>>>,
    metrics: Metrics,
    logger: RequestLogger,
    limits: Limits,
    ids: RequestIds,
}

/// The addresses of one connection.
struct Peer {
    remote: SocketAddr,
    /// The client's IP address as text, for log lines.
    ip: String,
    local: SocketAddr,
    scheme: &'static str,
    source: Source,
    /// The turns of the thread that serves the connection.
    turns: Turns,
}

/// Handles the connections of one thread until `stop`.
struct ConnectionHandler {
    context: Arc<ServerContext>,
    turns: Turns,
    stop: CancellationToken,
}

/// Bytes of an answer that the kernel buffers for a client that does not read. The rest counts
/// towards [`Limits::answer_bytes`].
const SEND_BUFFER_BYTES: usize = 128 * 1024;

/// How often to look for log lines that were left out.
const LEFT_OUT_CHECK: Duration = Duration::from_secs(5);

// === impl Server ===

impl Server {
    /// Listens on an address. `[::]` accepts IPv4 as well; on a machine without IPv6, it means
    /// `0.0.0.0`.
    pub fn bind(
        address: SocketAddr,
        boot: Arc<BootService>,
        metrics: Metrics,
        log: Arc<dyn RequestLog>,
        limits: Limits,
    ) -> io::Result<Self> {
        Self::listen(address, None, boot, metrics, log, limits)
    }

    /// Listens on an address for HTTPS. Without a usable certificate, connections are closed.
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
            logger: RequestLogger::new(log, metrics.log_lines_left_out.clone()),
            metrics,
            limits,
            ids: RequestIds::new(),
        };
        Ok(Self {
            address: listeners[0].local_addr(),
            listeners,
            context: Arc::new(context),
        })
    }

    /// The address it listens on, with the port that the kernel chose if port 0 was asked for.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }

    /// Serves one connection that was accepted elsewhere. It does not count towards
    /// [`Limits::connections`].
    pub async fn serve_connection<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        remote: SocketAddr,
        stop: CancellationToken,
    ) -> io::Result<()> {
        let connection = Connection::uncounted(remote);
        let turns = Turns::new(1);
        let peer = self.context.peer(&connection, self.local_addr()?, turns);
        let stream = CountedInput::new(stream, connection.clone());
        let context = self.context.clone();
        context.serve(stream, peer, &connection, stop).await;
        Ok(())
    }

    /// Answers until `stop`, then closes connections as they become idle, and all of them after
    /// [`Limits::drain`].
    ///
    /// Runs one thread for each core. The kernel chooses the thread that accepts a connection, and
    /// the connection stays there, so that no request wakes a second thread. Fails if a thread
    /// can't be started.
    pub async fn run(self, stop: CancellationToken) -> io::Result<()> {
        let stop = stop.child_token();
        // Stops the server when this future is dropped or the first thread ends.
        let _stop_guard = stop.clone().drop_guard();
        let (running, mut all_ended) = mpsc::channel::<Infallible>(1);
        let limits = net::Limits {
            connections: self.context.limits.connections,
            when_full: WhenFull::Shed(self.context.limits.shedding),
            proof: Stage::HeadRead,
            grace: self.context.limits.grace,
            input_bytes: self.context.limits.input_bytes,
            answer_bytes: self.context.limits.answer_bytes,
            drain: self.context.limits.drain,
        };
        let displaced = self.context.metrics.connections_displaced.clone();
        let connections = Connections::new(self.context.scheme(), limits, displaced);
        for (index, listener) in self.listeners.into_iter().enumerate() {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            // A token for this thread alone, so that threads don't contend for one.
            let (running, stop_guard, stop) = (
                running.clone(),
                stop.clone().drop_guard(),
                stop.child_token(),
            );
            let handler = ConnectionHandler {
                context: self.context.clone(),
                turns: Turns::new(1),
                stop: stop.clone(),
            };
            let serving = net::serve(listener, connections.clone(), handler, stop);
            let run = move || {
                let _until_the_end = (stop_guard, running);
                if let Err(error) = runtime.block_on(serving) {
                    error!(%error, "a listener failed; stopping");
                }
            };
            thread::Builder::new()
                .name(format!("http-{index}"))
                .spawn(run)?;
        }
        drop(running);
        // Nothing is ever sent: this returns when all threads have dropped their sender.
        while timeout(LEFT_OUT_CHECK, all_ended.recv()).await.is_err() {
            self.context.logger.report_left_out();
        }
        Ok(())
    }
}

// === impl ServerContext ===

impl ServerContext {
    fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    fn peer(&self, connection: &Connection, local: SocketAddr, turns: Turns) -> Peer {
        let remote = connection.peer();
        Peer {
            remote,
            ip: remote.ip().to_string(),
            local,
            scheme: self.scheme(),
            source: Source::from(remote.ip()),
            turns,
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
            shed::shed(stream, connection).await;
        } else {
            self.serve(stream, peer, connection, stop).await;
        }
    }
}

// === impl ConnectionHandler ===

impl Handler for ConnectionHandler {
    // One boxed type for connections with and without TLS: their futures differ in size by a factor
    // of four, and a box is not copied when it is spawned.
    type Served = Pin<Box<dyn Future<Output = ()> + Send>>;

    fn serve(&self, stream: CountedInput<TcpStream>, connection: Connection) -> Self::Served {
        let Ok(local) = stream.get_ref().local_addr() else {
            return Box::pin(std::future::ready(()));
        };
        let (context, stop) = (self.context.clone(), self.stop.clone());
        let peer = context.peer(&connection, local, self.turns.clone());
        if connection.is_shed() {
            context.metrics.connections_shed.inc();
        }
        let Some(tls) = context.tls.clone() else {
            connection.can_hurry();
            return Box::pin(async move {
                context.serve_or_shed(stream, peer, &connection, stop).await;
            });
        };
        // The handshake is short, so it is finished even if the server stops meanwhile.
        Box::pin(async move {
            let handshake = connection.handshake(stream, &*tls, context.limits.head);
            match handshake.await {
                Ok(stream) => {
                    connection.can_hurry();
                    context.serve_or_shed(stream, peer, &connection, stop).await;
                }
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
