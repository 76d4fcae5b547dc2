//! Serves one connection.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use http::StatusCode;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use net::{Counted, PlainText, ReadAhead, Stage, WriteTimeout};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::answer::{Answer, Outcome, Route};
use crate::error_rewriter::{ErrorRewriter, ResponseInFlight};
use crate::shed;
use crate::target_encoder::TargetEncoder;

use super::request::ResponseBody;
use super::{Peer, ServerContext};

/// The state of one connection.
#[derive(Default)]
pub(super) struct ConnectionState {
    response_in_flight: ResponseInFlight,
    /// Whether bytes have arrived since the last request.
    has_read: Arc<AtomicBool>,
    /// Whether a request was answered on this connection.
    has_answered: AtomicBool,
    /// Notified at the first answer.
    answered: Notify,
    /// Whether the client may still be sending bytes that are not read.
    pub(super) has_unread_input: AtomicBool,
    /// Whether an unparsable request was rejected.
    is_rejected: AtomicBool,
}

/// Room for the longest head that gets our own error response. Hyper rejects longer ones.
const HEAD_BUFFER_BYTES: usize = 32 * 1024;
/// With this many open connections, networks take turns at answers. Fewer can't delay a request much,
/// and a turn costs time.
const MIN_CONNECTIONS_FOR_TURNS: i64 = 256;
/// How long a client that has just connected may take to send its first request once the server
/// stops.
const FIRST_REQUEST_GRACE: Duration = Duration::from_secs(1);
/// How long a client may take to read the answer to a request that arrived just when its connection
/// was displaced.
const LAST_ANSWER_TIME: Duration = Duration::from_millis(500);
/// How long to keep reading from a client whose request was rejected before it was read completely.
/// Closing the connection earlier would reset it, and the client would lose the response.
const LINGER_TIME: Duration = Duration::from_secs(2);
const MAX_LINGER_BYTES: u64 = 2 * 1024 * 1024;

// === impl ConnectionState ===

impl ConnectionState {
    /// Records that a response was created.
    pub(super) fn response_started(&self) {
        self.response_in_flight.set();
        if !self.has_answered.swap(true, Ordering::Relaxed) {
            self.answered.notify_one();
        }
    }
}

// === impl ServerContext ===

impl ServerContext {
    /// Serves one connection to its end, over plain TCP or TLS.
    pub(super) async fn serve<S>(
        self: Arc<Self>,
        stream: S,
        peer: Peer,
        accepted: &net::Connection,
        stop: CancellationToken,
    ) where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let _open = Counted::new(&self.metrics.connections);
        let mut stream = ReadAhead::new(stream);
        let first_head = timeout(self.limits.head, stream.fill_until(is_head_whole));
        let arrived = tokio::select! {
            biased;
            arrived = first_head => arrived,
            () = accepted.must_hurry() => {
                shed::answer(stream.into_inner()).await;
                return;
            }
            () = until_first_request_is_late(&stop) => return,
        };
        // Otherwise the client is too slow, or has gone.
        if let Ok(Ok(())) = arrived {
            // Buffers are large, and connections that wait for a request need none.
            Box::pin(self.serve_requests(stream, peer, accepted, stop)).await;
        }
    }

    /// Answers the requests of a connection.
    async fn serve_requests<S>(
        self: Arc<Self>,
        stream: ReadAhead<S>,
        peer: Peer,
        accepted: &net::Connection,
        stop: CancellationToken,
    ) where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let state = ConnectionState::default();
        let service = service_fn(|request| {
            accepted.reached(Stage::HeadRead);
            let is_pipelined = !state.has_read.swap(false, Ordering::Relaxed);
            let (context, peer, state, stop) = (&self, &peer, &state, &stop);
            async move {
                // Else the runtime would answer in the order in which requests arrived, and one client
                // with many connections would delay all others.
                let mut turn = None;
                if context.metrics.connections.get() >= MIN_CONNECTIONS_FOR_TURNS {
                    turn = Some(peer.turns.take(peer.source).await);
                } else if is_pipelined {
                    // Others are served between two requests that arrived together.
                    tokio::task::yield_now().await;
                }
                let response = context.respond(&request, peer, accepted, state, stop);
                drop(turn);
                Ok::<_, Infallible>(response)
            }
        });
        let rewrite = |status| self.reject(status, &peer, &state);
        let stream = ErrorRewriter::new(
            WriteTimeout::new(
                TargetEncoder::new(stream),
                accepted.clone(),
                self.limits.answer,
            ),
            state.response_in_flight.clone(),
            state.has_read.clone(),
            rewrite,
        );
        let mut connection = http1::Builder::new()
            .max_buf_size(HEAD_BUFFER_BYTES)
            .timer(TokioTimer::new())
            // From the end of one response to the end of the next head. `WriteTimeout` limits the
            // time of a response.
            .header_read_timeout(self.limits.head)
            // A client may close its direction after its last request.
            .half_close(true)
            .serve_connection(TokioIo::new(stream), service);
        let ended = tokio::select! {
            biased;
            ended = &mut connection => ended,
            () = accepted.must_hurry() => {
                if !state.has_answered.load(Ordering::Relaxed) {
                    // `ErrorRewriter` passes on what is written now.
                    state.response_in_flight.set();
                    let stream = stream_of(connection);
                    shed::answer(stream).await;
                    return;
                }
                // The request arrived at the same moment. The connection is not counted any more, so
                // its answer has little time.
                match timeout(LAST_ANSWER_TIME, self.drain(&mut connection, &state)).await {
                    Ok(ended) => ended,
                    Err(_) => return,
                }
            }
            () = stop.cancelled() => self.drain(&mut connection, &state).await,
        };
        if let Err(error) = ended {
            debug!(peer = %peer.remote, %error, "connection ended");
            if error.is_parse() && !state.is_rejected.load(Ordering::Relaxed) {
                // HTTP/2, which hyper recognizes and closes without a response.
                self.reject(StatusCode::BAD_REQUEST, &peer, &state);
            }
        }
        if state.has_unread_input.load(Ordering::Relaxed) {
            let stream = stream_of(connection);
            linger(stream).await;
        }
    }

    /// Finishes the connection when the server stops: answers the requests that have arrived, and
    /// the first one if it is still to come.
    async fn drain<C, S>(
        &self,
        connection: &mut http1::Connection<C, S>,
        state: &ConnectionState,
    ) -> hyper::Result<()>
    where
        C: hyper::rt::Read + hyper::rt::Write + Unpin,
        S: HttpService<Incoming, ResBody = ResponseBody>,
        S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if !state.has_answered.load(Ordering::Relaxed) {
            tokio::select! {
                ended = &mut *connection => return ended,
                () = state.answered.notified() => {}
                () = sleep(FIRST_REQUEST_GRACE) => {}
            }
        }
        Pin::new(&mut *connection).graceful_shutdown();
        connection.await
    }

    /// Builds the response to bytes that hyper can't parse as a request.
    fn reject(&self, status: StatusCode, peer: &Peer, state: &ConnectionState) -> Vec<u8> {
        state.is_rejected.store(true, Ordering::Relaxed);
        state.has_unread_input.store(true, Ordering::Relaxed);
        let (outcome, reason) = match status {
            StatusCode::URI_TOO_LONG => (
                Outcome::TargetTooLong,
                "path and query are too long; send fewer or shorter labels",
            ),
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => (
                Outcome::HeadersTooLarge,
                "the request line and headers are too long; send fewer or shorter labels and headers",
            ),
            _ => (
                Outcome::BadRequest,
                "this is not a valid HTTP/1 request; HTTPS is served on another port",
            ),
        };
        let answer = Answer::failure(Route::Unknown, outcome, reason.to_owned());
        let id = self.ids.next();
        self.metrics.count(&answer, Duration::ZERO);
        self.logger.log(
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

/// Whether a whole head has arrived, or something that hyper is to refuse.
fn is_head_whole(bytes: &[u8], seen: usize) -> bool {
    let is_http = matches!(
        bytes.first(),
        Some(b'A'..=b'Z' | b'a'..=b'z' | b'\r' | b'\n')
    );
    if !is_http || bytes.len() > HEAD_BUFFER_BYTES {
        return true;
    }
    // The end of the line before an empty one may have been seen.
    let new = &bytes[seen.saturating_sub(2)..];
    memchr::memchr_iter(b'\n', new)
        .any(|end| matches!(new[end + 1..], [b'\n', ..] | [b'\r', b'\n', ..]))
}

/// Returns some time after the server has stopped, for clients that have just connected.
async fn until_first_request_is_late(stop: &CancellationToken) {
    stop.cancelled().await;
    sleep(FIRST_REQUEST_GRACE).await;
}

/// Returns the stream of a connection that is not served any further, and frees its buffers.
fn stream_of<I, S>(connection: http1::Connection<TokioIo<I>, S>) -> I
where
    TokioIo<I>: hyper::rt::Read + hyper::rt::Write + Unpin,
    S: HttpService<Incoming, ResBody = ResponseBody>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    connection.into_parts().io.into_inner()
}

/// Reads and discards what the client still sends. Closing a connection with unread bytes would
/// reset it before the client has read the response.
async fn linger(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let exchange = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(MAX_LINGER_BYTES), &mut tokio::io::sink()).await
    };
    // Errors don't matter here: the connection is closed anyway.
    let _ = timeout(LINGER_TIME, exchange).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_whole_with_its_empty_line_wherever_it_is_divided() {
        for head in [
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.0\r\n\r\n",
            "GET / HTTP/1.1\nHost: a\n\n",
            "GET / HTTP/1.1\r\nHost: a\n\r\n",
        ] {
            let bytes = head.as_bytes();
            for at in 1..bytes.len() {
                assert!(!is_head_whole(&bytes[..at], 0), "{head:?} {at}");
                assert!(is_head_whole(bytes, at), "{head:?} {at}");
            }
        }
    }

    #[test]
    fn what_is_no_request_is_left_to_hyper() {
        assert!(is_head_whole(&[22, 3, 1, 2, 0, 1], 0));
        let mut long = b"GET /".to_vec();
        long.resize(HEAD_BUFFER_BYTES, b'x');
        assert!(!is_head_whole(&long, long.len() - 1));
        long.push(b'x');
        assert!(is_head_whole(&long, long.len() - 1));
    }
}
