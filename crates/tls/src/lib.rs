//! TLS certificates that are reloaded while the process runs.
//!
//! A directory contains `tls.crt`, `tls.key` and `ca.crt`, laid out as the kubelet projects a
//! cert-manager Secret into a pod. [`Material`] is the validated content of such a directory; one
//! invalid file rejects all of it. [`MutualTls`] and [`PublicTls`] are rustls configurations built
//! from a `Material`. A [`Reloader`] rebuilds one of them when the files change, and the next
//! handshake uses it. While the files are invalid, the last valid configuration stays in use, and
//! logs and metrics report the error. Nothing here falls back to plain text.
//!
//! ```text
//! directory --Material::read--> Material --MutualTls::new | PublicTls::new--> Reloader::current --> handshake
//! ```
//!
//! - [`MutualTls`] connects shaper's own processes: both ends present a certificate, and each
//!   checks the other's against `ca.crt` and a list of allowed names.
//! - [`PublicTls`] serves booting machines, which present no certificate and verify the server
//!   against the authority built into their iPXE, and the Kubernetes API server when it calls a
//!   webhook. The latter can be required to present a certificate of an authority in a separate
//!   file.

mod chain;
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

/// Returns the crypto provider that every TLS configuration uses (aws-lc-rs).
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: std::sync::LazyLock<Arc<CryptoProvider>> =
        std::sync::LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    PROVIDER.clone()
}
