//! What a replica counts.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

/// What a replica counts. A clone counts the same.
#[derive(Clone)]
pub struct ReplicaMetrics {
    connected: Family<Of, Gauge>,
    age: Family<Of, Gauge<f64, AtomicU64>>,
    revision: Family<Of, Gauge>,
    guard: Family<Of, Gauge>,
    held: Family<Of, Gauge>,
    incompatible: Family<Of, Gauge>,
    rejected: Family<Of, Gauge>,
    kept: Family<Of, Gauge>,
    received: Family<Of, Counter>,
    batches: Family<Batch, Counter>,
    changes: Family<Of, Counter>,
    ended: Family<End, Counter>,
    unsaved: Family<Of, Gauge>,
    objects: Family<Kind, Gauge>,
    pub(crate) cross_partition_conflicts: Gauge,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Of {
    partition: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Batch {
    partition: String,
    kind: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct End {
    partition: String,
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

/// What is counted of one partition.
pub(crate) struct PartitionMetrics {
    all: ReplicaMetrics,
    partition: String,
    pub(crate) connected: Gauge,
    pub(crate) age: Gauge<f64, AtomicU64>,
    pub(crate) revision: Gauge,
    pub(crate) guard: Gauge,
    pub(crate) held: Gauge,
    pub(crate) incompatible: Gauge,
    pub(crate) rejected: Gauge,
    pub(crate) kept: Gauge,
    pub(crate) received: Counter,
    pub(crate) unsaved: Gauge,
    changes: Counter,
}

impl ReplicaMetrics {
    /// Registers everything.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            connected: Family::default(),
            age: Family::default(),
            revision: Family::default(),
            guard: Family::default(),
            held: Family::default(),
            incompatible: Family::default(),
            rejected: Family::default(),
            kept: Family::default(),
            received: Family::default(),
            batches: Family::default(),
            changes: Family::default(),
            ended: Family::default(),
            unsaved: Family::default(),
            objects: Family::default(),
            cross_partition_conflicts: Gauge::default(),
        };
        registry.register(
            "feed_connected",
            "1 while a controller of the partition is followed",
            metrics.connected.clone(),
        );
        registry.register_with_unit(
            "snapshot_age",
            "Since when a controller has not confirmed what is served, or its API server has not been heard",
            Unit::Seconds,
            metrics.age.clone(),
        );
        registry.register(
            "feed_revision",
            "The controller's number of the change that is served",
            metrics.revision.clone(),
        );
        registry.register(
            "guard_holding",
            "1 while the mass-deletion guard keeps what a snapshot lacks",
            metrics.guard.clone(),
        );
        registry.register(
            "guard_held_objects",
            "Objects that the mass-deletion guard keeps",
            metrics.held.clone(),
        );
        registry.register(
            "feed_incompatible_objects",
            "Objects of the feed that can't be used here",
            metrics.incompatible.clone(),
        );
        registry.register(
            "feed_rejected_objects",
            "Objects that exist and are not accepted by the controller",
            metrics.rejected.clone(),
        );
        registry.register(
            "feed_kept_objects",
            "Those of them whose last accepted version is known here and not to the controller",
            metrics.kept.clone(),
        );
        registry.register_with_unit(
            "feed_received",
            "What was read from controllers, with TLS",
            Unit::Bytes,
            metrics.received.clone(),
        );
        registry.register(
            "feed_batches_applied",
            "Snapshots and deltas that were taken",
            metrics.batches.clone(),
        );
        registry.register(
            "feed_changes",
            "Changes to objects that batches made",
            metrics.changes.clone(),
        );
        registry.register(
            "feed_disconnects",
            "Streams that ended or did not begin, by reason",
            metrics.ended.clone(),
        );
        registry.register(
            "feed_copy_unsaved",
            "1 while the copy on disk can't be written",
            metrics.unsaved.clone(),
        );
        registry.register(
            "partition_conflicts",
            "Assignments that tie with one of another partition: a machine can match both, and only age or name decides",
            metrics.cross_partition_conflicts.clone(),
        );
        registry.register(
            "catalog_objects",
            "Objects that machines are answered from",
            metrics.objects.clone(),
        );
        metrics
    }

    /// Creates one series of each family, so that an encoded registry names every metric and label.
    pub fn create_series(&self) {
        let partition = self.of("");
        partition.applied(true, 0);
        partition.applied(false, 0);
        partition.ended("");
        self.count("", 0);
    }

    pub(crate) fn of(&self, partition: &str) -> PartitionMetrics {
        let of = Of {
            partition: partition.to_owned(),
        };
        PartitionMetrics {
            connected: self.connected.get_or_create(&of).clone(),
            age: self.age.get_or_create(&of).clone(),
            revision: self.revision.get_or_create(&of).clone(),
            guard: self.guard.get_or_create(&of).clone(),
            held: self.held.get_or_create(&of).clone(),
            incompatible: self.incompatible.get_or_create(&of).clone(),
            rejected: self.rejected.get_or_create(&of).clone(),
            kept: self.kept.get_or_create(&of).clone(),
            received: self.received.get_or_create(&of).clone(),
            unsaved: self.unsaved.get_or_create(&of).clone(),
            changes: self.changes.get_or_create(&of).clone(),
            all: self.clone(),
            partition: of.partition,
        }
    }

    pub(crate) fn count(&self, kind: &'static str, objects: usize) {
        self.objects
            .get_or_create(&Kind { kind })
            .set(gauge(objects));
    }
}

impl PartitionMetrics {
    pub(crate) fn applied(&self, snapshot: bool, changes: usize) {
        let kind = if snapshot { "snapshot" } else { "delta" };
        self.all
            .batches
            .get_or_create(&Batch {
                partition: self.partition.clone(),
                kind,
            })
            .inc();
        self.changes.inc_by(changes as u64);
    }

    #[cfg(test)]
    pub(crate) fn batches(&self, kind: &'static str) -> u64 {
        self.all
            .batches
            .get_or_create(&Batch {
                partition: self.partition.clone(),
                kind,
            })
            .get()
    }

    pub(crate) fn ended(&self, reason: &'static str) {
        self.all
            .ended
            .get_or_create(&End {
                partition: self.partition.clone(),
                reason,
            })
            .inc();
    }
}

pub(crate) fn gauge(value: impl TryInto<i64>) -> i64 {
    value.try_into().unwrap_or(i64::MAX)
}
