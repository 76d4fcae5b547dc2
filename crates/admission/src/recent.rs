//! What was admitted a moment ago, and has not come around by the feed yet.
//!
//! `kubectl apply -f folder` writes an Assignment some milliseconds after its Profile: it should not be told that there is none.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use boot::{Assignment, Catalog, Change, ObjectRef, Profile};

/// How long a change is believed without being heard of: whatever else the server asked may have refused it.
const TIME_TO_LIVE: Duration = Duration::from_secs(5);
/// Most changes that are remembered.
const MAX_ENTRIES: usize = 64;

/// Changes that were admitted a moment ago.
#[derive(Debug, Default)]
pub struct Recent {
    entries: VecDeque<Entry>,
}

#[derive(Debug)]
struct Entry {
    admitted_at: Instant,
    change: Change,
    /// What the catalog had in its place then. Once it has anything else, it knows better.
    before: Stored,
}

#[derive(Debug, PartialEq)]
enum Stored {
    Nothing,
    Profile(Arc<Profile>),
    Assignment(Arc<Assignment>),
}

// === impl Recent ===

impl Recent {
    /// Remembers a change that was admitted.
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

    /// What was admitted and the catalog has not heard of, in its order. Whoever shares this applies it aside, so that nobody waits for that.
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
        };
        stored.unwrap_or(Self::Nothing)
    }
}
