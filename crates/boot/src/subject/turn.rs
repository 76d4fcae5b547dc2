//! The order in which a query has its labels, and how their keys are told apart.

use crate::arch::BUILDARCH;

/// So much of a key is in its [`head`].
const HEAD_BYTES: usize = size_of::<u64>();

/// What the bootstrap script makes a machine send, in its order.
///
/// Links have the same order. The first labels need no escaping, so that nothing before them can garble them. The last are free text,
/// which iPXE of before 2021-11-12 can't escape (`ipxe@1844aacc8`). All others have their turn between these, in the order of their keys.
pub const PRESENTED: [&str; 9] = [
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
/// The heads of these.
const HEADS: [u64; PRESENTED.len()] = {
    let mut heads = [0; PRESENTED.len()];
    let mut at = 0;
    while at < heads.len() {
        heads[at] = head(PRESENTED[at]);
        at += 1;
    }
    heads
};
/// The turns of these, of which the first four come before all others.
const TURNS: [u8; PRESENTED.len()] = [
    UUID_TURN,
    MAC_TURN,
    BUILDARCH_TURN,
    3,
    SERIAL_TURN,
    6,
    7,
    8,
    9,
];
/// That of all others.
const MIDDLE_TURN: u8 = 4;
/// The turns of those that are more than a text.
pub(super) const UUID_TURN: u8 = 0;
pub(super) const MAC_TURN: u8 = 1;
pub(super) const BUILDARCH_TURN: u8 = 2;
pub(super) const SERIAL_TURN: u8 = 5;

/// When a label comes in a query. Most come where they are `expected`: at the place in [`PRESENTED`] behind that of the last one.
#[inline]
pub(super) fn turn(head: u64, key: &[u8], expected: &mut usize) -> u8 {
    let is = |at: usize| HEADS.get(at) == Some(&head) && are_same(PRESENTED[at].as_bytes(), key);
    let Some(at) = is(*expected)
        .then_some(*expected)
        .or_else(|| (0..PRESENTED.len()).find(|at| is(*at)))
    else {
        return MIDDLE_TURN;
    };
    *expected = at + 1;
    TURNS[at]
}

/// The first bytes of a key, in the order of keys. Keys hold no zeros.
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

/// Whether two keys are the same, of which the [`head`] is.
#[inline]
pub(super) fn are_same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && (one.len() <= HEAD_BYTES || one == other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_order_matches_the_bootstrap_script() {
        assert!(TURNS.is_sorted() && !TURNS.contains(&MIDDLE_TURN));
        for expected in 0..=PRESENTED.len() {
            let turn = |key: &str| super::turn(head(key), key.as_bytes(), &mut expected.clone());
            assert_eq!(PRESENTED.map(turn), TURNS);
            assert_eq!(
                ["rack", "buildarc", "buildarches", "uuid2", "manufacture"].map(turn),
                [MIDDLE_TURN; 5]
            );
        }
    }
}
