//! The index of Assignments that list no identity: those with label requirements only, and
//! defaults.
//!
//! This is a tuple space search (Srinivasan, Suri, Varghese, SIGCOMM 1999; Open vSwitch classifies
//! packets this way). Assignments that use the same keys with the same operators share a *shape*;
//! within a shape, a hash map is keyed by the required values. A lookup probes each shape once, so
//! its cost grows with the number of shapes, which is small at any site, and not with the number of
//! Assignments. Each shape is registered under one of its keys, so that shapes with keys that the
//! subject lacks are mostly skipped.
//!
//! Requirements that can't be hashed (`NotIn`, and further `In` with many values) are checked on
//! each Assignment of the bucket, in order.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::assignment::Assignment;
use crate::selector::{LabelSelector, Operator, Requirement};
use crate::subject::Subject;

use super::bucket::{self, Bucket};
use super::index::Index;

/// Maximum number of value tuples under which one Assignment is indexed, unless it has a single list
/// that is longer. Beyond that, lists of values are checked on the Assignment itself.
const MAX_TUPLES: usize = 64;

#[derive(Clone)]
pub(super) struct LabelIndex {
    shapes: Index<Arc<Shape>, Index<Arc<str>, Bucket<Assignment>>>,
    /// For shapes with several value keys, the Assignments that require one of their values.
    /// Conflicts between different shapes are found here.
    by_value: Index<ShapeValue, Bucket<Assignment>>,
    /// The shapes, by a key that a matching subject must have. Under `None`, the shapes that
    /// require no key.
    by_key: Index<Option<Box<str>>, Arc<BTreeSet<Arc<Shape>>>>,
}

/// The keys that a group of Assignments uses, each list sorted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Shape {
    /// Keys whose values form the tuple.
    valued: Vec<Box<str>>,
    /// Keys that must be present.
    present: Vec<Box<str>>,
    /// Keys that must be absent.
    absent: Vec<Box<str>>,
}

/// A value of one of a shape's value keys.
#[derive(Clone, PartialEq, Eq, Hash)]
struct ShapeValue {
    shape: Arc<Shape>,
    key: Arc<str>,
    value: Arc<str>,
}

// === impl LabelIndex ===

impl LabelIndex {
    pub(super) fn new() -> Self {
        Self {
            shapes: Index::new(),
            by_value: Index::new(),
            by_key: Index::new(),
        }
    }

    pub(super) fn size(&self) -> usize {
        self.shapes.len() + self.by_value.len() + self.by_key.len()
    }

    pub(super) fn add(&mut self, assignment: &Arc<Assignment>) {
        let (shape, tuples) = classify(&assignment.subjects.labels);
        if tuples.is_empty() {
            // An empty value list matches nothing, and a shape without buckets would never be
            // removed.
            return;
        }
        let mut buckets = match self.shapes.get(&shape) {
            Some(buckets) => buckets.clone(),
            None => {
                self.link(&shape, BTreeSet::insert);
                Index::new()
            }
        };
        // Removed while it changes. Otherwise it is shared with the index, and the change copies
        // it.
        self.shapes.remove(&shape);
        for tuple in &tuples {
            bucket::add(&mut buckets, tuple, assignment);
        }
        for value in shape.values_of(&assignment.subjects.labels) {
            bucket::add(&mut self.by_value, &value, assignment);
        }
        self.shapes.insert(shape, buckets);
    }

    pub(super) fn remove(&mut self, assignment: &Arc<Assignment>) {
        let (shape, tuples) = classify(&assignment.subjects.labels);
        if tuples.is_empty() {
            return;
        }
        let Some(mut buckets) = self.shapes.get(&shape).cloned() else {
            return;
        };
        self.shapes.remove(&shape);
        for tuple in &tuples {
            bucket::remove(&mut buckets, tuple, assignment);
        }
        for value in shape.values_of(&assignment.subjects.labels) {
            bucket::remove(&mut self.by_value, &value, assignment);
        }
        if buckets.is_empty() {
            self.link(&shape, |shapes, shape| shapes.remove(&shape));
        } else {
            self.shapes.insert(shape, buckets);
        }
    }

    /// Iterates over the buckets that hold every Assignment that could match the subject.
    pub(super) fn buckets<'c>(
        &'c self,
        subject: &Subject,
    ) -> impl Iterator<Item = &'c Bucket<Assignment>> {
        let keys = subject.keys().map(Some).chain([None]);
        let shapes = keys
            .filter_map(|key| self.by_key.find(key, |own| own.as_deref() == key))
            .flat_map(|shapes| shapes.iter());
        shapes.filter_map(|shape| {
            self.shapes
                .get(shape)?
                .get(shape.tuple_of(subject)?.as_str())
        })
    }

    /// Iterates over buckets that hold every Assignment that some subject could match together with
    /// the selector. They may hold others, too.
    ///
    /// If the selector and a shape require values for the same key, only equal values are visited.
    pub(super) fn compatible_buckets<'c>(
        &'c self,
        selector: &'c LabelSelector,
    ) -> impl Iterator<Item = &'c Bucket<Assignment>> {
        let (own, tuples) = classify(selector);
        self.shapes
            .iter()
            .filter(move |(shape, _)| selector.requirements().iter().all(|own| shape.allows(own)))
            .flat_map(move |(shape, buckets)| {
                let shared = if *shape == own {
                    None
                } else {
                    self.shared_value(shape, buckets, selector)
                };
                let exact = (*shape == own).then(|| {
                    tuples
                        .clone()
                        .into_iter()
                        .filter_map(|tuple| buckets.get(&tuple))
                });
                let all = (exact.is_none() && shared.is_none()).then(|| buckets.values());
                exact
                    .into_iter()
                    .flatten()
                    .chain(shared.into_iter().flatten())
                    .chain(all.into_iter().flatten())
            })
    }

    /// Returns the buckets of a shape that match the selector's values for a shared key. Of several
    /// shared keys, uses the one with the fewest Assignments. `None` if there is no shared key.
    fn shared_value<'c>(
        &'c self,
        shape: &Arc<Shape>,
        buckets: &'c Index<Arc<str>, Bucket<Assignment>>,
        selector: &LabelSelector,
    ) -> Option<Vec<&'c Bucket<Assignment>>> {
        let shared =
            selector
                .requirements()
                .iter()
                .filter_map(|requirement| match &requirement.operator {
                    Operator::In(values) if shape.valued.contains(&requirement.key) => {
                        Some((&requirement.key, values))
                    }
                    _ => None,
                });
        let found = shared.map(|(key, values)| {
            let of_value = |value: &str| {
                if shape.valued.len() == 1 {
                    let mut tuple = String::new();
                    append(&mut tuple, value);
                    return buckets.get(tuple.as_str());
                }
                self.by_value.find((shape, key, value), |own| {
                    own.shape == *shape && *own.key == **key && *own.value == *value
                })
            };
            values
                .iter()
                .filter_map(|value| of_value(value))
                .collect::<Vec<_>>()
        });
        found.min_by_key(|buckets| buckets.iter().map(|bucket| bucket.len()).sum::<usize>())
    }

    fn link(
        &mut self,
        shape: &Arc<Shape>,
        change: impl FnOnce(&mut BTreeSet<Arc<Shape>>, Arc<Shape>) -> bool,
    ) {
        let key = shape.anchor();
        let mut shapes = self.by_key.get(&key).cloned().unwrap_or_default();
        change(Arc::make_mut(&mut shapes), shape.clone());
        if shapes.is_empty() {
            self.by_key.remove(&key);
        } else {
            self.by_key.insert(key, shapes);
        }
    }
}

// === impl Shape ===

impl Shape {
    /// Returns the key under which the shape is registered. Every matching subject has it.
    fn anchor(&self) -> Option<Box<str>> {
        self.valued.first().or(self.present.first()).cloned()
    }

    /// Returns whether a subject of this shape can meet a requirement, judging by the presence of
    /// labels only.
    fn allows(&self, requirement: &Requirement) -> bool {
        match requirement.operator {
            Operator::In(_) | Operator::Exists => !self.absent.contains(&requirement.key),
            Operator::DoesNotExist => {
                !self.valued.contains(&requirement.key) && !self.present.contains(&requirement.key)
            }
            Operator::NotIn(_) => true,
        }
    }

    /// Returns the values that a selector of this shape requires, if the shape has several value
    /// keys. With one key, the tuple is the value.
    fn values_of(self: &Arc<Self>, selector: &LabelSelector) -> Vec<ShapeValue> {
        if self.valued.len() < 2 {
            return Vec::new();
        }
        let mut all = Vec::new();
        let mut keys = self.valued.iter().peekable();
        for requirement in selector.requirements() {
            // The first list of a key is part of the tuple, unless it is too long.
            if let Operator::In(values) = &requirement.operator
                && keys.next_if(|key| **key == requirement.key).is_some()
            {
                let value = |value: &str| ShapeValue {
                    shape: self.clone(),
                    key: Arc::from(&*requirement.key),
                    value: Arc::from(value),
                };
                all.extend(values.iter().map(|own| value(own)));
            }
        }
        all
    }

    /// Returns the tuple of the subject's values, if its labels have this shape.
    fn tuple_of(&self, subject: &Subject) -> Option<String> {
        let has = |key: &str| subject.label(key).is_some();
        if !self.present.iter().all(|key| has(key)) || self.absent.iter().any(|key| has(key)) {
            return None;
        }
        let mut tuple = String::new();
        for key in &self.valued {
            append(&mut tuple, subject.label(key)?);
        }
        Some(tuple)
    }
}

/// Returns the shape of a selector, and the value tuples under which it is indexed.
fn classify(selector: &LabelSelector) -> (Arc<Shape>, Vec<Arc<str>>) {
    let mut shape = Shape {
        valued: Vec::new(),
        present: Vec::new(),
        absent: Vec::new(),
    };
    let mut tuples = vec![String::new()];
    for requirement in selector.requirements() {
        let key = requirement.key.clone();
        match &requirement.operator {
            // A second list for the same key is checked on the Assignment itself.
            Operator::In(values)
                if (tuples.len() * values.len() <= MAX_TUPLES.max(tuples.len())
                    || shape.valued.is_empty())
                    && shape.valued.last() != Some(&key) =>
            {
                shape.valued.push(key);
                let extended = tuples.iter().flat_map(|tuple| {
                    values.iter().map(move |value| {
                        let mut tuple = tuple.clone();
                        append(&mut tuple, value);
                        tuple
                    })
                });
                tuples = extended.collect();
            }
            Operator::In(_) | Operator::Exists => shape.present.push(key),
            Operator::DoesNotExist => shape.absent.push(key),
            Operator::NotIn(_) => {}
        }
    }
    shape.present.dedup();
    (Arc::new(shape), tuples.into_iter().map(Arc::from).collect())
}

/// Appends a value, with its length as a prefix so that different tuples have different texts.
fn append(tuple: &mut String, value: &str) {
    tuple.push_str(&value.len().to_string());
    tuple.push(':');
    tuple.push_str(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuples(lists: &[(&str, usize)]) -> (usize, Vec<String>) {
        let requirement = |(key, count): &(&str, usize)| Requirement {
            key: (*key).into(),
            operator: Operator::In((0..*count).map(|at| at.to_string().into()).collect()),
        };
        let requirements: Vec<_> = lists.iter().map(requirement).collect();
        let selector = LabelSelector::new(&std::collections::BTreeMap::new(), requirements);
        let (shape, tuples) = classify(&selector);
        let valued = shape.valued.iter().map(ToString::to_string);
        (tuples.len(), valued.collect())
    }

    #[test]
    fn at_least_one_list_of_values_is_indexed() {
        for (lists, count, keys) in [
            (&[("a", 256)][..], 256, &["a"][..]),
            (&[("a", 256), ("b", 1)], 256, &["a", "b"]),
            (&[("a", 256), ("b", 2)], 256, &["a"]),
            (&[("a", 1), ("b", 65)], 1, &["a"]),
            (&[("a", 8), ("b", 8)], 64, &["a", "b"]),
        ] {
            let keys: Vec<_> = keys.iter().map(ToString::to_string).collect();
            assert_eq!(tuples(lists), (count, keys), "{lists:?}");
        }
    }
}
