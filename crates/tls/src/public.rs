//! What callers get of whom no certificate is asked: machines that boot, and an API server that asks a webhook.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use crate::{Material, MaterialError};

/// Largest plain text of a record. iPXE asks for 4096 by an extension that rustls does not answer, and has no room for more.
const RECORD_BYTES: usize = 4096;

/// What an HTTPS listener needs of one [`Material`].
#[derive(Debug)]
pub struct PublicTls {
    server: Arc<ServerConfig>,
}

impl PublicTls {
    /// For iPXE: TLS 1.2 and 1.3, short records, and the root at the end of the chain.
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

    /// For programs that know their authorities: TLS 1.2 and 1.3, HTTP/2 where they speak it.
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
            .expect("aws-lc-rs speaks TLS 1.2 and 1.3")
            .with_no_client_auth();
        builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(identity)))
    }

    /// For the listener.
    pub fn server(&self) -> Arc<ServerConfig> {
        self.server.clone()
    }
}
