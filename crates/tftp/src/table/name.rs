//! Normalizes the file names that firmware sends.

/// Normalizes a name: components joined by single slashes, without empty ones and `.`. Returns
/// `None` for a name with a `..` component.
///
/// Firmware sends `/name`, `./name` and `\name` for `name`. Some appends bytes copied from the DHCP
/// packet: 0xff, which ends its options, or NUL padding.
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
    fn variants_of_a_name_normalize_to_the_same_name() {
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
    fn a_name_with_a_parent_component_is_rejected() {
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
