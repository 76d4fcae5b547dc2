//! TLS connections that end when the peer's certificate is no longer accepted.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use net::{CountedInput, Handler, LineLimit, Listener, ReadAhead, Source, Stage, WhenFull};
use prometheus_client::metrics::counter::Counter;
use rustls::pki_types::CertificateDer;
use tls::{MutualTls, Reloader};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_rustls::TlsStream;
use tokio_stream::Stream;
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;
use tracing::{error, info};

/// How long a follower's handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// After this time without a handshake, a connection may be displaced by any newcomer.
const HANDSHAKE_GRACE: Duration = Duration::from_secs(3);
/// Bytes of all handshakes that have not arrived completely.
const INPUT_BYTES: usize = 4 * 1024 * 1024;
/// How often peer certificates are checked again, in case they have expired. They are also checked
/// whenever our own files change.
const RECHECK_INTERVAL: Duration = Duration::from_mins(1);

/// A stream of connections that have completed their handshake, as tonic expects them.
pub(crate) struct Accepted(mpsc::Receiver<io::Result<AcceptedConnection>>);

/// Performs the handshake of each accepted connection and forwards the connection to tonic.
struct HandshakeHandler {
    tls: Arc<Reloader<MutualTls>>,
    sender: mpsc::Sender<io::Result<AcceptedConnection>>,
    lines: Arc<LineLimit>,
}

/// A connection that is closed once its peer's certificate would no longer be accepted.
pub(crate) struct Connection<S> {
    stream: TlsStream<S>,
    peer: PeerInfo,
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
    end: CancellationToken,
    _end_on_drop: DropGuard,
}

/// A follower's connection.
type AcceptedConnection = Connection<ReadAhead<CountedInput<TcpStream>>>;

/// A TCP stream that counts the bytes it receives.
pub(crate) struct CountedStream {
    stream: TcpStream,
    received: Counter,
}

/// Who the peer is: its address and its certificate.
#[derive(Clone, Debug)]
pub(crate) struct PeerInfo {
    address: SocketAddr,
    source: Source,
}

// === impl Accepted ===

impl Accepted {
    /// Accepts connections on `listener` until `stop`, for at most `followers` followers.
    pub(crate) fn new(
        listener: Listener,
        tls: Arc<Reloader<MutualTls>>,
        followers: usize,
        stop: CancellationToken,
    ) -> Self {
        let (sender, connections) = mpsc::channel(16);
        let limits = net::Limits {
            // Twice as many as may follow, so that a follower over the limit gets an error that
            // says so.
            connections: followers * 2,
            when_full: WhenFull::Refuse,
            // Of a client certificate.
            proof: Stage::Handshaken,
            grace: HANDSHAKE_GRACE,
            input_bytes: INPUT_BYTES,
            // The feed's own limits bound what it sends.
            answer_bytes: usize::MAX,
            // tonic drains the connections that it received.
            drain: HANDSHAKE_TIMEOUT,
        };
        let handler = HandshakeHandler {
            tls,
            sender,
            lines: Arc::default(),
        };
        tokio::spawn(async move {
            let connections = net::Connections::new("feed", limits, Counter::default());
            if let Err(error) = net::serve(listener, connections, handler, stop).await {
                error!(%error, "can't accept followers");
            }
        });
        Self(connections)
    }
}

impl Stream for Accepted {
    type Item = io::Result<AcceptedConnection>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx)
    }
}

// === impl HandshakeHandler ===

impl Handler for HandshakeHandler {
    type Served = Pin<Box<dyn Future<Output = ()> + Send>>;

    fn serve(&self, stream: CountedInput<TcpStream>, accepted: net::Connection) -> Self::Served {
        let (tls, sender) = (self.tls.clone(), self.sender.clone());
        Box::pin(forward(stream, accepted, tls, sender, self.lines.clone()))
    }

    fn refused(&self, _: SocketAddr) {
        self.tls
            .metrics()
            .handshake_failed(self.tls.name(), "too_many");
    }
}

/// Performs the handshake, forwards the connection to tonic, and waits until it is closed.
async fn forward(
    stream: CountedInput<TcpStream>,
    accepted: net::Connection,
    tls: Arc<Reloader<MutualTls>>,
    connections: mpsc::Sender<io::Result<AcceptedConnection>>,
    lines: Arc<LineLimit>,
) {
    let peer = accepted.peer();
    let stream = match accepted.handshake(stream, &*tls, HANDSHAKE_TIMEOUT).await {
        Ok(stream) => stream,
        Err(error) => {
            let reason = tls::handshake_reason(&error);
            if lines.allows_or_reports(peer.ip(), "failed handshakes of followers") {
                info!(%peer, %error, reason, "follower handshake failed");
            }
            return;
        }
    };
    accepted.stop_counting_input();
    // A follower mostly waits for changes.
    let _busy = accepted.busy();
    let connection = Connection::new((*stream).into(), peer, tls, MutualTls::check_client);
    let closed = connection.closed();
    // When the accept loop closes this connection to make room, tonic's half ends as well.
    let _end = connection.end.clone().drop_guard();
    if connections.send(Ok(connection)).await.is_ok() {
        closed.await;
    }
}

// === impl Connection ===

impl<S> Connection<S> {
    /// Wraps a TLS stream and keeps checking its peer with `check`, which depends on the end that
    /// we are.
    pub(crate) fn new(
        stream: TlsStream<S>,
        address: SocketAddr,
        tls: Arc<Reloader<MutualTls>>,
        check: fn(&MutualTls, &[CertificateDer<'_>]) -> Result<(), rustls::Error>,
    ) -> Self {
        let chain: Vec<_> = stream
            .get_ref()
            .1
            .peer_certificates()
            .unwrap_or_default()
            .iter()
            .map(|cert| cert.clone().into_owned())
            .collect();
        let peer = PeerInfo::new(address, chain.first().map_or(&[], |leaf| &**leaf));
        let end = CancellationToken::new();
        let ended = Box::pin(end.clone().cancelled_owned());
        tokio::spawn(recheck(chain, address, tls, check, end.clone()));
        Self {
            stream,
            peer,
            ended,
            _end_on_drop: end.clone().drop_guard(),
            end,
        }
    }

    /// Resolves when the connection is closed, for any reason.
    fn closed(&self) -> WaitForCancellationFutureOwned {
        self.end.clone().cancelled_owned()
    }

    fn is_ended(&mut self, cx: &mut Context<'_>) -> bool {
        self.ended.as_mut().poll(cx).is_ready()
    }
}

async fn recheck(
    chain: Vec<CertificateDer<'static>>,
    peer: SocketAddr,
    tls: Arc<Reloader<MutualTls>>,
    check: fn(&MutualTls, &[CertificateDer<'_>]) -> Result<(), rustls::Error>,
    end: CancellationToken,
) {
    let mut generations = tls.generations();
    loop {
        let next = async {
            tokio::select! { changed = generations.changed() => drop(changed), () = sleep(RECHECK_INTERVAL) => {} }
        };
        if end.run_until_cancelled(next).await.is_none() {
            return;
        }
        let Some(Err(error)) = tls.current().map(|current| check(&current, &chain)) else {
            continue;
        };
        info!(%peer, %error, "peer certificate no longer accepted; closing the connection");
        end.cancel();
        return;
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Connection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_ended(cx) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_ended(cx) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<S> Connected for Connection<S> {
    type ConnectInfo = PeerInfo;

    fn connect_info(&self) -> PeerInfo {
        self.peer.clone()
    }
}

// === impl PeerInfo ===

impl PeerInfo {
    /// The address of the peer.
    pub(crate) fn address(&self) -> IpAddr {
        self.address.ip()
    }

    /// A peer that presented this certificate, in DER.
    pub(crate) fn new(address: SocketAddr, certificate: &[u8]) -> Self {
        Self {
            address,
            source: Source::identified(certificate, address.ip()),
        }
    }

    /// Its part in the places for followers.
    pub(crate) fn source(&self) -> Source {
        self.source
    }
}

impl fmt::Display for PeerInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}",
            SocketAddr::new(self.address.ip().to_canonical(), self.address.port())
        )
    }
}

// === impl CountedStream ===

impl CountedStream {
    pub(crate) fn new(stream: TcpStream, received: Counter) -> Self {
        Self { stream, received }
    }
}

impl AsyncRead for CountedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.received.inc_by((buf.filled().len() - before) as u64);
        polled
    }
}

impl AsyncWrite for CountedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
