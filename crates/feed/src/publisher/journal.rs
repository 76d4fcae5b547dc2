//! Which objects changed, and when: what a follower who was away has missed.

use std::collections::{BTreeMap, HashMap};

use boot::ObjectRef;

/// The names of objects by the revision at which each last changed. It holds no objects: those are read from the catalog, in the state
/// that they have when a follower asks. So what changed a hundred times is sent once, and nothing is kept for any one follower.
pub(super) struct Journal {
    /// Changes up to this revision are forgotten.
    floor: u64,
    order: BTreeMap<Slot, ObjectRef>,
    slots: HashMap<ObjectRef, Slot>,
    limit: usize,
}

/// A revision, and a number within it.
type Slot = (u64, usize);

impl Journal {
    /// Remembers at most so many names.
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
            // Applied out first: the key that stays is the one that the catalog has now.
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

    /// Forgets everything up to a revision: whoever has less needs a snapshot.
    pub(super) fn truncate(&mut self, revision: u64) {
        *self = Self {
            floor: revision,
            ..Self::new(self.limit)
        };
    }

    /// What changed after a revision; none when that is not known any more.
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
