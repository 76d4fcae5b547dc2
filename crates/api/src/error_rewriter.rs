//! A stream that says more where hyper says little.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Writes another answer in place of the one that hyper makes by itself to what it can't read as a request: that has no sentence, no request id
/// and no line in the log.
///
/// What hyper writes while no answer of ours is on its way is its own.
pub(crate) struct ErrorRewriter<S, F> {
    stream: S,
    response_in_flight: ResponseInFlight,
    /// Makes the whole answer.
    rewrite: F,
    /// The answer that is being written, and how much of it was.
    replacement: Option<(Vec<u8>, usize)>,
}

/// Whether an answer of ours is on its way: from when it is made until all was written.
#[derive(Clone, Default)]
pub(crate) struct ResponseInFlight(Arc<AtomicBool>);

// === impl ResponseInFlight ===

impl ResponseInFlight {
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn clear(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

// === impl ErrorRewriter ===

impl<S, F: FnMut(StatusCode) -> Vec<u8>> ErrorRewriter<S, F> {
    pub(crate) fn new(stream: S, response_in_flight: ResponseInFlight, rewrite: F) -> Self {
        Self {
            stream,
            response_in_flight,
            rewrite,
            replacement: None,
        }
    }

    /// Whether these bytes are hyper's own answer, or are being replaced already.
    fn replaces(&mut self, bytes: &[u8]) -> bool {
        if self.replacement.is_none() && !self.response_in_flight.is_set() {
            self.replacement = error_status(bytes).map(|status| ((self.rewrite)(status), 0));
        }
        self.replacement.is_some()
    }
}

impl<S: AsyncWrite + Unpin, F> ErrorRewriter<S, F> {
    /// Writes ours, all of it; then so many bytes of hyper's count as written.
    fn poll_write_replacement(
        &mut self,
        cx: &mut Context<'_>,
        instead_of: usize,
    ) -> Poll<io::Result<usize>> {
        if let Some((response, written)) = &mut self.replacement {
            while *written < response.len() {
                match ready!(Pin::new(&mut self.stream).poll_write(cx, &response[*written..]))? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    more => *written += more,
                }
            }
        }
        self.replacement = None;
        // Nothing else of hyper's own comes after this.
        self.response_in_flight.set();
        Poll::Ready(Ok(instead_of))
    }
}

/// The status of an answer that is a refusal.
fn error_status(bytes: &[u8]) -> Option<StatusCode> {
    let code = bytes.strip_prefix(b"HTTP/1.")?.get(2..5)?;
    StatusCode::from_bytes(code)
        .ok()
        .filter(|status| status.is_client_error() || status.is_server_error())
}

impl<S: AsyncRead + Unpin, F: Unpin> AsyncRead for ErrorRewriter<S, F> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin, F: FnMut(StatusCode) -> Vec<u8> + Unpin> AsyncWrite
    for ErrorRewriter<S, F>
{
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.replaces(bytes) {
            return self.poll_write_replacement(cx, bytes.len());
        }
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.replaces(bytes.first().map_or(&[], |first| first)) {
            return self.poll_write_replacement(cx, bytes.iter().map(|slice| slice.len()).sum());
        }
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper asks for it once its buffer is empty.
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.response_in_flight.clear();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper does not wait until its refusal is taken.
        if self.replacement.is_some() {
            ready!(self.poll_write_replacement(cx, 0))?;
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
