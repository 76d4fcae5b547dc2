//! Reads and validates the files of a certificate directory.

use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use files::{Symlinks, open_regular};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_cert::Certificate;
use x509_cert::der::{Decode, Encode};

use crate::MaterialError;

const CHAIN: &str = "tls.crt";
const KEY: &str = "tls.key";
const AUTHORITIES: &str = "ca.crt";
/// What errors call the file with the authorities of clients, which may have any name.
pub(crate) const CLIENT_AUTHORITIES: &str = "the client CA file";

/// Size limits, far above a chain of a dozen certificates or a bundle of a hundred authorities.
const MAX_BYTES: [(&str, u64); 4] = [
    (CHAIN, 128 * 1024),
    (KEY, 64 * 1024),
    (AUTHORITIES, 1024 * 1024),
    (CLIENT_AUTHORITIES, 1024 * 1024),
];

/// A certificate chain, its private key, and the authorities to verify peers with.
///
/// All parts were valid when they were read.
#[derive(Debug)]
pub struct Material {
    /// The chain, leaf first, and the leaf's private key.
    pub(crate) identity: Arc<CertifiedKey>,
    /// The certificates of `ca.crt`. May be empty.
    pub(crate) authorities: Vec<CertificateDer<'static>>,
    /// The certificates of a separate file for clients. Empty if there is no such file.
    pub(crate) client_authorities: Vec<CertificateDer<'static>>,
    validity: Validity,
}

/// A certificate's validity period.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Validity {
    not_before: SystemTime,
    not_after: SystemTime,
}

/// The raw bytes of the files, kept to detect changes.
#[derive(PartialEq, Eq)]
pub(crate) struct FileContents {
    chain: Vec<u8>,
    key: Vec<u8>,
    authorities: Vec<u8>,
    client_authorities: Vec<u8>,
}

// === impl FileContents ===

impl FileContents {
    /// Reads the files. A missing `ca.crt` means no authorities; a missing client CA file is an
    /// error.
    pub(crate) fn read(directory: &Path, client_ca: Option<&Path>) -> Result<Self, MaterialError> {
        let read = |directory: &Path, file| read(&directory.join(file), file);
        let authorities = match read(directory, AUTHORITIES) {
            Err(MaterialError::Unreadable { source, .. })
                if source.kind() == io::ErrorKind::NotFound =>
            {
                Vec::new()
            }
            read => read?,
        };
        Ok(Self {
            chain: read(directory, CHAIN)?,
            key: read(directory, KEY)?,
            authorities,
            client_authorities: match client_ca {
                Some(path) => self::read(path, CLIENT_AUTHORITIES)?,
                None => Vec::new(),
            },
        })
    }

    pub(crate) fn check(&self, now: SystemTime) -> Result<Material, MaterialError> {
        let chain = certificates(CHAIN, &self.chain)?;
        let leaf = chain.first().ok_or(MaterialError::NotPem {
            file: CHAIN,
            what: "certificate",
        })?;
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|_| MaterialError::NotPem {
            file: KEY,
            what: "private key",
        })?;
        let key = crate::provider()
            .key_provider
            .load_private_key(key)
            .map_err(|error| MaterialError::BadKey {
                reason: error.to_string(),
            })?;
        let validity = validity(leaf)?;
        validity.check(now)?;
        let identity = CertifiedKey::new(chain, key);
        match identity.keys_match() {
            Ok(()) => {}
            Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)) => {
                return Err(MaterialError::KeyMismatch);
            }
            Err(error) => {
                return Err(MaterialError::BadCertificate {
                    file: CHAIN,
                    reason: error.to_string(),
                });
            }
        }
        let authorities = certificates(AUTHORITIES, &self.authorities)?;
        let mut roots = RootCertStore::empty();
        for authority in &authorities {
            let added = roots.add(authority.clone());
            added.map_err(|error| MaterialError::BadCertificate {
                file: AUTHORITIES,
                reason: error.to_string(),
            })?;
        }
        Ok(Material {
            identity: Arc::new(identity),
            authorities,
            client_authorities: certificates(CLIENT_AUTHORITIES, &self.client_authorities)?,
            validity,
        })
    }
}

fn read(path: &Path, file: &'static str) -> Result<Vec<u8>, MaterialError> {
    let limit = MAX_BYTES
        .iter()
        .find(|(name, _)| *name == file)
        .map_or(0, |(_, limit)| *limit);
    let unreadable = |source| MaterialError::Unreadable { file, source };
    let mut bytes = Vec::new();
    // The kubelet's files are symlinks.
    open_regular(path, Symlinks::Follow)
        .map_err(unreadable)?
        .take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > limit {
        Err(MaterialError::TooLarge { file, limit })
    } else {
        Ok(bytes)
    }
}

fn certificates(
    file: &'static str,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, MaterialError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let all = all.map_err(|_| MaterialError::NotPem {
        file,
        what: "certificate",
    })?;
    // A PEM file truncated inside its last certificate parses like one with a certificate less.
    let begun = pem
        .windows(BEGIN.len())
        .filter(|window| *window == BEGIN)
        .count();
    if begun == all.len() {
        Ok(all)
    } else {
        Err(MaterialError::NotPem {
            file,
            what: "certificate",
        })
    }
}

const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";

fn validity(leaf: &CertificateDer<'_>) -> Result<Validity, MaterialError> {
    let bad = |reason: String| MaterialError::BadCertificate {
        file: CHAIN,
        reason,
    };
    // Reject what a peer would reject, above all version 1, before presenting it.
    rustls::server::ParsedCertificate::try_from(leaf).map_err(|error| bad(error.to_string()))?;
    let validity = Certificate::from_der(leaf)
        .map_err(|error| bad(error.to_string()))?
        .tbs_certificate
        .validity;
    Ok(Validity {
        not_before: validity.not_before.to_system_time(),
        not_after: validity.not_after.to_system_time(),
    })
}

// === impl Validity ===

impl Validity {
    pub(crate) fn check(self, now: SystemTime) -> Result<(), MaterialError> {
        let Self {
            not_before,
            not_after,
        } = self;
        if now > not_after {
            return Err(MaterialError::Expired { not_after });
        }
        if now < not_before {
            Err(MaterialError::NotYetValid)
        } else {
            Ok(())
        }
    }
}

// === impl Material ===

impl Material {
    /// Reads and validates a directory.
    pub fn read(directory: &Path) -> Result<Self, MaterialError> {
        FileContents::read(directory, None)?.check(SystemTime::now())
    }

    /// Validates the contents of the files at time `now`.
    pub fn from_pem(
        chain: &[u8],
        key: &[u8],
        authorities: &[u8],
        now: SystemTime,
    ) -> Result<Self, MaterialError> {
        FileContents {
            chain: chain.to_vec(),
            key: key.to_vec(),
            authorities: authorities.to_vec(),
            client_authorities: Vec::new(),
        }
        .check(now)
    }

    /// The end of the certificate's validity.
    pub fn not_after(&self) -> SystemTime {
        self.validity.not_after
    }

    pub(crate) fn validity(&self) -> Validity {
        self.validity
    }

    /// The certificate chain, leaf first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.identity.cert
    }

    /// Returns the chain followed by its root, if `ca.crt` contains the root: an iPXE that knows
    /// the root only by its fingerprint needs to see it.
    pub(crate) fn chain_with_root(&self) -> Vec<CertificateDer<'static>> {
        let mut chain = self.identity.cert.clone();
        let Some(last) = chain
            .last()
            .and_then(|last| Certificate::from_der(last).ok())
        else {
            return chain;
        };
        if last.tbs_certificate.subject == last.tbs_certificate.issuer {
            return chain;
        }
        let issuer = last.tbs_certificate.issuer.to_der().ok();
        let subject = |authority: &CertificateDer<'_>| {
            Certificate::from_der(authority)
                .ok()?
                .tbs_certificate
                .subject
                .to_der()
                .ok()
        };
        // A bundle may contain a retired authority with the same name. Sending the wrong root costs
        // iPXE a few bytes, not trust.
        chain.extend(
            self.authorities
                .iter()
                .find(|authority| subject(authority) == issuer)
                .cloned(),
        );
        chain
    }

    /// The authorities of `ca.crt`, of which there must be one.
    pub(crate) fn roots(&self) -> Result<RootCertStore, MaterialError> {
        roots(AUTHORITIES, &self.authorities)
    }

    /// The authorities of the client CA file, of which there must be one.
    pub(crate) fn client_roots(&self) -> Result<RootCertStore, MaterialError> {
        roots(CLIENT_AUTHORITIES, &self.client_authorities)
    }
}

fn roots(
    file: &'static str,
    authorities: &[CertificateDer<'static>],
) -> Result<RootCertStore, MaterialError> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        let added = roots.add(authority.clone());
        added.map_err(|error| MaterialError::BadCertificate {
            file,
            reason: error.to_string(),
        })?;
    }
    if roots.is_empty() {
        Err(MaterialError::NotPem {
            file,
            what: "certificate",
        })
    } else {
        Ok(roots)
    }
}
