//! Byte scans that the compiler can vectorise.

/// Returns whether `is` holds for every byte. There is no early exit, so that the loop vectorises:
/// use it for text that nearly always passes.
#[inline]
pub fn all(text: &[u8], is: impl Fn(u8) -> bool) -> bool {
    text.iter()
        .fold(0, |others, byte| others | u8::from(!is(*byte)))
        == 0
}

/// Sets the highest bit of each byte of `eight` that differs from `byte`. The lower bits are
/// meaningless.
#[inline]
pub fn differing(eight: u64, byte: u8) -> u64 {
    const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    let difference = eight ^ u64::from_ne_bytes([byte; 8]);
    // The mask keeps each addition within its byte.
    ((difference & LOW) + LOW) | difference
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_byte_is_found_at_any_position() {
        assert!(all(b"", |_| false));
        for len in 1..40 {
            assert!(all(&vec![b'a'; len], |byte| byte == b'a'));
            for at in 0..len {
                let mut text = vec![b'a'; len];
                text[at] = b'b';
                assert!(!all(&text, |byte| byte == b'a'), "{at} of {len}");
            }
        }
    }

    #[test]
    fn every_byte_is_compared_independently() {
        for byte in 0..=255 {
            for other in 0..=255 {
                let bits = differing(
                    u64::from_le_bytes([byte, other, byte, other, other, byte, byte, other]),
                    byte,
                )
                .to_le_bytes();
                let differs = byte != other;
                let expected = [
                    false, differs, false, differs, differs, false, false, differs,
                ];
                assert_eq!(
                    bits.map(|bits| bits & 0x80 != 0),
                    expected,
                    "{byte} {other}"
                );
            }
        }
    }
}
