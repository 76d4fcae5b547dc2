//! Connections under TLS, whose peers are checked for as long as they last.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use rustls::pki_types::CertificateDer;
use tls::{Live, Mutual};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{sleep, timeout};
use tokio_rustls::{TlsAcceptor, TlsStream};
use tokio_stream::Stream;
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;
use tracing::{info, warn};

/// How long a follower may take for its handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How often the certificates of peers are looked at again, beside when our own files change: they may have expired.
const RECHECK: Duration = Duration::from_mins(1);

/// Connections whose handshake is done, as tonic wants them.
pub(crate) struct Accepted(mpsc::Receiver<io::Result<Connection>>);

/// A connection that ends when its peer would no longer be let in.
pub(crate) struct Connection {
    stream: TlsStream<Counted>,
    peer: PeerInfo,
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
    end: CancellationToken,
    _end_with_us: DropGuard,
}

/// A socket whose bytes are counted.
pub(crate) struct Counted {
    stream: TcpStream,
    received: Counter,
}

/// Who is at the other end.
#[derive(Clone, Debug)]
pub(crate) struct PeerInfo(SocketAddr);

// === impl Accepted ===

impl Accepted {
    pub(crate) fn new(
        listener: TcpListener,
        tls: Arc<Live<Mutual>>,
        limit: usize,
        stop: CancellationToken,
    ) -> Self {
        let (sender, connections) = mpsc::channel(16);
        tokio::spawn(accept(listener, tls, limit, sender, stop));
        Self(connections)
    }
}

impl Stream for Accepted {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx)
    }
}

async fn accept(
    listener: TcpListener,
    tls: Arc<Live<Mutual>>,
    limit: usize,
    connections: mpsc::Sender<io::Result<Connection>>,
    stop: CancellationToken,
) {
    // Twice as many as may follow, so that one too many learns why it may not.
    let places = Arc::new(Semaphore::new(limit * 2));
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "can't accept a follower's connection for the moment");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            tls.metrics().handshake_failed(tls.name(), "too_many");
            continue;
        };
        let (tls, connections) = (tls.clone(), connections.clone());
        tokio::spawn(async move {
            match shake_hands(stream, address, &tls).await {
                Ok(connection) => {
                    let closed = connection.closed();
                    if connections.send(Ok(connection)).await.is_ok() {
                        closed.await;
                    }
                }
                Err(error) => {
                    let reason = tls::handshake_reason(&error);
                    tls.metrics().handshake_failed(tls.name(), reason);
                    info!(peer = %address, %error, reason, "a follower's handshake failed");
                }
            }
            drop(place);
        });
    }
}

async fn shake_hands(
    stream: TcpStream,
    address: SocketAddr,
    tls: &Arc<Live<Mutual>>,
) -> io::Result<Connection> {
    let Some(current) = tls.current() else {
        return Err(io::Error::other("there is no usable certificate here"));
    };
    stream.set_nodelay(true)?;
    let stream = Counted {
        stream,
        received: Counter::default(),
    };
    let handshake = timeout(
        HANDSHAKE,
        TlsAcceptor::from(current.server()).accept(stream),
    );
    let stream = handshake.await.map_err(|_| io::ErrorKind::TimedOut)??;
    Ok(Connection::new(
        stream.into(),
        address,
        tls.clone(),
        Mutual::check_client,
    ))
}

// === impl Connection ===

impl Connection {
    /// Watches over the peer of a connection, by the check that fits its end.
    pub(crate) fn new(
        stream: TlsStream<Counted>,
        address: SocketAddr,
        tls: Arc<Live<Mutual>>,
        check: fn(&Mutual, &[CertificateDer<'_>]) -> Result<(), rustls::Error>,
    ) -> Self {
        let chain: Vec<_> = stream
            .get_ref()
            .1
            .peer_certificates()
            .unwrap_or_default()
            .iter()
            .map(|cert| cert.clone().into_owned())
            .collect();
        let end = CancellationToken::new();
        let ended = Box::pin(end.clone().cancelled_owned());
        tokio::spawn(recheck(chain, address, tls, check, end.clone()));
        Self {
            stream,
            peer: PeerInfo(address),
            ended,
            _end_with_us: end.clone().drop_guard(),
            end,
        }
    }

    /// Resolves when the connection is over, for whatever reason.
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
    tls: Arc<Live<Mutual>>,
    check: fn(&Mutual, &[CertificateDer<'_>]) -> Result<(), rustls::Error>,
    end: CancellationToken,
) {
    let mut generations = tls.generations();
    loop {
        let next = async {
            tokio::select! { changed = generations.changed() => drop(changed), () = sleep(RECHECK) => {} }
        };
        if end.run_until_cancelled(next).await.is_none() {
            return;
        }
        let Some(Err(error)) = tls.current().map(|current| check(&current, &chain)) else {
            continue;
        };
        info!(%peer, %error, "a peer's certificate is not accepted any more; the connection ends");
        end.cancel();
        return;
    }
}

impl AsyncRead for Connection {
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

impl AsyncWrite for Connection {
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

impl Connected for Connection {
    type ConnectInfo = PeerInfo;

    fn connect_info(&self) -> PeerInfo {
        self.peer.clone()
    }
}

impl fmt::Display for PeerInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}",
            SocketAddr::new(self.0.ip().to_canonical(), self.0.port())
        )
    }
}

// === impl Counted ===

impl Counted {
    pub(crate) fn new(stream: TcpStream, received: Counter) -> Self {
        Self { stream, received }
    }
}

impl AsyncRead for Counted {
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

impl AsyncWrite for Counted {
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
