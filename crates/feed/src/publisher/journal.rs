//! Records which objects changed at which revision, for followers that reconnect.

use std::collections::{BTreeMap, HashMap};

use boot::ObjectRef;

/// The names of objects, ordered by the revision of their last change. The objects themselves are
/// read from the catalog when a follower asks. So an object that changed a hundred times is sent
/// once, and no state is kept per follower.
pub(super) struct Journal {
    /// Changes up to this revision are forgotten.
    floor: u64,
    order: BTreeMap<Slot, ObjectRef>,
    slots: HashMap<ObjectRef, Slot>,
    limit: usize,
}

/// A revision and an index within it.
type Slot = (u64, usize);

impl Journal {
    /// Creates a journal of at most `limit` names.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            floor: 0,
            order: BTreeMap::new(),
            slots: HashMap::new(),
            limit,
        }
    }

    pub(super) fn record(&mut self, revision: u64, names: impl IntoIterator<Item = ObjectRef>) {
        for (number, name) in names.into_iter().enumerate() {
            let slot = (revision, number);
            // Removed before inserting, so that the map's key is the one that the catalog holds now
            // and the old name is freed.
            if let Some(before) = self.slots.remove(&name) {
                self.order.remove(&before);
            }
            self.slots.insert(name.clone(), slot);
            self.order.insert(slot, name);
        }
        while self.order.len() > self.limit {
            let Some(((revision, _), name)) = self.order.pop_first() else {
                break;
            };
            self.slots.remove(&name);
            self.floor = revision;
        }
    }

    /// Forgets all changes up to `revision`. A follower with an older revision needs a snapshot.
    pub(super) fn truncate(&mut self, revision: u64) {
        *self = Self {
            floor: revision,
            ..Self::new(self.limit)
        };
    }

    /// Returns the objects that changed after `revision`, or `None` if the journal does not reach
    /// back so far.
    pub(super) fn since(&self, revision: u64) -> Option<Vec<ObjectRef>> {
        let later = (revision.checked_add(1)?, 0)..;
        (revision >= self.floor).then(|| {
            self.order
                .range(later)
                .map(|(_, name)| name.clone())
                .collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use boot::ObjectKey;

    use super::*;

    fn names(text: &str) -> Vec<ObjectRef> {
        text.split_whitespace()
            .map(|name| ObjectRef::Profile(ObjectKey::new("ns", name)))
            .collect()
    }

    fn since(journal: &Journal, revision: u64) -> Option<String> {
        let names: Vec<_> = journal
            .since(revision)?
            .iter()
            .map(|name| name.key().name.to_string())
            .collect();
        Some(names.join(" "))
    }

    #[test]
    fn an_object_that_changed_twice_is_listed_once_at_its_last_change() {
        let mut journal = Journal::new(10);
        journal.record(1, names("a b"));
        journal.record(2, names("c a"));
        assert_eq!(since(&journal, 0).as_deref(), Some("b c a"));
        assert_eq!(since(&journal, 1).as_deref(), Some("c a"));
        assert_eq!(since(&journal, 2).as_deref(), Some(""));
    }

    #[test]
    fn a_revision_older_than_the_journal_has_no_answer() {
        let mut journal = Journal::new(3);
        journal.record(1, names("a"));
        journal.record(2, names("b c"));
        journal.record(3, names("d"));
        assert_eq!(since(&journal, 0), None);
        assert_eq!(since(&journal, 1).as_deref(), Some("b c d"));
        journal.record(4, names("e"));
        assert_eq!(since(&journal, 1), None, "half of revision 2 is no answer");
        assert_eq!(since(&journal, 2).as_deref(), Some("d e"));
        journal.record(5, names("1 2 3 4 5"));
        assert_eq!(since(&journal, 4), None);
        assert_eq!(since(&journal, 5).as_deref(), Some(""));
        assert_eq!(journal.slots.len(), journal.order.len());
    }

    #[test]
    fn repeated_changes_do_not_fill_the_journal() {
        let mut journal = Journal::new(3);
        for revision in 1..1000 {
            journal.record(revision, names("a b"));
        }
        assert_eq!((journal.order.len(), journal.slots.len()), (2, 2));
        assert_eq!(
            since(&journal, 1).as_deref(),
            Some("a b"),
            "nothing was forgotten"
        );
    }
}
