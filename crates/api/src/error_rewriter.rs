//! A stream that replaces hyper's bare error responses by complete ones.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Replaces the response that hyper writes by itself when it can't parse a request. Hyper's
/// response has no sentence, no request id and no log line.
///
/// Any error response that is written while none of our responses is in flight comes from hyper.
pub(crate) struct ErrorRewriter<S, F> {
    stream: S,
    response_in_flight: ResponseInFlight,
    /// Set when bytes arrive.
    has_read: Arc<AtomicBool>,
    /// Builds the complete replacement response.
    rewrite: F,
    /// The replacement that is being written, and how many of its bytes have been.
    replacement: Option<(Vec<u8>, usize)>,
}

/// Whether one of our responses is in flight: from its creation until it is flushed.
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
    pub(crate) fn new(
        stream: S,
        response_in_flight: ResponseInFlight,
        has_read: Arc<AtomicBool>,
        rewrite: F,
    ) -> Self {
        Self {
            stream,
            response_in_flight,
            has_read,
            rewrite,
            replacement: None,
        }
    }

    /// Whether to write the replacement instead of these bytes.
    fn replaces(&mut self, bytes: &[u8]) -> bool {
        if self.replacement.is_none() && !self.response_in_flight.is_set() {
            self.replacement = error_status(bytes).map(|status| ((self.rewrite)(status), 0));
        }
        self.replacement.is_some()
    }
}

impl<S: AsyncWrite + Unpin, F> ErrorRewriter<S, F> {
    /// Writes the whole replacement, then reports `instead_of` bytes as written, the length of
    /// hyper's response.
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
        // Hyper writes nothing after its error response.
        self.response_in_flight.set();
        Poll::Ready(Ok(instead_of))
    }
}

/// The status of a response, if it is an error.
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
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.has_read.store(true, Ordering::Relaxed);
        }
        read
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
        // Hyper flushes once its buffer is empty.
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.response_in_flight.clear();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Hyper does not wait until its error response is written.
        if self.replacement.is_some() {
            ready!(self.poll_write_replacement(cx, 0))?;
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
