//! The other way round: which Assignments select a Profile.
//!
//! Nobody who boots asks that, so a [`Catalog`] has this index only where it was made [with](super::Catalog::with_selector_index) it.
//! Assignments of one namespace with the same `profileSelectors` are a group. Selectors that look at the same keys share a shape, and a
//! Profile's own values of these keys are the selectors that it meets: so the cost of a question follows the number of shapes, of which a
//! site has few, and neither that of the Assignments nor that of the groups.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::arch::BUILDARCH;
use crate::assignment::Assignment;
use crate::name::{ObjectKey, Place};
use crate::profile::Profile;
use crate::selector::Operator;
use crate::sorted::{Labels, Sorted};

use super::Catalog;
use super::index::Index;

/// Which Assignments select a Profile, and of which architectures a namespace speaks.
#[derive(Clone)]
pub struct SelectorIndex {
    namespaces: Index<Arc<Place>, Namespace>,
}

/// Assignments of one namespace that select the same.
#[derive(Clone)]
pub struct Group {
    members: Index<ObjectKey, Arc<Assignment>>,
}

#[derive(Clone)]
struct Namespace {
    groups: Index<Labels, Group>,
    /// The keys that selectors look at, and how many groups do.
    shapes: Index<Sorted<Box<str>>, usize>,
    /// How many objects speak of each architecture.
    architectures: BTreeMap<Box<str>, usize>,
}

// === impl Selectors ===

impl SelectorIndex {
    pub(super) fn new() -> Self {
        Self {
            namespaces: Index::new(),
        }
    }

    /// The index of a catalog that has none.
    pub fn of(catalog: &Catalog) -> Self {
        let mut selectors = Self::new();
        catalog
            .assignments()
            .for_each(|assignment| selectors.put(assignment));
        catalog
            .profiles()
            .for_each(|profile| selectors.put_profile(profile));
        selectors
    }

    /// The groups of Assignments that select a Profile, whether it is in the catalog or not.
    pub fn selecting<'c>(
        &'c self,
        profile: &'c Profile,
    ) -> impl Iterator<Item = (&'c Labels, &'c Group)> {
        let namespace = self.namespace(&profile.key);
        namespace.into_iter().flat_map(move |namespace| {
            namespace.shapes.iter().filter_map(move |(shape, _)| {
                let own: Option<Vec<_>> = shape
                    .iter()
                    .map(|key| Some((&**key, profile.labels.get(key)?)))
                    .collect();
                let own: Labels = own?.into_iter().collect();
                Some((namespace.groups.get_key(&own)?, namespace.groups.get(&own)?))
            })
        })
    }

    /// All groups of the namespace of an object, in no order.
    pub fn groups_near<'c>(
        &'c self,
        key: &ObjectKey,
    ) -> impl Iterator<Item = (&'c Labels, &'c Group)> {
        self.namespace(key)
            .into_iter()
            .flat_map(|namespace| namespace.groups.iter())
    }

    /// The architectures of which objects speak beside this one.
    pub fn architectures(&self, key: &ObjectKey) -> impl Iterator<Item = &str> {
        self.namespace(key)
            .into_iter()
            .flat_map(|namespace| namespace.architectures.keys().map(AsRef::as_ref))
    }

    pub(super) fn put(&mut self, assignment: &Arc<Assignment>) {
        self.change(&assignment.key, |namespace| {
            let group = namespace.groups.get(&assignment.profiles).cloned();
            if group.is_none() {
                let shape = shape(&assignment.profiles);
                let count = namespace.shapes.get(&shape).copied().unwrap_or_default();
                namespace.shapes.insert(shape, count + 1);
            }
            // Taken out while it changes, so that it is not copied for being shared with itself.
            namespace.groups.remove(&assignment.profiles);
            let mut group = group.unwrap_or_else(|| Group {
                members: Index::new(),
            });
            group
                .members
                .insert(assignment.key.clone(), assignment.clone());
            namespace.groups.insert(assignment.profiles.clone(), group);
            required_architectures(assignment)
                .into_iter()
                .flatten()
                .for_each(|arch| namespace.add_architecture(arch));
        });
    }

    pub(super) fn remove(&mut self, assignment: &Assignment) {
        self.change(&assignment.key, |namespace| {
            let Some(mut group) = namespace.groups.get(&assignment.profiles).cloned() else {
                return;
            };
            namespace.groups.remove(&assignment.profiles);
            group.members.remove(&assignment.key);
            if group.members.is_empty() {
                let shape = shape(&assignment.profiles);
                match namespace.shapes.get(&shape).copied() {
                    Some(count) if count > 1 => namespace.shapes.insert(shape, count - 1),
                    _ => drop(namespace.shapes.remove(&shape)),
                }
            } else {
                namespace.groups.insert(assignment.profiles.clone(), group);
            }
            required_architectures(assignment)
                .into_iter()
                .flatten()
                .for_each(|arch| namespace.remove_architecture(arch));
        });
    }

    pub(super) fn put_profile(&mut self, profile: &Profile) {
        if let Some(arch) = wanted_architecture(profile) {
            self.change(&profile.key, |namespace| namespace.add_architecture(arch));
        }
    }

    pub(super) fn remove_profile(&mut self, profile: &Profile) {
        if let Some(arch) = wanted_architecture(profile) {
            self.change(&profile.key, |namespace| {
                namespace.remove_architecture(arch);
            });
        }
    }

    fn namespace(&self, key: &ObjectKey) -> Option<&Namespace> {
        self.namespaces.get(key.place())
    }

    fn change(&mut self, key: &ObjectKey, change: impl FnOnce(&mut Namespace)) {
        let place = key.place();
        let namespace = self.namespaces.get(place).cloned();
        self.namespaces.remove(place);
        let mut namespace = namespace.unwrap_or_else(Namespace::new);
        change(&mut namespace);
        if !namespace.is_empty() {
            self.namespaces.insert(place.clone(), namespace);
        }
    }
}

// === impl Group ===

impl Group {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there is none. A group of an index never is.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// All of them, in no order.
    pub fn members(&self) -> impl Iterator<Item = &Arc<Assignment>> {
        self.members.values()
    }
}

// === impl Namespace ===

impl Namespace {
    fn new() -> Self {
        Self {
            groups: Index::new(),
            shapes: Index::new(),
            architectures: BTreeMap::new(),
        }
    }

    fn is_empty(&self) -> bool {
        self.groups.is_empty() && self.architectures.is_empty()
    }

    fn add_architecture(&mut self, arch: &str) {
        *self.architectures.entry(arch.into()).or_default() += 1;
    }

    fn remove_architecture(&mut self, arch: &str) {
        let Some(count) = self.architectures.get_mut(arch) else {
            return;
        };
        *count -= 1;
        if *count == 0 {
            self.architectures.remove(arch);
        }
    }
}

fn shape(selectors: &Labels) -> Sorted<Box<str>> {
    selectors.iter().map(|(key, _)| Box::from(key)).collect()
}

/// The architecture that a Profile is for, where it says so.
pub fn wanted_architecture(profile: &Profile) -> Option<&str> {
    profile
        .wants()
        .iter()
        .find(|want| !want.extrinsic && want.key == BUILDARCH)
        .map(|want| want.value.as_str())
}

/// The architectures to which an Assignment is bound by its selector, where it is.
pub fn required_architectures(assignment: &Assignment) -> Option<impl Iterator<Item = &str>> {
    assignment
        .subjects
        .labels
        .requirements()
        .iter()
        .find_map(|requirement| match &requirement.operator {
            Operator::In(values) if &*requirement.key == BUILDARCH => {
                Some(values.iter().map(AsRef::as_ref))
            }
            _ => None,
        })
}
