//! Labels and names that authors and operators write, against their grammar.

use std::collections::BTreeMap;

use boot::{ConfigName, ExtrinsicLabels};

/// Input: a key and, after the first newline, a value.
pub(crate) fn labels(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let (key, value) = text.split_once('\n').unwrap_or((text, ""));

    let is_key = (1..=253).contains(&key.len())
        && key
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(&b));
    let is_value = (1..=1024).contains(&value.len()) && !value.chars().any(char::is_control);
    let is_extrinsic = is_key && is_value && !["uuid", "serial", "mac"].contains(&key);
    match ExtrinsicLabels::new([(key, value)]) {
        Ok(labels) => assert!(is_extrinsic && labels.iter().count() == 1),
        Err(error) => {
            super::check_error(&error.to_string()[..error.to_string().floor_char_boundary(2000)]);
            assert!(!is_extrinsic, "{error}");
        }
    }

    let labels = BTreeMap::from([(key.to_owned(), value.to_owned())]);
    let spec = crd::ProfileSpec {
        ipxe: "#!ipxe\n".to_owned(),
        ..crd::ProfileSpec::default()
    };
    let mut profile = crd::Profile::new("p", spec);
    profile.metadata.labels = Some(labels);
    let converted = crd::convert_profile(&profile);
    assert_eq!(
        converted.is_ok(),
        is_label_key(key) && is_label_value(value),
        "{key:?}: {value:?}: {converted:?}"
    );

    let name = key.parse::<ConfigName>();
    let is_identifier = (1..=63).contains(&key.len())
        && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !key.starts_with(|c: char| c.is_ascii_digit());
    match name {
        Ok(name) => assert!(is_identifier && name.as_str() == key),
        Err(boot::config_name::InvalidConfigName::Reserved(_)) => assert!(is_identifier),
        Err(boot::config_name::InvalidConfigName::NotAnIdentifier(_)) => assert!(!is_identifier),
    }
}

/// Whether this is `[prefix/]name`, where the prefix is a DNS name.
fn is_label_key(key: &str) -> bool {
    let mut parts = key.rsplitn(2, '/');
    let name = parts.next().unwrap_or_default();
    is_word(name)
        && parts
            .next()
            .is_none_or(|prefix| prefix.len() <= 253 && prefix.split('.').all(is_dns_part))
}

fn is_label_value(value: &str) -> bool {
    value.is_empty() || is_word(value)
}

fn is_word(text: &str) -> bool {
    text.len() <= 63 && is_well_formed(text)
}

fn is_well_formed(text: &str) -> bool {
    let ends = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    ends(bytes.first())
        && ends(bytes.last())
        && bytes
            .iter()
            .all(|b| matches!(b, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.'))
}

/// Kubernetes limits a DNS name as a whole and not its parts (`IsDNS1123Subdomain` in
/// apimachinery's validation.go).
fn is_dns_part(text: &str) -> bool {
    is_well_formed(text) && !text.contains(['_', '.']) && text == text.to_ascii_lowercase()
}
