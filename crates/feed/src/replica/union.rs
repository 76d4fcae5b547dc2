//! What a replica holds: one catalog, of all its partitions together.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use boot::catalog::guard::{Guard, Known, Limits, Verdict};
use boot::{Catalog, Change, Name, SharedCatalog};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::inventory::Inventory;
use crate::proto::{Inventory as InventoryMessage, Position};

use super::incoming::Arrived;

/// The union of all partitions, as machines are answered from it.
pub(crate) struct Union {
    shared: Arc<SharedCatalog>,
    /// The catalog as the writer has it. Held while a batch is taken.
    writer: Mutex<Catalog>,
    /// Everything that readers ever saw.
    #[cfg(test)]
    pub(crate) history: Mutex<Vec<Catalog>>,
}

/// What is known of one partition.
pub(crate) struct Holding {
    name: Box<str>,
    /// Where the controller was when we heard of it last. None: look anew.
    position: Option<Position>,
    /// What it has by its own account.
    inventory: Inventory,
    guard: Guard,
    /// Profiles that exist and can't be used here.
    refused: BTreeMap<Name, String>,
    is_loaded: bool,
    /// When what we hold was true.
    true_at: Option<Instant>,
}

/// What the other end says does not fit to what we hold: take all of it anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the controller's account of what there is differs from what it sent")]
pub(crate) struct Diverged;

/// What a batch did.
pub(crate) struct Taken {
    pub(crate) changes: usize,
    pub(crate) held: usize,
}

// === impl Union ===

impl Union {
    pub(crate) fn new(shared: Arc<SharedCatalog>) -> Self {
        Self {
            writer: Mutex::new(Catalog::clone(&shared.load())),
            shared,
            #[cfg(test)]
            history: Mutex::default(),
        }
    }

    pub(crate) fn shared(&self) -> &Arc<SharedCatalog> {
        &self.shared
    }

    /// Takes a whole batch, or nothing of it.
    pub(crate) fn take(&self, holding: &mut Holding, batch: Arrived) -> Result<Taken, Diverged> {
        let mut writer = lock(&self.writer);
        let mut next = writer.clone();
        let position = batch.commit.position;
        let expected = batch.commit.inventory.unwrap_or_default();
        let heard_ago = Duration::from_millis(batch.commit.heard_millis_ago);
        let snapshot = batch.snapshot;
        let count =
            if snapshot { holding.take_snapshot(&mut next, batch, expected)? } else { holding.take_delta(&mut next, batch, expected)? };
        holding.position = position;
        holding.is_loaded = true;
        holding.heard(heard_ago);
        if count > 0 {
            *writer = next.clone();
            self.publish(next);
        }
        Ok(Taken { changes: count, held: holding.held() })
    }

    /// An operator says that what the guard holds is gone indeed. Tells how many objects that were.
    pub(crate) fn confirm(&self, holding: &mut Holding) -> usize {
        let mut writer = lock(&self.writer);
        let lost = holding.guard.confirm();
        if lost.is_empty() {
            return 0;
        }
        let count = lost.into_iter().filter(|name| writer.apply(name.clone().gone())).count();
        warn!(partition = %holding.name, objects = count, "the guard was told that these objects are gone indeed; they are");
        self.publish(writer.clone());
        count
    }

    fn publish(&self, catalog: Catalog) {
        #[cfg(test)]
        lock(&self.history).push(catalog.clone());
        self.shared.publish(catalog);
    }
}

// === impl Holding ===

impl Holding {
    pub(crate) fn new(name: &str, limits: Limits) -> Self {
        Self {
            name: name.into(),
            position: None,
            inventory: Inventory::default(),
            guard: Guard::new(limits),
            refused: BTreeMap::new(),
            is_loaded: false,
            true_at: None,
        }
    }

    fn take_snapshot(&mut self, next: &mut Catalog, batch: Arrived, expected: InventoryMessage) -> Result<usize, Diverged> {
        let mut listed = HashSet::with_capacity(batch.changes.len());
        let mut inventory = Inventory::default();
        let names = batch.changes.iter().map(Change::name).chain(batch.refused.iter().map(|(name, _)| name.clone()));
        for name in names {
            inventory.add(&name);
            listed.insert(name);
        }
        if inventory != expected.into() {
            return Err(Diverged);
        }
        let own = |name: &Name| name.key().partition == self.name;
        let known = Known {
            assignments: next.assignments().filter(|assignment| assignment.key.partition == self.name).count(),
            profiles: next.profiles().filter(|profile| profile.key.partition == self.name).count(),
        };
        let lost: BTreeSet<Name> = next.names().filter(|name| own(name) && !listed.contains(name)).collect();
        drop(listed);
        let mut count = batch.changes.into_iter().filter(|change| next.apply(change.clone())).count();
        let was_holding = self.guard.holding().is_some();
        match self.guard.judge(known, lost.clone(), Instant::now().into_std()) {
            Verdict::Believe => {
                count += lost.into_iter().filter(|name| next.apply(name.clone().gone())).count();
                if was_holding {
                    info!(partition = %self.name, "the guard lets go");
                }
            }
            Verdict::Hold if was_holding => {}
            Verdict::Hold => warn!(
                partition = %self.name, lost = lost.len(), known = known.assignments + known.profiles,
                "a snapshot lacks most of what there was: these objects are kept until it is confirmed that they are gone"
            ),
        }
        self.inventory = inventory;
        self.refuse(batch.refused, true);
        Ok(count)
    }

    fn take_delta(&mut self, next: &mut Catalog, batch: Arrived, expected: InventoryMessage) -> Result<usize, Diverged> {
        let mut inventory = self.inventory;
        let held = |name: &Name| self.guard.holding().is_some_and(|hold| hold.lost.contains(name));
        let is_known = |name: &Name, next: &Catalog| self.refused.contains_key(name) || (next.contains(name) && !held(name));
        let refused = batch.refused.iter().map(|(name, _)| (name.clone(), None));
        let changes = batch.changes.into_iter().map(|change| (change.name(), Some(change)));
        let mut count = 0;
        let mut touched = Vec::new();
        for (name, change) in changes.chain(refused) {
            let was_known = is_known(&name, next);
            let is_gone = matches!(change, Some(Change::AssignmentGone(_) | Change::ProfileGone(_)));
            match (was_known, is_gone) {
                (false, false) => inventory.add(&name),
                (true, true) => inventory.take(&name),
                _ => {}
            }
            if let Some(change) = change {
                count += usize::from(next.apply(change));
            }
            touched.push(name);
        }
        if inventory != expected.into() {
            return Err(Diverged);
        }
        // A held object that exists again, or whose end is told by itself, is no matter for the guard.
        for name in &touched {
            self.guard.release(name);
            self.refused.remove(name);
        }
        self.inventory = inventory;
        self.refuse(batch.refused, false);
        Ok(count)
    }

    fn refuse(&mut self, refused: Vec<(Name, String)>, anew: bool) {
        let before = if anew { std::mem::take(&mut self.refused) } else { BTreeMap::new() };
        for (name, reason) in refused {
            if before.get(&name) != Some(&reason) {
                warn!(object = %name, reason, "an object of the feed can't be used here; what was held of it stays");
            }
            self.refused.insert(name, reason);
        }
    }

    /// The controller is there, and last heard from its API server so long ago.
    pub(crate) fn heard(&mut self, ago: Duration) {
        self.true_at = Instant::now().checked_sub(ago).or(self.true_at);
    }

    /// Starts with what a copy on disk holds, which was true so long ago.
    pub(crate) fn restored(&mut self, position: Option<Position>, age: Duration) {
        // What could not be read is to be asked for again.
        self.position = position.filter(|_| self.refused.is_empty());
        self.true_at = Instant::now().checked_sub(age).or(Some(Instant::now()));
    }

    /// Forgets where the controller was, so that the next look is at everything.
    pub(crate) fn look_anew(&mut self) {
        self.position = None;
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn position(&self) -> Option<Position> {
        self.position
    }

    pub(crate) fn is_loaded(&self) -> bool {
        self.is_loaded
    }

    pub(crate) fn age(&self) -> Option<Duration> {
        self.true_at.map(|true_at| true_at.elapsed())
    }

    pub(crate) fn guard(&self) -> &Guard {
        &self.guard
    }

    pub(crate) fn held(&self) -> usize {
        self.guard.holding().map_or(0, |hold| hold.lost.len())
    }

    pub(crate) fn refused(&self) -> &BTreeMap<Name, String> {
        &self.refused
    }
}

/// A batch is prepared aside, and what these hold is replaced as a whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
