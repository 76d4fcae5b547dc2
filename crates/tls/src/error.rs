//! Why files are no certificate that can be used, and why a handshake failed.

use std::io;
use std::time::SystemTime;

use rustls::{AlertDescription, CertificateError};

/// What is wrong with the files of a directory. The texts tell an operator which file to mend, and hold nothing of a key.
#[derive(Debug, thiserror::Error)]
pub enum MaterialError {
    /// A file can't be read.
    #[error("can't read {file}: {source}")]
    Unreadable {
        /// The file's name.
        file: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// A file is far longer than any certificate or key.
    #[error("{file} is longer than {limit} bytes")]
    TooLarge {
        /// The file's name.
        file: &'static str,
        /// How long it may be.
        limit: u64,
    },
    /// A file has no such thing in it, or not the whole of it.
    #[error("{file} holds no whole {what} in PEM")]
    NotPem {
        /// The file's name.
        file: &'static str,
        /// What is looked for.
        what: &'static str,
    },
    /// A certificate is no X.509 version 3 certificate.
    #[error("a certificate in {file} can't be used: {reason}")]
    BadCertificate {
        /// The file's name.
        file: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The key can't be used.
    #[error("the key in tls.key can't be used: {reason}")]
    BadKey {
        /// What is wrong with it.
        reason: String,
    },
    /// The key is that of another certificate; perhaps only one of the files was replaced.
    #[error("tls.key is not the key of the certificate in tls.crt")]
    KeyMismatch,
    /// The certificate is no longer valid.
    #[error("the certificate in tls.crt expired {}", since(*not_after))]
    Expired {
        /// When it ended.
        not_after: SystemTime,
    },
    /// The certificate is not valid yet, or the clock is wrong.
    #[error("the certificate in tls.crt is not valid yet; check this machine's clock")]
    NotYetValid,
}

// === impl MaterialError ===

impl MaterialError {
    /// A word for metrics.
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

/// A word for the reason of a failed handshake, for metrics.
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
            // An authority of the same name with another key.
            | AlertDescription::DecryptError
            | AlertDescription::AccessDenied => "refused_by_peer",
            _ => "alert",
        },
        rustls::Error::PeerIncompatible(_) => "incompatible",
        rustls::Error::InvalidMessage(_) => "not_tls",
        _ => "other",
    }
}
