//! Metrics of the publisher.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// The publisher's metrics. Clones share their values.
#[derive(Clone, Default)]
pub struct PublisherMetrics {
    pub(super) followers: Gauge,
    pub(super) revision: Gauge,
    pub(super) batches: Family<BatchLabels, Counter>,
    pub(super) ended: Family<EndLabels, Counter>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct BatchLabels {
    pub(super) kind: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct EndLabels {
    pub(super) reason: &'static str,
}

impl PublisherMetrics {
    /// Registers all metrics with value zero.
    pub fn register(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("feed");
        let metrics = Self::default();
        registry.register(
            "followers",
            "API replicas and webhooks that follow this controller",
            metrics.followers.clone(),
        );
        registry.register(
            "published_revision",
            "Number of catalog changes since this process started",
            metrics.revision.clone(),
        );
        registry.register(
            "batches",
            "Snapshots and deltas sent completely, by kind",
            metrics.batches.clone(),
        );
        registry.register(
            "streams_ended",
            "Streams of followers that ended or were refused, by reason",
            metrics.ended.clone(),
        );
        metrics
    }

    /// Creates one series of each family, so that an encoded registry names every metric and label.
    pub fn create_series(&self) {
        self.sent("");
        self.ended("");
    }

    pub(super) fn sent(&self, kind: &'static str) {
        self.batches.get_or_create(&BatchLabels { kind }).inc();
    }

    pub(super) fn ended(&self, reason: &'static str) {
        self.ended.get_or_create(&EndLabels { reason }).inc();
    }
}
