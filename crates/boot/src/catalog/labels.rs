//! The index of the Assignments that ask for labels alone, or for nothing.
//!
//! A tuple space search (Srinivasan, Suri, Varghese, SIGCOMM 1999; Open vSwitch classifies packets by it). Assignments that look at the
//! same keys in the same way share a *shape*; within a shape, the values that they ask for are the key of a hash map. A lookup asks each
//! shape once, so that its cost follows the number of shapes, of which a site has few, and not that of the Assignments. A shape is
//! reached by one of its keys, so that not even shapes that look at labels which the subject lacks are asked.
//!
//! What the hash can't hold (`NotIn`, and `In` of very many values) is checked on each Assignment of the bucket, in their order.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::assignment::Assignment;
use crate::selector::{LabelSelector, Operator, Requirement};
use crate::subject::Subject;

use super::bucket::{self, Bucket};
use super::index::Index;

/// Most tuples of values for which one Assignment is entered; beyond that, its longest lists are checked one by one.
const MAX_TUPLES: usize = 64;

#[derive(Clone)]
pub(super) struct LabelIndex {
    shapes: Index<Arc<Shape>, Index<Arc<str>, Bucket<Assignment>>>,
    /// For shapes of several values, those that ask for one of these values: so that another shape finds who could be its rival.
    by_value: Index<ShapeValue, Bucket<Assignment>>,
    /// The shapes by one of the keys that a subject must have for them; under no key, those that any subject may meet.
    by_key: Index<Option<Box<str>>, Arc<BTreeSet<Arc<Shape>>>>,
}

/// The keys that some Assignments look at, each list sorted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Shape {
    /// The values of these are the tuple.
    valued: Vec<Box<str>>,
    /// These must be there.
    present: Vec<Box<str>>,
    /// These must not.
    absent: Vec<Box<str>>,
}

/// One value of one of the keys that a shape has values for.
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
            // It asks for one of no values: nothing matches, and a shape without buckets would be nobody's to remove.
            return;
        }
        let mut buckets = match self.shapes.get(&shape) {
            Some(buckets) => buckets.clone(),
            None => {
                self.link(&shape, BTreeSet::insert);
                Index::new()
            }
        };
        // Taken out while it changes, so that it is not copied for being shared with itself.
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

    /// The buckets in which everything stands that could match the subject.
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

    /// The buckets in which everything stands that some subject could match together with a selector, and some more.
    ///
    /// Where the selector and a shape give a value to the same key, only those of the same value are of interest.
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

    /// The buckets of a shape for the values that a selector gives to a key that both have: of such keys, the one that leads to the
    /// fewest Assignments. None where they share no key.
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
    /// The key by which it is reached: one that a matching subject has.
    fn anchor(&self) -> Option<Box<str>> {
        self.valued.first().or(self.present.first()).cloned()
    }

    /// Whether a subject of this shape can meet a requirement as far as the presence of labels tells.
    fn allows(&self, requirement: &Requirement) -> bool {
        match requirement.operator {
            Operator::In(_) | Operator::Exists => !self.absent.contains(&requirement.key),
            Operator::DoesNotExist => {
                !self.valued.contains(&requirement.key) && !self.present.contains(&requirement.key)
            }
            Operator::NotIn(_) => true,
        }
    }

    /// The values that a selector of this shape asks for, where there are several keys: with one, the tuple is the value.
    fn values_of(self: &Arc<Self>, selector: &LabelSelector) -> Vec<ShapeValue> {
        if self.valued.len() < 2 {
            return Vec::new();
        }
        let mut all = Vec::new();
        let mut keys = self.valued.iter().peekable();
        for requirement in selector.requirements() {
            // The first list of a key is the one that has a place in the tuple, unless it is too long for that.
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

    /// The tuple of the subject's values, if the subject has the keys that the shape wants.
    fn tuple_of(&self, subject: &Subject) -> Option<String> {
        let there = |key: &str| subject.label(key).is_some();
        if !self.present.iter().all(|key| there(key)) || self.absent.iter().any(|key| there(key)) {
            return None;
        }
        let mut tuple = String::new();
        for key in &self.valued {
            append(&mut tuple, subject.label(key)?);
        }
        Some(tuple)
    }
}

/// The shape of a selector, and the tuples of values under which it stands there.
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
                if tuples.len() * values.len() <= MAX_TUPLES
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

/// Appends a value so that no two tuples of values look alike.
fn append(tuple: &mut String, value: &str) {
    tuple.push_str(&value.len().to_string());
    tuple.push(':');
    tuple.push_str(value);
}
