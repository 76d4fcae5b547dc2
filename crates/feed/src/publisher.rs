//! The half of a controller: a catalog, and what has changed in it since any moment that a follower remembers.

mod batch;
mod journal;
mod metrics;
mod session;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use boot::{Catalog, Change, ObjectRef, SharedCatalog};
use rand::Rng;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::info;

use crate::inventory::{Inventory, ObjectState};
use crate::proto;

use batch::Batch;
use journal::Journal;

pub use metrics::PublisherMetrics;
#[cfg(test)]
pub(crate) use session::Service;
pub use session::{PublisherLimits, serve};

/// How many names of changed objects are remembered for those who were away.
const JOURNAL_LIMIT: usize = 64 * 1024;

/// The catalog of a controller, as it is published to followers.
pub struct Publisher {
    /// Tells this process's revisions from those of others.
    epoch: u64,
    shared: Arc<SharedCatalog>,
    /// The catalog as the writer has it. Held while changes are made, which may take long.
    writer: Mutex<Catalog>,
    /// What followers read. Held for moments.
    published: Mutex<Published>,
    revision: watch::Sender<u64>,
    is_ready: AtomicBool,
    heard: Mutex<Instant>,
}

struct Published {
    catalog: Catalog,
    revision: u64,
    journal: Journal,
    inventory: Inventory,
}

impl Publisher {
    /// A publisher of nothing, which is not ready.
    pub fn new() -> Self {
        Self::with_journal(JOURNAL_LIMIT)
    }

    /// Remembers the names of at most so many changed objects. Who missed more gets a snapshot.
    pub fn with_journal(limit: usize) -> Self {
        let published = Published {
            catalog: Catalog::new(),
            revision: 0,
            journal: Journal::new(limit),
            inventory: Inventory::default(),
        };
        Self {
            epoch: rand::rng().random(),
            shared: Arc::new(SharedCatalog::new(Catalog::new())),
            writer: Mutex::new(Catalog::new()),
            published: Mutex::new(published),
            revision: watch::Sender::new(0),
            is_ready: AtomicBool::new(false),
            heard: Mutex::new(Instant::now()),
        }
    }

    /// Makes changes, all at once: nobody sees some of them without the others. Tells how many of them changed something.
    pub fn apply(&self, changes: Vec<Change>) -> usize {
        let mut catalog = lock(&self.writer);
        let mut inventory = lock(&self.published).inventory;
        let mut changed = BTreeSet::new();
        let mut count = 0;
        for change in changes {
            let name = change.name();
            let before = object_state(&catalog, &name);
            if !catalog.apply(change) {
                continue;
            }
            count += 1;
            inventory.update(&name, before, object_state(&catalog, &name));
            changed.insert(name);
        }
        if count == 0 {
            return 0;
        }
        self.shared.publish(catalog.clone());
        let mut published = lock(&self.published);
        published.catalog = catalog.clone();
        published.inventory = inventory;
        published.revision += 1;
        let revision = published.revision;
        if self.is_ready() {
            published.journal.record(revision, changed);
        } else {
            published.journal.truncate(revision);
        }
        drop(published);
        self.revision.send_replace(revision);
        count
    }

    /// The catalog as it is published, for answers of the controller's own.
    pub fn catalog(&self) -> &Arc<SharedCatalog> {
        &self.shared
    }

    /// The catalog holds all that there is: followers may have it. Until then they are told to ask another controller.
    pub fn set_ready(&self) {
        if !self.is_ready.swap(true, Ordering::AcqRel) {
            info!(
                revision = self.revision(),
                "the feed is ready for followers"
            );
        }
    }

    /// Whether followers may have the catalog.
    pub fn is_ready(&self) -> bool {
        self.is_ready.load(Ordering::Acquire)
    }

    /// Something was heard from the API server, if only that nothing changed. Followers are told how long ago that was.
    pub fn mark_heard(&self) {
        *lock(&self.heard) = Instant::now();
    }

    /// How long ago the API server was last heard.
    pub fn heard_ago(&self) -> Duration {
        lock(&self.heard).elapsed()
    }

    /// The number of the last change.
    pub fn revision(&self) -> u64 {
        *self.revision.borrow()
    }

    fn position(&self, revision: u64) -> proto::Position {
        proto::Position {
            epoch: self.epoch,
            revision,
        }
    }

    /// What brings a follower from a position to now: the changes, or a snapshot where it is not ours or too long ago.
    fn batch_after(&self, after: Option<proto::Position>) -> Batch {
        let published = lock(&self.published);
        let after =
            after.filter(|after| after.epoch == self.epoch && after.revision <= published.revision);
        let commit = proto::Commit {
            position: Some(self.position(published.revision)),
            inventory: Some(published.inventory.into()),
            heard_millis_ago: millis(self.heard_ago()),
        };
        let names = after.and_then(|after| published.journal.since(after.revision));
        Batch::new(published.catalog.clone(), names, commit)
    }
}

impl Default for Publisher {
    fn default() -> Self {
        Self::new()
    }
}

fn object_state(catalog: &Catalog, name: &ObjectRef) -> ObjectState {
    ObjectState {
        accepted: catalog.contains(name),
        rejected: catalog.rejected(name).is_some(),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Nothing panics while these are held; and if it did, what they hold is replaced as a whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
