//! Invalid objects in the catalog and its indexes.

use std::sync::Arc;

use crate::assignment::Assignment;
use crate::name::{ObjectKey, ObjectRef};
use crate::profile::Profile;
use crate::rejected::{Partial, Rejected};

use super::Catalog;
use super::index::Index;

/// All invalid objects. One without a valid version is indexed by the part that could be read.
#[derive(Clone)]
pub(super) struct RejectedIndex {
    assignments: Index<ObjectKey, Arc<Rejected>>,
    profiles: Index<ObjectKey, Arc<Rejected>>,
    machines: Index<ObjectKey, Arc<Rejected>>,
}

// === impl RejectedIndex ===

impl RejectedIndex {
    pub(super) fn new() -> Self {
        Self {
            assignments: Index::new(),
            profiles: Index::new(),
            machines: Index::new(),
        }
    }

    fn of(&self, name: &ObjectRef) -> &Index<ObjectKey, Arc<Rejected>> {
        match name {
            ObjectRef::Assignment(_) => &self.assignments,
            ObjectRef::Profile(_) => &self.profiles,
            ObjectRef::Machine(_) => &self.machines,
        }
    }

    fn of_mut(&mut self, name: &ObjectRef) -> &mut Index<ObjectKey, Arc<Rejected>> {
        match name {
            ObjectRef::Assignment(_) => &mut self.assignments,
            ObjectRef::Profile(_) => &mut self.profiles,
            ObjectRef::Machine(_) => &mut self.machines,
        }
    }
}

impl Catalog {
    /// Returns what is wrong with an invalid object. Its last valid version may still be in use.
    pub fn rejected(&self, name: &ObjectRef) -> Option<&Arc<Rejected>> {
        self.rejected.of(name).get(name.key())
    }

    /// Iterates over all invalid objects, in no particular order.
    pub fn all_rejected(&self) -> impl Iterator<Item = &Arc<Rejected>> {
        self.rejected
            .profiles
            .values()
            .chain(self.rejected.assignments.values())
            .chain(self.rejected.machines.values())
    }

    /// Returns the number of invalid objects.
    pub fn rejected_count(&self) -> usize {
        let RejectedIndex {
            assignments,
            profiles,
            machines,
        } = &self.rejected;
        profiles.len() + assignments.len() + machines.len()
    }

    /// Describes the invalid objects for operators, one sentence each. Describes at most `most` of
    /// them and counts the rest.
    pub fn describe_rejected(&self, most: usize) -> Vec<String> {
        let mut all: Vec<_> = self
            .all_rejected()
            .map(|rejected| (rejected.name(), rejected))
            .collect();
        all.sort_by(|(a, _), (b, _)| a.cmp(b));
        let more = all.len().saturating_sub(most);
        let sentence = |(name, rejected): &(ObjectRef, &Arc<Rejected>)| {
            let what = match (self.contains(name), &rejected.partial) {
                (true, _) => "its last valid version is served",
                (false, Partial::Unreadable { .. }) => {
                    "its selectors can't be read, so its machines may get another Assignment"
                }
                (false, Partial::Assignment(_)) => "its machines wait",
                (false, Partial::Profile(_)) => "the machines that it fits best wait",
                (false, Partial::Machine(_)) => "this machine waits",
            };
            format!("{name} is invalid, {what}: {}", rejected.fault)
        };
        let mut sentences: Vec<_> = all.iter().take(most).map(sentence).collect();
        if more > 0 {
            sentences.push(format!("{more} more objects are invalid"));
        }
        sentences
    }

    /// Iterates over the invalid objects that have no valid version.
    pub(super) fn without_valid_version(&self) -> impl Iterator<Item = &Arc<Rejected>> {
        self.all_rejected()
            .filter(|rejected| !self.contains(&rejected.name()))
    }

    /// Returns the catalog without the invalid objects that have no valid version.
    pub fn without_rejected(&self) -> Self {
        let mut catalog = self.clone();
        for rejected in self.without_valid_version() {
            catalog.clear_rejected(&rejected.name());
        }
        catalog
    }

    /// Iterates over the readable parts of invalid Assignments that have no valid version.
    pub(super) fn partial_assignments(&self) -> impl Iterator<Item = &Arc<Assignment>> {
        let partials =
            self.rejected
                .assignments
                .values()
                .filter_map(|rejected| match &rejected.partial {
                    Partial::Assignment(partial) => Some(partial),
                    Partial::Profile(_) | Partial::Machine(_) | Partial::Unreadable { .. } => None,
                });
        partials.filter(|partial| self.assignment(&partial.key).is_none())
    }

    /// Returns what is wrong with an Assignment that an index found, if it has no valid version.
    pub(crate) fn rejected_assignment(&self, assignment: &Assignment) -> Option<&Arc<Rejected>> {
        if self.rejected.assignments.is_empty() || self.assignment(&assignment.key).is_some() {
            return None;
        }
        self.rejected.assignments.get(&assignment.key)
    }

    /// Returns what is wrong with a Profile that an index found, if it has no valid version.
    pub fn rejected_profile(&self, profile: &Profile) -> Option<&Arc<Rejected>> {
        if self.rejected.profiles.is_empty() || self.profiles.get(&profile.key).is_some() {
            return None;
        }
        self.rejected.profiles.get(&profile.key)
    }

    /// Returns the valid version of a Profile, or else the readable part of an invalid one.
    pub fn profile_or_partial(&self, key: &ObjectKey) -> Option<&Arc<Profile>> {
        self.profile(key)
            .or_else(|| match &self.rejected.profiles.get(key)?.partial {
                Partial::Profile(partial) => Some(partial),
                Partial::Assignment(_) | Partial::Machine(_) | Partial::Unreadable { .. } => None,
            })
    }

    /// Records that an object is invalid. Keeps its last valid version, unless that belonged to an
    /// earlier object of the same name. Returns whether anything changed.
    pub(super) fn put_rejected(&mut self, rejected: Arc<Rejected>) -> bool {
        let name = rejected.name();
        if self.rejected(&name) == Some(&rejected) {
            return false;
        }
        self.clear_rejected(&name);
        match &name {
            ObjectRef::Assignment(key) => {
                if self
                    .assignment(key)
                    .is_some_and(|known| rejected.is_different_object(known.created))
                {
                    self.remove_assignment(key);
                }
            }
            ObjectRef::Profile(key) => {
                if self
                    .profiles
                    .get(key)
                    .is_some_and(|known| rejected.is_different_object(known.created))
                {
                    self.remove_profile(key);
                }
            }
            ObjectRef::Machine(key) => {
                if self
                    .machine(key)
                    .is_some_and(|known| rejected.is_different_object(known.created))
                {
                    self.remove_machine(key);
                }
            }
        }
        if !self.contains(&name) {
            match &rejected.partial {
                Partial::Assignment(partial) => self.add_to_indexes(partial),
                Partial::Profile(partial) => self.profiles.add_to_indexes(partial),
                Partial::Machine(partial) => self.machines.add_identities(partial),
                Partial::Unreadable { .. } => {}
            }
        }
        self.rejected
            .of_mut(&name)
            .insert(name.key().clone(), rejected);
        true
    }

    /// Removes the record of an invalid object. Returns whether there was one.
    pub(super) fn clear_rejected(&mut self, name: &ObjectRef) -> bool {
        let Some(rejected) = self.rejected(name).cloned() else {
            return false;
        };
        self.rejected.of_mut(name).remove(name.key());
        if !self.contains(name) {
            match &rejected.partial {
                Partial::Assignment(partial) => self.remove_from_indexes(partial),
                Partial::Profile(partial) => self.profiles.remove_from_indexes(partial),
                Partial::Machine(partial) => self.machines.remove_identities(partial),
                Partial::Unreadable { .. } => {}
            }
        }
        true
    }
}
