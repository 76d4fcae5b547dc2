//! Identities and architectures, against small models of their spelling.

use boot::{Mac, arch, identity};
use uuid::Uuid;

pub(crate) fn identity(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let uuid = identity::parse_uuid(text);
    assert_eq!(uuid.map(|uuid| uuid.as_u128()), uuid_by_hand(text));
    if let Some(uuid) = uuid {
        assert_eq!(identity::parse_uuid(&uuid.to_string()), Some(uuid));
        assert_eq!(
            identity::other_byte_order(identity::other_byte_order(uuid)),
            uuid
        );
        assert_eq!(Uuid::parse_str(text).ok(), Some(uuid));
    }
    let mac = text.parse::<Mac>();
    assert_eq!(
        mac.as_ref().ok().map(|mac| mac.octets().to_vec()),
        mac_by_hand(text)
    );
    match mac {
        Ok(mac) => {
            assert_eq!(mac.to_string().parse::<Mac>().as_ref(), Ok(&mac));
            assert_eq!(Mac::from_octets(mac.octets()), Some(mac));
        }
        Err(error) => super::check_error(&error.to_string()),
    }
    let arch = arch::canonical(text);
    assert_eq!(arch::canonical(&arch), arch);
    let _ = identity::is_placeholder_serial(text);
}

/// Accepts 32 digits, or 8, 4, 4, 4 and 12 with dashes between.
fn uuid_by_hand(text: &str) -> Option<u128> {
    let groups: Vec<_> = text.split('-').map(str::len).collect();
    let is_shape = groups == [32] || groups == [8, 4, 4, 4, 12];
    let digits = text.replace('-', "");
    (is_shape && digits.bytes().all(|b| b.is_ascii_hexdigit()))
        .then(|| u128::from_str_radix(&digits, 16).expect("32 digits"))
}

/// Accepts 6, 8 or 20 pairs of digits with one kind of separator, or none.
fn mac_by_hand(text: &str) -> Option<Vec<u8>> {
    let pairs: Vec<&str> = match text
        .chars()
        .find(|c| b":-".contains(&u8::try_from(*c).unwrap_or(0)))
    {
        Some(separator) => text.split(separator).collect(),
        None if text.is_ascii() => (0..text.len())
            .step_by(2)
            .map(|at| &text[at..text.len().min(at + 2)])
            .collect(),
        None => return None,
    };
    let octet = |pair: &&str| {
        (pair.len() == 2 && pair.bytes().all(|b| b.is_ascii_hexdigit()))
            .then(|| u8::from_str_radix(pair, 16).ok())
    };
    let octets: Vec<u8> = pairs
        .iter()
        .map(|pair| octet(pair).flatten())
        .collect::<Option<_>>()?;
    matches!(octets.len(), 6 | 8 | 20).then_some(octets)
}
