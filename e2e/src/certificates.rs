//! A certificate authority for tests, and directories laid out as the kubelet projects a
//! cert-manager Secret.

mod directory;

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, SanType,
};
use std::net::IpAddr;
use time::{Duration, OffsetDateTime};

pub use directory::Directory;

/// A certificate authority with its key.
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A builder of a certificate. By default it is valid from one hour ago until one day ahead and has
/// an ECDSA key.
#[derive(Debug, Clone)]
pub struct Leaf {
    name: String,
    group: Option<String>,
    dns: Vec<String>,
    addresses: Vec<IpAddr>,
    usages: Vec<ExtendedKeyUsagePurpose>,
    rsa: bool,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
}

/// A certificate and its key, in PEM.
#[derive(Clone)]
pub struct Issued {
    certificate: String,
    key: String,
    public_key: String,
}

// === impl Authority ===

impl Authority {
    /// Creates an authority with an ECDSA key. Two authorities of the same name have different
    /// keys.
    pub fn new(name: &str) -> Result<Self> {
        Self::with_key(name, KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?)
    }

    /// Creates an authority with an RSA key, for clients that support nothing else.
    pub fn rsa(name: &str) -> Result<Self> {
        Self::with_key(name, KeyPair::generate_for(&PKCS_RSA_SHA256)?)
    }

    fn with_key(name: &str, key: KeyPair) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let now = OffsetDateTime::now_utc();
        (params.not_before, params.not_after) =
            (now - Duration::days(30), now + Duration::days(365));
        let issuer = CertifiedIssuer::self_signed(params, key)
            .with_context(|| format!("could not make the CA {name}"))?;
        Ok(Self { issuer })
    }

    /// The authority's certificate, in PEM.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// The authority's certificate, in DER.
    pub fn der(&self) -> &[u8] {
        self.issuer.der()
    }

    /// Creates a key and issues a certificate for it.
    pub fn issue(&self, leaf: &Leaf) -> Result<Issued> {
        let key = KeyPair::generate_for(if leaf.rsa {
            &PKCS_RSA_SHA256
        } else {
            &PKCS_ECDSA_P256_SHA256
        })?;
        let certificate = leaf
            .params()?
            .signed_by(&key, &self.issuer)
            .with_context(|| format!("could not issue a certificate for {}", leaf.name))?;
        Ok(Issued {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            public_key: key.public_key_pem(),
        })
    }
}

// === impl Leaf ===

impl Leaf {
    /// A server certificate for this DNS name.
    pub fn server(dns: &str) -> Self {
        Self::new(dns, vec![ExtendedKeyUsagePurpose::ServerAuth]).dns(dns)
    }

    /// A client certificate for this name, as the subject's common name: an API server reads it as
    /// the user.
    pub fn client(name: &str) -> Self {
        Self::new(name, vec![ExtendedKeyUsagePurpose::ClientAuth])
    }

    /// A certificate for a peer of this DNS name that is client and server, as cert-manager issues
    /// by default for both ends of a mutual TLS connection.
    pub fn peer(dns: &str) -> Self {
        Self::new(
            dns,
            vec![
                ExtendedKeyUsagePurpose::ServerAuth,
                ExtendedKeyUsagePurpose::ClientAuth,
            ],
        )
        .dns(dns)
    }

    fn new(name: &str, usages: Vec<ExtendedKeyUsagePurpose>) -> Self {
        let now = OffsetDateTime::now_utc();
        Self {
            name: name.to_owned(),
            group: None,
            dns: Vec::new(),
            addresses: Vec::new(),
            usages,
            rsa: false,
            not_before: now - Duration::hours(1),
            not_after: now + Duration::days(1),
        }
    }

    /// Adds a DNS name.
    pub fn dns(mut self, dns: &str) -> Self {
        self.dns.push(dns.to_owned());
        self
    }

    /// Adds an IP address.
    pub fn address(mut self, address: impl Into<IpAddr>) -> Self {
        self.addresses.push(address.into());
        self
    }

    /// Sets the organization, which an API server reads as a group.
    pub fn group(mut self, group: &str) -> Self {
        self.group = Some(group.to_owned());
        self
    }

    /// Uses an RSA key of 2,048 bits.
    pub fn rsa(mut self) -> Self {
        self.rsa = true;
        self
    }

    /// Sets the validity, in seconds from now; negative values are in the past.
    pub fn valid(mut self, from: i64, until: i64) -> Self {
        let now = OffsetDateTime::now_utc();
        (self.not_before, self.not_after) = (
            now + Duration::seconds(from),
            now + Duration::seconds(until),
        );
        self
    }

    /// Lets the validity end an hour ago.
    pub fn expired(self) -> Self {
        self.valid(-7200, -3600)
    }

    /// Lets the validity begin in an hour.
    pub fn not_yet_valid(self) -> Self {
        self.valid(3600, 7200)
    }

    fn params(&self) -> Result<CertificateParams> {
        let mut params = CertificateParams::new(self.dns.clone())
            .with_context(|| format!("{:?} are no DNS names", self.dns))?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, self.name.as_str());
        if let Some(group) = &self.group {
            params
                .distinguished_name
                .push(DnType::OrganizationName, group.as_str());
        }
        params
            .subject_alt_names
            .extend(self.addresses.iter().copied().map(SanType::IpAddress));
        params.extended_key_usages.clone_from(&self.usages);
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
        ];
        params.use_authority_key_identifier_extension = true;
        (params.not_before, params.not_after) = (self.not_before, self.not_after);
        Ok(params)
    }
}

// === impl Issued ===

impl Issued {
    /// The certificate in PEM, without its issuer's.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// The key in PEM, as PKCS #8.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The public key in PEM.
    pub fn public_key(&self) -> &str {
        &self.public_key
    }
}

/// Hides the key.
impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issued")
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}
