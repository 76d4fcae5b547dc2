//! Errors in certificate files, and the reasons for failed handshakes.

use std::io;
use std::time::SystemTime;

use rustls::{AlertDescription, CertificateError};

/// An error in the files of a certificate directory.
///
/// The messages name the file to fix and never contain key material.
#[derive(Debug, thiserror::Error)]
pub enum MaterialError {
    /// A file can't be read.
    #[error("can't read {file}: {source}")]
    Unreadable {
        /// The file's name.
        file: &'static str,
        /// The error from the operating system.
        source: io::Error,
    },
    /// A file is too long to be a certificate or key.
    #[error("{file} is longer than {limit} bytes; is it the right file?")]
    TooLarge {
        /// The file's name.
        file: &'static str,
        /// The longest allowed length, in bytes.
        limit: u64,
    },
    /// A file contains no PEM block of the expected kind, or only part of one.
    #[error("{file} does not contain a complete PEM {what}")]
    NotPem {
        /// The file's name.
        file: &'static str,
        /// The kind of PEM block: `certificate` or `private key`.
        what: &'static str,
    },
    /// A certificate is not a valid X.509 version 3 certificate.
    #[error("invalid certificate in {file}: {reason}")]
    BadCertificate {
        /// The file's name.
        file: &'static str,
        /// What the parser or verifier reported.
        reason: String,
    },
    /// The private key is of an unsupported type or malformed.
    #[error("invalid key in tls.key: {reason}")]
    BadKey {
        /// What the crypto provider reported.
        reason: String,
    },
    /// The key belongs to another certificate; perhaps only one of the files was replaced.
    #[error("tls.key does not match the certificate in tls.crt")]
    KeyMismatch,
    /// The certificate has expired.
    #[error("the certificate in tls.crt expired {}", since(*not_after))]
    Expired {
        /// The end of the certificate's validity.
        not_after: SystemTime,
    },
    /// The certificate is not valid yet, or the clock is wrong.
    #[error("the certificate in tls.crt is not valid yet; check this machine's clock")]
    NotYetValid,
}

// === impl MaterialError ===

impl MaterialError {
    /// The `reason` label of this error in metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "unreadable",
            Self::TooLarge { .. } => "too_large",
            Self::NotPem { .. } => "not_pem",
            Self::BadCertificate { .. } => "bad_certificate",
            Self::BadKey { .. } => "bad_key",
            Self::KeyMismatch => "key_mismatch",
            Self::Expired { .. } => "expired",
            Self::NotYetValid => "not_yet_valid",
        }
    }
}

fn since(not_after: SystemTime) -> String {
    match SystemTime::now().duration_since(not_after) {
        Ok(ago) if ago.as_secs() < 7200 => format!("{} minutes ago", ago.as_secs() / 60),
        Ok(ago) if ago.as_secs() < 172_800 => format!("{} hours ago", ago.as_secs() / 3600),
        Ok(ago) => format!("{} days ago", ago.as_secs() / 86400),
        Err(_) => "just now".to_owned(),
    }
}

/// Returns the `reason` label of a failed handshake in metrics.
pub fn handshake_reason(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::TimedOut {
        return "timeout";
    }
    let Some(error) = error
        .get_ref()
        .and_then(|error| error.downcast_ref::<rustls::Error>())
    else {
        return "connection";
    };
    match error {
        rustls::Error::NoCertificatesPresented => "no_certificate",
        rustls::Error::InvalidCertificate(error) => match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => "peer_expired",
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "peer_not_yet_valid"
            }
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "peer_unknown_authority"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "peer_name"
            }
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                "peer_purpose"
            }
            _ => "peer_certificate",
        },
        rustls::Error::AlertReceived(alert) => match alert {
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRequired
            // Sent for an authority with the same name but another key.
            | AlertDescription::DecryptError
            | AlertDescription::AccessDenied => "refused_by_peer",
            _ => "alert",
        },
        rustls::Error::PeerIncompatible(_) => "incompatible",
        rustls::Error::InvalidMessage(_) => "not_tls",
        _ => "other",
    }
}
