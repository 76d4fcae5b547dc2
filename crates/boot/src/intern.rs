//! Interns strings and label sets that many objects share.
//!
//! 100,000 Assignments use a handful of namespaces and mostly the same label keys and values. Each
//! thread keeps a fixed-size, direct-mapped table of recent values: a hit returns the shared `Arc`,
//! a miss overwrites the slot. Entries are never freed explicitly.

use std::cell::RefCell;
use std::hash::Hash;
use std::sync::Arc;

/// A key and a value.
pub(crate) type Label = (Arc<str>, Arc<str>);

/// Number of slots in each table.
const SLOTS: usize = 2048;
/// Maximum length of an interned value, in bytes. Longer values bypass the table, so that no client
/// can fill it with mebibytes.
pub(crate) const MAX_INTERNED_LEN: usize = 512;

/// A thread's recent values of one type.
pub(crate) struct InternTable<T: ?Sized> {
    slots: Vec<Option<Arc<T>>>,
    hasher: ahash::RandomState,
}

thread_local! {
    static STRINGS: RefCell<InternTable<str>> = RefCell::new(InternTable::new());
    static LABELS: RefCell<InternTable<[Label]>> = RefCell::new(InternTable::new());
}

/// Interns a string.
pub(crate) fn string(text: &str) -> Arc<str> {
    match text.len() {
        0 => Arc::default(),
        1..=MAX_INTERNED_LEN => {
            STRINGS.with_borrow_mut(|table| table.get_or_insert(text, || text.into()))
        }
        _ => text.into(),
    }
}

/// Interns a set of labels.
pub(crate) fn labels(labels: Vec<Label>) -> Arc<[Label]> {
    match labels
        .iter()
        .map(|(key, value)| key.len() + value.len())
        .sum()
    {
        _ if labels.is_empty() => Arc::default(),
        0..=MAX_INTERNED_LEN => LABELS
            .with_borrow_mut(|table| table.get_or_insert(&labels, || labels.as_slice().into())),
        _ => labels.into(),
    }
}

impl<T: Hash + Eq + ?Sized> InternTable<T> {
    pub(crate) fn new() -> Self {
        Self {
            slots: vec![None; SLOTS],
            hasher: ahash::RandomState::default(),
        }
    }

    /// Returns the interned value that equals `value`, or makes and stores it.
    pub(crate) fn get_or_insert(&mut self, value: &T, make: impl FnOnce() -> Arc<T>) -> Arc<T> {
        let index = usize::try_from(self.hasher.hash_one(value) % SLOTS as u64)
            .expect("there are few slots");
        let slot = &mut self.slots[index];
        match slot {
            Some(interned) if **interned == *value => interned.clone(),
            _ => slot.insert(make()).clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_share_one_allocation() {
        assert!(Arc::ptr_eq(&string("machines"), &string("machines")));
        let pair = || vec![(string("os"), string("linux"))];
        assert!(Arc::ptr_eq(&labels(pair()), &labels(pair())));
        assert_eq!((&*string("other"), labels(vec![]).len()), ("other", 0));
    }

    #[test]
    fn long_strings_are_not_interned() {
        let long = "x".repeat(MAX_INTERNED_LEN + 1);
        assert_eq!(Arc::strong_count(&string(&long)), 1);
        assert_eq!(
            Arc::strong_count(&labels(vec![(string("key"), string(&long))])),
            1
        );
    }

    #[test]
    fn values_stay_correct_when_the_table_overflows() {
        for round in 0..2 {
            assert!(
                (0..10 * SLOTS).all(|number| *string(&number.to_string()) == *number.to_string()),
                "round {round}"
            );
        }
    }
}
