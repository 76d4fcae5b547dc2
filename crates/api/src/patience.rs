//! A stream that gives up on a reader who takes a whole answer too slowly.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// A head and a body of so many bytes in all are put together: that costs less than it costs the system to collect them.
const SHORT_BYTES: usize = 2048;

/// Fails writes once they have been held up for `limit` since the last time that all was written.
///
/// The clock starts when the peer's window is full and stops at the end of the next flush, which hyper asks for when its buffer is empty. So
/// a reader who takes one byte a second is as much held up as one who takes none. iPXE before 2025-12-04 never gives up by itself
/// (`ipxe@88c3e68df`), so that somebody must.
pub(crate) struct Patience<S> {
    stream: S,
    limit: Duration,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<S> Patience<S> {
    pub(crate) fn new(stream: S, limit: Duration) -> Self {
        Self {
            stream,
            limit,
            deadline: None,
        }
    }

    fn hold_up(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let limit = self.limit;
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(deadline.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the client takes its answer too slowly",
        )))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patience<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patience<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write(cx, bytes) {
            Poll::Ready(written) => Poll::Ready(written),
            Poll::Pending => self.hold_up(cx),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let len: usize = bytes.iter().map(|slice| slice.len()).sum();
        let written = if bytes.len() > 1 && len <= SHORT_BYTES {
            thread_local! {
                static ONE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
            }
            ONE.with_borrow_mut(|one| {
                one.clear();
                bytes.iter().for_each(|slice| one.extend_from_slice(slice));
                Pin::new(&mut self.stream).poll_write(cx, one)
            })
        } else {
            Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
        };
        match written {
            Poll::Ready(written) => Poll::Ready(written),
            Poll::Pending => self.hold_up(cx),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // TLS takes what its peer does not, for a while, and says so here.
        match Pin::new(&mut self.stream).poll_flush(cx) {
            Poll::Ready(flushed) => {
                self.deadline = None;
                Poll::Ready(flushed)
            }
            Poll::Pending => self.hold_up(cx).map_ok(drop),
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

    /// Takes a few bytes at once, and every other time none.
    #[derive(Default)]
    struct Slow {
        taken: Vec<u8>,
        longest: usize,
        is_ready: bool,
    }

    impl AsyncWrite for Slow {
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
    async fn a_short_answer_is_written_in_one_piece_and_whole_however_it_is_taken() {
        let head: Vec<u8> = (0..=255).cycle().take(200).collect();
        for body_bytes in [0, 1, 500, SHORT_BYTES - 200, SHORT_BYTES - 199, 5000] {
            let body: Vec<u8> = (0..=255).rev().cycle().take(body_bytes).collect();
            let all = [&head[..], &body].concat();
            let (mut stream, mut written) =
                (Patience::new(Slow::default(), Duration::from_secs(30)), 0);
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
            let in_one_piece = if all.len() <= SHORT_BYTES {
                all.len()
            } else {
                body.len()
            };
            assert_eq!(stream.stream.longest, in_one_piece, "{body_bytes}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_of_one_byte_a_second_is_given_up() {
        let (ours, mut theirs) = duplex(16);
        let mut ours = Patience::new(ours, Duration::from_secs(30));
        let reader = tokio::spawn(async move {
            while theirs.read_u8().await.is_ok() {
                sleep(Duration::from_secs(1)).await;
            }
        });
        let error = ours.write_all(&[0; 1000]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(ours);
        reader.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_is_given_up_where_the_stream_itself_holds_what_it_does_not_take() {
        let (ours, mut theirs) = duplex(16);
        // As TLS does.
        let mut ours = Patience::new(BufWriter::new(ours), Duration::from_secs(30));
        let reader = tokio::spawn(async move {
            while theirs.read_u8().await.is_ok() {
                sleep(Duration::from_secs(1)).await;
            }
        });
        ours.write_all(&[0; 1000]).await.unwrap();
        assert_eq!(
            ours.flush().await.unwrap_err().kind(),
            io::ErrorKind::TimedOut
        );
        drop(ours);
        reader.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_who_takes_all_in_time_may_take_it_again() {
        let (ours, mut theirs) = duplex(16);
        let mut ours = Patience::new(ours, Duration::from_secs(30));
        let reader = tokio::spawn(async move {
            while theirs.read_u8().await.is_ok() {
                sleep(Duration::from_millis(200)).await;
            }
        });
        for _ in 0..3 {
            ours.write_all(&[0; 100]).await.unwrap();
            ours.flush().await.unwrap();
        }
        drop(ours);
        reader.await.unwrap();
    }
}
