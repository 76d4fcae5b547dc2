//! A stream that times out clients that read an answer too slowly.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use crate::Connection;

/// Vectored writes up to this size are copied into one buffer, which is cheaper than letting the
/// kernel gather them.
const MAX_COALESCED_BYTES: usize = 2048;

/// Fails a write if the stream could not be flushed for `limit`.
///
/// The timer starts when the peer's window is full and stops at the end of the next flush, which
/// hyper starts when its buffer is empty. A client that reads one byte a second therefore times out
/// like one that reads nothing. iPXE before 2025-12-04 never gives up by itself (`ipxe@88c3e68df`).
///
/// While the timer runs, it records on the connection how much the client reads.
#[derive(Debug)]
pub struct WriteTimeout<S> {
    stream: S,
    connection: Connection,
    limit: Duration,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<S> WriteTimeout<S> {
    /// Wraps the stream of a connection, whose client must take what is written within `limit`.
    pub fn new(stream: S, connection: Connection, limit: Duration) -> Self {
        Self {
            stream,
            connection,
            limit,
            deadline: None,
        }
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let limit = self.limit;
        self.connection.window_is_full();
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(deadline.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the client takes its answer too slowly",
        )))
    }

    /// Records what the client took after its window was full.
    fn took(&self, written: &io::Result<usize>) {
        if let (Some(_), Ok(bytes)) = (&self.deadline, written) {
            self.connection.took(*bytes);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WriteTimeout<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WriteTimeout<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write(cx, bytes) {
            Poll::Ready(written) => {
                self.took(&written);
                Poll::Ready(written)
            }
            Poll::Pending => self.poll_deadline(cx),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let len: usize = bytes.iter().map(|slice| slice.len()).sum();
        let written = if bytes.len() > 1 && len <= MAX_COALESCED_BYTES {
            thread_local! {
                static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
            }
            BUFFER.with_borrow_mut(|buffer| {
                buffer.clear();
                bytes
                    .iter()
                    .for_each(|slice| buffer.extend_from_slice(slice));
                Pin::new(&mut self.stream).poll_write(cx, buffer)
            })
        } else {
            Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
        };
        match written {
            Poll::Ready(written) => {
                self.took(&written);
                Poll::Ready(written)
            }
            Poll::Pending => self.poll_deadline(cx),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A TLS stream buffers writes and is only pending when flushed.
        match Pin::new(&mut self.stream).poll_flush(cx) {
            Poll::Ready(flushed) => {
                if self.deadline.take().is_some() {
                    self.connection.took_all();
                }
                Poll::Ready(flushed)
            }
            Poll::Pending => self.poll_deadline(cx).map_ok(drop),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, BufWriter, duplex};

    use super::*;

    fn connection() -> Connection {
        Connection::uncounted(([192, 0, 2, 1], 4000).into())
    }

    /// A writer that accepts a few bytes at a time and is pending every other time.
    #[derive(Default)]
    struct SlowWriter {
        taken: Vec<u8>,
        longest: usize,
        is_ready: bool,
    }

    impl AsyncWrite for SlowWriter {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.is_ready = !self.is_ready;
            if !self.is_ready {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            self.longest = self.longest.max(bytes.len());
            let some = bytes.len().min(300);
            self.taken.extend_from_slice(&bytes[..some]);
            Poll::Ready(Ok(some))
        }

        fn poll_write_vectored(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bytes: &[io::IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            self.poll_write(
                cx,
                bytes
                    .iter()
                    .find(|slice| !slice.is_empty())
                    .map_or(&[], |slice| slice),
            )
        }

        fn is_write_vectored(&self) -> bool {
            true
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn a_short_answer_is_coalesced_into_one_write() {
        let head: Vec<u8> = (0..=255).cycle().take(200).collect();
        for body_bytes in [
            0,
            1,
            500,
            MAX_COALESCED_BYTES - 200,
            MAX_COALESCED_BYTES - 199,
            5000,
        ] {
            let body: Vec<u8> = (0..=255).rev().cycle().take(body_bytes).collect();
            let all = [&head[..], &body].concat();
            let (mut stream, mut written) = (
                WriteTimeout::new(SlowWriter::default(), connection(), Duration::from_secs(30)),
                0,
            );
            while written < all.len() {
                let slices = [
                    head.get(written..).unwrap_or_default(),
                    &body[written.saturating_sub(head.len())..],
                ]
                .map(io::IoSlice::new);
                written += std::future::poll_fn(|cx| {
                    Pin::new(&mut stream).poll_write_vectored(cx, &slices)
                })
                .await
                .unwrap();
            }
            assert_eq!(stream.stream.taken, all, "{body_bytes}");
            let longest = if all.len() <= MAX_COALESCED_BYTES {
                all.len()
            } else {
                body.len()
            };
            assert_eq!(stream.stream.longest, longest, "{body_bytes}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_of_one_byte_a_second_times_out() {
        let (server, mut client) = duplex(16);
        let mut server = WriteTimeout::new(server, connection(), Duration::from_secs(30));
        let reader = tokio::spawn(async move {
            while client.read_u8().await.is_ok() {
                sleep(Duration::from_secs(1)).await;
            }
        });
        let error = server.write_all(&[0; 1000]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(server);
        reader.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_times_out_over_a_buffering_stream() {
        let (server, mut client) = duplex(16);
        // A TLS stream buffers in the same way.
        let mut server = WriteTimeout::new(
            BufWriter::new(server),
            connection(),
            Duration::from_secs(30),
        );
        let reader = tokio::spawn(async move {
            while client.read_u8().await.is_ok() {
                sleep(Duration::from_secs(1)).await;
            }
        });
        server.write_all(&[0; 1000]).await.unwrap();
        assert_eq!(
            server.flush().await.unwrap_err().kind(),
            io::ErrorKind::TimedOut
        );
        drop(server);
        reader.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn the_timer_starts_again_after_a_flush() {
        let (server, mut client) = duplex(16);
        let mut server = WriteTimeout::new(server, connection(), Duration::from_secs(30));
        let reader = tokio::spawn(async move {
            while client.read_u8().await.is_ok() {
                sleep(Duration::from_millis(200)).await;
            }
        });
        for _ in 0..3 {
            server.write_all(&[0; 100]).await.unwrap();
            server.flush().await.unwrap();
        }
        drop(server);
        reader.await.unwrap();
    }
}
