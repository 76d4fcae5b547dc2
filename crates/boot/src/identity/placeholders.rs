//! What vendors leave on boards in place of an identity.
//!
//! The lists are those of inventories that have met such boards, where nothing else is named:
//! the table `glpi_blacklists` of GLPI and `blacklist_serials` of OCS Inventory.

use uuid::Uuid;

/// UUIDs that many boards share.
const UUIDS: [Uuid; 9] = [
    // The default of AMI's firmware (oshi/oshi#2417).
    Uuid::from_u128(0x0300_0200_0400_0500_0006_0007_0008_0009),
    // GLPI.
    Uuid::from_u128(0x6ab5_b300_538d_1014_9fb5_b068_4d00_7b53),
    // The sample of EDK II for Arm, in the firmware of several vendors (SolidRun/lx2160a_uefi#4).
    Uuid::from_u128(0x8a95_d198_7f46_11e5_bf8b_0800_2704_d48e),
    // Boards of Insyde's customers; lists of several inventory agents.
    Uuid::from_u128(0x1234_5678_1234_5678_90ab_cdde_efaa_bbcc),
    Uuid::from_u128(0x1234_5678_1234_5678_1234_5678_1234_5678),
    // Counting bytes; the same lists.
    Uuid::from_u128(0x0001_0203_0405_0607_0809_0a0b_0c0d_0e0f),
    Uuid::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10),
    Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef),
    // Dell makes the UUID of the service tag; here, the tag is seven spaces.
    Uuid::from_u128(0x4c4c_4544_0000_2010_8020_80c0_4f20_2020),
];

/// Serial numbers that are filler text, in lower case.
const SERIALS: [&str; 44] = [
    "to be filled by o.e.m.",
    "to be filled by o.e.m",
    "to be filled by oem",
    "default string",
    "default_string",
    "none",
    "null",
    "n/a",
    "unknown",
    "not specified",
    "not available",
    "not applicable",
    "not present",
    "system serial number",
    "chassis serial number",
    "base board serial number",
    "enter serial",
    "0123456789",
    "123456789",
    "1234567890",
    // GLPI and OCS Inventory.
    "(null string)",
    "invalid",
    "empty",
    "unknow",
    "eval",
    "iatpass",
    "oem_serial",
    "systemserialnumb",
    "serial number xxxxxx",
    "tulip computers",
    "sys-1234567890",
    "sys-9876543210",
    "sn-12345",
    "sn-1234567890",
    "sn-123456fvgv3i0b8o5n6n7k",
    "mb-1234567890",
    "12345",
    "123456",
    "1234567",
    "12345678",
    "123456789000",
    "12345678901234567",
    // What dmidecode prints where the table is broken.
    "<out of spec>",
    "<bad index>",
];

/// Repetitions of one character that make a serial number filler text (GLPI: `1111111`, `NNNNNNN`,
/// `xxxxxxxxxxx`). Zeros are in any number.
const MIN_REPETITIONS: usize = 4;

/// Returns whether this is a UUID that boards carry if the vendor never set one, in either byte
/// order.
pub fn is_placeholder_uuid(uuid: Uuid) -> bool {
    // All zeros, all ones, 01010101-..., deadbeef-...: the same four bytes again and again.
    let (quarters, _) = uuid.as_bytes().as_chunks::<4>();
    let is_repeated = quarters.iter().all(|quarter| *quarter == quarters[0]);
    is_repeated || UUIDS.contains(&uuid) || UUIDS.contains(&super::other_byte_order(uuid))
}

/// Returns whether this serial number is a vendor's filler text, ignoring case and surrounding
/// spaces.
pub fn is_placeholder_serial(serial: &str) -> bool {
    is_placeholder_text(serial.trim())
}

/// [`is_placeholder_serial`] for a serial number without surrounding spaces.
pub(crate) fn is_placeholder_text(serial: &str) -> bool {
    let is_repeated = || {
        let mut chars = serial.chars();
        let first = chars.next();
        let least = if first == Some('0') {
            1
        } else {
            MIN_REPETITIONS
        };
        serial.chars().count() >= least && chars.all(|c| Some(c) == first)
    };
    // `-`, `...`
    let is_punctuation = || !serial.chars().any(char::is_alphanumeric);
    is_repeated()
        || is_punctuation()
        || SERIALS
            .iter()
            .any(|filler| serial.eq_ignore_ascii_case(filler))
}

#[cfg(test)]
mod tests {
    use super::super::parse_uuid;
    use super::*;

    #[test]
    fn vendor_placeholders_are_recognised() {
        for uuid in [
            "00000000-0000-0000-0000-000000000000",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
            "11111111-1111-1111-1111-111111111111",
            "01010101-0101-0101-0101-010101010101",
            "deadbeef-dead-beef-dead-beefdeadbeef",
            "03000200-0400-0500-0006-000700080009",
            "00020003-0004-0005-0006-000700080009",
            "6ab5b300-538d-1014-9fb5-b0684d007b53",
            "8a95d198-7f46-11e5-bf8b-08002704d48e",
            "98d1958a-467f-e511-bf8b-08002704d48e",
            "12345678-1234-5678-90ab-cddeefaabbcc",
            "00010203-0405-0607-0809-0a0b0c0d0e0f",
            "4c4c4544-0000-2010-8020-80c04f202020",
        ] {
            assert!(is_placeholder_uuid(parse_uuid(uuid).unwrap()), "{uuid}");
        }
        for serial in [
            "To be filled by O.E.M.",
            "Default string",
            "None",
            "0123456789",
            " none ",
            "0000",
            "0",
            "Enter Serial",
            "XXXXXXXX",
            "........",
            "-------------",
            "-",
            "1111111",
            "Chassis Serial Number",
            "INVALID",
        ] {
            assert!(is_placeholder_serial(serial), "{serial}");
        }
    }

    #[test]
    fn identities_of_one_machine_are_not_placeholders() {
        for uuid in [
            "47c6da67-7477-4970-aa03-84e48ff4f6ad",
            // The service tag BTX1234.
            "4c4c4544-0054-5810-8031-c2c04f323334",
            "00000000-0000-0000-0000-ac1f6b000001",
        ] {
            assert!(!is_placeholder_uuid(parse_uuid(uuid).unwrap()), "{uuid}");
        }
        for serial in [
            "SN-1", "7XK29Q2", "1", "12", "111", "A0000", "12345-7", "None-1",
        ] {
            assert!(!is_placeholder_serial(serial), "{serial}");
        }
    }

    #[test]
    fn filler_texts_are_in_lower_case() {
        for filler in SERIALS {
            assert_eq!(filler, filler.to_ascii_lowercase());
        }
    }
}
