//! Metrics of a replica.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

/// A replica's metrics. Clones share their values.
#[derive(Clone, Default)]
pub struct ReplicaMetrics {
    connected: Family<PartitionLabels, Gauge>,
    age: Family<PartitionLabels, Gauge<f64, AtomicU64>>,
    revision: Family<PartitionLabels, Gauge>,
    guard: Family<PartitionLabels, Gauge>,
    held: Family<PartitionLabels, Gauge>,
    incompatible: Family<PartitionLabels, Gauge>,
    rejected: Family<PartitionLabels, Gauge>,
    kept: Family<PartitionLabels, Gauge>,
    received: Family<PartitionLabels, Counter>,
    batches: Family<BatchLabels, Counter>,
    changes: Family<PartitionLabels, Counter>,
    ended: Family<EndLabels, Counter>,
    unsaved: Family<PartitionLabels, Gauge>,
    objects: Family<KindLabels, Gauge>,
    pub(crate) cross_partition_conflicts: Gauge,
    pub(crate) duplicate_ids: Gauge,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PartitionLabels {
    partition: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct BatchLabels {
    partition: String,
    kind: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct EndLabels {
    partition: String,
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

/// The metrics of one partition.
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
    /// Registers all metrics.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "feed_connected",
            "1 while a controller of the partition is followed",
            metrics.connected.clone(),
        );
        registry.register_with_unit(
            "snapshot_age",
            "Time since a controller in contact with its API server last confirmed the served objects",
            Unit::Seconds,
            metrics.age.clone(),
        );
        registry.register(
            "feed_revision",
            "The controller's revision of the served catalog",
            metrics.revision.clone(),
        );
        registry.register(
            "guard_holding",
            "1 while the mass-deletion guard keeps objects that a snapshot lacks",
            metrics.guard.clone(),
        );
        registry.register(
            "guard_held_objects",
            "Objects that the mass-deletion guard keeps",
            metrics.held.clone(),
        );
        registry.register(
            "feed_incompatible_objects",
            "Objects of the feed that this version can't use",
            metrics.incompatible.clone(),
        );
        registry.register(
            "feed_rejected_objects",
            "Objects that the controller rejects",
            metrics.rejected.clone(),
        );
        registry.register(
            "feed_kept_objects",
            "Rejected objects of which only this replica knows an accepted version",
            metrics.kept.clone(),
        );
        registry.register_with_unit(
            "feed_received",
            "Bytes received from controllers, including TLS",
            Unit::Bytes,
            metrics.received.clone(),
        );
        registry.register(
            "feed_batches_applied",
            "Snapshots and deltas that were applied",
            metrics.batches.clone(),
        );
        registry.register(
            "feed_changes",
            "Object changes made by applied batches",
            metrics.changes.clone(),
        );
        registry.register(
            "feed_disconnects",
            "Streams that ended or did not start, by reason",
            metrics.ended.clone(),
        );
        registry.register(
            "feed_copy_unsaved",
            "1 while the copy on disk can't be written",
            metrics.unsaved.clone(),
        );
        registry.register(
            "partition_conflicts",
            "Assignments that conflict with one of another partition: a machine can match both, and only age or name decides",
            metrics.cross_partition_conflicts.clone(),
        );
        registry.register(
            "duplicate_config_ids",
            "Config ids that several configs have, as after a status was copied into another cluster; their links answer 503",
            metrics.duplicate_ids.clone(),
        );
        registry.register(
            "catalog_objects",
            "Objects in the catalog, by kind",
            metrics.objects.clone(),
        );
        metrics
    }

    /// Creates one series of each family, so that an encoded registry names every metric and label.
    pub fn create_series(&self) {
        let partition = self.partition("");
        partition.applied(true, 0);
        partition.applied(false, 0);
        partition.ended("");
        self.set_objects("", 0);
    }

    pub(crate) fn partition(&self, partition: &str) -> PartitionMetrics {
        let labels = PartitionLabels {
            partition: partition.to_owned(),
        };
        PartitionMetrics {
            connected: self.connected.get_or_create(&labels).clone(),
            age: self.age.get_or_create(&labels).clone(),
            revision: self.revision.get_or_create(&labels).clone(),
            guard: self.guard.get_or_create(&labels).clone(),
            held: self.held.get_or_create(&labels).clone(),
            incompatible: self.incompatible.get_or_create(&labels).clone(),
            rejected: self.rejected.get_or_create(&labels).clone(),
            kept: self.kept.get_or_create(&labels).clone(),
            received: self.received.get_or_create(&labels).clone(),
            unsaved: self.unsaved.get_or_create(&labels).clone(),
            changes: self.changes.get_or_create(&labels).clone(),
            all: self.clone(),
            partition: labels.partition,
        }
    }

    pub(crate) fn set_objects(&self, kind: &'static str, objects: usize) {
        self.objects
            .get_or_create(&KindLabels { kind })
            .set(gauge(objects));
    }
}

impl PartitionMetrics {
    pub(crate) fn applied(&self, snapshot: bool, changes: usize) {
        let kind = if snapshot { "snapshot" } else { "delta" };
        self.all
            .batches
            .get_or_create(&BatchLabels {
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
            .get_or_create(&BatchLabels {
                partition: self.partition.clone(),
                kind,
            })
            .get()
    }

    pub(crate) fn ended(&self, reason: &'static str) {
        self.all
            .ended
            .get_or_create(&EndLabels {
                partition: self.partition.clone(),
                reason,
            })
            .inc();
    }
}

pub(crate) fn gauge(value: impl TryInto<i64>) -> i64 {
    value.try_into().unwrap_or(i64::MAX)
}
