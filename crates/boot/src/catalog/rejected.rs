//! Objects that are not accepted, and their places in the indexes.

use std::sync::Arc;

use crate::assignment::Assignment;
use crate::name::{ObjectKey, ObjectRef};
use crate::profile::Profile;
use crate::rejected::{Claim, Rejected};

use super::Catalog;
use super::index::Index;

/// All objects that are not accepted. One of which no accepted version is known stands in the indexes by its claim.
#[derive(Clone)]
pub(super) struct RejectedIndex {
    assignments: Index<ObjectKey, Arc<Rejected>>,
    profiles: Index<ObjectKey, Arc<Rejected>>,
}

// === impl Standing ===

impl RejectedIndex {
    pub(super) fn new() -> Self {
        Self {
            assignments: Index::new(),
            profiles: Index::new(),
        }
    }

    fn of(&self, name: &ObjectRef) -> &Index<ObjectKey, Arc<Rejected>> {
        match name {
            ObjectRef::Assignment(_) => &self.assignments,
            ObjectRef::Profile(_) => &self.profiles,
        }
    }

    fn of_mut(&mut self, name: &ObjectRef) -> &mut Index<ObjectKey, Arc<Rejected>> {
        match name {
            ObjectRef::Assignment(_) => &mut self.assignments,
            ObjectRef::Profile(_) => &mut self.profiles,
        }
    }
}

impl Catalog {
    /// What is wrong with an object that exists and is not accepted. What it said before may be in use all the same.
    pub fn rejected(&self, name: &ObjectRef) -> Option<&Arc<Rejected>> {
        self.rejected.of(name).get(name.key())
    }

    /// All objects that exist and are not accepted, in no order.
    pub fn all_rejected(&self) -> impl Iterator<Item = &Arc<Rejected>> {
        self.rejected
            .profiles
            .values()
            .chain(self.rejected.assignments.values())
    }

    /// How many objects exist and are not accepted.
    pub fn rejected_count(&self) -> usize {
        self.rejected.profiles.len() + self.rejected.assignments.len()
    }

    /// A sentence on each object that is not accepted, for operators: on so many at most, and how many more there are.
    pub fn describe_rejected(&self, most: usize) -> Vec<String> {
        let mut all: Vec<_> = self
            .all_rejected()
            .map(|rejected| (rejected.name(), rejected))
            .collect();
        all.sort_by(|(a, _), (b, _)| a.cmp(b));
        let more = all.len().saturating_sub(most);
        let sentence = |(name, rejected): &(ObjectRef, &Arc<Rejected>)| {
            let what = match (self.contains(name), &rejected.claim) {
                (true, _) => "its last accepted version is served",
                (false, Claim::Nothing { .. }) => {
                    "which machines it would concern can't be told, so that they may get another"
                }
                (false, Claim::Assignment(_)) => "the machines that it would concern wait",
                (false, Claim::Profile(_)) => "the machines that would boot it wait",
            };
            format!("{name} is not accepted, {what}: {}", rejected.fault)
        };
        let mut sentences: Vec<_> = all.iter().take(most).map(sentence).collect();
        if more > 0 {
            sentences.push(format!("{more} more objects are not accepted"));
        }
        sentences
    }

    /// Objects that are not accepted, and of which nothing is known that was.
    pub(super) fn without_valid_version(&self) -> impl Iterator<Item = &Arc<Rejected>> {
        self.all_rejected()
            .filter(|rejected| !self.contains(&rejected.name()))
    }

    /// The same without what stands in for what nobody remembers.
    pub fn without_rejected(&self) -> Self {
        let mut catalog = self.clone();
        for rejected in self.without_valid_version() {
            catalog.clear_rejected(&rejected.name());
        }
        catalog
    }

    /// The claims of Assignments that stand in for what nobody remembers.
    pub(super) fn claimed_assignments(&self) -> impl Iterator<Item = &Arc<Assignment>> {
        let claims =
            self.rejected
                .assignments
                .values()
                .filter_map(|rejected| match &rejected.claim {
                    Claim::Assignment(claim) => Some(claim),
                    Claim::Profile(_) | Claim::Nothing { .. } => None,
                });
        claims.filter(|claim| self.assignment(&claim.key).is_none())
    }

    /// What is wrong with an Assignment that an index led to, if it only stands there.
    pub(crate) fn rejected_assignment(&self, assignment: &Assignment) -> Option<&Arc<Rejected>> {
        if self.rejected.assignments.is_empty() || self.assignment(&assignment.key).is_some() {
            return None;
        }
        self.rejected.assignments.get(&assignment.key)
    }

    /// What is wrong with a Profile that an index led to, if it only stands there.
    pub fn rejected_profile(&self, profile: &Profile) -> Option<&Arc<Rejected>> {
        if self.rejected.profiles.is_empty() || self.profiles.get(&profile.key).is_some() {
            return None;
        }
        self.rejected.profiles.get(&profile.key)
    }

    /// A Profile: accepted, or what stands in for one that is not.
    pub fn profile_or_claim(&self, key: &ObjectKey) -> Option<&Arc<Profile>> {
        self.profile(key)
            .or_else(|| match &self.rejected.profiles.get(key)?.claim {
                Claim::Profile(claim) => Some(claim),
                Claim::Assignment(_) | Claim::Nothing { .. } => None,
            })
    }

    /// An object is not accepted. What it said before stays, unless that was another object of the same name.
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
                    .is_some_and(|known| rejected.is_other_object_than(known.created))
                {
                    self.remove_assignment(key);
                }
            }
            ObjectRef::Profile(key) => {
                if self
                    .profiles
                    .get(key)
                    .is_some_and(|known| rejected.is_other_object_than(known.created))
                {
                    self.remove_profile(key);
                }
            }
        }
        if !self.contains(&name) {
            match &rejected.claim {
                Claim::Assignment(claim) => self.add_to_indexes(claim),
                Claim::Profile(claim) => self.profiles.add_to_indexes(claim),
                Claim::Nothing { .. } => {}
            }
        }
        self.rejected
            .of_mut(&name)
            .insert(name.key().clone(), rejected);
        true
    }

    /// Nothing is wrong with an object any more, or it is gone. Whether something was.
    pub(super) fn clear_rejected(&mut self, name: &ObjectRef) -> bool {
        let Some(rejected) = self.rejected(name).cloned() else {
            return false;
        };
        self.rejected.of_mut(name).remove(name.key());
        if !self.contains(name) {
            match &rejected.claim {
                Claim::Assignment(claim) => self.remove_from_indexes(claim),
                Claim::Profile(claim) => self.profiles.remove_from_indexes(claim),
                Claim::Nothing { .. } => {}
            }
        }
        true
    }
}
