//! Assignments between which only age or name decides, kept current as a catalog changes.
//!
//! Such a conflict is answered the same everywhere, but nobody chose the answer, so that it is reported. Only what stands in a conflict
//! costs memory here; the search goes through the catalog's own indexes ([`Catalog::rivals`]).

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
const LOOKS: usize = 256;

/// All conflicts of a catalog.
#[derive(Clone, Default)]
pub struct Conflicts {
    /// Whether only those of different partitions count.
    across: bool,
    rivals: HashMap<ObjectKey, Rivals>,
    /// Who names this one.
    named_by: HashMap<ObjectKey, BTreeSet<ObjectKey>>,
    /// Where there are [`MANY`], all Assignments that name fewer than they may: so a new one need not look at all the others.
    hungry: Option<Catalog>,
}

/// Some of those that an Assignment is in conflict with: all of them up to [`MAX_NAMED`].
#[derive(Clone, Debug, Default)]
struct Rivals(BTreeSet<ObjectKey>);

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
            across: true,
            ..Self::default()
        }
    }

    /// All that stand in a conflict, in no order.
    pub fn keys(&self) -> impl Iterator<Item = &ObjectKey> {
        self.rivals.keys()
    }

    /// Some of those that an Assignment is in conflict with, sorted: all of them up to [`MAX_NAMED`]. Empty where there is no conflict.
    pub fn of(&self, key: &ObjectKey) -> impl ExactSizeIterator<Item = &ObjectKey> {
        static NONE: BTreeSet<ObjectKey> = BTreeSet::new();
        self.rivals
            .get(key)
            .map_or(&NONE, |rivals| &rivals.0)
            .iter()
    }

    /// How many Assignments stand in a conflict.
    pub fn len(&self) -> usize {
        self.rivals.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rivals.is_empty()
    }

    /// Follows a catalog that just took this Assignment, new or changed. Returns those whose conflicts may read otherwise now.
    pub fn put(&mut self, catalog: &Catalog, assignment: &Arc<Assignment>) -> BTreeSet<ObjectKey> {
        let key = &assignment.key;
        let mut touched = self.take(catalog, key);
        // All of them, not only as many as are named: each has to name this one, unless it names enough.
        for rival in self
            .counted(self.hungry.as_ref().unwrap_or(catalog), assignment)
            .map(|rival| rival.key.clone())
            .collect::<Vec<_>>()
        {
            if self.name(&rival, key) {
                touched.insert(rival.clone());
            }
            self.name(key, &rival);
        }
        for rival in self.counted(catalog, assignment) {
            if self.is_full(key) {
                break;
            }
            self.name(key, &rival.key);
        }
        self.note(catalog, touched.iter().chain([key]));
        touched
    }

    /// Follows a catalog in which this Assignment is gone, or not any more what it was. Returns those whose conflicts may read otherwise now.
    pub fn take(&mut self, catalog: &Catalog, key: &ObjectKey) -> BTreeSet<ObjectKey> {
        for rival in self.rivals.remove(key).unwrap_or_default().0 {
            self.forget_naming(&rival, key);
        }
        let namers = self.named_by.remove(key).unwrap_or_default();
        for namer in &namers {
            let Some(rivals) = self.rivals.get_mut(namer) else {
                continue;
            };
            let was_full = rivals.0.len() == MAX_NAMED;
            rivals.0.remove(key);
            if was_full {
                self.refill(catalog, namer, key);
            } else if rivals.0.is_empty() {
                self.rivals.remove(namer);
            }
        }
        self.note(catalog, namers.iter().chain([key]));
        namers
    }

    /// Keeps at hand who is hungry, after these have come, gone, or name others.
    fn note<'k>(&mut self, catalog: &Catalog, changed: impl Iterator<Item = &'k ObjectKey>) {
        let Self {
            rivals,
            hungry,
            across,
            ..
        } = self;
        let is_hungry = |key: &ObjectKey| {
            rivals
                .get(key)
                .is_none_or(|rivals| rivals.0.len() < MAX_NAMED)
        };
        match hungry {
            Some(_) if rivals.is_empty() => *hungry = None,
            Some(hungry) => {
                for key in changed {
                    let change = match catalog.assignment(key).filter(|_| is_hungry(key)) {
                        Some(assignment) => Change::Assignment(assignment.clone()),
                        None => Change::AssignmentGone(key.clone()),
                    };
                    hungry.apply(change);
                }
            }
            None if rivals.len() >= MANY && !*across => {
                let mut all = Catalog::new();
                for assignment in catalog
                    .assignments()
                    .filter(|assignment| is_hungry(&assignment.key))
                {
                    all.apply(Change::Assignment(assignment.clone()));
                }
                *hungry = Some(all);
            }
            None => {}
        }
    }

    fn is_full(&self, key: &ObjectKey) -> bool {
        self.rivals
            .get(key)
            .is_some_and(|rivals| rivals.0.len() == MAX_NAMED)
    }

    /// Looks for another to name in the place of one that is gone.
    fn refill(&mut self, catalog: &Catalog, namer: &ObjectKey, gone: &ObjectKey) {
        let Some(assignment) = catalog.assignment(namer) else {
            return;
        };
        let named = self.rivals.get(namer).map(|rivals| &rivals.0);
        let is_new =
            |key: &ObjectKey| key != gone && !named.is_some_and(|named| named.contains(key));
        let next = self
            .counted(catalog, assignment)
            .map(|rival| &rival.key)
            .find(|key| is_new(key))
            .cloned();
        if let Some(next) = next {
            self.name(namer, &next);
        }
    }

    fn counted<'c>(
        &self,
        catalog: &'c Catalog,
        of: &'c Arc<Assignment>,
    ) -> impl Iterator<Item = &'c Arc<Assignment>> + use<'c> {
        let across = self.across;
        let SubjectSelectors {
            uuids,
            serials,
            macs,
            ..
        } = &of.subjects;
        let most = if across {
            LOOKS + 4 * (uuids.len() + serials.len() + macs.len())
        } else {
            usize::MAX
        };
        catalog
            .rivals_among(of, most)
            .filter(move |rival| !across || rival.key.partition != of.key.partition)
    }

    /// Whether it was not named before.
    fn name(&mut self, of: &ObjectKey, rival: &ObjectKey) -> bool {
        let rivals = self.rivals.entry(of.clone()).or_default();
        if rivals.0.len() == MAX_NAMED || !rivals.0.insert(rival.clone()) {
            return false;
        }
        self.named_by
            .entry(rival.clone())
            .or_default()
            .insert(of.clone())
    }

    fn forget_naming(&mut self, rival: &ObjectKey, by: &ObjectKey) {
        if let Some(namers) = self.named_by.get_mut(rival) {
            namers.remove(by);
            if namers.is_empty() {
                self.named_by.remove(rival);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn among_many_alike_nobody_is_looked_at_or_named_by_all() {
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
            conflicts.hungry.as_ref().map(Catalog::assignment_count),
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
            catalog.apply(Change::AssignmentGone(key.clone()));
            conflicts.take(&catalog, &key);
        }
        assert!(
            conflicts.is_empty() && conflicts.named_by.is_empty() && conflicts.hungry.is_none(),
            "nothing is kept"
        );
    }
}
