//! Compact collections that are written once and read often.
//!
//! A catalog holds 100,000 Assignments, each with a few sets of one or two items. A B-tree node has
//! room for eleven.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

use crate::intern::{self, Label};

/// A set, stored as a sorted slice.
#[derive(Clone)]
pub struct Sorted<T>(Items<T>);

/// Most sets have one item, which is then stored inline.
#[derive(Clone)]
enum Items<T> {
    One(T),
    Others(Box<[T]>),
}

/// Label keys and values, sorted by key. Sets that many objects share are stored once.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Labels(Arc<[Label]>);

// === impl Sorted ===

impl<T> Sorted<T> {
    /// Returns whether the set contains the item.
    pub fn contains<Q: Ord + ?Sized>(&self, item: &Q) -> bool
    where
        T: Borrow<Q>,
    {
        self.binary_search_by(|own| own.borrow().cmp(item)).is_ok()
    }
}

impl<T> Default for Sorted<T> {
    fn default() -> Self {
        Self(Items::Others(Box::default()))
    }
}

impl<T> Deref for Sorted<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match &self.0 {
            Items::One(item) => std::slice::from_ref(item),
            Items::Others(items) => items,
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Sorted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&**self).finish()
    }
}

impl<T: PartialEq> PartialEq for Sorted<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Eq> Eq for Sorted<T> {}

impl<T: Ord> PartialOrd for Sorted<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T: Ord> Ord for Sorted<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        (**self).cmp(&**other)
    }
}

impl<T: Hash> Hash for Sorted<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl<T: Ord> FromIterator<T> for Sorted<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let mut items: Vec<_> = items.into_iter().collect();
        items.sort_unstable();
        items.dedup();
        Self(match items.len() {
            1 => Items::One(items.swap_remove(0)),
            _ => Items::Others(items.into_boxed_slice()),
        })
    }
}

impl<T: Ord, const N: usize> From<[T; N]> for Sorted<T> {
    fn from(items: [T; N]) -> Self {
        items.into_iter().collect()
    }
}

impl<'a, T> IntoIterator for &'a Sorted<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

// === impl Labels ===

impl Labels {
    /// Returns the value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        let at = self.0.binary_search_by(|(own, _)| (**own).cmp(key)).ok()?;
        Some(&self.0[at].1)
    }

    /// Iterates over the labels, sorted by key.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> + Clone {
        self.0.iter().map(|(key, value)| (&**key, &**value))
    }

    /// Returns the number of labels.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether there are no labels.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns whether all labels of `others` are in this set.
    pub fn contains_all(&self, others: &Self) -> bool {
        others
            .iter()
            .all(|(key, value)| self.get(key) == Some(value))
    }
}

/// If a key occurs more than once, its smallest value is kept.
impl<K: AsRef<str>, V: AsRef<str>> FromIterator<(K, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let mut pairs: Vec<_> = pairs
            .into_iter()
            .map(|(key, value)| (intern::string(key.as_ref()), intern::string(value.as_ref())))
            .collect();
        pairs.sort_unstable();
        pairs.dedup_by(|a, b| a.0 == b.0);
        Self(intern::labels(pairs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_found_in_any_insertion_order() {
        let set: Sorted<Box<str>> = ["b", "a", "c", "a"].into_iter().map(Box::from).collect();
        assert_eq!(
            (
                set.len(),
                set.contains("a"),
                set.contains("c"),
                set.contains("d")
            ),
            (3, true, true, false)
        );
        let labels: Labels = [("b", "2"), ("a", "1")].into_iter().collect();
        assert_eq!(
            (labels.get("a"), labels.get("b"), labels.get("c")),
            (Some("1"), Some("2"), None)
        );
        assert!(
            labels.contains_all(&[("b", "2")].into_iter().collect())
                && !labels.contains_all(&[("b", "3")].into_iter().collect())
        );
        assert_eq!(labels.iter().collect::<Vec<_>>(), [("a", "1"), ("b", "2")]);
    }
}
