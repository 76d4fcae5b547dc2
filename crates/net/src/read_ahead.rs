//! A stream that reads ahead, until there is enough to start with.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::connections::READ_BYTES;

thread_local! {
    /// Connections that wait for input have no buffer of their own.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// A stream that can read ahead: a server that needs much memory for a connection, as a TLS session or
/// a parser with buffers, takes it only once the input that it starts with [has
/// arrived](Self::fill_until). Until then, a connection takes little more than what its client has
/// sent.
#[derive(Debug)]
pub struct ReadAhead<S> {
    stream: S,
    unread: Vec<u8>,
    /// How much of `unread` was read.
    read: usize,
}

impl<S> ReadAhead<S> {
    /// Wraps a stream.
    pub fn new(stream: S) -> Self {
        Self {
            stream,
            unread: Vec::new(),
            read: 0,
        }
    }

    /// The stream, without what was read ahead.
    pub fn get_ref(&self) -> &S {
        &self.stream
    }

    /// The stream. What was read ahead is lost.
    pub fn into_inner(self) -> S {
        self.stream
    }
}

impl<S: AsyncRead + Unpin> ReadAhead<S> {
    /// Reads until `is_enough` accepts what has arrived, or to the end of the stream. The second
    /// argument of `is_enough` is how many of the bytes it has seen before.
    pub async fn fill_until(
        &mut self,
        mut is_enough: impl FnMut(&[u8], usize) -> bool,
    ) -> io::Result<()> {
        loop {
            let seen = self.unread.len();
            poll_fn(|cx| self.poll_fill(cx)).await?;
            if self.unread.len() == seen || is_enough(&self.unread, seen) {
                return Ok(());
            }
        }
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        BUFFER.with_borrow_mut(|buffer| {
            let mut buffer = ReadBuf::new(buffer);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
            self.unread.reserve_exact(buffer.filled().len());
            self.unread.extend_from_slice(buffer.filled());
            Poll::Ready(Ok(()))
        })
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ReadAhead<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.unread.is_empty() {
            return Pin::new(&mut this.stream).poll_read(cx, buf);
        }
        let rest = &this.unread[this.read..];
        let count = rest.len().min(buf.remaining());
        buf.put_slice(&rest[..count]);
        this.read += count;
        if this.read == this.unread.len() {
            this.unread = Vec::new();
            this.read = 0;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ReadAhead<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn what_was_read_ahead_is_read_first_in_pieces_of_any_size() {
        let (mut client, server) = duplex(100);
        let mut server = ReadAhead::new(server);
        client.write_all(b"abc").await.unwrap();
        let mut seen = Vec::new();
        let enough = |bytes: &[u8], before: usize| {
            seen.push((bytes.to_vec(), before));
            bytes.contains(&b'e')
        };
        let sending = async {
            tokio::task::yield_now().await;
            client.write_all(b"def").await.unwrap();
        };
        let (filled, ()) = tokio::join!(server.fill_until(enough), sending);
        filled.unwrap();
        assert_eq!(seen, [(b"abc".to_vec(), 0), (b"abcdef".to_vec(), 3)]);
        client.write_all(b"ghi").await.unwrap();
        client.shutdown().await.unwrap();
        let mut four = [0; 4];
        server.read_exact(&mut four).await.unwrap();
        assert_eq!(&four, b"abcd");
        let mut rest = Vec::new();
        server.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"efghi");
    }

    #[tokio::test]
    async fn reading_ahead_ends_with_the_stream() {
        let (mut client, server) = duplex(100);
        let mut server = ReadAhead::new(server);
        client.write_all(b"abc").await.unwrap();
        drop(client);
        server.fill_until(|_, _| false).await.unwrap();
        let mut rest = Vec::new();
        server.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"abc");
    }
}
