//! The names that firmware sends for one and the same file.

/// A name as it is looked up: parts with one slash between them, none of them empty or `.`. None for a name that climbs (`..`).
///
/// Firmware sends `/name`, `./name` and `\name` for `name`, and what it copied too much from a DHCP packet: 0xff, the end of its options, or
/// padding.
pub(super) fn normalize(name: &[u8]) -> Option<Vec<u8>> {
    let end = name
        .iter()
        .rposition(|byte| !matches!(byte, 0 | 0xff))
        .map_or(0, |last| last + 1);
    let mut normalized = Vec::with_capacity(end);
    for part in name[..end]
        .split(|byte| matches!(byte, b'/' | b'\\'))
        .filter(|part| !part.is_empty() && *part != b".")
    {
        if part == b".." {
            return None;
        }
        if !normalized.is_empty() {
            normalized.push(b'/');
        }
        normalized.extend(part);
    }
    Some(normalized)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_names_of_one_file_are_the_same() {
        for odd in [
            &b"efi/ipxe.efi"[..],
            b"/efi/ipxe.efi",
            b"./efi/ipxe.efi",
            b"\\efi\\ipxe.efi",
            b"//efi/./ipxe.efi\xff",
            b"efi\\/ipxe.efi\0\0\0",
        ] {
            assert_eq!(
                normalize(odd).as_deref(),
                Some(&b"efi/ipxe.efi"[..]),
                "{odd:?}"
            );
        }
    }

    #[test]
    fn a_name_that_climbs_is_none() {
        for name in [
            &b"../../etc/passwd"[..],
            b"a/../b",
            b"..",
            b"..\\..\\boot.ini",
            b"/..",
            b"a/..\xff",
        ] {
            assert_eq!(normalize(name), None, "{name:?}");
        }
        assert_eq!(normalize(b"a..b/...").as_deref(), Some(&b"a..b/..."[..]));
    }
}
