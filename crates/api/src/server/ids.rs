//! The ids of requests, by which a client and the log speak of the same one.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::HeaderValue;
use rand::Rng;

/// Makes ids.
pub(super) struct Ids {
    /// Tells these from those of other threads and processes in a log.
    prefix: u32,
    next: AtomicUsize,
}

/// The id of one request: two numbers in hexadecimal, the first of eight digits.
pub(super) struct RequestId {
    text: [u8; RequestId::MAX_BYTES],
    len: usize,
}

// === impl Ids ===

impl Ids {
    pub(super) fn new() -> Self {
        Self { prefix: rand::rng().random(), next: AtomicUsize::new(0) }
    }

    pub(super) fn next(&self) -> RequestId {
        let mut id = RequestId { text: [0; _], len: 0 };
        id.push_hex(u64::from(self.prefix), 8);
        id.push(b'-');
        id.push_hex(self.next.fetch_add(1, Ordering::Relaxed) as u64, 1);
        id
    }
}

// === impl RequestId ===

impl RequestId {
    const MAX_BYTES: usize = 8 + 1 + 16;

    pub(super) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.text[..self.len]).expect("digits are ASCII")
    }

    pub(super) fn to_header(&self) -> HeaderValue {
        HeaderValue::from_bytes(&self.text[..self.len]).expect("hexadecimal digits and a dash")
    }

    fn push(&mut self, byte: u8) {
        self.text[self.len] = byte;
        self.len += 1;
    }

    /// Appends a number in hexadecimal, with so many digits at least.
    fn push_hex(&mut self, number: u64, digits: u32) {
        let used = (u64::BITS - number.leading_zeros()).div_ceil(4);
        for place in (0..used.max(digits)).rev() {
            self.push(b"0123456789abcdef"[(number >> (4 * place) & 15) as usize]);
        }
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
    fn ids_are_two_numbers_and_none_comes_twice() {
        let ids = Ids { prefix: 0x1f, next: AtomicUsize::new(9) };
        assert_eq!([ids.next().to_string(), ids.next().to_string()], ["0000001f-9", "0000001f-a"]);
        let last = Ids { prefix: u32::MAX, next: AtomicUsize::new(usize::MAX) }.next();
        assert_eq!((last.as_str(), last.to_header().as_bytes().len()), ("ffffffff-ffffffffffffffff", RequestId::MAX_BYTES));
    }
}
