//! The ids of requests, by which a client and the log speak of the same one.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::HeaderValue;
use rand::Rng;

/// Makes ids.
pub(super) struct Ids {
    /// Tells these from those of other threads and processes in a log: how each starts.
    start: RequestId,
    next: AtomicUsize,
}

/// The id of one request: two numbers in hexadecimal, the first of eight digits.
#[derive(Clone)]
pub(super) struct RequestId {
    text: [u8; RequestId::MAX_BYTES],
    len: usize,
}

// === impl Ids ===

impl Ids {
    pub(super) fn new() -> Self {
        Self::starting(rand::rng().random(), 0)
    }

    fn starting(prefix: u32, next: usize) -> Self {
        let mut start = RequestId {
            text: [0; _],
            len: 0,
        };
        start.push_hex(u64::from(prefix), 8);
        start.push(b'-');
        Self {
            start,
            next: AtomicUsize::new(next),
        }
    }

    pub(super) fn next(&self) -> RequestId {
        let mut id = self.start.clone();
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
        let ids = Ids::starting(0x1f, 9);
        assert_eq!(
            [ids.next().to_string(), ids.next().to_string()],
            ["0000001f-9", "0000001f-a"]
        );
        let last = Ids::starting(u32::MAX, usize::MAX).next();
        assert_eq!(
            (last.as_str(), last.to_header().as_bytes().len()),
            ("ffffffff-ffffffffffffffff", RequestId::MAX_BYTES)
        );
    }
}
