//! Assigns keys to clusters by rendezvous hashing (Thaler and Ravishankar, 1998).
//!
//! The weight of a cluster for a key is the first 8 bytes, big-endian, of SHA-256(cluster, a zero
//! byte, key). The cluster with the highest weight owns the key; of two with equal weights, the one
//! whose name sorts first. A new cluster takes over keys from each existing cluster, and no key
//! moves between two existing ones. The function is stable: other languages can compute it, and the
//! vectors in the tests below are for them.

use std::collections::BTreeSet;

use aws_lc_rs::digest::{Context, SHA256};

use crate::source::{InvalidSource, check_partition};

/// The names of the clusters that share the keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partitions(BTreeSet<Box<str>>);

/// A list of partitions that can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPartitions {
    /// The list is empty.
    #[error("name at least one partition")]
    Empty,
    /// A name is not valid.
    #[error(transparent)]
    Name(#[from] InvalidSource),
    /// A name appears twice.
    #[error("partition {0:?} is named twice")]
    Duplicate(String),
}

impl Partitions {
    /// Creates a set of clusters from their names, in any order.
    pub fn new<'n>(names: impl IntoIterator<Item = &'n str>) -> Result<Self, InvalidPartitions> {
        let mut partitions = BTreeSet::new();
        for name in names {
            if !partitions.insert(Box::from(check_partition(name)?)) {
                return Err(InvalidPartitions::Duplicate(name.to_owned()));
            }
        }
        if partitions.is_empty() {
            Err(InvalidPartitions::Empty)
        } else {
            Ok(Self(partitions))
        }
    }

    /// Returns the cluster that owns a key.
    pub fn owner(&self, key: &str) -> &str {
        // `max_by_key` returns the last of several maxima, so the reversed order makes the first
        // name win.
        self.0
            .iter()
            .rev()
            .max_by_key(|name| weight(name, key))
            .expect("there is at least one")
    }
}

fn weight(cluster: &str, key: &str) -> u64 {
    let mut hash = Context::new(&SHA256);
    for part in [cluster.as_bytes(), &[0], key.as_bytes()] {
        hash.update(part);
    }
    u64::from_be_bytes(
        hash.finish().as_ref()[..8]
            .try_into()
            .expect("a digest has 32 bytes"),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn weights_match_the_published_vectors() {
        // printf 'a\0default/web-1' | sha256sum
        for (cluster, key, expected) in VECTORS {
            assert_eq!(weight(cluster, key), expected, "{cluster} {key}");
        }
        let abc = Partitions::new(["a", "b", "c"]).unwrap();
        for (key, expected) in [
            ("default/web-1", OWNERS[0]),
            ("47c6da67-7477-4970-aa03-84e48ff4f6ad", OWNERS[1]),
            ("", OWNERS[2]),
        ] {
            assert_eq!(abc.owner(key), expected, "{key}");
        }
    }

    const VECTORS: [(&str, &str, u64); 4] = [
        ("a", "default/web-1", 0x43a6_3d86_3ffc_476b),
        ("b", "default/web-1", 0xf8d1_8238_1f79_d410),
        ("c", "default/web-1", 0x2d6d_b364_efb1_740e),
        ("a", "", 0xffe9_aaea_a2a2_d504),
    ];
    const OWNERS: [&str; 3] = ["b", "c", "a"];

    #[test]
    fn rejects_a_malformed_partition_list() {
        assert_eq!(Partitions::new([]), Err(InvalidPartitions::Empty));
        assert!(matches!(
            Partitions::new(["a", "a"]),
            Err(InvalidPartitions::Duplicate(_))
        ));
        assert!(matches!(
            Partitions::new(["a", "B"]),
            Err(InvalidPartitions::Name(_))
        ));
    }

    #[test]
    fn keys_are_spread_evenly() {
        let names = ["a", "b", "c", "d"];
        let partitions = Partitions::new(names).unwrap();
        let mut counts = std::collections::BTreeMap::<&str, u32>::new();
        for key in 0..40_000 {
            *counts
                .entry(partitions.owner(&format!("default/machine-{key}")))
                .or_default() += 1;
        }
        assert!(
            names
                .iter()
                .all(|name| (9_500..10_500).contains(&counts[name])),
            "{counts:?}"
        );
    }

    proptest! {
        #[test]
        fn adding_a_partition_moves_keys_only_to_it(
            names in prop::collection::btree_set("[a-z][a-z0-9]{0,5}", 2..8),
            keys in prop::collection::vec(".{0,20}", 1..50),
        ) {
            let all = Partitions::new(names.iter().map(String::as_str)).unwrap();
            let added = names.iter().nth(names.len() / 2).unwrap();
            let before = Partitions::new(names.iter().map(String::as_str).filter(|name| name != added)).unwrap();
            for key in &keys {
                let (old, new) = (before.owner(key), all.owner(key));
                prop_assert!(old == new || new == added, "{key} moves from {old} to {new}");
            }
        }
    }
}
