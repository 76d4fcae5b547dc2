//! What many objects say alike, kept once.
//!
//! A hundred thousand Assignments have a handful of namespaces, the same keys of labels, and mostly the same values. Each thread remembers
//! some of what it made last, in a table of a fixed size, and who makes the same again gets that: so it costs nothing to be forgotten, and
//! nothing has to be given back.

use std::cell::RefCell;
use std::hash::Hash;
use std::sync::Arc;

/// A key and a value.
pub(crate) type Label = (Arc<str>, Arc<str>);

/// How much of a kind is remembered.
const SLOTS: usize = 2048;
/// What is longer than so many bytes is made anew each time: nobody may fill the table with mebibytes.
pub(crate) const MAX_INTERNED_LEN: usize = 512;

/// What a thread made last of one kind.
pub(crate) struct InternTable<T: ?Sized> {
    slots: Vec<Option<Arc<T>>>,
    hasher: ahash::RandomState,
}

thread_local! {
    static TEXTS: RefCell<InternTable<str>> = RefCell::new(InternTable::new());
    static LABELS: RefCell<InternTable<[Label]>> = RefCell::new(InternTable::new());
}

/// A text that other objects may have as well.
pub(crate) fn string(text: &str) -> Arc<str> {
    match text.len() {
        0 => Arc::default(),
        1..=MAX_INTERNED_LEN => {
            TEXTS.with_borrow_mut(|table| table.get_or_insert(text, || text.into()))
        }
        _ => text.into(),
    }
}

/// Labels that other objects may have as well.
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

    /// What equals `get_or_insert`: remembered, or made.
    pub(crate) fn get_or_insert(
        &mut self,
        get_or_insert: &T,
        make: impl FnOnce() -> Arc<T>,
    ) -> Arc<T> {
        let hash = usize::try_from(self.hasher.hash_one(get_or_insert) % SLOTS as u64)
            .expect("there are few places");
        let place = &mut self.slots[hash];
        match place {
            Some(table) if **table == *get_or_insert => table.clone(),
            _ => place.insert(make()).clone(),
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
        for turn in 0..2 {
            assert!(
                (0..10 * SLOTS).all(|number| *string(&number.to_string()) == *number.to_string()),
                "turn {turn}"
            );
        }
    }
}
