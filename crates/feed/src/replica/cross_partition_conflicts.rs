//! Detects Assignments of different partitions that match the same machines. Only a replica can: no
//! controller sees both partitions.

use std::collections::BTreeSet;

use boot::conflicts::{Conflicts, MAX_NAMED};
use boot::{Catalog, ObjectKey, ObjectRef};
use tracing::{info, warn};

use super::incoming::ReceivedBatch;

/// The conflicts of a merged catalog, updated with each batch. `None` if there is only one
/// partition.
#[derive(Default)]
pub(crate) struct CrossPartitionConflicts(Option<Conflicts>);

impl CrossPartitionConflicts {
    /// Creates the detector. With a single partition it does nothing.
    pub(crate) fn new(partitions: usize) -> Self {
        Self((partitions > 1).then(Conflicts::across_partitions))
    }

    /// Returns the Assignments that a batch of `partition` may change.
    pub(crate) fn affected(
        &self,
        batch: &ReceivedBatch,
        partition: &str,
        before: &Catalog,
    ) -> BTreeSet<ObjectKey> {
        if self.0.is_none() {
            return BTreeSet::new();
        }
        let names = batch
            .changes
            .iter()
            .map(boot::Change::name)
            .chain(batch.rejected.iter().map(|rejected| rejected.name()));
        let mut keys: BTreeSet<_> = names.filter_map(assignment_key).collect();
        if batch.snapshot {
            keys.extend(
                before
                    .names()
                    .filter(|name| *name.key().partition == *partition)
                    .filter_map(assignment_key),
            );
        }
        keys
    }

    /// Updates the conflicts from one catalog to the next, which differ in the `affected`
    /// Assignments only.
    pub(crate) fn update(
        &mut self,
        before: &Catalog,
        after: &Catalog,
        affected: BTreeSet<ObjectKey>,
    ) {
        let Some(conflicts) = &mut self.0 else { return };
        let was_empty = conflicts.is_empty();
        for key in affected {
            match (before.assignment(&key), after.assignment(&key)) {
                (Some(before), Some(after)) if std::sync::Arc::ptr_eq(before, after) => {}
                (_, Some(assignment)) => drop(conflicts.put(after, assignment)),
                (_, None) => drop(conflicts.remove(after, &key)),
            }
        }
        match (was_empty, conflicts.is_empty()) {
            (true, false) => {
                let example = self.describe(1).pop();
                warn!(
                    assignments = self.count(),
                    example,
                    "Assignments of different partitions match the same machines; see /readyz?verbose"
                );
            }
            (false, true) => {
                info!("no Assignments of different partitions match the same machine any more");
            }
            _ => {}
        }
    }

    /// How many Assignments conflict with one of another partition.
    pub(crate) fn count(&self) -> usize {
        self.0.as_ref().map_or(0, Conflicts::len)
    }

    /// Describes at most `max` conflicts in sentences, and adds how many more there are.
    pub(crate) fn describe(&self, max: usize) -> Vec<String> {
        let Some(conflicts) = &self.0 else {
            return Vec::new();
        };
        let mut keys: Vec<_> = conflicts.keys().collect();
        keys.sort();
        let more = keys.len().saturating_sub(max);
        let sentence = |key: &&ObjectKey| {
            let others: Vec<_> = conflicts.of(key).map(ToString::to_string).collect();
            let suffix = if others.len() == MAX_NAMED {
                " (and possibly more)"
            } else {
                ""
            };
            format!(
                "a machine can match Assignment {key} and {}{suffix}, and only age or name decides",
                others.join(", ")
            )
        };
        let mut sentences: Vec<_> = keys.iter().take(max).map(sentence).collect();
        if more > 0 {
            sentences.push(format!(
                "{more} more Assignments conflict with one of another partition"
            ));
        }
        sentences
    }
}

pub(super) fn assignment_key(name: ObjectRef) -> Option<ObjectKey> {
    match name {
        ObjectRef::Assignment(key) => Some(key),
        ObjectRef::Profile(_) | ObjectRef::Machine(_) => None,
    }
}
