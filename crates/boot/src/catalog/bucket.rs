//! The objects under one key of an index, sorted by rank.

use std::cmp::Ordering;
use std::fmt;
use std::hash::Hash;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use rpds::RedBlackTreeSetSync;
use smallvec::SmallVec;

use super::index::Index;

/// An order in which no two different objects are equal.
pub(crate) trait Ranked {
    fn rank(&self, other: &Self) -> Ordering;
}

/// Objects sorted by rank. Nearly all buckets hold one object, which takes a pointer; nearly all
/// others hold a few, stored contiguously.
pub(crate) enum Bucket<T: Ranked> {
    One(Arc<T>),
    Few(Arc<SmallVec<[Arc<T>; 4]>>),
    Many(Arc<RedBlackTreeSetSync<Entry<T>>>),
}

/// Maximum number of objects in [`Bucket::Few`]. A change copies all its pointers; in
/// [`Bucket::Many`], only those on the path.
const MAX_FEW: usize = 32;

pub(crate) struct Entry<T>(Arc<T>);

/// Iterates over a bucket by rank. Small for small buckets, because every lookup makes one.
pub(crate) struct Iter<'b, T: Ranked> {
    few: std::slice::Iter<'b, Arc<T>>,
    many: Option<Box<dyn Iterator<Item = &'b Arc<T>> + 'b>>,
}

impl<T: Ranked> Bucket<T> {
    pub(crate) fn iter(&self) -> Iter<'_, T> {
        let many = self.many().map(|objects| {
            Box::new(objects.iter().map(|entry| &entry.0)) as Box<dyn Iterator<Item = _>>
        });
        Iter {
            few: self.few().iter(),
            many,
        }
    }

    /// Returns the first object.
    pub(crate) fn first(&self) -> Option<&Arc<T>> {
        self.few()
            .first()
            .or_else(|| self.many()?.first().map(|entry| &entry.0))
    }

    /// Iterates over the neighbours of an object that are equivalent to it: those before it,
    /// nearest first, then those after it. Equivalent objects must be adjacent, so only the two
    /// ends cost a search.
    pub(crate) fn neighbours<'b, F: Fn(&T) -> bool + Copy + 'b>(
        &'b self,
        object: &Arc<T>,
        is_equivalent: F,
    ) -> impl Iterator<Item = &'b Arc<T>> + use<'b, T, F> {
        let (before, after) = self.few_neighbours(object);
        let few = equivalent_run(before.iter().rev(), after.iter(), is_equivalent);
        let many = self.many().map(|objects| (objects, Entry(object.clone())));
        let many = many.into_iter().flat_map(move |(objects, own)| {
            let before = objects
                .range((Unbounded, Excluded(own.clone())))
                .rev()
                .map(|entry| &entry.0);
            let after = objects
                .range((Excluded(own), Unbounded))
                .map(|entry| &entry.0);
            equivalent_run(before, after, is_equivalent)
        });
        few.chain(many)
    }

    pub(crate) fn len(&self) -> usize {
        self.many()
            .map_or_else(|| self.few().len(), RedBlackTreeSetSync::size)
    }

    fn few(&self) -> &[Arc<T>] {
        match self {
            Self::One(object) => std::slice::from_ref(object),
            Self::Few(objects) => objects,
            Self::Many(_) => &[],
        }
    }

    /// Returns the objects before and after the place of an object in a small bucket, whether or
    /// not the bucket contains it.
    fn few_neighbours(&self, object: &T) -> (&[Arc<T>], &[Arc<T>]) {
        let few = self.few();
        let before = few.partition_point(|other| other.rank(object).is_lt());
        let is_there = few
            .get(before)
            .is_some_and(|other| other.rank(object).is_eq());
        (&few[..before], &few[before + usize::from(is_there)..])
    }

    fn many(&self) -> Option<&RedBlackTreeSetSync<Entry<T>>> {
        match self {
            Self::One(_) | Self::Few(_) => None,
            Self::Many(objects) => Some(objects),
        }
    }

    fn with(&self, object: &Arc<T>) -> Self {
        if let Self::Many(objects) = self {
            return Self::Many(Arc::new(objects.insert(Entry(object.clone()))));
        }
        let (before, after) = self.few_neighbours(object);
        let all = before.iter().chain([object]).chain(after).cloned();
        match before.len() + after.len() {
            0 => Self::One(object.clone()),
            others if others < MAX_FEW => Self::Few(Arc::new(all.collect())),
            _ => Self::Many(Arc::new(all.map(Entry).collect())),
        }
    }

    /// Returns the bucket without an object, or `None` if that leaves it empty.
    fn without(&self, object: &Arc<T>) -> Option<Self> {
        if let Self::Many(objects) = self {
            let rest = objects.remove(&Entry(object.clone()));
            // Shrink well below the limit, or an object that comes and goes would copy the whole
            // bucket each time.
            let fits_few = rest.size() <= MAX_FEW / 2;
            let few = || Self::Few(Arc::new(rest.iter().map(|entry| entry.0.clone()).collect()));
            return Some(if fits_few {
                few()
            } else {
                Self::Many(Arc::new(rest))
            });
        }
        match self.few_neighbours(object) {
            ([], []) => None,
            ([one], []) | ([], [one]) => Some(Self::One(one.clone())),
            (before, after) => Some(Self::Few(Arc::new(
                before.iter().chain(after).cloned().collect(),
            ))),
        }
    }
}

/// Iterates over the objects before a place, nearest first, then those after it, each until the
/// first that is not equivalent.
fn equivalent_run<'b, T: 'b>(
    before: impl Iterator<Item = &'b Arc<T>>,
    after: impl Iterator<Item = &'b Arc<T>>,
    is_equivalent: impl Fn(&T) -> bool + Copy,
) -> impl Iterator<Item = &'b Arc<T>> {
    before
        .take_while(move |other| is_equivalent(other))
        .chain(after.take_while(move |other| is_equivalent(other)))
}

/// Adds an object under a key.
pub(crate) fn add<K: Eq + Hash + Clone, T: Ranked>(
    index: &mut Index<K, Bucket<T>>,
    key: &K,
    object: &Arc<T>,
) {
    let bucket = index
        .get(key)
        .map_or_else(|| Bucket::One(object.clone()), |bucket| bucket.with(object));
    index.insert(key.clone(), bucket);
}

/// Removes an object from under a key. It must be there.
pub(crate) fn remove<K: Eq + Hash + Clone, T: Ranked>(
    index: &mut Index<K, Bucket<T>>,
    key: &K,
    object: &Arc<T>,
) {
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
            Self::Few(objects) => Self::Few(objects.clone()),
            Self::Many(objects) => Self::Many(objects.clone()),
        }
    }
}

// === impl Iter ===

impl<'b, T: Ranked> Iterator for Iter<'b, T> {
    type Item = &'b Arc<T>;

    #[inline]
    fn next(&mut self) -> Option<&'b Arc<T>> {
        self.few.next().or_else(|| self.many.as_mut()?.next())
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    impl Ranked for u8 {
        fn rank(&self, other: &Self) -> Ordering {
            self.cmp(other)
        }
    }

    proptest! {
        #[test]
        fn a_bucket_holds_what_an_ordered_set_holds(changes in prop::collection::vec((0..60_u8, any::<bool>(), 1..9_u8), 0..300)) {
            let (mut bucket, mut set) = (None::<Bucket<u8>>, BTreeSet::new());
            for (number, is_put, run) in changes {
                let object = Arc::new(number);
                if is_put {
                    bucket = Some(bucket.as_ref().map_or_else(|| Bucket::One(object.clone()), |bucket| bucket.with(&object)));
                    set.insert(number);
                } else if set.remove(&number) {
                    bucket = bucket.as_ref().and_then(|bucket| bucket.without(&object));
                }
                let all = bucket.iter().flat_map(Bucket::iter).map(|own| **own);
                prop_assert_eq!(all.collect::<Vec<_>>(), set.iter().copied().collect::<Vec<_>>());
                prop_assert_eq!(bucket.as_ref().map_or(0, Bucket::len), set.len());
                prop_assert_eq!(bucket.as_ref().and_then(Bucket::first).map(|own| **own), set.first().copied());
                // Equivalent numbers form one run.
                let is_equivalent = |other: &u8| other / run == number / run;
                let before = set.range(..number).rev().copied().take_while(|other| is_equivalent(other));
                let neighbours = before.chain(set.range(number + 1..).copied().take_while(|other| is_equivalent(other)));
                let found = bucket.iter().flat_map(|bucket| bucket.neighbours(&object, is_equivalent)).map(|own| **own);
                prop_assert_eq!(found.collect::<Vec<_>>(), neighbours.collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn most_buckets_cost_a_pointer() {
        assert!(size_of::<Bucket<u8>>() <= 2 * size_of::<usize>());
    }
}
