//! TLS without client certificates: for booting machines, and for the API server calling a webhook.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use crate::{Material, MaterialError};

/// Largest plaintext of a TLS record. iPXE buffers 4096 bytes; it asks for such records with an
/// extension that rustls does not support.
const RECORD_BYTES: usize = 4096;

/// The rustls configuration of an HTTPS server, built from a [`Material`].
#[derive(Debug)]
pub struct PublicTls {
    server: Arc<ServerConfig>,
}

impl PublicTls {
    /// Builds a configuration for iPXE: TLS 1.2 and 1.3, HTTP/1.1, short records, and the root
    /// certificate at the end of the chain.
    pub fn new(material: &Material) -> Result<Self, MaterialError> {
        let mut server = Self::config(CertifiedKey::new(
            material.chain_with_root(),
            material.identity.key.clone(),
        ));
        server.max_fragment_size = Some(RECORD_BYTES);
        server.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            server: Arc::new(server),
        })
    }

    /// Builds a configuration for programs that have their own trust store: TLS 1.2 and 1.3, HTTP/2
    /// and HTTP/1.1.
    pub fn service(material: &Material) -> Result<Self, MaterialError> {
        let mut server = Self::config(CertifiedKey::new(
            material.chain().to_vec(),
            material.identity.key.clone(),
        ));
        server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self {
            server: Arc::new(server),
        })
    }

    fn config(identity: CertifiedKey) -> ServerConfig {
        let builder = ServerConfig::builder_with_provider(crate::provider())
            .with_safe_default_protocol_versions();
        let builder = builder
            .expect("aws-lc-rs supports TLS 1.2 and 1.3")
            .with_no_client_auth();
        builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(identity)))
    }

    /// The configuration for accepting connections.
    pub fn server(&self) -> Arc<ServerConfig> {
        self.server.clone()
    }
}
