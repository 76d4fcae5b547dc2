//! A stream that counts what it reads.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf, Take};

use crate::Connection;
use crate::connections::{MayRead, READ_BYTES};

/// A stream that counts, on its connection, the bytes that it reads, so that the memory for input that
/// is not whole is limited: see [`Limits::input_bytes`](crate::Limits::input_bytes).
///
/// It reads little at once: a buffer grows with what arrives, and no faster than it is counted.
#[derive(Debug)]
pub struct CountedInput<S> {
    stream: Take<S>,
    connection: Connection,
}

impl<S: AsyncRead> CountedInput<S> {
    /// Wraps the stream of a connection. [`serve`](crate::serve) does this with each that it accepts.
    pub fn new(stream: S, connection: Connection) -> Self {
        Self {
            stream: stream.take(READ_BYTES as u64),
            connection,
        }
    }

    /// The stream.
    pub fn get_ref(&self) -> &S {
        self.stream.get_ref()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for CountedInput<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let at_once = match this.connection.may_read() {
            MayRead::All => u64::MAX,
            MayRead::Some => READ_BYTES as u64,
            MayRead::Later => {
                // Tasks whose connections end come first.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            // The task is about to end.
            MayRead::Nothing => return Poll::Pending,
        };
        this.stream.set_limit(at_once);
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        this.connection.input_arrived(buf.filled().len() - before)?;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for CountedInput<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(self.stream.get_mut()).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(self.stream.get_mut()).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.get_ref().is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.stream.get_mut()).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.stream.get_mut()).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn it_reads_little_at_once_until_input_is_not_counted_any_more() {
        let connection = Connection::uncounted(([192, 0, 2, 1], 4000).into());
        let (mut client, server) = duplex(64 * 1024);
        let mut server = CountedInput::new(server, connection.clone());
        client.write_all(&vec![7; 40 * 1024]).await.unwrap();
        let mut buffer = vec![0; 64 * 1024];
        assert_eq!(server.read(&mut buffer).await.unwrap(), 4 * 1024);
        assert_eq!(server.read(&mut buffer).await.unwrap(), 4 * 1024);
        connection.stop_counting_input();
        assert_eq!(server.read(&mut buffer).await.unwrap(), 32 * 1024);
        assert!(buffer[..32 * 1024].iter().all(|byte| *byte == 7));
        server.write_all(b"whole").await.unwrap();
        let mut answer = [0; 5];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"whole");
        drop(client);
        assert_eq!(server.read(&mut buffer).await.unwrap(), 0);
    }
}
