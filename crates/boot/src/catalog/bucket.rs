//! Objects under one key of an index, in their order.

use std::cmp::Ordering;
use std::fmt;
use std::hash::Hash;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use rpds::RedBlackTreeSetSync;

use super::index::Index;

/// An order in which no two different objects are equal.
pub(crate) trait Ranked {
    fn rank(&self, other: &Self) -> Ordering;
}

/// Objects in their order. Nearly all buckets hold one, which then costs a pointer.
pub(crate) enum Bucket<T: Ranked> {
    One(Arc<T>),
    Many(Arc<RedBlackTreeSetSync<Entry<T>>>),
}

pub(crate) struct Entry<T>(Arc<T>);

impl<T: Ranked> Bucket<T> {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<T>> {
        let (one, many) = match self {
            Self::One(object) => (Some(object), None),
            Self::Many(objects) => (None, Some(objects.iter().map(|entry| &entry.0))),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }

    /// The others that stand around the place of an object, as far as they are alike: those before it from the nearest on, then those after it.
    /// Only the first and the last of these cost a search. Alike are some that stand in one run.
    pub(crate) fn around<'b, F: Fn(&T) -> bool + Copy + 'b>(
        &'b self,
        object: &Arc<T>,
        is_alike: F,
    ) -> impl Iterator<Item = &'b Arc<T>> + use<'b, T, F> {
        let (one, many) = match self {
            Self::One(other) => (Some(other).filter(|other| other.rank(object).is_ne() && is_alike(other)), None),
            Self::Many(objects) => (None, Some((objects, Entry(object.clone())))),
        };
        let run = many.into_iter().flat_map(move |(objects, own)| {
            let before = objects.range((Unbounded, Excluded(own.clone()))).rev().map(|entry| &entry.0);
            let after = objects.range((Excluded(own), Unbounded)).map(|entry| &entry.0);
            before.take_while(move |other| is_alike(other)).chain(after.take_while(move |other| is_alike(other)))
        });
        one.into_iter().chain(run)
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Many(objects) => objects.size(),
        }
    }

    fn with(&self, object: &Arc<T>) -> Self {
        match self {
            Self::One(other) if other.rank(object).is_eq() => Self::One(object.clone()),
            Self::One(other) => {
                let mut objects = RedBlackTreeSetSync::new_sync();
                objects.insert_mut(Entry(other.clone()));
                objects.insert_mut(Entry(object.clone()));
                Self::Many(Arc::new(objects))
            }
            Self::Many(objects) => Self::Many(Arc::new(objects.insert(Entry(object.clone())))),
        }
    }

    /// None when nothing is left.
    fn without(&self, object: &Arc<T>) -> Option<Self> {
        match self {
            Self::One(other) => other.rank(object).is_ne().then(|| Self::One(other.clone())),
            Self::Many(objects) => {
                let rest = objects.remove(&Entry(object.clone()));
                match rest.size() {
                    0 => None,
                    1 => rest.first().map(|entry| Self::One(entry.0.clone())),
                    _ => Some(Self::Many(Arc::new(rest))),
                }
            }
        }
    }
}

/// Puts an object under a key.
pub(crate) fn add<K: Eq + Hash + Clone, T: Ranked>(index: &mut Index<K, Bucket<T>>, key: &K, object: &Arc<T>) {
    let bucket = index.get(key).map_or_else(|| Bucket::One(object.clone()), |bucket| bucket.with(object));
    index.insert(key.clone(), bucket);
}

/// Takes an object, which is there, from under a key.
pub(crate) fn remove<K: Eq + Hash + Clone, T: Ranked>(index: &mut Index<K, Bucket<T>>, key: &K, object: &Arc<T>) {
    match index.get(key).and_then(|bucket| bucket.without(object)) {
        Some(bucket) => index.insert(key.clone(), bucket),
        None => drop(index.remove(key)),
    }
}

// === impl Bucket ===

impl<T: Ranked> Clone for Bucket<T> {
    fn clone(&self) -> Self {
        match self {
            Self::One(object) => Self::One(object.clone()),
            Self::Many(objects) => Self::Many(objects.clone()),
        }
    }
}

// === impl Entry ===

impl<T> Clone for Entry<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Ranked> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T: Ranked> Eq for Entry<T> {}

impl<T: Ranked> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T: Ranked> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.rank(&other.0)
    }
}

impl<T: fmt::Debug> fmt::Debug for Entry<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
