//! A certificate authority for tests, and directories laid out as the kubelet projects them. Tests
//! of other crates include this file.

#![allow(dead_code, missing_docs, unreachable_pub)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, PKCS_RSA_SHA256, RsaKeySize, date_time_ymd,
};

pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    by: String,
}

/// The files of a directory, in PEM.
#[derive(Clone)]
pub struct Secret {
    pub chain: String,
    pub key: String,
    pub authorities: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Age {
    Valid,
    Expired,
    NotYet,
    /// Valid in the first half of 2026.
    HalfYear,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let issuer =
            CertifiedIssuer::self_signed(authority_params(name), KeyPair::generate().unwrap())
                .unwrap();
        Self {
            issuer,
            by: String::new(),
        }
    }

    pub fn intermediate(&self, name: &str) -> Self {
        let issuer = CertifiedIssuer::signed_by(
            authority_params(name),
            KeyPair::generate().unwrap(),
            &self.issuer,
        )
        .unwrap();
        Self {
            by: issuer.pem() + &self.by,
            issuer,
        }
    }

    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Issues a leaf certificate for both ends; its `ca.crt` is this authority.
    pub fn issue(&self, name: &str) -> Secret {
        self.issue_aged(name, Age::Valid)
    }

    pub fn issue_aged(&self, name: &str, age: Age) -> Secret {
        self.sign(name, age, KeyPair::generate().unwrap())
    }

    pub fn issue_rsa(&self, name: &str) -> Secret {
        self.sign(
            name,
            Age::Valid,
            KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap(),
        )
    }

    fn sign(&self, name: &str, age: Age, key: KeyPair) -> Secret {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        match age {
            Age::Valid => {}
            Age::Expired => {
                (params.not_before, params.not_after) =
                    (date_time_ymd(2000, 1, 1), date_time_ymd(2001, 1, 1));
            }
            Age::NotYet => {
                (params.not_before, params.not_after) =
                    (date_time_ymd(2900, 1, 1), date_time_ymd(2901, 1, 1));
            }
            Age::HalfYear => {
                (params.not_before, params.not_after) =
                    (date_time_ymd(2026, 1, 1), date_time_ymd(2026, 7, 1));
            }
        }
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        Secret {
            chain: leaf.pem() + &self.by,
            key: key.serialize_pem(),
            authorities: self.pem(),
        }
    }
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

impl Secret {
    pub fn trusting(self, authorities: &[&Authority]) -> Self {
        Self {
            authorities: authorities
                .iter()
                .map(|authority| authority.pem())
                .collect(),
            ..self
        }
    }

    /// Replaces all files of the directory at once, by swapping a symlink as the kubelet does.
    pub fn project(&self, directory: &Path) {
        static VERSION: AtomicU64 = AtomicU64::new(0);
        let version = format!(
            "..{}-{}",
            std::process::id(),
            VERSION.fetch_add(1, Ordering::Relaxed)
        );
        let inner = directory.join(&version);
        fs::create_dir_all(&inner).unwrap();
        for (file, text) in [
            ("tls.crt", &self.chain),
            ("tls.key", &self.key),
            ("ca.crt", &self.authorities),
        ] {
            fs::write(inner.join(file), text).unwrap();
            let link = directory.join(file);
            if fs::symlink_metadata(&link).is_err() {
                symlink(Path::new("..data").join(file), link).unwrap();
            }
        }
        let before = fs::read_link(directory.join("..data")).ok();
        let _ = fs::remove_file(directory.join("..data_tmp"));
        symlink(&version, directory.join("..data_tmp")).unwrap();
        fs::rename(directory.join("..data_tmp"), directory.join("..data")).unwrap();
        if let Some(before) = before {
            fs::remove_dir_all(directory.join(before)).unwrap();
        }
    }
}
