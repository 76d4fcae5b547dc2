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

use crate::{Connection, Source, Stage, Turns};

/// Signatures, the costly part of a handshake, of all servers of this process.
static SIGNATURES: LazyLock<Turns> = LazyLock::new(|| {
    // A task that has a turn waits until a thread runs it.
    Turns::new(2 * std::thread::available_parallelism().map_or(2, NonZero::get))
});

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
    /// Accepts a TLS handshake on the connection's stream within `limit`.
    ///
    /// A failure is counted; the caller decides how loud to log it. While `tls` has no usable
    /// certificate, every handshake fails.
    pub async fn handshake<S>(
        &self,
        stream: S,
        tls: &impl ServerTls,
        limit: Duration,
    ) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let accepted = match tls.server_config() {
            None => Err(io::Error::other("no valid certificate is loaded")),
            Some(config) => timeout(limit, accept(stream, config, self.peer().ip().into()))
                .await
                .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
        };
        match &accepted {
            Ok(_) => self.reached(Stage::Handshaken),
            Err(error) => tls.handshake_failed(tls::handshake_reason(error)),
        }
        accepted
    }
}

/// Accepts a handshake. A `ClientHello` costs its sender nothing, and its answer a signature: networks
/// take turns at these. The answer may take several messages of the client, as after a
/// `HelloRetryRequest`, and the client may have a certificate to check.
async fn accept<S>(stream: S, config: Arc<ServerConfig>, source: Source) -> io::Result<TlsStream<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let hello = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
    in_turns(&SIGNATURES, source, hello.into_stream(config)).await
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
