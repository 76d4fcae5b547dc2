//! TLS handshakes.

use std::future::poll_fn;
use std::io;
use std::num::NonZero;
use std::pin::pin;
use std::sync::{Arc, LazyLock};
use std::task::Poll;
use std::time::Duration;

use tls::{MutualTls, PublicTls, Reloader};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::server::Acceptor;
use tokio_rustls::server::TlsStream;

use crate::{Connection, ReadAhead, Source, Turns};

/// Signatures, the costly part of a handshake, of all servers of this process.
static SIGNATURES: LazyLock<Turns> = LazyLock::new(|| {
    // A task that has a turn waits until a thread runs it.
    Turns::new(2 * std::thread::available_parallelism().map_or(2, NonZero::get))
});

/// A TLS stream after its handshake, on the heap: every future that it passes through would have room
/// for it.
type Accepted<S> = Box<TlsStream<ReadAhead<S>>>;

/// The server side of certificate files that are re-read while running.
pub trait ServerTls: Sync {
    /// What the next handshake uses, or `None` while there is no usable certificate.
    fn server_config(&self) -> Option<Arc<ServerConfig>>;

    /// Counts a failed handshake, by [`tls::handshake_reason`].
    fn handshake_failed(&self, reason: &'static str);
}

// === impl ServerTls ===

impl ServerTls for Reloader<PublicTls> {
    fn server_config(&self) -> Option<Arc<ServerConfig>> {
        self.current().map(|current| current.server())
    }

    fn handshake_failed(&self, reason: &'static str) {
        self.metrics().handshake_failed(self.name(), reason);
    }
}

impl ServerTls for Reloader<MutualTls> {
    fn server_config(&self) -> Option<Arc<ServerConfig>> {
        self.current().map(|current| current.server())
    }

    fn handshake_failed(&self, reason: &'static str) {
        self.metrics().handshake_failed(self.name(), reason);
    }
}

// === impl Connection ===

impl Connection {
    /// Accepts a TLS handshake on the connection's stream within `limit`. The stream [counts its
    /// input](crate::CountedInput), which has a limit too.
    ///
    /// A failure is counted; the caller decides how loud to log it. While `tls` has no usable
    /// certificate, every handshake fails.
    pub async fn handshake<S>(
        &self,
        stream: S,
        tls: &impl ServerTls,
        limit: Duration,
    ) -> io::Result<Accepted<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        self.handshake_starts();
        let accepted = match tls.server_config() {
            None => Err(io::Error::other("no valid certificate is loaded")),
            Some(config) => timeout(limit, accept(stream, config, self.peer().ip().into()))
                .await
                .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
        };
        match &accepted {
            Ok(_) => self.handshake_succeeded(),
            Err(error) => tls.handshake_failed(tls::handshake_reason(error)),
        }
        accepted
    }
}

/// Accepts a handshake. A `ClientHello` costs its sender nothing, and its answer a signature: networks
/// take turns at these. The answer may take several messages of the client, as after a
/// `HelloRetryRequest`, and the client may have a certificate to check.
async fn accept<S>(stream: S, config: Arc<ServerConfig>, source: Source) -> io::Result<Accepted<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut stream = ReadAhead::new(stream);
    stream
        .fill_until(|bytes, _| is_client_hello_whole(bytes))
        .await?;
    let accept = async {
        let hello = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
        let stream = in_turns(&SIGNATURES, source, hello.into_stream(config)).await?;
        Ok(Box::new(stream))
    };
    // A session is large, and connections that wait for a `ClientHello` have no room for one.
    Box::pin(accept).await
}

/// Whether a client has sent a whole `ClientHello` (RFC 8446, sections 4 and 5.1), or something else
/// that rustls is to refuse.
fn is_client_hello_whole(mut bytes: &[u8]) -> bool {
    const HANDSHAKE: u8 = 22;
    let mut wanted = None;
    let mut arrived = 0;
    loop {
        let Some((&[kind, _, _, high, low], rest)) = bytes.split_first_chunk() else {
            return bytes.first().is_some_and(|kind| *kind != HANDSHAKE);
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if kind != HANDSHAKE || length == 0 {
            return true;
        }
        let (payload, next) = rest.split_at(length.min(rest.len()));
        arrived += payload.len();
        let wanted = *wanted.get_or_insert(match payload {
            [_, a, b, c, ..] => 4 + u32::from_be_bytes([0, *a, *b, *c]) as usize,
            // The header of the message is divided, which no client does.
            _ if payload.len() == length => return true,
            _ => return false,
        });
        if arrived >= wanted {
            return true;
        }
        if payload.len() < length {
            return false;
        }
        bytes = next;
    }
}

/// Runs a future, with a turn each time that it can go on.
async fn in_turns<F: Future>(turns: &Turns, source: Source, future: F) -> F::Output {
    let mut future = pin!(future);
    loop {
        let turn = turns.take(source).await;
        let polled = poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await;
        drop(turn);
        match polled {
            Poll::Ready(output) => return output,
            Poll::Pending => woken().await,
        }
    }
}

/// Waits until the task is woken.
async fn woken() {
    let mut is_woken = false;
    poll_fn(|_| {
        if std::mem::replace(&mut is_woken, true) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::sync::mpsc;
    use tokio::time::sleep;

    use super::*;

    #[test]
    fn a_client_hello_is_whole_with_its_last_byte_in_any_number_of_records() {
        let mut message = vec![1, 0, 1, 0];
        message.resize(4 + 256, 7);
        for at_once in [4, 5, 100, 259, 260] {
            let records: Vec<u8> = message
                .chunks(at_once)
                .flat_map(|part| {
                    let length = u16::try_from(part.len()).unwrap().to_be_bytes();
                    [&[22, 3, 1][..], &length, part].concat()
                })
                .collect();
            for end in 0..records.len() {
                assert!(!is_client_hello_whole(&records[..end]), "{at_once} {end}");
            }
            assert!(is_client_hello_whole(&records), "{at_once}");
        }
    }

    #[test]
    fn what_is_no_client_hello_is_left_to_rustls() {
        for other in [
            &b"GET / HTTP/1.1\r\n"[..],
            &[21, 3, 3, 0, 2, 1, 0],
            &[22, 3, 1, 0, 0],
            &[22, 3, 1, 0, 3, 1, 0, 1],
            &[22, 3, 1, 0, 4, 1, 0, 1, 0, 23],
        ] {
            assert!(is_client_hello_whole(other), "{other:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_future_goes_on_only_with_a_turn() {
        let turns = Turns::new(1);
        let source = Source::from(std::net::IpAddr::from(Ipv4Addr::LOCALHOST));
        let (sender, mut receiver) = mpsc::channel(1);
        let messages = async move {
            let first: Option<u32> = receiver.recv().await;
            (first, receiver.recv().await)
        };
        let waiting = turns.clone();
        let both = tokio::spawn(async move { in_turns(&waiting, source, messages).await });
        for message in [1, 2] {
            sleep(Duration::from_millis(10)).await;
            let other = turns.take(source).await;
            sender.send(message).await.expect("it listens");
            sleep(Duration::from_millis(10)).await;
            assert_eq!(sender.capacity(), 0, "it went on without a turn");
            drop(other);
        }
        assert_eq!(both.await.expect("it ends"), (Some(1), Some(2)));
    }
}
