//! How much each of several groups holds, and which holds most.

use std::collections::BTreeSet;
use std::hash::Hash;

use ahash::AHashMap;

/// How much each group holds: places, or bytes. Groups that hold nothing are not there.
#[derive(Debug)]
pub(crate) struct Counts<G> {
    by_group: AHashMap<G, usize>,
    by_count: BTreeSet<(usize, G)>,
    total: usize,
}

// === impl Counts ===

impl<G> Default for Counts<G> {
    fn default() -> Self {
        Self {
            by_group: AHashMap::new(),
            by_count: BTreeSet::new(),
            total: 0,
        }
    }
}

impl<G: Copy + Hash + Ord> Counts<G> {
    pub(crate) fn add(&mut self, group: G, amount: usize) {
        let count = self.by_group.entry(group).or_default();
        self.by_count.remove(&(*count, group));
        *count += amount;
        self.by_count.insert((*count, group));
        self.total += amount;
    }

    /// Takes back an amount that was [added](Self::add).
    pub(crate) fn subtract(&mut self, group: G, amount: usize) {
        let Some(count) = self.by_group.get_mut(&group) else {
            return;
        };
        self.by_count.remove(&(*count, group));
        *count -= amount;
        if *count == 0 {
            self.by_group.remove(&group);
        } else {
            self.by_count.insert((*count, group));
        }
        self.total -= amount;
    }

    pub(crate) fn of(&self, group: G) -> usize {
        self.by_group.get(&group).copied().unwrap_or_default()
    }

    /// The group that holds most.
    pub(crate) fn largest(&self) -> Option<G> {
        self.by_count.last().map(|(_, group)| *group)
    }

    /// How many groups hold anything.
    pub(crate) fn len(&self) -> usize {
        self.by_group.len()
    }

    /// How much all groups hold.
    pub(crate) fn total(&self) -> usize {
        self.total
    }
}
