//! TLS handshakes.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tls::{MutualTls, PublicTls, Reloader};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;

use crate::{Connection, Stage};

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
            Some(config) => timeout(limit, TlsAcceptor::from(config).accept(stream))
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
