//! The catalog of a replica, merged from all partitions.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use boot::catalog::guard::{Guard, Limits, ObjectCounts, Verdict};
use boot::{Catalog, Change, ObjectRef, Rejected, SharedCatalog};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::inventory::{Inventory, ObjectState};
use crate::proto::{Inventory as InventoryMessage, Position};

use super::cross_partition_conflicts::{self, CrossPartitionConflicts};
use super::incoming::ReceivedBatch;

/// The merged catalog from which machines are answered.
pub(crate) struct MergedCatalog {
    shared: Arc<SharedCatalog>,
    /// The writer's catalog. Locked while a batch is applied.
    writer: Mutex<Catalog>,
    /// Updated after every change of `writer`.
    cross_partition_conflicts: Mutex<CrossPartitionConflicts>,
    /// Every catalog that readers could have seen.
    #[cfg(test)]
    pub(crate) history: Mutex<Vec<Catalog>>,
}

/// The state of one partition.
pub(crate) struct PartitionState {
    name: Box<str>,
    /// The controller's last known position. `None`: request a snapshot.
    position: Option<Position>,
    /// The controller's inventory, as counted from its batches by `object_state`.
    inventory: Inventory,
    guard: Guard,
    /// Profiles that the controller accepts and this replica can't use, with the reason.
    incompatible: BTreeMap<ObjectRef, String>,
    /// Objects that the controller rejects.
    rejected: BTreeSet<ObjectRef>,
    /// Those rejected objects of which only this replica still knows an accepted version.
    kept: BTreeSet<ObjectRef>,
    is_loaded: bool,
    /// When the content was last known to be current.
    confirmed_at: Option<Instant>,
}

/// A batch whose inventory does not match the resulting catalog. A snapshot is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the inventory of the controller does not match the objects that it sent")]
pub(crate) struct InventoryMismatch;

/// The result of applying a batch.
pub(crate) struct Applied {
    pub(crate) changes: usize,
    pub(crate) held: usize,
}

// === impl MergedCatalog ===

impl MergedCatalog {
    /// Creates a catalog that merges `partitions` partitions.
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

    /// The conflicts between Assignments of different partitions.
    pub(crate) fn cross_partition_conflicts(&self) -> MutexGuard<'_, CrossPartitionConflicts> {
        lock(&self.cross_partition_conflicts)
    }

    /// Applies a batch as a whole or not at all.
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

    /// Confirms that the objects held by the guard have been deleted. Returns how many were
    /// removed.
    pub(crate) fn confirm(&self, state: &mut PartitionState) -> usize {
        let mut writer = lock(&self.writer);
        let lost = state.guard.confirm();
        if lost.is_empty() {
            return 0;
        }
        let before = writer.clone();
        let count = lost
            .iter()
            .filter(|name| writer.apply((*name).clone().deletion()))
            .count();
        warn!(partition = %state.name, objects = count, "mass deletion confirmed");
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
        report_duplicate_ids(&self.shared.load(), &catalog);
        self.shared.publish(catalog);
    }
}

/// Logs when configs begin to have the same id, and when they no longer do.
fn report_duplicate_ids(before: &Catalog, after: &Catalog) {
    match (before.duplicate_id_count(), after.duplicate_id_count()) {
        (0, ids @ 1..) => {
            let example = after.describe_duplicate_ids(1).into_iter().next();
            warn!(
                ids,
                example, "configs have the same id; see /readyz?verbose"
            );
        }
        (1.., 0) => info!("configs no longer have the same id"),
        _ => {}
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
            inventory.accepted.add(&name);
            accepted.insert(name);
        }
        let rejected: BTreeSet<ObjectRef> = batch
            .rejected
            .iter()
            .map(|rejected| rejected.name())
            .collect();
        rejected
            .iter()
            .for_each(|name| inventory.rejected.add(name));
        if InventoryMessage::from(inventory) != expected {
            return Err(InventoryMismatch);
        }
        let mut known = ObjectCounts::default();
        let mut lost = BTreeSet::new();
        for name in next
            .names()
            .filter(|name| *name.key().partition == *self.name)
        {
            match name {
                ObjectRef::Assignment(_) => known.assignments += 1,
                ObjectRef::Profile(_) => known.profiles += 1,
                ObjectRef::Machine(_) => known.machines += 1,
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
            Verdict::Delete(lost) => {
                count += lost
                    .into_iter()
                    .filter(|name| next.apply(name.clone().deletion()))
                    .count();
                if was_holding {
                    info!(partition = %self.name, "the guard released the objects that it held");
                }
            }
            Verdict::Hold if was_holding => {}
            Verdict::Hold => warn!(
                partition = %self.name, lost = lost_count, known = known.kinds().sum::<usize>(),
                "a snapshot lacks most objects; keeping them until their deletion is confirmed (POST /guard/confirm on the admin port, with the header X-Shaper-Request: 1) or later snapshots agree"
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
                Change::AssignmentDeleted(_)
                    | Change::ProfileDeleted(_)
                    | Change::MachineDeleted(_)
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
            // The controller no longer knows an accepted version: this is another object of the
            // same name.
            if before.accepted && !object_state.accepted {
                replaced.insert(name.clone());
            }
        }
        if InventoryMessage::from(inventory) != expected {
            return Err(InventoryMismatch);
        }
        // The guard does not hold an object that exists again or whose deletion is in the delta.
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
            // A rejected object is not deleted here if this replica still knows a version that the
            // controller never had.
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

    /// How the controller counts an object, according to its batches.
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

    /// Applies rejected objects. The last accepted version that the catalog has of each stays.
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
                let served = match (is_kept, object.is_unreadable()) {
                    (true, _) => "its last accepted version",
                    (false, false) => "nothing; its machines wait",
                    (false, true) => {
                        "nothing; its selectors can't be read, so its machines may get another Assignment"
                    }
                };
                warn!(object = %name, fault = %object.fault, served, "object rejected");
            }
            self.rejected.insert(name);
            count += usize::from(changed);
        }
        count
    }

    /// Applies Profiles that can't be used here: to this replica they are rejected objects.
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
                warn!(object = %name, reason, "this version can't use an object of the feed; its last usable version stays in use if known");
            }
            self.incompatible.insert(name, reason);
            count += usize::from(next.apply(Change::Rejected(Arc::new(rejected))));
        }
        count
    }

    /// Records that the content was current `ago` before now.
    pub(crate) fn mark_confirmed(&mut self, ago: Duration) {
        self.confirmed_at = Instant::now().checked_sub(ago).or(self.confirmed_at);
    }

    /// Continues from a copy on disk whose content was current `age` ago.
    pub(crate) fn restored(&mut self, position: Option<Position>, age: Duration) {
        // Objects that could not be restored have to be requested again.
        self.position = position.filter(|_| self.matches_controller());
        self.confirmed_at = Instant::now().checked_sub(age).or(Some(Instant::now()));
    }

    /// Forgets the position, so that the next stream starts with a snapshot.
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

    /// Whether the catalog is exactly the controller's, so that its deltas apply even after a
    /// restart, when all other state is lost.
    pub(crate) fn matches_controller(&self) -> bool {
        self.held() == 0 && self.incompatible.is_empty() && self.kept.is_empty()
    }

    /// How many objects are rejected, and how many of those have an accepted version that only this
    /// replica knows.
    pub(crate) fn rejected_counts(&self) -> (usize, usize) {
        (self.rejected.len(), self.kept.len())
    }

    pub(crate) fn incompatible(&self) -> &BTreeMap<ObjectRef, String> {
        &self.incompatible
    }
}

/// Locks a mutex even if it is poisoned: a batch is prepared on a copy, and the content is replaced
/// as a whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
