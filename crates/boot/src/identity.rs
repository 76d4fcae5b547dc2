//! The identities of a machine: `uuid`, `serial` and `mac`.
//!
//! An identity is whatever a client sends; it is never a credential.

mod placeholders;

use std::fmt;
use std::str::FromStr;

use serde::Serialize;
use uuid::Uuid;

pub(crate) use placeholders::is_placeholder_text;
pub use placeholders::{is_placeholder_serial, is_placeholder_uuid};

/// The identity of a subject by which an Assignment matched.
///
/// Variants are in order of preference: a UUID outranks a serial number, and that outranks a MAC
/// address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum MatchedBy {
    /// The SMBIOS UUID, as the subject presents it.
    Uuid,
    /// The SMBIOS UUID with its first three fields in the other byte order.
    ///
    /// Firmware before SMBIOS 2.6 and DHCP option 97 send these fields little-endian, iPXE sends
    /// them big-endian: one machine has two spellings.
    UuidOtherByteOrder,
    /// The SMBIOS serial number.
    Serial,
    /// The MAC address of the network card that the subject boots from.
    Mac,
    /// No identity: labels alone, or a default.
    Labels,
}

impl MatchedBy {
    /// Returns the name that users see.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uuid => "uuid",
            Self::UuidOtherByteOrder => "uuid (other byte order)",
            Self::Serial => "serial",
            Self::Mac => "mac",
            Self::Labels => "labels",
        }
    }
}

impl fmt::Display for MatchedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The length of a UUID in its usual spelling, with dashes.
pub(crate) const UUID_BYTES: usize = uuid::fmt::Hyphenated::LENGTH;

/// Parses a UUID with or without dashes, in any case.
///
/// Rejects braces and the `urn:uuid:` prefix: no firmware sends them, so they are more likely a
/// mistake.
pub fn parse_uuid(text: &str) -> Option<Uuid> {
    parse_uuid_bytes(text.as_bytes())
}

/// [`parse_uuid`] for bytes that may not be UTF-8.
pub(crate) fn parse_uuid_bytes(text: &[u8]) -> Option<Uuid> {
    match text.len() {
        32 | UUID_BYTES => Uuid::try_parse_ascii(text).ok(),
        _ => None,
    }
}

/// Returns the UUID with its first three fields in the other byte order (SMBIOS 2.6, section
/// 7.2.1).
pub fn other_byte_order(uuid: Uuid) -> Uuid {
    Uuid::from_bytes_le(uuid.into_bytes())
}

/// A link-layer address of 6 (Ethernet), 8 (EUI-64) or 20 octets (IP over `InfiniBand`, RFC 4391).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac {
    len: u8,
    octets: [u8; 20],
}

/// The text is not a link-layer address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a MAC address; write six octets in hexadecimal, as in 52:54:00:12:34:56")]
pub struct InvalidMac(String);

impl Mac {
    /// Creates an address from 6, 8 or 20 octets, in written order.
    pub fn from_octets(from: &[u8]) -> Option<Self> {
        let mut octets = [0; 20];
        octets.get_mut(..from.len())?.copy_from_slice(from);
        matches!(from.len(), 6 | 8 | 20).then(|| Self {
            len: u8::try_from(from.len()).expect("at most 20"),
            octets,
        })
    }

    /// Parses what [`FromStr`] accepts.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let octet = |digits: [u8; 2]| Some(hex(digits[0])? << 4 | hex(digits[1])?);
        let mut octets = [0; 20];
        let separator = text
            .get(2)
            .copied()
            .filter(|byte| matches!(byte, b':' | b'-'));
        // Each octet has two digits. With separators, every octet but the last is followed by one.
        let len = if let Some(separator) = separator {
            let (pieces, last) = text.as_chunks();
            let last = <[u8; 2]>::try_from(last).ok()?;
            let (last_octet, others) = octets.get_mut(..=pieces.len())?.split_last_mut()?;
            for (octet_slot, [high, low, between]) in others.iter_mut().zip(pieces) {
                *octet_slot = octet([*high, *low]).filter(|_| *between == separator)?;
            }
            *last_octet = octet(last)?;
            pieces.len() + 1
        } else {
            let (pieces, []) = text.as_chunks() else {
                return None;
            };
            for (octet_slot, digits) in octets.get_mut(..pieces.len())?.iter_mut().zip(pieces) {
                *octet_slot = octet(*digits)?;
            }
            pieces.len()
        };
        Self::from_octets(octets.get(..len)?)
    }

    /// Returns whether no network card can have this address: it is all zeros or all ones.
    pub fn is_placeholder(&self) -> bool {
        self.octets().iter().all(|o| *o == 0) || self.octets().iter().all(|o| *o == 0xff)
    }

    /// Returns the octets, in written order.
    pub fn octets(&self) -> &[u8] {
        &self.octets[..usize::from(self.len)]
    }
}

/// Accepts `aa:bb:..`, `aa-bb-..` and bare hexadecimal, in any case: the output of `${mac}`,
/// `${mac:hexhyp}` and `${mac:hexraw}`.
impl FromStr for Mac {
    type Err = InvalidMac;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text.as_bytes()).ok_or_else(|| InvalidMac(text.chars().take(64).collect()))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, octet) in self.octets().iter().enumerate() {
            let separator = if index > 0 { ":" } else { "" };
            write!(f, "{separator}{octet:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mac({self})")
    }
}

/// Returns the value of a hexadecimal digit.
pub(crate) fn hex(digit: u8) -> Option<u8> {
    static VALUES: [Option<u8>; 256] = {
        let mut values = [None; 256];
        let mut value = 0;
        while value < 16 {
            values[b"0123456789abcdef"[value as usize] as usize] = Some(value);
            values[b"0123456789ABCDEF"[value as usize] as usize] = Some(value);
            value += 1;
        }
        values
    };
    VALUES[usize::from(digit)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_mac_is_the_same_mac() {
        let expected: Mac = "52:54:00:ab:cd:ef".parse().unwrap();
        for spelling in ["52-54-00-AB-CD-EF", "525400abcdef", "52:54:00:AB:cd:EF"] {
            assert_eq!(spelling.parse::<Mac>().unwrap(), expected);
        }
        assert_eq!(expected.to_string(), "52:54:00:ab:cd:ef");
    }

    #[test]
    fn malformed_macs_are_rejected() {
        for text in [
            "",
            "52",
            "52:54:00:ab:cd",
            "52:54-00:ab:cd:ef",
            "52:54:00:ab:cd:eg",
            "52:54:00:ab:cd:ef:",
            "5:5:0:a:c:e",
            "é25400abcde",
        ] {
            assert!(text.parse::<Mac>().is_err(), "{text:?}");
        }
        assert!("aa".repeat(21).parse::<Mac>().is_err());
    }

    #[test]
    fn infiniband_addresses_are_macs() {
        assert_eq!("ab".repeat(20).parse::<Mac>().unwrap().octets().len(), 20);
    }

    #[test]
    fn a_mac_from_octets_has_these_octets() {
        for text in [
            "52:54:00:ab:cd:ef".to_owned(),
            "01".repeat(8),
            "ab".repeat(20),
        ] {
            let mac: Mac = text.parse().unwrap();
            assert_eq!(Mac::from_octets(mac.octets()), Some(mac));
        }
        for len in [0, 5, 7, 19, 21] {
            assert_eq!(Mac::from_octets(&vec![1; len]), None);
        }
    }

    #[test]
    fn the_other_byte_order_swaps_the_first_three_fields_only() {
        let uuid = parse_uuid("00112233-4455-6677-8899-aabbccddeeff").unwrap();
        assert_eq!(
            other_byte_order(uuid).to_string(),
            "33221100-5544-7766-8899-aabbccddeeff"
        );
        assert_eq!(other_byte_order(other_byte_order(uuid)), uuid);
    }

    #[test]
    fn a_uuid_in_braces_is_rejected() {
        assert!(parse_uuid("{00112233-4455-6677-8899-aabbccddeeff}").is_none());
        assert!(parse_uuid("urn:uuid:00112233-4455-6677-8899-aabbccddeeff").is_none());
        assert!(parse_uuid("00112233-4455-6677-8899-aabbccddeef").is_none());
    }

    #[test]
    fn an_address_of_zeros_is_a_placeholder() {
        assert!("00:00:00:00:00:00".parse::<Mac>().unwrap().is_placeholder());
    }
}
