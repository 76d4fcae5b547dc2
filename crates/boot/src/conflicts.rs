//! Tracks conflicts: Assignments between which only age or name decides.
//!
//! A conflict has the same outcome everywhere, but nobody chose that outcome, so it is reported.
//! Only Assignments in a conflict use memory here; the search uses the catalog's own indexes
//! ([`Catalog::conflicting`]).

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::assignment::Assignment;
use crate::catalog::{Catalog, Change};
use crate::name::ObjectKey;
use crate::selector::SubjectSelectors;

/// Maximum number of conflicts that are named for one Assignment.
pub const MAX_NAMED: usize = 4;

/// From this number of conflicting Assignments on, those with fewer than [`MAX_NAMED`] named
/// conflicts are also kept in a separate catalog.
const UNDERFILLED_THRESHOLD: usize = 256;

/// Maximum number of candidates that a cross-partition search visits, plus four for each identity.
/// The search runs in replicas, which must answer machines meanwhile.
const MAX_CANDIDATES: usize = 256;

/// All conflicts of a catalog.
#[derive(Clone, Default)]
pub struct Conflicts {
    /// Whether only conflicts between different partitions count.
    cross_partition: bool,
    conflicts: HashMap<ObjectKey, ConflictSet>,
    /// The Assignments that name this one.
    named_by: HashMap<ObjectKey, BTreeSet<ObjectKey>>,
    /// All Assignments with fewer than [`MAX_NAMED`] named conflicts, once
    /// [`UNDERFILLED_THRESHOLD`] are in conflict. A new Assignment searches only these instead of
    /// the whole catalog.
    underfilled: Option<Catalog>,
}

/// Up to [`MAX_NAMED`] of the Assignments that one Assignment conflicts with.
#[derive(Clone, Debug, Default)]
struct ConflictSet(BTreeSet<ObjectKey>);

// === impl Conflicts ===

impl Conflicts {
    /// Creates the conflicts of an empty catalog.
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates a tracker of conflicts between partitions only; the controllers of each partition
    /// report those within it. If hundreds of Assignments tie, it may miss some.
    pub fn across_partitions() -> Self {
        Self {
            cross_partition: true,
            ..Self::default()
        }
    }

    /// Iterates over all Assignments in conflict, in no particular order.
    pub fn keys(&self) -> impl Iterator<Item = &ObjectKey> {
        self.conflicts.keys()
    }

    /// Iterates over up to [`MAX_NAMED`] of the Assignments that this one conflicts with, sorted.
    /// Empty if there is no conflict.
    pub fn of(&self, key: &ObjectKey) -> impl ExactSizeIterator<Item = &ObjectKey> {
        static NONE: BTreeSet<ObjectKey> = BTreeSet::new();
        self.conflicts
            .get(key)
            .map_or(&NONE, |conflicts| &conflicts.0)
            .iter()
    }

    /// Returns the number of Assignments in conflict.
    pub fn len(&self) -> usize {
        self.conflicts.len()
    }

    /// Returns whether there are no conflicts.
    pub fn is_empty(&self) -> bool {
        self.conflicts.is_empty()
    }

    /// Records that the catalog has added or changed this Assignment. Returns the Assignments whose
    /// named conflicts changed.
    pub fn put(&mut self, catalog: &Catalog, assignment: &Arc<Assignment>) -> BTreeSet<ObjectKey> {
        let key = &assignment.key;
        let mut touched = self.remove(catalog, key);
        // Visit all of them, not only as many as this one names: each must name this one unless it
        // already names enough.
        for other in self
            .candidates(self.underfilled.as_ref().unwrap_or(catalog), assignment)
            .map(|other| other.key.clone())
            .collect::<Vec<_>>()
        {
            if self.add(&other, key) {
                touched.insert(other.clone());
            }
            self.add(key, &other);
        }
        for other in self.candidates(catalog, assignment) {
            if self.is_full(key) {
                break;
            }
            self.add(key, &other.key);
        }
        self.update_underfilled(catalog, touched.iter().chain([key]));
        touched
    }

    /// Records that the catalog has removed or replaced this Assignment. Returns the Assignments
    /// whose named conflicts changed.
    pub fn remove(&mut self, catalog: &Catalog, key: &ObjectKey) -> BTreeSet<ObjectKey> {
        for other in self.conflicts.remove(key).unwrap_or_default().0 {
            self.remove_naming(&other, key);
        }
        let namers = self.named_by.remove(key).unwrap_or_default();
        for namer in &namers {
            let Some(conflicts) = self.conflicts.get_mut(namer) else {
                continue;
            };
            let was_full = conflicts.0.len() == MAX_NAMED;
            conflicts.0.remove(key);
            if was_full {
                self.refill(catalog, namer, key);
            } else if conflicts.0.is_empty() {
                self.conflicts.remove(namer);
            }
        }
        self.update_underfilled(catalog, namers.iter().chain([key]));
        namers
    }

    /// Updates the catalog of underfilled Assignments after these were added, removed or changed.
    fn update_underfilled<'k>(
        &mut self,
        catalog: &Catalog,
        changed: impl Iterator<Item = &'k ObjectKey>,
    ) {
        let Self {
            conflicts,
            underfilled,
            cross_partition,
            ..
        } = self;
        let is_underfilled = |key: &ObjectKey| {
            conflicts
                .get(key)
                .is_none_or(|conflicts| conflicts.0.len() < MAX_NAMED)
        };
        match underfilled {
            Some(_) if conflicts.is_empty() => *underfilled = None,
            Some(underfilled) => {
                for key in changed {
                    let change = match catalog.assignment(key).filter(|_| is_underfilled(key)) {
                        Some(assignment) => Change::Assignment(assignment.clone()),
                        None => Change::AssignmentDeleted(key.clone()),
                    };
                    underfilled.apply(change);
                }
            }
            None if conflicts.len() >= UNDERFILLED_THRESHOLD && !*cross_partition => {
                let mut all = Catalog::new();
                for assignment in catalog
                    .assignments()
                    .filter(|assignment| is_underfilled(&assignment.key))
                {
                    all.apply(Change::Assignment(assignment.clone()));
                }
                *underfilled = Some(all);
            }
            None => {}
        }
    }

    fn is_full(&self, key: &ObjectKey) -> bool {
        self.conflicts
            .get(key)
            .is_some_and(|conflicts| conflicts.0.len() == MAX_NAMED)
    }

    /// Finds a conflict to name in place of one that was removed.
    fn refill(&mut self, catalog: &Catalog, namer: &ObjectKey, gone: &ObjectKey) {
        let Some(assignment) = catalog.assignment(namer) else {
            return;
        };
        let named = self.conflicts.get(namer).map(|conflicts| &conflicts.0);
        let is_new =
            |key: &ObjectKey| key != gone && !named.is_some_and(|named| named.contains(key));
        let next = self
            .candidates(catalog, assignment)
            .map(|other| &other.key)
            .find(|key| is_new(key))
            .cloned();
        if let Some(next) = next {
            self.add(namer, &next);
        }
    }

    fn candidates<'c>(
        &self,
        catalog: &'c Catalog,
        of: &'c Arc<Assignment>,
    ) -> impl Iterator<Item = &'c Arc<Assignment>> + use<'c> {
        let cross_partition = self.cross_partition;
        let SubjectSelectors {
            uuids,
            serials,
            macs,
            ..
        } = &of.subjects;
        let most = if cross_partition {
            MAX_CANDIDATES + 4 * (uuids.len() + serials.len() + macs.len())
        } else {
            usize::MAX
        };
        catalog
            .conflicting_within(of, most)
            .filter(move |other| !cross_partition || other.key.partition != of.key.partition)
    }

    /// Names `other` as a conflict of `of`. Returns whether it was not named before.
    fn add(&mut self, of: &ObjectKey, other: &ObjectKey) -> bool {
        let conflicts = self.conflicts.entry(of.clone()).or_default();
        if conflicts.0.len() == MAX_NAMED || !conflicts.0.insert(other.clone()) {
            return false;
        }
        self.named_by
            .entry(other.clone())
            .or_default()
            .insert(of.clone())
    }

    fn remove_naming(&mut self, other: &ObjectKey, by: &ObjectKey) {
        if let Some(namers) = self.named_by.get_mut(other) {
            namers.remove(by);
            if namers.is_empty() {
                self.named_by.remove(other);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_equal_assignments_name_a_bounded_number_of_conflicts() {
        let (mut catalog, mut conflicts) = (Catalog::new(), Conflicts::new());
        for number in 0..1000 {
            let assignment = Arc::new(Assignment {
                key: ObjectKey::new("n", format!("a{number:04}")),
                created: None,
                labels: crate::Labels::default(),
                subjects: SubjectSelectors::default(),
                profiles: crate::Labels::default(),
                priority: 0,
                variables: crate::Variables::default(),
            });
            catalog.apply(Change::Assignment(assignment.clone()));
            conflicts.put(&catalog, &assignment);
        }
        assert_eq!(conflicts.len(), 1000);
        assert_eq!(
            conflicts
                .underfilled
                .as_ref()
                .map(Catalog::assignment_count),
            Some(0),
            "all name enough"
        );
        let most = conflicts.named_by.values().map(BTreeSet::len).max();
        assert!(
            most <= Some(2 * MAX_NAMED),
            "one is named by {most:?}, who all look for another when it goes"
        );
        for key in catalog
            .assignments()
            .map(|assignment| assignment.key.clone())
            .collect::<Vec<_>>()
        {
            catalog.apply(Change::AssignmentDeleted(key.clone()));
            conflicts.remove(&catalog, &key);
        }
        assert!(
            conflicts.is_empty()
                && conflicts.named_by.is_empty()
                && conflicts.underfilled.is_none(),
            "nothing is kept"
        );
    }
}
