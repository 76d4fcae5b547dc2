//! One connection, from its first request to its end.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use http::StatusCode;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use net::{PlainText, Stage};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::answer::{Answer, Outcome, Route};
use crate::patience::Patience;
use crate::raw_target::RawTarget;
use crate::refusal::{Ours, Refusal};

use super::request::Text;
use super::{Peer, Shared};

/// What is known of one connection while it lasts.
#[derive(Default)]
pub(super) struct Progress {
    /// Whether an answer of ours is on its way.
    is_ours: Ours,
    /// Whether a request was answered.
    has_answered: AtomicBool,
    /// Notified at the first answer.
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
    /// Records that a request was answered and its answer is on its way.
    pub(super) fn answered(&self) {
        self.is_ours.set();
        if !self.has_answered.swap(true, Ordering::Relaxed) {
            self.answered.notify_one();
        }
    }
}

// === impl Shared ===

impl Shared {
    /// Serves one connection to its end. Plain or encrypted is all the same here.
    pub(super) async fn serve<S>(
        self: Arc<Self>,
        stream: S,
        peer: Peer,
        accepted: &net::Connection,
        stop: CancellationToken,
    ) where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        self.metrics.connections.inc();
        let progress = Progress::default();
        let service = service_fn(|request| {
            accepted.reached(Stage::HeadRead);
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
        let mut connection = http1::Builder::new()
            .max_buf_size(HEAD_BUFFER_BYTES)
            .timer(TokioTimer::new())
            // From the end of one answer to the end of the next head. While an answer is written, `Patience` limits the time.
            .header_read_timeout(self.limits.head)
            // A client may say that it has nothing more to ask.
            .half_close(true)
            .serve_connection(TokioIo::new(stream), service);
        let ended = match stop.run_until_cancelled(&mut connection).await {
            Some(ended) => ended,
            None => self.finish(&mut connection, &progress).await,
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
    async fn finish<C, S>(
        &self,
        connection: &mut http1::Connection<C, S>,
        progress: &Progress,
    ) -> hyper::Result<()>
    where
        C: hyper::rt::Read + hyper::rt::Write + Unpin,
        S: hyper::service::HttpService<Incoming, ResBody = Text>,
        S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if !progress.has_answered.load(Ordering::Relaxed) {
            tokio::select! {
                ended = &mut *connection => return ended,
                () = progress.answered.notified() => {}
                () = sleep(LAST_REQUEST) => {}
            }
        }
        Pin::new(&mut *connection).graceful_shutdown();
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
        PlainText::new(answer.status(), reason)
            .with_request_id(id)
            .to_http1()
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
