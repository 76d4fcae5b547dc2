//! One connection, from its first request to its end.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use http::StatusCode;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::answer::{Answer, Outcome, Route};
use crate::patience::Patience;
use crate::raw_target::RawTarget;
use crate::refusal::{Ours, Refusal};

use super::clock::{Broken, Timed};
use super::request::{self, Text};
use super::{Peer, Shared};

/// What is known of one connection while it lasts.
pub(super) struct Progress {
    started: Instant,
    /// Whether an answer of ours is on its way.
    pub(super) is_ours: Ours,
    /// How many requests were answered.
    answers: AtomicUsize,
    /// When the last answer was made, in nanoseconds since the start.
    answered_at: AtomicU64,
    /// Told at the first.
    answered: Notify,
    /// Whether the client may still be sending what nobody reads.
    pub(super) is_talking: AtomicBool,
    /// Whether we refused something that is no request.
    is_refused: AtomicBool,
}

/// Room for the longest head that is answered with a sentence of its own; beyond, hyper refuses.
const HEAD_BUFFER_BYTES: usize = 32 * 1024;
/// A client that has just connected when the server stops has so long to ask.
const LAST_REQUEST: Duration = Duration::from_secs(1);
/// A client whose request was refused before all of it was read has so long to take that: a connection that is closed before is reset.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: u64 = 2 * 1024 * 1024;

// === impl Progress ===

impl Progress {
    pub(super) fn new() -> Self {
        Self {
            started: Instant::now(),
            is_ours: Ours::default(),
            answers: AtomicUsize::default(),
            answered_at: AtomicU64::default(),
            answered: Notify::default(),
            is_talking: AtomicBool::default(),
            is_refused: AtomicBool::default(),
        }
    }

    /// How many requests were answered.
    pub(super) fn answers(&self) -> usize {
        self.answers.load(Ordering::Relaxed)
    }

    /// When the last answer was made.
    pub(super) fn answered_at(&self) -> Instant {
        self.started + Duration::from_nanos(self.answered_at.load(Ordering::Relaxed))
    }

    /// One more is, at this moment, and its answer is on its way.
    pub(super) fn answer(&self, now: Instant) {
        let since = u64::try_from((now - self.started).as_nanos()).unwrap_or(u64::MAX);
        self.answered_at.store(since, Ordering::Relaxed);
        self.is_ours.set();
        if self.answers.fetch_add(1, Ordering::Relaxed) == 0 {
            self.answered.notify_one();
        }
    }
}

// === impl Shared ===

impl Shared {
    /// Serves one connection to its end. Plain or encrypted is all the same here.
    pub(super) async fn serve<S>(self: Arc<Self>, stream: S, peer: Peer, stop: CancellationToken)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        self.metrics.connections.inc();
        let progress = Progress::new();
        let service = service_fn(|request| {
            std::future::ready(Ok::<_, Infallible>(
                self.respond(&request, &peer, &progress, &stop),
            ))
        });
        let refuse = |status| self.refuse(status, &peer, &progress);
        let stream = Refusal::new(
            Patience::new(RawTarget::new(stream), self.limits.answer),
            progress.is_ours.clone(),
            refuse,
        );
        let connection = http1::Builder::new()
            .max_buf_size(HEAD_BUFFER_BYTES)
            // A client may say that it has nothing more to ask.
            .half_close(true)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = Timed::new(connection, self.limits.head, &progress);
        let ended = match stop.run_until_cancelled(&mut connection).await {
            Some(ended) => ended,
            None => self.finish(&mut connection, &progress).await,
        };
        if let Err(error) = ended {
            debug!(peer = %peer.remote, %error, "connection ended");
            if matches!(&error, Broken::Http(error) if error.is_parse())
                && !progress.is_refused.load(Ordering::Relaxed)
            {
                // HTTP/2, which hyper knows and says nothing to.
                self.refuse(StatusCode::BAD_REQUEST, &peer, &progress);
            }
        }
        if progress.is_talking.load(Ordering::Relaxed) {
            linger(connection.connection.into_parts().io.into_inner()).await;
        }
        self.metrics.connections.dec();
    }

    /// The server stops: a client that has not asked yet may do so, and what was asked is answered.
    async fn finish<C, S>(
        &self,
        connection: &mut Timed<'_, http1::Connection<C, S>>,
        progress: &Progress,
    ) -> Result<(), Broken>
    where
        C: hyper::rt::Read + hyper::rt::Write + Unpin,
        S: hyper::service::HttpService<Incoming, ResBody = Text>,
        S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if progress.answers() == 0 {
            tokio::select! {
                ended = &mut *connection => return ended,
                () = progress.answered.notified() => {}
                () = sleep(LAST_REQUEST) => {}
            }
        }
        Pin::new(&mut connection.connection).graceful_shutdown();
        connection.await
    }

    /// The answer to what hyper can't read as a request.
    fn refuse(&self, status: StatusCode, peer: &Peer, progress: &Progress) -> Vec<u8> {
        progress.is_refused.store(true, Ordering::Relaxed);
        progress.is_talking.store(true, Ordering::Relaxed);
        let (outcome, reason) = match status {
            StatusCode::URI_TOO_LONG => (
                Outcome::TargetTooLong,
                "path and query are too long; send fewer or shorter labels",
            ),
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => (
                Outcome::HeadersTooLarge,
                "the request line and the headers are too long; send fewer or shorter labels and headers",
            ),
            _ => (
                Outcome::BadRequest,
                "this is no HTTP/1 request that shaper can read; if it was meant for HTTPS, that has another port",
            ),
        };
        let answer = Answer::failure(Route::Unknown, outcome, reason.to_owned());
        let id = self.ids.next();
        self.metrics.count(&answer, Duration::ZERO);
        self.lines.say(
            &answer,
            &peer.ip,
            id.as_str(),
            SystemTime::now(),
            Duration::ZERO,
        );
        let status = answer.status();
        let body = request::sentence(&answer.body, status, &id);
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-type: {}\r\ncontent-length: {}\r\ncache-control: no-store\r\nx-request-id: {id}\r\nconnection: close\r\n\r\n",
            answer.content_type.name(),
            body.len()
        );
        [head.as_bytes(), &body].concat()
    }
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
