//! Collects the parts of a batch and decodes their objects.

use std::sync::Arc;

use boot::{Catalog, Change, Partial, Rejected};

use crate::proto::{Commit, Part};
use crate::wire::{self, Malformed};

/// The parts of a batch received so far.
#[derive(Default)]
pub(crate) struct BatchBuilder {
    snapshot: bool,
    has_started: bool,
    changes: Vec<Change>,
    incompatible: Vec<Rejected>,
    rejected: Vec<Arc<Rejected>>,
}

/// A complete batch.
pub(crate) struct ReceivedBatch {
    pub(crate) snapshot: bool,
    /// Accepted objects and deletions.
    pub(crate) changes: Vec<Change>,
    /// Profiles that the controller accepts and this replica can't use.
    pub(crate) incompatible: Vec<Rejected>,
    /// Objects that the controller rejects.
    pub(crate) rejected: Vec<Arc<Rejected>>,
    pub(crate) commit: Commit,
}

impl BatchBuilder {
    /// Adds a part. Returns the batch if the part was the last.
    ///
    /// Objects that `held` already contains are shared, so a snapshot of a known catalog needs
    /// little memory beyond the names.
    pub(crate) fn add(
        &mut self,
        part: Part,
        partition: &str,
        held: &Catalog,
    ) -> Result<Option<ReceivedBatch>, Malformed> {
        if self.has_started && self.snapshot != part.snapshot {
            return Err(Malformed {
                object: "a part".to_owned(),
                reason: "it belongs to a different batch than the previous part".to_owned(),
            });
        }
        (self.has_started, self.snapshot) = (true, part.snapshot);
        for message in part.profiles {
            let key = wire::decode_key(message.key.clone(), partition)?;
            let partial = wire::decode_partial_profile(&message, partition)?;
            let change =
                match wire::decode_profile(message, partition, |key| held.profile(key).cloned()) {
                    Ok(profile) => Change::Profile(reuse_if_equal(held.profile(&key), profile)),
                    // A machine that would boot this Profile waits instead of getting another.
                    Err(malformed) => {
                        self.incompatible.push(Rejected {
                            partial: Partial::Profile(Arc::new(partial)),
                            fault: malformed.reason.into(),
                        });
                        continue;
                    }
                };
            self.changes.push(change);
        }
        for message in part.assignments {
            // Without this Assignment, a machine might match a default that reinstalls it. Reject
            // the batch and keep everything as it was.
            let assignment = wire::decode_assignment(message, partition)?;
            self.changes.push(Change::Assignment(reuse_if_equal(
                held.assignment(&assignment.key),
                assignment,
            )));
        }
        for key in part.profiles_deleted {
            self.changes.push(Change::ProfileDeleted(wire::decode_key(
                Some(key),
                partition,
            )?));
        }
        for key in part.assignments_deleted {
            self.changes
                .push(Change::AssignmentDeleted(wire::decode_key(
                    Some(key),
                    partition,
                )?));
        }
        for message in part.machines {
            // Without this Machine, a machine might match another Assignment.
            let machine = wire::decode_machine(message, partition)?;
            let known = held.machine(&machine.key);
            let change = Change::Machine(reuse_if_equal(known, machine));
            self.changes.push(change);
        }
        for key in part.machines_deleted {
            let key = wire::decode_cluster_key(Some(key), partition)?;
            self.changes.push(Change::MachineDeleted(key));
        }
        for message in part.rejected.into_iter().chain(part.machines_rejected) {
            let rejected = wire::decode_rejected(message, partition)?;
            let known = held.rejected(&rejected.name());
            self.rejected.push(reuse_if_equal(known, rejected));
        }
        Ok(part.commit.map(|commit| {
            let Self {
                snapshot,
                changes,
                incompatible,
                rejected,
                ..
            } = std::mem::take(self);
            ReceivedBatch {
                snapshot,
                changes,
                incompatible,
                rejected,
                commit,
            }
        }))
    }
}

fn reuse_if_equal<T: PartialEq>(held: Option<&Arc<T>>, received: T) -> Arc<T> {
    held.filter(|held| ***held == received)
        .cloned()
        .unwrap_or_else(|| Arc::new(received))
}
