//! Mutual TLS: both ends present a certificate and verify the other's authority and name.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier, verify_server_name};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, ServerConfig,
    SignatureScheme,
};

use crate::chain::check_length;
use crate::{Material, MaterialError};

/// A name to look for in a peer's certificate: a DNS name or an IP address.
///
/// It is compared with the certificate's subject alternative names as in RFC 9525: a wildcard in
/// the certificate stands for exactly one label, the first of at least three; the common name does
/// not count; an address matches only an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerName(ServerName<'static>);

/// The text is neither a DNS name nor an IP address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a peer name: {0:?}; write a DNS name, without wildcards, or an IP address from the certificate's subject alternative names"
)]
pub struct InvalidPeerName(String);

/// The rustls configurations for both ends of mutual TLS, built from one [`Material`].
#[derive(Debug)]
pub struct MutualTls {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    peers: Arc<PeerVerifier>,
}

/// Verifies a peer's certificate against `ca.crt` and the list of allowed names.
#[derive(Debug)]
struct PeerVerifier {
    names: Vec<PeerName>,
    clients: Arc<dyn ClientCertVerifier>,
    servers: Arc<WebPkiServerVerifier>,
}

// === impl MutualTls ===

impl MutualTls {
    /// Builds configurations that accept peers with one of the names in `peers`.
    ///
    /// Sessions are not resumed: each connection presents its certificate again, so withdrawing an
    /// authority takes effect with the next handshake. Both ends are shaper's, so only TLS 1.3 is
    /// spoken. ALPN offers `h2`.
    pub fn new(material: &Material, peers: &[PeerName]) -> Result<Self, MaterialError> {
        let roots = Arc::new(material.roots()?);
        let unusable = |error: &dyn fmt::Display| MaterialError::BadCertificate {
            file: "ca.crt",
            reason: error.to_string(),
        };
        let provider = crate::provider();
        let clients =
            WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone()).build();
        let servers = WebPkiServerVerifier::builder_with_provider(roots, provider.clone()).build();
        let peers = Arc::new(PeerVerifier {
            names: peers.to_vec(),
            clients: clients.map_err(|error| unusable(&error))?,
            servers: servers.map_err(|error| unusable(&error))?,
        });
        let identity = Arc::new(SingleCertAndKey::from(material.identity.clone()));
        let versions = &[&rustls::version::TLS13];

        let builder =
            ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(versions);
        let builder = builder
            .expect("aws-lc-rs supports TLS 1.3")
            .with_client_cert_verifier(peers.clone());
        let mut server = builder.with_cert_resolver(identity.clone());
        server.alpn_protocols = vec![b"h2".to_vec()];
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;

        let builder =
            ClientConfig::builder_with_provider(provider).with_protocol_versions(versions);
        let builder = builder
            .expect("aws-lc-rs supports TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(peers.clone());
        let mut client = builder.with_client_cert_resolver(identity);
        client.alpn_protocols = vec![b"h2".to_vec()];
        client.resumption = Resumption::disabled();
        Ok(Self {
            server: Arc::new(server),
            client: Arc::new(client),
            peers,
        })
    }

    /// The configuration for accepting connections.
    pub fn server(&self) -> Arc<ServerConfig> {
        self.server.clone()
    }

    /// The configuration for opening connections.
    pub fn client(&self) -> Arc<ClientConfig> {
        self.client.clone()
    }

    /// Checks whether a client that presented `chain` earlier would be accepted now.
    pub fn check_client(&self, chain: &[CertificateDer<'_>]) -> Result<(), Error> {
        let (leaf, rest) = chain.split_first().ok_or(Error::NoCertificatesPresented)?;
        self.peers
            .verify_client_cert(leaf, rest, UnixTime::now())
            .map(drop)
    }

    /// Checks whether a server that presented `chain` earlier would be accepted now.
    pub fn check_server(&self, chain: &[CertificateDer<'_>]) -> Result<(), Error> {
        let (leaf, rest) = chain.split_first().ok_or(Error::NoCertificatesPresented)?;
        let Some(name) = self.peers.names.first() else {
            return Err(not_for_name());
        };
        self.peers
            .verify_server_cert(leaf, rest, &name.0, &[], UnixTime::now())
            .map(drop)
    }
}

/// Whether the leaf of a chain is valid for this name.
pub fn certificate_has_name(chain: &[CertificateDer<'_>], name: &PeerName) -> bool {
    let leaf = chain
        .first()
        .and_then(|leaf| ParsedCertificate::try_from(leaf).ok());
    leaf.is_some_and(|leaf| verify_server_name(&leaf, &name.0).is_ok())
}

// === impl PeerVerifier ===

impl ClientCertVerifier for PeerVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.clients.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        check_length(rest)?;
        let verified = self.clients.verify_client_cert(leaf, rest, now)?;
        let leaf = ParsedCertificate::try_from(leaf)?;
        let is_allowed = self
            .names
            .iter()
            .any(|name| verify_server_name(&leaf, &name.0).is_ok());
        if is_allowed {
            Ok(verified)
        } else {
            Err(not_for_name())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.clients.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.clients.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.clients.supported_verify_schemes()
    }
}

/// Ignores the name in the URL, which only says where to connect: the server's certificate must
/// have one of the allowed names.
impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        check_length(rest)?;
        let mut refused = not_for_name();
        for name in &self.names {
            match self
                .servers
                .verify_server_cert(leaf, rest, &name.0, ocsp, now)
            {
                Ok(verified) => return Ok(verified),
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        ServerCertVerifier::verify_tls12_signature(&*self.servers, message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        ServerCertVerifier::verify_tls13_signature(&*self.servers, message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ServerCertVerifier::supported_verify_schemes(&*self.servers)
    }
}

fn not_for_name() -> Error {
    Error::InvalidCertificate(CertificateError::NotValidForName)
}

// === impl PeerName ===

impl PeerName {
    /// The name in rustls's form.
    pub fn server_name(&self) -> ServerName<'static> {
        self.0.clone()
    }
}

impl FromStr for PeerName {
    type Err = InvalidPeerName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bare = text
            .strip_prefix('[')
            .and_then(|text| text.strip_suffix(']'))
            .unwrap_or(text);
        ServerName::try_from(bare.to_owned())
            .map(Self)
            .map_err(|_| InvalidPeerName(text.to_owned()))
    }
}

impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_str())
    }
}
