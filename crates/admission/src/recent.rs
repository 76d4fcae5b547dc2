//! Remembers admitted changes until the feed delivers them.
//!
//! `kubectl apply -f folder` writes an Assignment a few milliseconds after its Profile; without
//! this, the Assignment would be reported as having no Profile.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use boot::{Assignment, Catalog, Change, Machine, ObjectRef, Profile};

/// How long a change counts without being confirmed by the feed. Another webhook may have rejected
/// it.
const TIME_TO_LIVE: Duration = Duration::from_secs(5);
/// Maximum number of remembered changes.
const MAX_ENTRIES: usize = 64;

/// Recently admitted changes.
#[derive(Debug, Default)]
pub struct Recent {
    entries: VecDeque<Entry>,
}

#[derive(Debug)]
struct Entry {
    admitted_at: Instant,
    change: Change,
    /// The catalog's version at that time. Any other version is newer than this change.
    before: Stored,
}

#[derive(Debug, PartialEq)]
enum Stored {
    Nothing,
    Profile(Arc<Profile>),
    Assignment(Arc<Assignment>),
    Machine(Arc<Machine>),
}

// === impl Recent ===

impl Recent {
    /// Records an admitted change.
    pub fn record(&mut self, catalog: &Catalog, change: Change, now: Instant) {
        let name = change.name();
        self.entries.retain(|entry| entry.change.name() != name);
        if self.entries.len() == MAX_ENTRIES {
            self.entries.pop_front();
        }
        self.entries.push_back(Entry {
            admitted_at: now,
            before: Stored::of(catalog, &name),
            change,
        });
    }

    /// Returns the changes that the catalog does not have yet, oldest first, and forgets the rest.
    /// The caller applies them outside of the lock.
    pub fn pending(&mut self, catalog: &Catalog, now: Instant) -> Vec<Change> {
        let is_pending = |entry: &Entry| {
            now.saturating_duration_since(entry.admitted_at) < TIME_TO_LIVE
                && Stored::of(catalog, &entry.change.name()) == entry.before
        };
        self.entries.retain(is_pending);
        self.entries
            .iter()
            .map(|entry| entry.change.clone())
            .collect()
    }
}

// === impl Held ===

impl Stored {
    fn of(catalog: &Catalog, name: &ObjectRef) -> Self {
        let stored = match name {
            ObjectRef::Profile(key) => catalog.profile(key).cloned().map(Self::Profile),
            ObjectRef::Assignment(key) => catalog.assignment(key).cloned().map(Self::Assignment),
            ObjectRef::Machine(key) => catalog.machine(key).cloned().map(Self::Machine),
        };
        stored.unwrap_or(Self::Nothing)
    }
}
