//! The ids of requests, by which a client and the log name the same request.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::HeaderValue;
use rand::Rng;

/// Makes request ids that no other process, and no other one of these, makes.
#[derive(Debug)]
pub struct RequestIds {
    /// A random number that every id starts with.
    prefix: RequestId,
    next: AtomicUsize,
}

/// The id of one request: two hexadecimal numbers, the first of eight digits, as in
/// `0000001f-9`.
#[derive(Clone)]
pub struct RequestId {
    text: [u8; RequestId::MAX_BYTES],
    len: usize,
}

// === impl RequestIds ===

impl RequestIds {
    /// Ids with a random prefix.
    pub fn new() -> Self {
        Self::starting(rand::rng().random(), 0)
    }

    fn starting(prefix: u32, next: usize) -> Self {
        let mut id = RequestId {
            text: [0; _],
            len: 0,
        };
        id.push_hex(u64::from(prefix), 8);
        id.push(b'-');
        Self {
            prefix: id,
            next: AtomicUsize::new(next),
        }
    }

    /// The id of the next request.
    pub fn next(&self) -> RequestId {
        let mut id = self.prefix.clone();
        id.push_hex(self.next.fetch_add(1, Ordering::Relaxed) as u64, 1);
        id
    }
}

impl Default for RequestIds {
    fn default() -> Self {
        Self::new()
    }
}

// === impl RequestId ===

impl RequestId {
    const MAX_BYTES: usize = 8 + 1 + 16;

    /// The id as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.text[..self.len]).expect("digits are ASCII")
    }

    /// The value of the header `x-request-id`.
    pub fn to_header(&self) -> HeaderValue {
        HeaderValue::from_bytes(&self.text[..self.len]).expect("hexadecimal digits and a dash")
    }

    fn push(&mut self, byte: u8) {
        self.text[self.len] = byte;
        self.len += 1;
    }

    /// Appends a number in hexadecimal with at least this many digits.
    fn push_hex(&mut self, number: u64, digits: u32) {
        let used = (u64::BITS - number.leading_zeros()).div_ceil(4);
        for place in (0..used.max(digits)).rev() {
            self.push(b"0123456789abcdef"[(number >> (4 * place) & 15) as usize]);
        }
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_count_up_from_a_random_prefix() {
        let ids = RequestIds::starting(0x1f, 9);
        assert_eq!(
            [ids.next().to_string(), ids.next().to_string()],
            ["0000001f-9", "0000001f-a"]
        );
        let last = RequestIds::starting(u32::MAX, usize::MAX).next();
        assert_eq!(
            (last.as_str(), last.to_header().as_bytes().len()),
            ("ffffffff-ffffffffffffffff", RequestId::MAX_BYTES)
        );
    }
}
