//! Sockets, connections and their limits.

mod trouble;

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use boot::ConfigName;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rand::Rng;
use socket2::{Domain, Protocol, Socket, Type};
use tls::{Live, Public};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
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
use crate::refusal::{Ours, Refusal};
use crate::shed;

pub use trouble::Trouble;

/// What a client may cost.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Open connections. Beyond, a client is sent away with a 503.
    pub connections: usize,
    /// Connections beyond, which get their 503. Beyond these, the system's queue is where clients wait.
    pub shedding: usize,
    /// Requests being answered, until their answer is handed to the connection. Beyond, 503.
    pub in_flight: usize,
    /// From the end of one answer, or the start of the connection, to the end of the next request's head. iPXE keeps an idle connection for 10 s.
    pub head: Duration,
    /// From the moment that a client's window is full until it has taken the whole answer.
    pub answer: Duration,
    /// All headers of a request, in bytes.
    pub header_bytes: usize,
    /// Long answers that clients have not taken yet, in bytes. Beyond, 503.
    pub answer_bytes: usize,
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
    answer_bytes: AtomicUsize,
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

/// Where a connection counts.
enum Place {
    Served(OwnedSemaphorePermit),
    SentAway(OwnedSemaphorePermit),
}

/// The body of an answer; while it lives, its request counts as in flight.
struct Text {
    bytes: Bytes,
    _in_flight: Option<InFlight>,
}

struct InFlight(Arc<Shared>);

/// The bytes of a long answer, which count until they are written.
struct LongText(Bytes, Arc<Shared>);

/// What is known of one connection while it lasts.
#[derive(Default)]
struct Progress {
    /// Whether an answer of ours is on its way.
    is_ours: Ours,
    /// Whether a request was answered.
    is_answered: AtomicBool,
    answered: Notify,
    /// Whether the client may still be sending what nobody reads.
    is_talking: AtomicBool,
    /// Whether we refused something that is no request.
    is_refused: AtomicBool,
}

/// A shorter answer may wait for its client without being counted: connections are.
const LONG_BYTES: usize = 16 * 1024;
/// What the kernel may hold of an answer that a client does not take. More is ours to count.
const SEND_BUFFER_BYTES: usize = 128 * 1024;
/// Room for the longest head that is answered with a sentence of its own; beyond, hyper refuses.
const HEAD_BUFFER_BYTES: usize = 32 * 1024;
/// A client that has just connected when the server stops has so long to ask.
const LAST_REQUEST: Duration = Duration::from_secs(1);
/// A client whose request was refused before all of it was read has so long to take that: a connection that is closed before is reset.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: u64 = 2 * 1024 * 1024;

// === impl Limits ===

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 16 * 1024,
            shedding: 2048,
            in_flight: 4096,
            head: Duration::from_secs(15),
            answer: Duration::from_secs(30),
            header_bytes: 16 * 1024,
            answer_bytes: 512 * 1024 * 1024,
            drain: Duration::from_secs(30),
        }
    }
}

impl Limits {
    /// The same where no more than so many files can be open for connections: an eighth of them at least is for those that are sent away.
    pub fn within(self, open_files: usize) -> Self {
        if self.connections + self.shedding <= open_files {
            return self;
        }
        let shedding = (open_files / 8).clamp(1, self.shedding);
        Self { connections: open_files.saturating_sub(shedding).clamp(1, self.connections), shedding, ..self }
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
            shedding: Arc::new(Semaphore::new(limits.shedding)),
            limits,
            in_flight: AtomicUsize::new(0),
            answer_bytes: AtomicUsize::new(0),
            id_prefix: rand::rng().random(),
            id_next: AtomicUsize::new(0),
        };
        Ok(Self { listener, shared: Arc::new(shared) })
    }

    /// Where it listens; the port is the one that the system chose, if it was to choose.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves a connection that was accepted elsewhere, to its end. The limit of connections does not count it.
    pub async fn attend<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        remote: SocketAddr,
        stop: CancellationToken,
    ) -> io::Result<()> {
        let peer = Peer { remote, local: self.local_addr()?, scheme: self.shared.scheme() };
        self.shared.clone().serve(stream, peer, stop).await;
        Ok(())
    }

    /// Answers until `stop`, then ends connections as they fall idle, and after [`Limits::drain`] in any case.
    pub async fn run(self, stop: CancellationToken) {
        let tasks = TaskTracker::new();
        let mut trouble = Trouble::default();
        while let Some(accepted) = stop.run_until_cancelled(self.listener.accept()).await {
            match accepted {
                Ok((stream, remote)) => {
                    trouble.is_over();
                    if let Some(place) = stop.run_until_cancelled(self.shared.place()).await {
                        self.shared.clone().take(stream, remote, place, &tasks, &stop);
                    }
                }
                Err(error) => {
                    self.shared.metrics.accept_errors.inc();
                    if !is_about_one_connection(&error) {
                        trouble.tell(&error);
                        sleep(Duration::from_millis(100)).await;
                    }
                }
            }
        }
        // Whoever the system has let in already would be reset.
        while let Ok(Ok((stream, remote))) = timeout(Duration::ZERO, self.listener.accept()).await {
            let Some(place) = self.shared.free_place() else { break };
            self.shared.clone().take(stream, remote, place, &tasks, &stop);
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
        // What is accepted inherits it.
        socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
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
        let served = self.connections.clone().try_acquire_owned().map(Place::Served);
        served.or_else(|_| self.shedding.clone().try_acquire_owned().map(Place::SentAway)).ok()
    }

    fn take(self: Arc<Self>, stream: TcpStream, remote: SocketAddr, place: Place, tasks: &TaskTracker, stop: &CancellationToken) {
        let Ok(local) = stream.local_addr() else { return };
        let _ = stream.set_nodelay(true);
        let peer = Peer { remote: SocketAddr::new(remote.ip().to_canonical(), remote.port()), local, scheme: self.scheme() };
        match place {
            Place::Served(permit) => {
                let stop = stop.clone();
                tasks.spawn(async move {
                    match self.tls.clone() {
                        None => self.serve(stream, peer, stop).await,
                        // A handshake is short: who stops waits for it.
                        Some(tls) => {
                            if let Some(stream) = self.shake_hands(&tls, stream, &peer).await {
                                self.serve(stream, peer, stop).await;
                            }
                        }
                    }
                    drop(permit);
                });
            }
            Place::SentAway(permit) => {
                self.metrics.connections_shed.inc();
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
    async fn serve<S>(self: Arc<Self>, stream: S, peer: Peer, stop: CancellationToken)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        self.metrics.connections.inc();
        let progress = Progress::default();
        let service =
            service_fn(|request| std::future::ready(Ok::<_, Infallible>(self.clone().respond(&request, &peer, &progress, &stop))));
        let refuse = |status| self.refuse(status, &peer, &progress);
        let stream = Refusal::new(Patience::new(RawTarget::new(stream), self.limits.answer), progress.is_ours.clone(), refuse);
        let mut connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.head)
            .max_buf_size(HEAD_BUFFER_BYTES)
            // A client may say that it has nothing more to ask.
            .half_close(true)
            .serve_connection(TokioIo::new(stream), service);
        let ended = match stop.run_until_cancelled(&mut connection).await {
            Some(ended) => ended,
            None => self.finish(Pin::new(&mut connection), &progress).await,
        };
        if let Err(error) = ended {
            debug!(peer = %peer.remote, %error, "connection ended");
            if error.is_parse() && !progress.is_refused.load(Ordering::Relaxed) {
                // HTTP/2, which hyper knows and says nothing to.
                self.refuse(StatusCode::BAD_REQUEST, &peer, &progress);
            }
        }
        if progress.is_talking.load(Ordering::Relaxed) {
            linger(connection.into_parts().io.into_inner()).await;
        }
        self.metrics.connections.dec();
    }

    /// The server stops: a client that has not asked yet may do so, and what was asked is answered.
    async fn finish<C, S>(&self, mut connection: Pin<&mut http1::Connection<C, S>>, progress: &Progress) -> hyper::Result<()>
    where
        C: hyper::rt::Read + hyper::rt::Write + Unpin,
        S: hyper::service::HttpService<Incoming, ResBody = Text>,
        S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if !progress.is_answered.load(Ordering::Relaxed) {
            tokio::select! {
                ended = connection.as_mut() => return ended,
                () = progress.answered.notified() => {}
                () = sleep(LAST_REQUEST) => {}
            }
        }
        connection.as_mut().graceful_shutdown();
        connection.await
    }

    /// The answer to what hyper can't read as a request.
    fn refuse(&self, status: StatusCode, peer: &Peer, progress: &Progress) -> Vec<u8> {
        progress.is_refused.store(true, Ordering::Relaxed);
        progress.is_talking.store(true, Ordering::Relaxed);
        let (outcome, reason) = match status {
            StatusCode::URI_TOO_LONG => (Outcome::TargetTooLong, "path and query are too long; send fewer or shorter labels"),
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
                (Outcome::HeadersTooLarge, "the request line and the headers are too long; send fewer or shorter labels and headers")
            }
            _ => (Outcome::BadRequest, "this is no HTTP/1 request that shaper can read; if it was meant for HTTPS, that has another port"),
        };
        let answer = Answer::failure(Route::Unknown, outcome, reason.to_owned());
        let id = self.id();
        self.metrics.count(&answer, Duration::ZERO);
        log(&answer, peer, &id, Duration::ZERO);
        let status = answer.status();
        let body = sentence(&answer.body, status, &id);
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-type: {}\r\ncontent-length: {}\r\ncache-control: no-store\r\nx-request-id: {id}\r\nconnection: close\r\n\r\n",
            answer.content_type,
            body.len()
        );
        [head.as_bytes(), &body].concat()
    }

    fn id(&self) -> String {
        format!("{:08x}-{:x}", self.id_prefix, self.id_next.fetch_add(1, Ordering::Relaxed))
    }

    /// The answer, if there is room for it until its client has taken it.
    fn room(self: &Arc<Self>, answer: Answer) -> Answer {
        let bytes = answer.body.len();
        if bytes <= LONG_BYTES {
            return answer;
        }
        let before = self.answer_bytes.fetch_add(bytes, Ordering::Relaxed);
        let body = Bytes::from_owner(LongText(answer.body.clone(), self.clone()));
        if before + bytes > self.limits.answer_bytes {
            let reason = "shaper has too many long answers that clients are still taking; try again in a moment".to_owned();
            return Answer { body: reason.into(), outcome: Outcome::Overloaded, content_type: "text/plain; charset=utf-8", ..answer };
        }
        Answer { body, ..answer }
    }

    fn respond(
        self: Arc<Self>,
        request: &http::Request<Incoming>,
        peer: &Peer,
        progress: &Progress,
        stop: &CancellationToken,
    ) -> Response<Text> {
        let started = Instant::now();
        let (answer, in_flight) = match InFlight::enter(&self) {
            Some(in_flight) => (self.room(self.answer(request, peer)), Some(in_flight)),
            None => {
                let reason = "shaper has too many requests at once; try again in a moment".to_owned();
                (Answer::failure(Route::of(request.uri().path()), Outcome::Overloaded, reason), None)
            }
        };
        let id = self.id();
        let took = started.elapsed();
        self.metrics.count(&answer, took);
        log(&answer, peer, &id, took);
        let mut response = response(answer, &id, in_flight);
        // Nothing here has a use for a body; see `RawTarget`.
        let has_body = !request.body().is_end_stream();
        if has_body {
            progress.is_talking.store(true, Ordering::Relaxed);
        }
        if has_body || stop.is_cancelled() {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        progress.is_ours.set();
        if !progress.is_answered.swap(true, Ordering::Relaxed) {
            progress.answered.notify_one();
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

/// Takes what a client still sends, so that the system does not reset the connection before the client has read the answer.
async fn linger(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let exchange = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(LINGER_BYTES), &mut tokio::io::sink()).await
    };
    // Whatever the client does, it has had its chance.
    let _ = timeout(LINGER, exchange).await;
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

// === impl LongText ===

impl AsRef<[u8]> for LongText {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for LongText {
    fn drop(&mut self) {
        self.1.answer_bytes.fetch_sub(self.0.len(), Ordering::Relaxed);
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
