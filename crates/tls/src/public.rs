//! TLS for booting machines, which have no certificate, and for the API server calling a webhook,
//! which may have one.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use crate::chain::ShortChains;
use crate::material::CLIENT_AUTHORITIES;
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

    /// Builds the configuration of [`service`](Self::service) for clients that must have a
    /// certificate of an authority in the client CA file, whatever its name.
    ///
    /// Sessions are not resumed: each connection presents its certificate again.
    pub fn service_for_clients(material: &Material) -> Result<Self, MaterialError> {
        let roots = Arc::new(material.client_roots()?);
        let clients = WebPkiClientVerifier::builder_with_provider(roots, crate::provider()).build();
        let clients = clients.map_err(|error| MaterialError::BadCertificate {
            file: CLIENT_AUTHORITIES,
            reason: error.to_string(),
        })?;
        let builder = ServerConfig::builder_with_provider(crate::provider())
            .with_safe_default_protocol_versions()
            .expect("aws-lc-rs supports TLS 1.2 and 1.3");
        let identity = SingleCertAndKey::from(material.identity.clone());
        let mut server = builder
            .with_client_cert_verifier(Arc::new(ShortChains(clients)))
            .with_cert_resolver(Arc::new(identity));
        server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
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
