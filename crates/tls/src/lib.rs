//! Certificates from a directory, re-read while running, and who may be at the other end.
//!
//! A directory holds `tls.crt`, `tls.key` and `ca.crt`, as a cert-manager Secret is projected into a pod. It is read into [`Material`],
//! which is valid as a whole or refused as a whole; of it is made what a listener or a caller needs ([`MutualTls`], [`PublicTls`]); and [`Reloader`]
//! keeps that current: when the files change, the next handshake uses the new ones. While the files are broken, the last good ones stay in
//! use, and log and metrics say so. There is no way from here to plain text.
//!
//! ```text
//! directory --Material::read--> Material --MutualTls::new | PublicTls::new--> Reloader::current --> handshake
//! ```
//!
//! [`MutualTls`] is for peers that know each other's name: both ends present a certificate, both check it against `ca.crt` and against a list
//! of names. [`PublicTls`] is for machines that boot: they present nothing, and check us by the authority that their iPXE was built with; and for
//! an API server that asks a webhook.

mod error;
mod material;
mod metrics;
mod mutual;
mod public;
mod reloader;
mod watch;

pub use error::{MaterialError, handshake_reason};
pub use material::Material;
pub use metrics::Metrics;
pub use mutual::{InvalidPeerName, MutualTls, PeerName, certificate_has_name};
pub use public::PublicTls;
pub use reloader::Reloader;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

/// The one provider of cryptography.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: std::sync::LazyLock<Arc<CryptoProvider>> =
        std::sync::LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    PROVIDER.clone()
}
