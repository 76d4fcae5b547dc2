//! Assignments between which only age or name decides, kept current as a catalog changes.
//!
//! Such a conflict is answered the same everywhere, but nobody chose the answer, so that it is reported. Only what stands in a conflict
//! costs memory here; the search goes through the catalog's own indexes ([`Catalog::conflicting`]).

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::assignment::Assignment;
use crate::catalog::{Catalog, Change};
use crate::name::ObjectKey;
use crate::selector::SubjectSelectors;

/// Most rivals that are named for one Assignment.
pub const MAX_NAMED: usize = 4;

/// From so many Assignments in a conflict on, those that name fewer than they may are kept at hand.
const MANY: usize = 256;

/// Between partitions, so many that could be rivals are looked at, and four more for each identity: a replica has machines to answer.
const MAX_CANDIDATES: usize = 256;

/// All conflicts of a catalog.
#[derive(Clone, Default)]
pub struct Conflicts {
    /// Whether only those of different partitions count.
    cross_partition: bool,
    conflicts: HashMap<ObjectKey, ConflictSet>,
    /// Who names this one.
    named_by: HashMap<ObjectKey, BTreeSet<ObjectKey>>,
    /// Where there are [`MANY`], all Assignments that name fewer than they may: so a new one need not look at all the others.
    underfilled: Option<Catalog>,
}

/// Some of those that an Assignment is in conflict with: all of them up to [`MAX_NAMED`].
#[derive(Clone, Debug, Default)]
struct ConflictSet(BTreeSet<ObjectKey>);

// === impl Conflicts ===

impl Conflicts {
    /// Of a catalog of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same, of Assignments in different partitions only: those within one are known to its own controllers. Where hundreds tie,
    /// some may be missed.
    pub fn across_partitions() -> Self {
        Self {
            cross_partition: true,
            ..Self::default()
        }
    }

    /// All that stand in a conflict, in no order.
    pub fn keys(&self) -> impl Iterator<Item = &ObjectKey> {
        self.conflicts.keys()
    }

    /// Some of those that an Assignment is in conflict with, sorted: all of them up to [`MAX_NAMED`]. Empty where there is no conflict.
    pub fn of(&self, key: &ObjectKey) -> impl ExactSizeIterator<Item = &ObjectKey> {
        static NONE: BTreeSet<ObjectKey> = BTreeSet::new();
        self.conflicts
            .get(key)
            .map_or(&NONE, |conflicts| &conflicts.0)
            .iter()
    }

    /// How many Assignments stand in a conflict.
    pub fn len(&self) -> usize {
        self.conflicts.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.conflicts.is_empty()
    }

    /// Follows a catalog that just took this Assignment, new or changed. Returns those whose conflicts may read otherwise now.
    pub fn put(&mut self, catalog: &Catalog, assignment: &Arc<Assignment>) -> BTreeSet<ObjectKey> {
        let key = &assignment.key;
        let mut touched = self.remove(catalog, key);
        // All of them, not only as many as are named: each has to name this one, unless it names enough.
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

    /// Follows a catalog in which this Assignment is gone, or not any more what it was. Returns those whose conflicts may read otherwise now.
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

    /// Keeps at hand who is hungry, after these have come, gone, or name others.
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
            None if conflicts.len() >= MANY && !*cross_partition => {
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

    /// Looks for another to name in the place of one that is gone.
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

    /// Whether it was not named before.
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
