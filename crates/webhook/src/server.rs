//! The HTTPS server: connections, their limits, and how a request becomes a review.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use net::{
    Connection, Connections, Counted, CountedInput, Handler, HeldInput, LineLimit, Listener,
    Permits, PlainText, Source, Stage, Turns, WhenFull,
};
use tls::{PublicTls, Reloader};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info};

use crate::metrics::Metrics;
use crate::reviews::{Caller, Hook, Reviews};

/// Limits on what a caller may cost.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Open connections. One more takes the place of one that has proved least, or is closed.
    pub connections: usize,
    /// Concurrent requests on one HTTP/2 connection.
    pub streams: u32,
    /// Reviews being read or answered. One more takes the place of one that yields, which gets a
    /// 503, or gets a 503 itself.
    pub in_flight: usize,
    /// Size of a body. An object takes at most 1.5 MB in etcd, and an update holds it twice.
    pub body_bytes: usize,
    /// Size of all bodies that are being read or reviewed, and of all long handshakes, in bytes.
    /// Beyond, connections of the network that holds most are closed.
    pub input_bytes: usize,
    /// Size of all headers of a request, in bytes.
    pub header_bytes: u32,
    /// Time for a TLS handshake, and for the head of a request in HTTP/1.1.
    pub head: Duration,
    /// After this time without a request, a connection may be displaced by any newcomer.
    pub grace: Duration,
    /// Time for a body.
    pub body: Duration,
    /// How long a connection may stay without a request.
    pub idle: Duration,
    /// How long answers may take once their connection, or the server, is to end.
    pub drain: Duration,
}

/// A listening socket, and what answers on it.
pub struct Server {
    listener: Listener,
    shared: Arc<Shared>,
}

/// A review whose body has not arrived after this time may be displaced by any newcomer.
const BODY_GRACE: Duration = Duration::from_secs(1);

/// Serves connections until `stop`.
struct Serving {
    shared: Arc<Shared>,
    stop: CancellationToken,
}

struct Shared {
    reviews: Arc<Reviews>,
    tls: Arc<Reloader<PublicTls>>,
    metrics: Metrics,
    limits: Limits,
    in_flight: Permits,
    /// One for each core: a review is CPU work, and waiting for a core beats sharing one.
    processors: Turns,
    lines: LineLimit,
    started: Instant,
}

/// When the last request arrived on a connection, in seconds since the server started.
type LastRequest = AtomicU64;

type Reply = Response<Full<Bytes>>;

/// The answer to a request that gets no review.
struct Refused {
    status: StatusCode,
    /// As metrics call it.
    reason: &'static str,
    text: String,
}

// === impl Limits ===

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 512,
            streams: 100,
            in_flight: 128,
            body_bytes: 4 * 1024 * 1024,
            input_bytes: 64 * 1024 * 1024,
            header_bytes: 16 * 1024,
            head: Duration::from_secs(15),
            grace: Duration::from_secs(5),
            body: Duration::from_secs(3),
            idle: Duration::from_mins(5),
            drain: Duration::from_secs(10),
        }
    }
}

// === impl Server ===

impl Server {
    /// Listens on an address. While there is no usable certificate, connections are closed.
    pub fn bind(
        address: SocketAddr,
        tls: Arc<Reloader<PublicTls>>,
        reviews: Arc<Reviews>,
        metrics: Metrics,
        limits: Limits,
    ) -> io::Result<Self> {
        let shared = Shared {
            reviews,
            tls,
            metrics,
            in_flight: Permits::new(limits.in_flight, BODY_GRACE),
            processors: Turns::for_each_processor(),
            lines: LineLimit::default(),
            limits,
            started: Instant::now(),
        };
        Ok(Self {
            listener: Listener::bind(address)?,
            shared: Arc::new(shared),
        })
    }

    /// The address it listens on, with the port that the kernel chose if port 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.listener.local_addr()
    }

    /// Answers until `stop`, then ends connections as they fall idle, and after
    /// [`Limits::drain`] at the latest. Fails only if the listener can't be registered with the
    /// runtime.
    pub async fn run(self, stop: CancellationToken) -> io::Result<()> {
        let limits = &self.shared.limits;
        let limits = net::Limits {
            connections: limits.connections,
            when_full: WhenFull::Refuse,
            proof: Stage::HeadRead,
            grace: limits.grace,
            input_bytes: limits.input_bytes,
            // Answers are short.
            answer_bytes: usize::MAX,
            // A handshake that has begun is finished first.
            drain: limits.head + limits.drain,
        };
        let displaced = self.shared.metrics.connections_displaced.clone();
        let handler = Serving {
            shared: self.shared,
            stop: stop.clone(),
        };
        net::serve(
            self.listener,
            Connections::new("webhook", limits, displaced),
            handler,
            stop,
        )
        .await
    }
}

// === impl Serving ===

impl Handler for Serving {
    type Served = Pin<Box<dyn Future<Output = ()> + Send>>;

    fn serve(&self, stream: CountedInput<TcpStream>, connection: Connection) -> Self::Served {
        let (shared, stop) = (self.shared.clone(), self.stop.clone());
        Box::pin(shared.serve(stream, connection, stop))
    }

    fn refused(&self, _: SocketAddr) {
        self.shared.metrics.connections_shed.inc();
    }
}

// === impl Shared ===

impl Shared {
    /// Serves one connection to its end.
    async fn serve(
        self: Arc<Self>,
        stream: CountedInput<TcpStream>,
        connection: Connection,
        stop: CancellationToken,
    ) {
        let peer = connection.peer();
        let mut certificates = self.tls.generations();
        let handshake = connection.handshake(stream, &*self.tls, self.limits.head);
        let stream = match handshake.await {
            Ok(stream) => stream,
            Err(error) => {
                let reason = tls::handshake_reason(&error);
                if self
                    .lines
                    .allows_or_reports(peer.ip(), "failed TLS handshakes and requests")
                {
                    info!(%peer, %error, reason, "TLS handshake failed");
                }
                return;
            }
        };
        let _counted = Counted::new(&self.metrics.connections);
        let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        // Without a client CA, no certificate is asked for.
        let caller = match stream.get_ref().1.peer_certificates() {
            Some([_, ..]) => Caller::Verified,
            _ => Caller::Unverified,
        };
        // A client whose authority was withdrawn must not stay because its connection is old.
        let expired = async move {
            match caller {
                Caller::Verified => drop(certificates.changed().await),
                Caller::Unverified => std::future::pending().await,
            }
        };
        let last = Arc::new(LastRequest::new(self.now()));
        let service = {
            let (shared, last, connection) = (self.clone(), last.clone(), connection.clone());
            service_fn(move |request| {
                let (shared, last, connection) = (shared.clone(), last.clone(), connection.clone());
                async move {
                    last.store(shared.now(), Ordering::Relaxed);
                    connection.reached(Stage::HeadRead);
                    // HTTP/2 bounds what it holds of heads. Bodies take room of their own.
                    connection.stop_counting_input();
                    let _busy = connection.busy();
                    let held = connection.held_input();
                    Ok::<_, Infallible>(shared.respond(request, peer, caller, held).await)
                }
            })
        };
        let limits = &self.limits;
        let ended = if is_h2 {
            let connection = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .max_concurrent_streams(limits.streams)
                .max_header_list_size(limits.header_bytes)
                .initial_stream_window_size(256 * 1024)
                .initial_connection_window_size(1024 * 1024)
                .max_send_buf_size(64 * 1024)
                // A client that resets the streams it has just opened is disconnected.
                .max_pending_accept_reset_streams(20)
                .max_local_error_reset_streams(Some(64))
                .keep_alive_interval(Some(Duration::from_secs(30)))
                .keep_alive_timeout(Duration::from_secs(10))
                .serve_connection(TokioIo::new(stream), service);
            self.drive(
                connection,
                http2::Connection::graceful_shutdown,
                &last,
                expired,
                &stop,
            )
            .await
        } else {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                // This also limits the time from one request to the next.
                .header_read_timeout(limits.head)
                .max_buf_size(limits.header_bytes as usize + 8192)
                .serve_connection(TokioIo::new(stream), service);
            self.drive(
                connection,
                http1::Connection::graceful_shutdown,
                &last,
                expired,
                &stop,
            )
            .await
        };
        if let Err(error) = ended {
            debug!(%peer, error, "connection ended");
        }
    }

    /// Waits for the end of a connection. Shuts it down when the server stops, the connection was
    /// idle for too long, or `expired` is ready.
    async fn drive<C: Future<Output = hyper::Result<()>>>(
        &self,
        connection: C,
        shut_down: impl Fn(Pin<&mut C>),
        last: &LastRequest,
        expired: impl Future<Output = ()>,
        stop: &CancellationToken,
    ) -> Result<(), String> {
        let mut connection = pin!(connection);
        let mut expired = pin!(expired);
        let mut tick =
            tokio::time::interval(self.limits.idle.div_f64(4.0).max(Duration::from_millis(10)));
        loop {
            tokio::select! {
                ended = connection.as_mut() => return ended.map_err(|error| error.to_string()),
                () = stop.cancelled() => break,
                () = expired.as_mut() => break,
                _ = tick.tick() => {
                    if self.now().saturating_sub(last.load(Ordering::Relaxed)) > self.limits.idle.as_secs() {
                        break;
                    }
                }
            }
        }
        shut_down(connection.as_mut());
        match timeout(self.limits.drain, connection).await {
            Ok(ended) => ended.map_err(|error| error.to_string()),
            Err(_) => Err("the connection did not end in time".to_owned()),
        }
    }

    async fn respond(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: SocketAddr,
        caller: Caller,
        held: HeldInput,
    ) -> Reply {
        let metrics = self.metrics.clone();
        let _counted = Counted::new(&metrics.in_flight);
        match self.review(request, peer.ip(), caller, held).await {
            Ok(json) => net::response(StatusCode::OK, "application/json", json),
            Err(refused) => {
                metrics.record_refusal(refused.reason);
                let answer = PlainText::new(refused.status, refused.text);
                match refused.status {
                    StatusCode::METHOD_NOT_ALLOWED => answer.allow("POST"),
                    StatusCode::SERVICE_UNAVAILABLE => answer.retry_after(1),
                    _ => answer,
                }
                .into_response()
            }
        }
    }

    async fn review(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: IpAddr,
        caller: Caller,
        mut held: HeldInput,
    ) -> Result<String, Refused> {
        let source = Source::from(peer);
        let hook = self.check_head(&request)?;
        let overloaded = || {
            Refused::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "overloaded",
                "too many concurrent reviews; try again",
            )
        };
        let permit = self.in_flight.try_acquire(source).ok_or_else(overloaded)?;
        let body = request.into_body().map_frame(|frame| {
            held.add(frame.data_ref().map_or(0, Bytes::len));
            frame
        });
        let body = Limited::new(body, self.limits.body_bytes).collect();
        let body = tokio::select! {
            body = timeout(self.limits.body, body) => body,
            () = permit.revoked() => return Err(overloaded()),
        };
        let body = match body {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(self.too_large()),
            Ok(Err(error)) => {
                return Err(Refused::new(
                    StatusCode::BAD_REQUEST,
                    "unreadable",
                    format!("the body can't be read: {error}"),
                ));
            }
            Err(_) => {
                return Err(Refused::new(
                    StatusCode::REQUEST_TIMEOUT,
                    "slow",
                    "the body took too long",
                ));
            }
        };
        permit.proved();
        let started = Instant::now();
        let processor = tokio::select! {
            processor = self.processors.take(source) => processor,
            () = permit.revoked() => return Err(overloaded()),
        };
        let reviews = self.reviews.clone();
        // A review may take a while, and a panic in it must not end other connections. It also runs
        // on when its client has gone.
        let answered = tokio::task::spawn_blocking(move || {
            let _counted = (permit, processor, held);
            reviews.answer(hook, &body, started, (caller, peer))
        });
        match answered.await {
            Ok(Ok(json)) => Ok(json),
            Ok(Err(error)) => {
                if self
                    .lines
                    .allows_or_reports(peer, "failed TLS handshakes and requests")
                {
                    info!(webhook = hook.name(), %peer, %error, "rejected a request that is not an AdmissionReview");
                }
                Err(Refused::new(
                    StatusCode::BAD_REQUEST,
                    "malformed",
                    error.to_string(),
                ))
            }
            Err(error) => {
                error!(webhook = hook.name(), %error, "a review panicked; please report it");
                Err(Refused::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "broken",
                    "internal error; see the log of the webhook",
                ))
            }
        }
    }

    /// The review that is asked for, as far as the head of the request tells.
    fn check_head(&self, request: &Request<Incoming>) -> Result<Hook, Refused> {
        let Some(hook) = Hook::from_path(request.uri().path()) else {
            return Err(Refused::new(
                StatusCode::NOT_FOUND,
                "path",
                "unknown path; an API server posts to /validate or /mutate",
            ));
        };
        if request.method() != Method::POST {
            return Err(Refused::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method",
                "only POST is allowed, with an AdmissionReview",
            ));
        }
        let content_type = request
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        if content_type.split(';').next().map(str::trim) != Some("application/json") {
            return Err(Refused::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "media_type",
                "the content type must be application/json",
            ));
        }
        if request.body().size_hint().lower() > self.limits.body_bytes as u64 {
            return Err(self.too_large());
        }
        Ok(hook)
    }

    fn too_large(&self) -> Refused {
        let text = format!("the body is longer than {} bytes", self.limits.body_bytes);
        Refused::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", text)
    }

    fn now(&self) -> u64 {
        self.started.elapsed().as_secs()
    }
}

impl Refused {
    fn new(status: StatusCode, reason: &'static str, text: impl Into<String>) -> Self {
        Self {
            status,
            reason,
            text: text.into(),
        }
    }
}
