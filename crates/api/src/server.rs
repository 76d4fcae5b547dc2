//! Sockets, connections and their limits.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use boot::ConfigName;
use bytes::Bytes;
use http::{HeaderValue, Response, header};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rand::Rng;
use socket2::{Domain, Protocol, Socket, Type};
use tls::{Live, Public};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::field::display;
use tracing::{debug, error, info, warn};

use crate::answer::{Answer, Boot, Choice, Outcome, Request, Route};
use crate::metrics::Metrics;
use crate::patience::Patience;
use crate::raw_target::RawTarget;
use crate::shed;

/// What a client may cost.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Open connections. Beyond, a client is sent away with a 503.
    pub connections: usize,
    /// Requests being answered, until their answer is handed to the connection. Beyond, 503.
    pub in_flight: usize,
    /// From the end of one answer, or the start of the connection, to the end of the next request's head. iPXE keeps an idle connection for 10 s.
    pub head: Duration,
    /// From the moment that a client's window is full until it has taken the whole answer.
    pub answer: Duration,
    /// All headers of a request, in bytes.
    pub header_bytes: usize,
    /// How long answers that are on their way may take when the server stops.
    pub drain: Duration,
}

/// A listening socket, with what answers on it.
pub struct Server {
    listener: TcpListener,
    shared: Arc<Shared>,
}

struct Shared {
    boot: Arc<Boot>,
    /// Present where HTTPS is spoken, and nothing else is then.
    tls: Option<Arc<Live<Public>>>,
    metrics: Metrics,
    limits: Limits,
    connections: Arc<Semaphore>,
    /// Those that are sent away cost something as well.
    shedding: Arc<Semaphore>,
    in_flight: AtomicUsize,
    /// Tells the requests of this process from those of others in a log.
    id_prefix: u32,
    id_next: AtomicUsize,
}

/// Everything that is said about one request beside its answer.
struct Peer {
    remote: SocketAddr,
    local: SocketAddr,
    scheme: &'static str,
}

/// The body of an answer; while it lives, its request counts as in flight.
struct Text {
    bytes: Bytes,
    _in_flight: Option<InFlight>,
}

struct InFlight(Arc<Shared>);

// === impl Limits ===

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 16 * 1024,
            in_flight: 4096,
            head: Duration::from_secs(15),
            answer: Duration::from_secs(30),
            header_bytes: 16 * 1024,
            drain: Duration::from_secs(30),
        }
    }
}

// === impl Server ===

impl Server {
    /// Listens on an address. `[::]` takes IPv4 as well; where the machine has no IPv6, it is `0.0.0.0`.
    pub fn bind(address: SocketAddr, boot: Arc<Boot>, metrics: Metrics, limits: Limits) -> io::Result<Self> {
        Self::listen(address, None, boot, metrics, limits)
    }

    /// The same for HTTPS. While there is no certificate that can be used, connections are closed.
    pub fn bind_tls(address: SocketAddr, tls: Arc<Live<Public>>, boot: Arc<Boot>, metrics: Metrics, limits: Limits) -> io::Result<Self> {
        Self::listen(address, Some(tls), boot, metrics, limits)
    }

    fn listen(address: SocketAddr, tls: Option<Arc<Live<Public>>>, boot: Arc<Boot>, metrics: Metrics, limits: Limits) -> io::Result<Self> {
        let listener = TcpListener::from_std(listen(address)?.into())?;
        let shared = Shared {
            boot,
            tls,
            metrics,
            connections: Arc::new(Semaphore::new(limits.connections)),
            shedding: Arc::new(Semaphore::new(256)),
            limits,
            in_flight: AtomicUsize::new(0),
            id_prefix: rand::rng().random(),
            id_next: AtomicUsize::new(0),
        };
        Ok(Self { listener, shared: Arc::new(shared) })
    }

    /// Where it listens; the port is the one that the system chose, if it was to choose.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until `stop`, then ends connections as they fall idle, and after [`Limits::drain`] in any case.
    pub async fn run(self, stop: CancellationToken) {
        let tasks = TaskTracker::new();
        while let Some(accepted) = stop.run_until_cancelled(self.listener.accept()).await {
            match accepted {
                Ok((stream, remote)) => self.shared.clone().take(stream, remote, &tasks, &stop),
                Err(error) => {
                    self.shared.metrics.accept_errors.inc();
                    if !is_about_one_connection(&error) {
                        warn!(%error, "can't accept connections for the moment; raise the limit of open files if this stays");
                        sleep(Duration::from_millis(100)).await;
                    }
                }
            }
        }
        drop(self.listener);
        tasks.close();
        if timeout(self.shared.limits.drain, tasks.wait()).await.is_err() {
            warn!(connections = tasks.len(), "some clients did not take their answer in time");
        }
    }
}

fn listen(address: SocketAddr) -> io::Result<Socket> {
    let open = |address: SocketAddr| {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(4096)?;
        Ok(socket)
    };
    match open(address) {
        Err(_) if address.ip() == IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED) && !has_ipv6() => {
            open(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port()))
        }
        opened => opened,
    }
}

fn has_ipv6() -> bool {
    Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP)).is_ok_and(|socket| {
        let any: SocketAddr = (std::net::Ipv6Addr::UNSPECIFIED, 0).into();
        socket.bind(&any.into()).is_ok()
    })
}

/// A peer that hung up while it waited is no reason to slow down.
fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused)
}

// === impl Shared ===

impl Shared {
    fn take(self: Arc<Self>, stream: TcpStream, remote: SocketAddr, tasks: &TaskTracker, stop: &CancellationToken) {
        let Ok(local) = stream.local_addr() else { return };
        let _ = stream.set_nodelay(true);
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let peer = Peer { remote: SocketAddr::new(remote.ip().to_canonical(), remote.port()), local, scheme };
        if let Ok(permit) = self.connections.clone().try_acquire_owned() {
            let stop = stop.clone();
            tasks.spawn(async move {
                match self.tls.clone() {
                    None => self.serve(stream, peer, stop, permit).await,
                    // A handshake is short: who stops waits for it.
                    Some(tls) => {
                        if let Some(stream) = self.shake_hands(&tls, stream, &peer).await {
                            self.serve(stream, peer, stop, permit).await;
                        }
                    }
                }
            });
            return;
        }
        self.metrics.connections_shed.inc();
        if let Ok(permit) = self.shedding.clone().try_acquire_owned() {
            tasks.spawn(async move {
                match self.tls.clone() {
                    None => shed::send_away(stream).await,
                    Some(tls) => {
                        if let Some(stream) = self.shake_hands(&tls, stream, &peer).await {
                            shed::send_away(stream).await;
                        }
                    }
                }
                drop(permit);
            });
        }
    }

    async fn shake_hands(&self, tls: &Live<Public>, stream: TcpStream, peer: &Peer) -> Option<TlsStream<TcpStream>> {
        let shaken = match tls.current() {
            None => Err(io::Error::other("there is no usable certificate")),
            Some(current) => match timeout(self.limits.head, TlsAcceptor::from(current.server()).accept(stream)).await {
                Ok(shaken) => shaken,
                Err(_) => Err(io::ErrorKind::TimedOut.into()),
            },
        };
        shaken
            .inspect_err(|error| {
                let reason = tls::handshake_reason(error);
                tls.metrics().handshake_failed(tls.name(), reason);
                debug!(peer = %peer.remote, %error, reason, "TLS handshake failed");
            })
            .ok()
    }

    /// Serves one connection to its end. Plain or encrypted is all the same here.
    async fn serve<S>(self: Arc<Self>, stream: S, peer: Peer, stop: CancellationToken, _permit: OwnedSemaphorePermit)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        self.metrics.connections.inc();
        let service = service_fn(|request| std::future::ready(Ok::<_, Infallible>(self.clone().respond(&request, &peer))));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.head)
            // Room for what `respond` refuses with a sentence; beyond, hyper itself answers 431.
            .max_buf_size(64 * 1024)
            .serve_connection(TokioIo::new(Patience::new(RawTarget::new(stream), self.limits.answer)), service);
        let mut connection = pin!(connection);
        let ended = match stop.run_until_cancelled(connection.as_mut()).await {
            Some(ended) => ended,
            None => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            debug!(peer = %peer.remote, %error, "connection ended");
        }
        self.metrics.connections.dec();
    }

    fn respond(self: Arc<Self>, request: &http::Request<Incoming>, peer: &Peer) -> Response<Text> {
        let started = Instant::now();
        let (answer, in_flight) = match InFlight::enter(&self) {
            Some(in_flight) => (self.answer(request, peer), Some(in_flight)),
            None => {
                let reason = "shaper has too many requests at once; try again in a moment".to_owned();
                (Answer::failure(Route::of(request.uri().path()), Outcome::Overloaded, reason), None)
            }
        };
        let id = format!("{:08x}-{:x}", self.id_prefix, self.id_next.fetch_add(1, Ordering::Relaxed));
        let took = started.elapsed();
        self.metrics.count(&answer, took);
        log(&answer, peer, &id, took);
        let mut response = response(answer, &id, in_flight);
        if !request.body().is_end_stream() {
            // Nothing here has a use for a body; see `RawTarget`.
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    fn answer(&self, request: &http::Request<Incoming>, peer: &Peer) -> Answer {
        let uri = request.uri();
        let route = Route::of(uri.path());
        let header_bytes: usize = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        if header_bytes > self.limits.header_bytes {
            let reason = format!("the headers are longer than {} bytes", self.limits.header_bytes);
            return Answer::failure(route, Outcome::HeadersTooLarge, reason);
        }
        let host = uri.authority().map(http::uri::Authority::as_str);
        let header = request.headers().get(header::HOST).map(|host| host.to_str().unwrap_or("not ASCII"));
        let request = Request {
            method: request.method(),
            path: uri.path(),
            query: uri.query().unwrap_or_default(),
            host: host.or(header),
            scheme: peer.scheme,
            local: peer.local,
        };
        // One request must not take the connections of others with it, whatever is wrong with us.
        catch_unwind(AssertUnwindSafe(|| self.boot.answer(&request))).unwrap_or_else(|_| {
            let reason = "shaper failed in a way that it should not; its log says where, please report it".to_owned();
            Answer::failure(route, Outcome::Broken, reason)
        })
    }
}

fn response(answer: Answer, id: &str, in_flight: Option<InFlight>) -> Response<Text> {
    let status = answer.status();
    let bytes = if status.is_success() { answer.body } else { sentence(&answer.body, status, id) };
    let content_length = bytes.len();
    let mut response = Response::new(Text { bytes, _in_flight: in_flight });
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    headers.insert(header::CONTENT_LENGTH, content_length.into());
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-request-id", HeaderValue::from_str(id).expect("hexadecimal digits and a dash"));
    match answer.outcome {
        Outcome::MethodNotAllowed => drop(headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"))),
        Outcome::NotReady | Outcome::NotAccepted | Outcome::Overloaded => {
            drop(headers.insert(header::RETRY_AFTER, shed::retry_after().into()));
        }
        _ => {}
    }
    response
}

fn sentence(reason: &Bytes, status: http::StatusCode, id: &str) -> Bytes {
    let reason = String::from_utf8_lossy(reason);
    format!("{status}: {reason}\nrequest id: {id}\n").into()
}

/// One line a request. A whole config id is not in it, nor is any text that was rendered.
fn log(answer: &Answer, peer: &Peer, id: &str, took: Duration) {
    let label = |key| answer.subject.as_deref().and_then(|subject| subject.label(key));
    let (uuid, serial, mac) = (label("uuid"), label("serial"), label("mac"));
    let Choice { assignment, profile, config } = &answer.choice;
    let by = assignment.as_ref().map(|(_, by)| display(by));
    let assignment = assignment.as_ref().map(|(assignment, _)| display(&assignment.key));
    let profile = profile.as_ref().map(|profile| display(&profile.key));
    let config = config.as_ref().map(ConfigName::as_str);
    let status = answer.status().as_u16();
    let bytes = answer.body.len();
    let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    let route = answer.route.name();
    macro_rules! line {
        ($level:ident, $reason:expr, $text:literal) => {
            $level!(
                route, uuid, mac, serial, assignment, by, profile, config, status,
                outcome = answer.outcome.name(), reason = $reason, peer = %peer.remote.ip(), bytes, took_us, request = id, $text
            )
        };
    }
    let reason = || std::str::from_utf8(&answer.body).unwrap_or_default();
    match answer.outcome {
        Outcome::Ok => line!(info, None::<&str>, "served"),
        Outcome::Broken => line!(error, Some(reason()), "failed"),
        Outcome::RenderFailed => line!(warn, Some(reason()), "failed"),
        _ => line!(info, Some(reason()), "refused"),
    }
}

// === impl InFlight ===

impl InFlight {
    fn enter(shared: &Arc<Shared>) -> Option<Self> {
        let before = shared.in_flight.fetch_add(1, Ordering::Relaxed);
        shared.metrics.in_flight.inc();
        let entered = Self(shared.clone());
        (before < shared.limits.in_flight).then_some(entered)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.0.metrics.in_flight.dec();
    }
}

// === impl Text ===

impl Body for Text {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let bytes = std::mem::take(&mut self.bytes);
        Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.len() as u64)
    }
}
