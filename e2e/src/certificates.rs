//! A small certificate authority for tests, and directories that look as the kubelet projects a Secret of cert-manager.

mod directory;

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, SanType,
};
use std::net::IpAddr;
use time::{Duration, OffsetDateTime};

pub use directory::Directory;

/// A certificate authority with a key of its own.
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate to be: for one hour before now until one day after it, with an ECDSA key, unless said otherwise.
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
    /// A new one, with an ECDSA key. Two of the same name have nothing else in common.
    pub fn new(name: &str) -> Result<Self> {
        Self::with_key(name, KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?)
    }

    /// A new one whose key is RSA, for clients that know nothing else.
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

    /// Its own certificate, in PEM.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Its own certificate, in DER.
    pub fn der(&self) -> &[u8] {
        self.issuer.der()
    }

    /// Makes a key, and a certificate for it.
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
    /// For a server of this DNS name.
    pub fn server(dns: &str) -> Self {
        Self::new(dns, vec![ExtendedKeyUsagePurpose::ServerAuth]).dns(dns)
    }

    /// For a client of this name. It is the subject's common name and no DNS name: an API server reads it as a user.
    pub fn client(name: &str) -> Self {
        Self::new(name, vec![ExtendedKeyUsagePurpose::ClientAuth])
    }

    /// For a peer of this DNS name, which is client and server: what cert-manager issues by default for both ends of a
    /// mutually authenticated connection.
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

    /// One more DNS name.
    pub fn dns(mut self, dns: &str) -> Self {
        self.dns.push(dns.to_owned());
        self
    }

    /// An IP address.
    pub fn address(mut self, address: impl Into<IpAddr>) -> Self {
        self.addresses.push(address.into());
        self
    }

    /// The organization, which an API server reads as a group.
    pub fn group(mut self, group: &str) -> Self {
        self.group = Some(group.to_owned());
        self
    }

    /// With an RSA key of 2,048 bits.
    pub fn rsa(mut self) -> Self {
        self.rsa = true;
        self
    }

    /// Valid from and until so many seconds from now; negative is in the past.
    pub fn valid(mut self, from: i64, until: i64) -> Self {
        let now = OffsetDateTime::now_utc();
        (self.not_before, self.not_after) = (
            now + Duration::seconds(from),
            now + Duration::seconds(until),
        );
        self
    }

    /// It ended an hour ago.
    pub fn expired(self) -> Self {
        self.valid(-7200, -3600)
    }

    /// It begins in an hour.
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
    /// The certificate, without its issuer's.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// The key, as PKCS #8.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The public half of the key.
    pub fn public_key(&self) -> &str {
        &self.public_key
    }
}

/// A key is never shown.
impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issued")
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}
