//! The reverse index: which Assignments select a Profile.
//!
//! No boot request needs it, so a [`Catalog`] has it only if created
//! [with](super::Catalog::with_selector_index) it. Assignments of one namespace with equal
//! `profileSelectors` form a group, and selectors with the same keys share a shape. For each shape,
//! the Profile's own values of its keys are the only selectors of that shape that match. So the
//! cost of a lookup grows with the number of shapes, which is small at any site, and not with the
//! number of Assignments or groups.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::arch::BUILDARCH;
use crate::assignment::Assignment;
use crate::name::{Location, ObjectKey};
use crate::profile::Profile;
use crate::selector::Operator;
use crate::sorted::{Labels, Sorted};

use super::Catalog;
use super::index::Index;

/// Indexes which Assignments select a Profile, and which architectures each namespace mentions.
#[derive(Clone)]
pub struct SelectorIndex {
    namespaces: Index<Arc<Location>, Namespace>,
}

/// The Assignments of one namespace with equal `profileSelectors`.
#[derive(Clone)]
pub struct Group {
    members: Index<ObjectKey, Arc<Assignment>>,
}

#[derive(Clone)]
struct Namespace {
    groups: Index<Labels, Group>,
    /// The key sets of selectors, and the number of groups of each.
    shapes: Index<Sorted<Box<str>>, usize>,
    /// The number of objects that mention each architecture.
    architectures: BTreeMap<Box<str>, usize>,
}

// === impl SelectorIndex ===

impl SelectorIndex {
    pub(super) fn new() -> Self {
        Self {
            namespaces: Index::new(),
        }
    }

    /// Builds the index of a catalog that has none.
    pub fn build(catalog: &Catalog) -> Self {
        let mut selectors = Self::new();
        catalog
            .assignments()
            .for_each(|assignment| selectors.put(assignment));
        catalog
            .profiles()
            .for_each(|profile| selectors.put_profile(profile));
        selectors
    }

    /// Iterates over the groups of Assignments that select a Profile. The Profile need not be in
    /// the catalog.
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

    /// Iterates over all groups in the object's namespace and partition, in no particular order.
    pub fn groups_in_namespace_of<'c>(
        &'c self,
        key: &ObjectKey,
    ) -> impl Iterator<Item = (&'c Labels, &'c Group)> {
        self.namespace(key)
            .into_iter()
            .flat_map(|namespace| namespace.groups.iter())
    }

    /// Iterates over the architectures that objects in this namespace and partition mention.
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
            // Removed while it changes. Otherwise it is shared with the index, and the change
            // copies it.
            namespace.groups.remove(&assignment.profiles);
            let mut group = group.unwrap_or_else(|| Group {
                members: Index::new(),
            });
            group
                .members
                .insert(assignment.key.clone(), assignment.clone());
            namespace.groups.insert(assignment.profiles.clone(), group);
            assignment_architectures(assignment)
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
            assignment_architectures(assignment)
                .into_iter()
                .flatten()
                .for_each(|arch| namespace.remove_architecture(arch));
        });
    }

    pub(super) fn put_profile(&mut self, profile: &Profile) {
        if let Some(arch) = profile_architecture(profile) {
            self.change(&profile.key, |namespace| namespace.add_architecture(arch));
        }
    }

    pub(super) fn remove_profile(&mut self, profile: &Profile) {
        if let Some(arch) = profile_architecture(profile) {
            self.change(&profile.key, |namespace| {
                namespace.remove_architecture(arch);
            });
        }
    }

    fn namespace(&self, key: &ObjectKey) -> Option<&Namespace> {
        self.namespaces.get(key.location())
    }

    fn change(&mut self, key: &ObjectKey, change: impl FnOnce(&mut Namespace)) {
        let location = key.location();
        let namespace = self.namespaces.get(location).cloned();
        self.namespaces.remove(location);
        let mut namespace = namespace.unwrap_or_else(Namespace::new);
        change(&mut namespace);
        if !namespace.is_empty() {
            self.namespaces.insert(location.clone(), namespace);
        }
    }
}

// === impl Group ===

impl Group {
    /// Returns the number of members.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Returns whether the group is empty. A group in an index never is.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Iterates over the members, in no particular order.
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

/// Returns the architecture that a Profile requires, if any.
pub fn profile_architecture(profile: &Profile) -> Option<&str> {
    profile
        .constraints()
        .iter()
        .find(|constraint| !constraint.extrinsic && constraint.key == BUILDARCH)
        .map(|constraint| constraint.value.as_str())
}

/// Returns the architectures that an Assignment's selector requires, if any.
pub fn assignment_architectures(assignment: &Assignment) -> Option<impl Iterator<Item = &str>> {
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
