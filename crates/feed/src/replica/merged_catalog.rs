//! What a replica holds: one catalog, of all its partitions together.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use boot::catalog::guard::{Guard, Known, Limits, Verdict};
use boot::{Catalog, Change, ObjectRef, Rejected, SharedCatalog};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::inventory::{Inventory, ObjectState};
use crate::proto::{Inventory as InventoryMessage, Position};

use super::cross_partition_conflicts::{self, CrossPartitionConflicts};
use super::incoming::ReceivedBatch;

/// The union of all partitions, as machines are answered from it.
pub(crate) struct MergedCatalog {
    shared: Arc<SharedCatalog>,
    /// The catalog as the writer has it. Held while a batch is taken.
    writer: Mutex<Catalog>,
    /// Follows the writer's.
    cross_partition_conflicts: Mutex<CrossPartitionConflicts>,
    /// Everything that readers ever saw.
    #[cfg(test)]
    pub(crate) history: Mutex<Vec<Catalog>>,
}

/// What is known of one partition.
pub(crate) struct PartitionState {
    name: Box<str>,
    /// Where the controller was when we heard of it last. None: look anew.
    position: Option<Position>,
    /// What it has by its own `object_state`.
    inventory: Inventory,
    guard: Guard,
    /// Profiles that are accepted there and can't be used here.
    incompatible: BTreeMap<ObjectRef, String>,
    /// Objects that are not accepted there.
    rejected: BTreeSet<ObjectRef>,
    /// Those of them of which only we still know an accepted version.
    kept: BTreeSet<ObjectRef>,
    is_loaded: bool,
    /// When what we hold was true.
    confirmed_at: Option<Instant>,
}

/// What the other end says does not fit to what we hold: take all of it anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the controller's account of what there is differs from what it sent")]
pub(crate) struct InventoryMismatch;

/// What a batch did.
pub(crate) struct Applied {
    pub(crate) changes: usize,
    pub(crate) held: usize,
}

// === impl MergedCatalog ===

impl MergedCatalog {
    /// Of so many partitions.
    pub(crate) fn new(shared: Arc<SharedCatalog>, partitions: usize) -> Self {
        Self {
            writer: Mutex::new(Catalog::clone(&shared.load())),
            cross_partition_conflicts: Mutex::new(CrossPartitionConflicts::new(partitions)),
            shared,
            #[cfg(test)]
            history: Mutex::default(),
        }
    }

    pub(crate) fn shared(&self) -> &Arc<SharedCatalog> {
        &self.shared
    }

    /// Which machines several partitions claim.
    pub(crate) fn cross_partition_conflicts(&self) -> MutexGuard<'_, CrossPartitionConflicts> {
        lock(&self.cross_partition_conflicts)
    }

    /// Takes a whole batch, or nothing of it.
    pub(crate) fn apply(
        &self,
        state: &mut PartitionState,
        batch: ReceivedBatch,
    ) -> Result<Applied, InventoryMismatch> {
        let mut writer = lock(&self.writer);
        let mut next = writer.clone();
        let position = batch.commit.position;
        let expected = batch.commit.inventory.unwrap_or_default();
        let heard_ago = Duration::from_millis(batch.commit.heard_millis_ago);
        let snapshot = batch.snapshot;
        let affected = self
            .cross_partition_conflicts()
            .affected(&batch, &state.name, &writer);
        let count = if snapshot {
            state.apply_snapshot(&mut next, batch, expected)?
        } else {
            state.apply_delta(&mut next, batch, expected)?
        };
        state.position = position;
        state.is_loaded = true;
        state.mark_confirmed(heard_ago);
        if count > 0 {
            self.publish(next.clone());
            self.cross_partition_conflicts()
                .update(&writer, &next, affected);
            *writer = next;
        }
        Ok(Applied {
            changes: count,
            held: state.held(),
        })
    }

    /// An operator says that what the guard holds is gone indeed. Tells how many objects that were.
    pub(crate) fn confirm(&self, state: &mut PartitionState) -> usize {
        let mut writer = lock(&self.writer);
        let lost = state.guard.confirm();
        if lost.is_empty() {
            return 0;
        }
        let before = writer.clone();
        let count = lost
            .iter()
            .filter(|name| writer.apply((*name).clone().gone()))
            .count();
        warn!(partition = %state.name, objects = count, "the guard was told that these objects are gone indeed; they are");
        self.publish(writer.clone());
        self.cross_partition_conflicts().update(
            &before,
            &writer,
            lost.into_iter()
                .filter_map(cross_partition_conflicts::assignment_key)
                .collect(),
        );
        count
    }

    fn publish(&self, catalog: Catalog) {
        #[cfg(test)]
        lock(&self.history).push(catalog.clone());
        self.shared.publish(catalog);
    }
}

// === impl PartitionState ===

impl PartitionState {
    pub(crate) fn new(name: &str, limits: Limits) -> Self {
        Self {
            name: name.into(),
            position: None,
            inventory: Inventory::default(),
            guard: Guard::new(limits),
            incompatible: BTreeMap::new(),
            rejected: BTreeSet::new(),
            kept: BTreeSet::new(),
            is_loaded: false,
            confirmed_at: None,
        }
    }

    fn apply_snapshot(
        &mut self,
        next: &mut Catalog,
        batch: ReceivedBatch,
        expected: InventoryMessage,
    ) -> Result<usize, InventoryMismatch> {
        let mut accepted = HashSet::with_capacity(batch.changes.len());
        let mut inventory = Inventory::default();
        for name in batch
            .changes
            .iter()
            .map(Change::name)
            .chain(batch.incompatible.iter().map(Rejected::name))
        {
            inventory.add(&name);
            accepted.insert(name);
        }
        let rejected: BTreeSet<ObjectRef> = batch
            .rejected
            .iter()
            .map(|rejected| rejected.name())
            .collect();
        rejected
            .iter()
            .for_each(|name| inventory.add_rejected(name));
        if inventory != expected.into() {
            return Err(InventoryMismatch);
        }
        let mut known = Known::default();
        let mut lost = BTreeSet::new();
        for name in next
            .names()
            .filter(|name| *name.key().partition == *self.name)
        {
            match name {
                ObjectRef::Assignment(_) => known.assignments += 1,
                ObjectRef::Profile(_) => known.profiles += 1,
            }
            if !accepted.contains(&name) && !rejected.contains(&name) {
                lost.insert(name);
            }
        }
        let lost_count = lost.len();
        let mut count = batch
            .changes
            .into_iter()
            .filter(|change| next.apply(change.clone()))
            .count();
        self.kept.clear();
        self.rejected.clear();
        count += self.apply_rejected(next, batch.rejected, |name| accepted.contains(name));
        drop(accepted);
        count += self.apply_incompatible(next, batch.incompatible, true);
        let was_holding = self.guard.holding().is_some();
        match self.guard.judge(known, lost, Instant::now().into_std()) {
            Verdict::Believe(lost) => {
                count += lost
                    .into_iter()
                    .filter(|name| next.apply(name.clone().gone()))
                    .count();
                if was_holding {
                    info!(partition = %self.name, "the guard lets go");
                }
            }
            Verdict::Hold if was_holding => {}
            Verdict::Hold => warn!(
                partition = %self.name, lost = lost_count, known = known.assignments + known.profiles,
                "a snapshot lacks most of what there was: these objects are kept until it is confirmed that they are gone"
            ),
        }
        self.inventory = inventory;
        Ok(count)
    }

    fn apply_delta(
        &mut self,
        next: &mut Catalog,
        batch: ReceivedBatch,
        expected: InventoryMessage,
    ) -> Result<usize, InventoryMismatch> {
        let mut states: BTreeMap<ObjectRef, ObjectState> = BTreeMap::new();
        for change in &batch.changes {
            let is_gone = matches!(
                change,
                Change::AssignmentDeleted(_) | Change::ProfileDeleted(_)
            );
            states.entry(change.name()).or_default().accepted = !is_gone;
        }
        batch.incompatible.iter().for_each(|incompatible| {
            states.entry(incompatible.name()).or_default().accepted = true;
        });
        batch
            .rejected
            .iter()
            .for_each(|rejected| states.entry(rejected.name()).or_default().rejected = true);
        let mut inventory = self.inventory;
        let mut replaced = BTreeSet::new();
        for (name, object_state) in &states {
            let before = self.object_state(next, name);
            inventory.update(name, before, *object_state);
            // The controller itself knows no accepted version any more: this is another object of the same name.
            if before.accepted && !object_state.accepted {
                replaced.insert(name.clone());
            }
        }
        if inventory != expected.into() {
            return Err(InventoryMismatch);
        }
        // A held object that exists again, or whose end is told by itself, is no matter for the guard.
        for name in states.keys() {
            self.guard.release(name);
            self.incompatible.remove(name);
            self.rejected.remove(name);
            self.kept.remove(name);
        }
        let state_is = |name: &ObjectRef, predicate: fn(&ObjectState) -> bool| {
            states.get(name).is_some_and(predicate)
        };
        let mut count = 0;
        for change in batch.changes {
            // What exists and is not accepted is not gone here if we still know what the controller never knew.
            let name = change.name();
            if state_is(&name, |object_state| {
                object_state.accepted || !object_state.rejected
            }) || replaced.contains(&name)
            {
                count += usize::from(next.apply(change));
            }
        }
        count += self.apply_rejected(next, batch.rejected, |name| {
            state_is(name, |object_state| object_state.accepted)
        });
        count += self.apply_incompatible(next, batch.incompatible, false);
        self.inventory = inventory;
        Ok(count)
    }

    /// How the controller counts an object, by what it told us.
    fn object_state(&self, catalog: &Catalog, name: &ObjectRef) -> ObjectState {
        let is_held = || {
            self.guard
                .holding()
                .is_some_and(|hold| hold.lost.contains(name))
        };
        let only_held_here = || self.kept.contains(name) || is_held();
        let accepted =
            self.incompatible.contains_key(name) || (catalog.contains(name) && !only_held_here());
        ObjectState {
            accepted,
            rejected: self.rejected.contains(name),
        }
    }

    /// Objects that exist and are not accepted: what is held of them stays.
    fn apply_rejected(
        &mut self,
        next: &mut Catalog,
        rejected: Vec<Arc<Rejected>>,
        is_accepted_there: impl Fn(&ObjectRef) -> bool,
    ) -> usize {
        let mut count = 0;
        for object in rejected {
            let name = object.name();
            let changed = next.apply(Change::Rejected(object.clone()));
            let is_kept = next.contains(&name);
            if is_kept && !is_accepted_there(&name) {
                self.kept.insert(name.clone());
            }
            if changed {
                let served = match (is_kept, object.claims_nothing()) {
                    (true, _) => "its last accepted version",
                    (false, false) => "nothing; whom it would concern waits",
                    (false, true) => {
                        "nothing; its selectors can't be read, so its machines may get another Assignment"
                    }
                };
                warn!(object = %name, fault = %object.fault, served, "an object is not accepted");
            }
            self.rejected.insert(name);
            count += usize::from(changed);
        }
        count
    }

    /// Profiles that can't be used here are here what is not accepted elsewhere.
    fn apply_incompatible(
        &mut self,
        next: &mut Catalog,
        incompatible: Vec<Rejected>,
        is_snapshot: bool,
    ) -> usize {
        let before = if is_snapshot {
            std::mem::take(&mut self.incompatible)
        } else {
            BTreeMap::new()
        };
        let mut count = 0;
        for rejected in incompatible {
            let (name, reason) = (rejected.name(), rejected.fault.to_string());
            if before.get(&name) != Some(&reason) {
                warn!(object = %name, reason, "an object of the feed can't be used here; what was held of it stays");
            }
            self.incompatible.insert(name, reason);
            count += usize::from(next.apply(Change::Rejected(Arc::new(rejected))));
        }
        count
    }

    /// The controller is there, and last heard from its API server so long ago.
    pub(crate) fn mark_confirmed(&mut self, ago: Duration) {
        self.confirmed_at = Instant::now().checked_sub(ago).or(self.confirmed_at);
    }

    /// Starts with what a copy on disk holds, which was true so long ago.
    pub(crate) fn restored(&mut self, position: Option<Position>, age: Duration) {
        // What could not be read is to be asked for again.
        self.position = position.filter(|_| self.matches_controller());
        self.confirmed_at = Instant::now().checked_sub(age).or(Some(Instant::now()));
    }

    /// Forgets where the controller was, so that the next look is at everything.
    pub(crate) fn request_snapshot(&mut self) {
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
        self.confirmed_at.map(|confirmed_at| confirmed_at.elapsed())
    }

    pub(crate) fn guard(&self) -> &Guard {
        &self.guard
    }

    pub(crate) fn held(&self) -> usize {
        self.guard.holding().map_or(0, |hold| hold.lost.len())
    }

    /// Whether we hold just what the controller has, so that its changes fit to it also after a restart, when all else is forgotten.
    pub(crate) fn matches_controller(&self) -> bool {
        self.held() == 0 && self.incompatible.is_empty() && self.kept.is_empty()
    }

    /// How many objects are not accepted there, and of how many of those only we still know an accepted version.
    pub(crate) fn rejected_counts(&self) -> (usize, usize) {
        (self.rejected.len(), self.kept.len())
    }

    pub(crate) fn incompatible(&self) -> &BTreeMap<ObjectRef, String> {
        &self.incompatible
    }
}

/// A batch is prepared aside, and what these hold is replaced as a whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
