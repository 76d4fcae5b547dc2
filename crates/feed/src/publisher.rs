//! The controller's half of the feed: a catalog and a journal of recent changes.

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

/// How many names of changed objects are kept for followers that reconnect.
const JOURNAL_LIMIT: usize = 64 * 1024;

/// Publishes a controller's catalog to followers.
///
/// Changes are applied in batches; every batch that changes something gets the next revision.
/// Followers are served by [`serve`], and the controller itself reads [`catalog`](Self::catalog).
///
/// ```
/// use std::sync::Arc;
///
/// use boot::{Assignment, Change, Labels, ObjectKey, SubjectSelectors};
/// use feed::Publisher;
///
/// let key = ObjectKey::new("racks", "web");
/// let assignment = Assignment {
///     key: key.clone(),
///     created: None,
///     labels: Labels::default(),
///     subjects: SubjectSelectors::default(),
///     profiles: Labels::default(),
///     priority: 0,
///     variables: boot::Variables::default(),
/// };
///
/// let publisher = Publisher::new();
/// let change = Change::Assignment(Arc::new(assignment));
/// assert_eq!(publisher.apply(vec![change.clone()]), 1);
/// assert_eq!(publisher.revision(), 1);
///
/// // Applying the same again changes nothing, so followers receive nothing.
/// assert_eq!(publisher.apply(vec![change]), 0);
/// assert_eq!(publisher.revision(), 1);
///
/// // Readers load a snapshot, which later changes don't affect.
/// let snapshot = publisher.catalog().load();
/// publisher.apply(vec![Change::AssignmentDeleted(key.clone())]);
/// assert!(snapshot.assignment(&key).is_some());
/// assert!(publisher.catalog().load().assignment(&key).is_none());
///
/// // The first list is complete: followers may connect.
/// publisher.set_ready();
/// assert!(publisher.is_ready());
/// ```
pub struct Publisher {
    /// Distinguishes the revisions of this process from those of others.
    epoch: u64,
    shared: Arc<SharedCatalog>,
    /// The writer's catalog. Locked while changes are applied, which may take long.
    writer: Mutex<Catalog>,
    /// What followers read. Locked only briefly.
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
    /// Creates an empty publisher that is not ready.
    pub fn new() -> Self {
        Self::with_journal(JOURNAL_LIMIT)
    }

    /// Creates a publisher that keeps the names of at most `limit` changed objects. A follower that
    /// missed more gets a snapshot.
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

    /// Applies changes atomically: readers see all of them or none. Returns how many changed
    /// something.
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

    /// The published catalog, for the controller's own use.
    pub fn catalog(&self) -> &Arc<SharedCatalog> {
        &self.shared
    }

    /// Marks the catalog as complete and admits followers. Until then they are told to try another
    /// controller.
    pub fn set_ready(&self) {
        if !self.is_ready.swap(true, Ordering::AcqRel) {
            info!(
                revision = self.revision(),
                "the feed is ready for followers"
            );
        }
    }

    /// Whether followers are admitted.
    pub fn is_ready(&self) -> bool {
        self.is_ready.load(Ordering::Acquire)
    }

    /// Records that the API server was heard, even if nothing changed. Followers learn how long ago
    /// that was.
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

    /// Returns what brings a follower from `after` to the current state: the changes, or a snapshot
    /// if the position is another process's or too old.
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

/// Locks a mutex even if it is poisoned: no code panics while holding it, and its content is
/// replaced as a whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
