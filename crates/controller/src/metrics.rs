//! The controller's metrics.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

/// The controller's metrics.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    pub(crate) objects: Family<Kind, Gauge>,
    pub(crate) rejected: Gauge,
    pub(crate) unreadable: Gauge,
    pub(crate) conflicted: Gauge,
    pub(crate) updates: Family<Outcome, Counter>,
    pub(crate) listings: Counter,
    pub(crate) watch_errors: Counter,
    pub(crate) connected: Gauge,
    pub(crate) machines_followed: Gauge,
    pub(crate) heard: Gauge<f64, AtomicU64>,
    pub(crate) holder: Gauge,
    pub(crate) writes: Family<Outcome, Counter>,
    pub(crate) waiting: Gauge,
    pub(crate) refused: Gauge,
    pub(crate) replaced_ids: Counter,
    pub(crate) skipped_events: Counter,
    pub(crate) guard: Gauge,
    pub(crate) held: Gauge,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct Kind {
    pub(crate) kind: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct Outcome {
    pub(crate) outcome: &'static str,
}

impl Metrics {
    /// Registers all metrics.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "objects",
            "Objects in the cluster, by kind",
            metrics.objects.clone(),
        );
        registry.register(
            "objects_rejected",
            "Invalid objects; their conditions say why",
            metrics.rejected.clone(),
        );
        registry.register(
            "assignments_unreadable",
            "Invalid Assignments whose machines can't be determined: these may get another Assignment",
            metrics.unreadable.clone(),
        );
        registry.register(
            "assignments_conflicted",
            "Assignments in a conflict that only age or name decides",
            metrics.conflicted.clone(),
        );
        registry.register(
            "watch_updates",
            "Objects received from watches and lists, by outcome",
            metrics.updates.clone(),
        );
        registry.register("watch_lists", "Completed lists", metrics.listings.clone());
        registry.register(
            "watch_errors",
            "Failed lists and watches",
            metrics.watch_errors.clone(),
        );
        registry.register(
            "api_connected",
            "1 while all watches work",
            metrics.connected.clone(),
        );
        registry.register(
            "machines_followed",
            "1 while Machines are followed, 0 while the API server does not permit it or lacks their definition",
            metrics.machines_followed.clone(),
        );
        registry.register_with_unit(
            "api_silence",
            "Time since the last response from the API server",
            Unit::Seconds,
            metrics.heard.clone(),
        );
        registry.register(
            "lease_held",
            "1 while this controller writes status and events",
            metrics.holder.clone(),
        );
        registry.register(
            "status_writes",
            "Status writes, by outcome",
            metrics.writes.clone(),
        );
        registry.register(
            "status_queue_length",
            "Objects whose status may have to be written",
            metrics.waiting.clone(),
        );
        registry.register(
            "status_refused",
            "Objects whose status the API server refuses, as by a policy",
            metrics.refused.clone(),
        );
        registry.register(
            "config_ids_replaced",
            "Config ids that were replaced because they belong to another config, as after a status was copied",
            metrics.replaced_ids.clone(),
        );
        registry.register(
            "events_skipped",
            "Events that were not recorded because the object has had the same one, or many, in a short time",
            metrics.skipped_events.clone(),
        );
        registry.register(
            "guard_holding",
            "1 while the mass-deletion guard keeps objects that a list lacks",
            metrics.guard.clone(),
        );
        registry.register(
            "guard_held_objects",
            "Objects that the mass-deletion guard keeps",
            metrics.held.clone(),
        );
        metrics
    }

    /// Creates one series of each family, so that an encoded registry names every metric and label.
    pub fn create_series(&self) {
        drop(self.objects.get_or_create(&Kind { kind: "" }));
        for outcomes in [&self.updates, &self.writes] {
            drop(outcomes.get_or_create(&Outcome { outcome: "" }));
        }
    }
}
