//! Assignments between which only age or name decides, kept current as a catalog changes.
//!
//! Such a conflict is answered the same everywhere, but nobody chose the answer, so that it is reported. Only what stands in a conflict
//! costs memory here; the search goes through the catalog's own indexes ([`Catalog::rivals`]).

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::assignment::Assignment;
use crate::catalog::Catalog;
use crate::name::ObjectKey;
use crate::selector::SubjectSelectors;

/// Most rivals that are named for one Assignment.
pub const MAX_NAMED: usize = 4;

/// Between partitions, so many that could be rivals are looked at, and four more for each identity: a replica has machines to answer.
const LOOKS: usize = 256;

/// All conflicts of a catalog.
#[derive(Clone, Debug, Default)]
pub struct Conflicts {
    /// Whether only those of different partitions count.
    across: bool,
    rivals: HashMap<ObjectKey, Rivals>,
    /// Who names this one.
    named_by: HashMap<ObjectKey, BTreeSet<ObjectKey>>,
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
        Self { across: true, ..Self::default() }
    }

    /// All that stand in a conflict, in no order.
    pub fn keys(&self) -> impl Iterator<Item = &ObjectKey> {
        self.rivals.keys()
    }

    /// Some of those that an Assignment is in conflict with, sorted: all of them up to [`MAX_NAMED`]. Empty where there is no conflict.
    pub fn of(&self, key: &ObjectKey) -> impl ExactSizeIterator<Item = &ObjectKey> {
        static NONE: BTreeSet<ObjectKey> = BTreeSet::new();
        self.rivals.get(key).map_or(&NONE, |rivals| &rivals.0).iter()
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
        let mut touched = self.take(catalog, &assignment.key);
        // All of them, not only as many as are named: each of them has to name this one, unless it names enough.
        for rival in self.counted(catalog, assignment) {
            for (of, other) in [(&assignment.key, &rival.key), (&rival.key, &assignment.key)] {
                if self.name(of, other) {
                    touched.insert(of.clone());
                }
            }
        }
        touched
    }

    /// Follows a catalog in which this Assignment is gone, or not any more what it was. Returns those whose conflicts may read otherwise now.
    pub fn take(&mut self, catalog: &Catalog, key: &ObjectKey) -> BTreeSet<ObjectKey> {
        for rival in self.rivals.remove(key).unwrap_or_default().0 {
            self.forget_naming(&rival, key);
        }
        let namers = self.named_by.remove(key).unwrap_or_default();
        for namer in &namers {
            let Some(rivals) = self.rivals.get_mut(namer) else { continue };
            let was_full = rivals.0.len() == MAX_NAMED;
            rivals.0.remove(key);
            if was_full {
                self.refill(catalog, namer, key);
            } else if rivals.0.is_empty() {
                self.rivals.remove(namer);
            }
        }
        namers
    }

    /// Looks for another to name in the place of one that is gone.
    fn refill(&mut self, catalog: &Catalog, namer: &ObjectKey, gone: &ObjectKey) {
        let Some(assignment) = catalog.assignment(namer) else { return };
        let named = self.rivals.get(namer).map(|rivals| &rivals.0);
        let is_new = |key: &ObjectKey| key != gone && !named.is_some_and(|named| named.contains(key));
        let next = self.counted(catalog, assignment).map(|rival| &rival.key).find(|key| is_new(key)).cloned();
        if let Some(next) = next {
            self.name(namer, &next);
        }
    }

    fn counted<'c>(&self, catalog: &'c Catalog, of: &'c Assignment) -> impl Iterator<Item = &'c Arc<Assignment>> + use<'c> {
        let across = self.across;
        let SubjectSelectors { uuids, serials, macs, .. } = &of.subjects;
        let most = if across { LOOKS + 4 * (uuids.len() + serials.len() + macs.len()) } else { usize::MAX };
        catalog.rivals_among(of, most).filter(move |rival| !across || rival.key.partition != of.key.partition)
    }

    /// Whether it was not named before.
    fn name(&mut self, of: &ObjectKey, rival: &ObjectKey) -> bool {
        let rivals = self.rivals.entry(of.clone()).or_default();
        if rivals.0.len() == MAX_NAMED || !rivals.0.insert(rival.clone()) {
            return false;
        }
        self.named_by.entry(rival.clone()).or_default().insert(of.clone())
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
