//! Objects that are not accepted, and their places in the indexes.

use std::sync::Arc;

use crate::assignment::Assignment;
use crate::name::{Name, ObjectKey};
use crate::profile::Profile;
use crate::unaccepted::{Claim, Unaccepted};

use super::Catalog;
use super::index::Index;

/// All objects that are not accepted. One of which no accepted version is known stands in the indexes by its claim.
#[derive(Clone)]
pub(super) struct Standing {
    assignments: Index<ObjectKey, Arc<Unaccepted>>,
    profiles: Index<ObjectKey, Arc<Unaccepted>>,
}

// === impl Standing ===

impl Standing {
    pub(super) fn new() -> Self {
        Self {
            assignments: Index::new(),
            profiles: Index::new(),
        }
    }

    fn of(&self, name: &Name) -> &Index<ObjectKey, Arc<Unaccepted>> {
        match name {
            Name::Assignment(_) => &self.assignments,
            Name::Profile(_) => &self.profiles,
        }
    }

    fn of_mut(&mut self, name: &Name) -> &mut Index<ObjectKey, Arc<Unaccepted>> {
        match name {
            Name::Assignment(_) => &mut self.assignments,
            Name::Profile(_) => &mut self.profiles,
        }
    }
}

impl Catalog {
    /// What is wrong with an object that exists and is not accepted. What it said before may be in use all the same.
    pub fn unaccepted(&self, name: &Name) -> Option<&Arc<Unaccepted>> {
        self.standing.of(name).get(name.key())
    }

    /// All objects that exist and are not accepted, in no order.
    pub fn all_unaccepted(&self) -> impl Iterator<Item = &Arc<Unaccepted>> {
        self.standing
            .profiles
            .values()
            .chain(self.standing.assignments.values())
    }

    /// How many objects exist and are not accepted.
    pub fn unaccepted_count(&self) -> usize {
        self.standing.profiles.len() + self.standing.assignments.len()
    }

    /// A sentence on each object that is not accepted, for operators: on so many at most, and how many more there are.
    pub fn unaccepted_sentences(&self, most: usize) -> Vec<String> {
        let mut all: Vec<_> = self
            .all_unaccepted()
            .map(|unaccepted| (unaccepted.name(), unaccepted))
            .collect();
        all.sort_by(|(a, _), (b, _)| a.cmp(b));
        let more = all.len().saturating_sub(most);
        let sentence = |(name, unaccepted): &(Name, &Arc<Unaccepted>)| {
            let what = match (self.contains(name), &unaccepted.claim) {
                (true, _) => "its last accepted version is served",
                (false, Claim::Nothing { .. }) => {
                    "which machines it would concern can't be told, so that they may get another"
                }
                (false, Claim::Assignment(_)) => "the machines that it would concern wait",
                (false, Claim::Profile(_)) => "the machines that would boot it wait",
            };
            format!("{name} is not accepted, {what}: {}", unaccepted.fault)
        };
        let mut sentences: Vec<_> = all.iter().take(most).map(sentence).collect();
        if more > 0 {
            sentences.push(format!("{more} more objects are not accepted"));
        }
        sentences
    }

    /// Objects that are not accepted, and of which nothing is known that was.
    pub(super) fn stand_ins(&self) -> impl Iterator<Item = &Arc<Unaccepted>> {
        self.all_unaccepted()
            .filter(|unaccepted| !self.contains(&unaccepted.name()))
    }

    /// The same without what stands in for what nobody remembers.
    pub fn of_accepted(&self) -> Self {
        let mut catalog = self.clone();
        for unaccepted in self.stand_ins() {
            catalog.accept(&unaccepted.name());
        }
        catalog
    }

    /// The claims of Assignments that stand in for what nobody remembers.
    pub(super) fn claiming(&self) -> impl Iterator<Item = &Arc<Assignment>> {
        let claims = self
            .standing
            .assignments
            .values()
            .filter_map(|unaccepted| match &unaccepted.claim {
                Claim::Assignment(claim) => Some(claim),
                Claim::Profile(_) | Claim::Nothing { .. } => None,
            });
        claims.filter(|claim| self.assignment(&claim.key).is_none())
    }

    /// What is wrong with an Assignment that an index led to, if it only stands there.
    pub(crate) fn fault_of_assignment(&self, assignment: &Assignment) -> Option<&Arc<Unaccepted>> {
        if self.standing.assignments.is_empty() || self.assignment(&assignment.key).is_some() {
            return None;
        }
        self.standing.assignments.get(&assignment.key)
    }

    /// What is wrong with a Profile that an index led to, if it only stands there.
    pub fn fault_of_profile(&self, profile: &Profile) -> Option<&Arc<Unaccepted>> {
        if self.standing.profiles.is_empty() || self.profiles.get(&profile.key).is_some() {
            return None;
        }
        self.standing.profiles.get(&profile.key)
    }

    /// A Profile: accepted, or what stands in for one that is not.
    pub fn standing_profile(&self, key: &ObjectKey) -> Option<&Arc<Profile>> {
        self.profile(key)
            .or_else(|| match &self.standing.profiles.get(key)?.claim {
                Claim::Profile(claim) => Some(claim),
                Claim::Assignment(_) | Claim::Nothing { .. } => None,
            })
    }

    /// An object is not accepted. What it said before stays, unless that was another object of the same name.
    pub(super) fn put_unaccepted(&mut self, unaccepted: Arc<Unaccepted>) -> bool {
        let name = unaccepted.name();
        if self.unaccepted(&name) == Some(&unaccepted) {
            return false;
        }
        self.accept(&name);
        match &name {
            Name::Assignment(key) => {
                if self
                    .assignment(key)
                    .is_some_and(|known| unaccepted.is_another_than(known.created))
                {
                    self.take_assignment(key);
                }
            }
            Name::Profile(key) => {
                if self
                    .profiles
                    .get(key)
                    .is_some_and(|known| unaccepted.is_another_than(known.created))
                {
                    self.take_profile(key);
                }
            }
        }
        if !self.contains(&name) {
            match &unaccepted.claim {
                Claim::Assignment(claim) => self.enter(claim),
                Claim::Profile(claim) => self.profiles.enter(claim),
                Claim::Nothing { .. } => {}
            }
        }
        self.standing
            .of_mut(&name)
            .insert(name.key().clone(), unaccepted);
        true
    }

    /// Nothing is wrong with an object any more, or it is gone. Whether something was.
    pub(super) fn accept(&mut self, name: &Name) -> bool {
        let Some(unaccepted) = self.unaccepted(name).cloned() else {
            return false;
        };
        self.standing.of_mut(name).remove(name.key());
        if !self.contains(name) {
            match &unaccepted.claim {
                Claim::Assignment(claim) => self.leave(claim),
                Claim::Profile(claim) => self.profiles.leave(claim),
                Claim::Nothing { .. } => {}
            }
        }
        true
    }
}
