//! The order of labels in a query, and fast comparison of their keys.

use crate::arch::BUILDARCH;

/// Number of key bytes in a [`head`].
const HEAD_BYTES: usize = size_of::<u64>();

/// The labels that the bootstrap script sends, in its order.
///
/// Links use the same order. The first labels need no escaping, so that nothing can garble them.
/// The last ones are free text, which iPXE before 2021-11-12 can't escape (`ipxe@1844aacc8`). All
/// other labels go between these two groups, sorted by key.
pub const BOOTSTRAP_LABELS: [&str; 9] = [
    "uuid",
    "mac",
    BUILDARCH,
    "platform",
    "serial",
    "hostname",
    "manufacturer",
    "product",
    "asset",
];
/// The head of each of [`BOOTSTRAP_LABELS`].
const HEADS: [u64; BOOTSTRAP_LABELS.len()] = {
    let mut heads = [0; BOOTSTRAP_LABELS.len()];
    let mut at = 0;
    while at < heads.len() {
        heads[at] = head(BOOTSTRAP_LABELS[at]);
        at += 1;
    }
    heads
};
/// The position of each of [`BOOTSTRAP_LABELS`]. The first four come before all other labels.
const POSITIONS: [u8; BOOTSTRAP_LABELS.len()] = [
    UUID_POSITION,
    MAC_POSITION,
    BUILDARCH_POSITION,
    3,
    SERIAL_POSITION,
    6,
    7,
    8,
    9,
];
/// The position of all other labels.
const OTHER_POSITION: u8 = 4;
/// Positions of labels that need more than text handling.
pub(super) const UUID_POSITION: u8 = 0;
pub(super) const MAC_POSITION: u8 = 1;
pub(super) const BUILDARCH_POSITION: u8 = 2;
pub(super) const SERIAL_POSITION: u8 = 5;

/// Returns the position of a label in a query. Tries `expected` first, the index in
/// [`BOOTSTRAP_LABELS`] that follows that of the last label.
#[inline]
pub(super) fn position(head: u64, key: &[u8], expected: &mut usize) -> u8 {
    let matches = |at: usize| {
        HEADS.get(at) == Some(&head) && keys_equal(BOOTSTRAP_LABELS[at].as_bytes(), key)
    };
    let Some(at) = matches(*expected)
        .then_some(*expected)
        .or_else(|| (0..BOOTSTRAP_LABELS.len()).find(|at| matches(*at)))
    else {
        return OTHER_POSITION;
    };
    *expected = at + 1;
    POSITIONS[at]
}

/// Returns the first bytes of a key as an integer that sorts like the key. Keys contain no NUL.
#[inline]
pub(super) const fn head(key: &str) -> u64 {
    if let Some((head, _)) = key.as_bytes().split_first_chunk() {
        return u64::from_be_bytes(*head);
    }
    let (mut head, mut at) = (0, 0);
    while at < key.len() {
        head |= (key.as_bytes()[at] as u64) << (56 - 8 * at);
        at += 1;
    }
    head
}

/// Compares two keys with equal [`head`]s.
#[inline]
pub(super) fn keys_equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && (a.len() <= HEAD_BYTES || a == b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_order_matches_the_bootstrap_script() {
        assert!(POSITIONS.is_sorted() && !POSITIONS.contains(&OTHER_POSITION));
        for expected in 0..=BOOTSTRAP_LABELS.len() {
            let position =
                |key: &str| super::position(head(key), key.as_bytes(), &mut expected.clone());
            assert_eq!(BOOTSTRAP_LABELS.map(position), POSITIONS);
            assert_eq!(
                ["rack", "buildarc", "buildarches", "uuid2", "manufacture"].map(position),
                [OTHER_POSITION; 5]
            );
        }
    }
}
