//! The files of a certificate directory.

use std::time::{Duration, SystemTime};

use tls::Material;

/// A time at which the corpus's certificate is valid: 2026-11-24.
const NOW: Duration = Duration::from_hours(498_744);

/// Input: `tls.crt`, `tls.key` and `ca.crt`, separated by zero bytes.
pub(crate) fn certificates(bytes: &[u8]) {
    let mut files = bytes.splitn(3, |byte| *byte == 0);
    let (chain, key, authorities) = (
        files.next().unwrap_or_default(),
        files.next().unwrap_or_default(),
        files.next().unwrap_or_default(),
    );
    match Material::from_pem(chain, key, authorities, SystemTime::UNIX_EPOCH + NOW) {
        Ok(material) => assert!(
            !material.chain().is_empty() && material.not_after() >= SystemTime::UNIX_EPOCH + NOW
        ),
        Err(fault) => {
            let text = fault.to_string();
            super::check_error(&text);
            let lines = key
                .split(|byte| *byte == b'\n')
                .filter_map(|line| std::str::from_utf8(line).ok());
            // Our own sentences contain spaces; lines of a key don't.
            let leaked = lines
                .filter(|line| line.len() > 20 && !line.contains(' '))
                .any(|line| text.contains(line));
            assert!(!leaked, "an error quotes the key: {text}");
        }
    }
}
