//! Sockets, connections and their limits.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use prometheus_client::metrics::gauge::Gauge;
use tls::{Live, Public};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, error, info, warn};

use crate::metrics::Metrics;
use crate::reviews::{Hook, Reviews};

/// What a caller may cost.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Open connections. Beyond, a new one is closed.
    pub connections: usize,
    /// Requests at once over one connection of HTTP/2.
    pub streams: u32,
    /// Reviews being read or answered; beyond, 503.
    pub in_flight: usize,
    /// Size of a body. An object has at most 1.5 MB in etcd, and an update holds it twice.
    pub body_bytes: usize,
    /// All headers of a request, in bytes.
    pub header_bytes: u32,
    /// Time for a handshake, and for all headers of a request in HTTP/1.1.
    pub head: Duration,
    /// Time for a body.
    pub body: Duration,
    /// A connection over which nothing was asked for so long is closed.
    pub idle: Duration,
    /// How long answers that are on their way may take when a connection, or the server, ends.
    pub drain: Duration,
}

/// A listening socket, with what answers on it.
pub struct Server {
    listener: TcpListener,
    shared: Arc<Shared>,
}

struct Shared {
    reviews: Arc<Reviews>,
    tls: Arc<Live<Public>>,
    metrics: Metrics,
    limits: Limits,
    connections: Arc<Semaphore>,
    in_flight: Arc<Semaphore>,
    /// Reviews are work for a processor, and waiting for it is better than sharing it.
    processors: Arc<Semaphore>,
    started: Instant,
}

/// Something that is counted as long as it lasts.
struct Counted(Gauge);

/// When a request came over a connection last, in seconds since the server started.
type LastAsked = AtomicU64;

type Reply = Response<Full<Bytes>>;

/// A request that gets no review.
struct Refused {
    status: StatusCode,
    /// For metrics.
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
            header_bytes: 16 * 1024,
            head: Duration::from_secs(15),
            body: Duration::from_secs(3),
            idle: Duration::from_mins(5),
            drain: Duration::from_secs(10),
        }
    }
}

// === impl Server ===

impl Server {
    /// Listens on an address. While there is no certificate that can be used, connections are closed.
    pub async fn bind(
        address: SocketAddr,
        tls: Arc<Live<Public>>,
        reviews: Arc<Reviews>,
        metrics: Metrics,
        limits: Limits,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let shared = Shared {
            reviews,
            tls,
            metrics,
            connections: Arc::new(Semaphore::new(limits.connections)),
            in_flight: Arc::new(Semaphore::new(limits.in_flight)),
            processors: Arc::new(Semaphore::new(
                std::thread::available_parallelism().map_or(2, std::num::NonZero::get),
            )),
            limits,
            started: Instant::now(),
        };
        Ok(Self {
            listener,
            shared: Arc::new(shared),
        })
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
                Ok((stream, peer)) => {
                    let Ok(permit) = self.shared.connections.clone().try_acquire_owned() else {
                        self.shared.metrics.connections_shed.inc();
                        continue;
                    };
                    tasks.spawn(
                        self.shared
                            .clone()
                            .serve(stream, peer, stop.clone(), permit),
                    );
                }
                Err(error) => {
                    warn!(%error, "can't accept connections for the moment; raise the limit of open files if this stays");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
        drop(self.listener);
        tasks.close();
        tasks.wait().await;
    }
}

// === impl Shared ===

impl Shared {
    /// Serves one connection to its end.
    async fn serve(
        self: Arc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
        stop: CancellationToken,
        _permit: OwnedSemaphorePermit,
    ) {
        let _ = stream.set_nodelay(true);
        let Some(stream) = self.shake_hands(stream, peer).await else {
            return;
        };
        let _counted = Counted::new(&self.metrics.connections);
        let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let last = Arc::new(LastAsked::new(self.now()));
        let service = {
            let (shared, last) = (self.clone(), last.clone());
            service_fn(move |request| {
                let (shared, last) = (shared.clone(), last.clone());
                async move {
                    last.store(shared.now(), Ordering::Relaxed);
                    Ok::<_, Infallible>(shared.respond(request).await)
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
                // Who resets what they just began is sent away.
                .max_pending_accept_reset_streams(20)
                .max_local_error_reset_streams(Some(64))
                .keep_alive_interval(Some(Duration::from_secs(30)))
                .keep_alive_timeout(Duration::from_secs(10))
                .serve_connection(TokioIo::new(stream), service);
            self.to_its_end(
                connection,
                http2::Connection::graceful_shutdown,
                &last,
                &stop,
            )
            .await
        } else {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                // This also is the time from one request to the next.
                .header_read_timeout(limits.head)
                .max_buf_size(limits.header_bytes as usize + 8192)
                .serve_connection(TokioIo::new(stream), service);
            self.to_its_end(
                connection,
                http1::Connection::graceful_shutdown,
                &last,
                &stop,
            )
            .await
        };
        if let Err(error) = ended {
            debug!(%peer, error, "connection ended");
        }
    }

    /// Waits for the end of a connection, which is asked for when the server stops or nothing was asked for long.
    async fn to_its_end<C: Future<Output = hyper::Result<()>>>(
        &self,
        connection: C,
        shut_down: impl Fn(Pin<&mut C>),
        last: &LastAsked,
        stop: &CancellationToken,
    ) -> Result<(), String> {
        let mut connection = pin!(connection);
        let mut look =
            tokio::time::interval(self.limits.idle.div_f64(4.0).max(Duration::from_millis(10)));
        loop {
            tokio::select! {
                ended = connection.as_mut() => return ended.map_err(|error| error.to_string()),
                () = stop.cancelled() => break,
                _ = look.tick() => {
                    if self.now().saturating_sub(last.load(Ordering::Relaxed)) > self.limits.idle.as_secs() {
                        break;
                    }
                }
            }
        }
        shut_down(connection.as_mut());
        match timeout(self.limits.drain, connection).await {
            Ok(ended) => ended.map_err(|error| error.to_string()),
            Err(_) => Err("it did not end in time".to_owned()),
        }
    }

    async fn shake_hands(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
    ) -> Option<TlsStream<TcpStream>> {
        let shaken = self.tls.shake_hands(stream, self.limits.head).await;
        shaken.inspect_err(|error| info!(%peer, %error, reason = tls::handshake_reason(error), "TLS handshake failed")).ok()
    }

    async fn respond(self: Arc<Self>, request: Request<Incoming>) -> Reply {
        let metrics = self.metrics.clone();
        let _counted = Counted::new(&metrics.in_flight);
        match self.review(request).await {
            Ok(json) => reply(StatusCode::OK, "application/json", json),
            Err(refused) => {
                metrics.record_refusal(refused.reason);
                let mut reply = reply(
                    refused.status,
                    "text/plain; charset=utf-8",
                    refused.text + "\n",
                );
                let headers = reply.headers_mut();
                match refused.status {
                    StatusCode::METHOD_NOT_ALLOWED => {
                        drop(headers.insert(header::ALLOW, HeaderValue::from_static("POST")))
                    }
                    StatusCode::SERVICE_UNAVAILABLE => {
                        drop(headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1")))
                    }
                    _ => {}
                }
                reply
            }
        }
    }

    async fn review(self: Arc<Self>, request: Request<Incoming>) -> Result<String, Refused> {
        let hook = self.admit(&request)?;
        let overloaded = || {
            Refused::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "overloaded",
                "there are too many reviews at once; try again",
            )
        };
        let permit = self
            .in_flight
            .clone()
            .try_acquire_owned()
            .map_err(|_| overloaded())?;
        let body = match timeout(
            self.limits.body,
            Limited::new(request.into_body(), self.limits.body_bytes).collect(),
        )
        .await
        {
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
        let started = Instant::now();
        let processor = self
            .processors
            .clone()
            .acquire_owned()
            .await
            .map_err(|_| overloaded())?;
        let reviews = self.reviews.clone();
        // It may take a while, and whatever is wrong with it must not end others. It also goes on where nobody waits for it any more.
        let answered = tokio::task::spawn_blocking(move || {
            let _counted = (permit, processor);
            reviews.answer(hook, &body, started)
        });
        match answered.await {
            Ok(Ok(json)) => Ok(json),
            Ok(Err(error)) => {
                info!(webhook = hook.name(), %error, "a request is no review");
                Err(Refused::new(
                    StatusCode::BAD_REQUEST,
                    "malformed",
                    error.to_string(),
                ))
            }
            Err(error) => {
                error!(webhook = hook.name(), %error, "a review failed in a way that it should not; please report it");
                Err(Refused::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "broken",
                    "shaper failed in a way that it should not; its log says where",
                ))
            }
        }
    }

    /// What can be said before the body is read.
    fn admit(&self, request: &Request<Incoming>) -> Result<Hook, Refused> {
        let Some(hook) = Hook::from_path(request.uri().path()) else {
            return Err(Refused::new(
                StatusCode::NOT_FOUND,
                "path",
                "there are /validate and /mutate, for an API server",
            ));
        };
        if request.method() != Method::POST {
            return Err(Refused::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method",
                "only POST, of an AdmissionReview",
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
                "only application/json",
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

impl Counted {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
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

fn reply(status: StatusCode, content_type: &'static str, body: String) -> Reply {
    let mut reply = Response::new(Full::from(body));
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}
