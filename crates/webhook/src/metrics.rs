//! Metrics of the webhook.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use review::Rule;

/// The metrics of a webhook. Clones share their values.
#[derive(Clone)]
pub struct Metrics {
    reviews: Family<ReviewLabels, Counter>,
    durations: Family<DurationLabels, Histogram>,
    findings: Family<FindingLabels, Counter>,
    refusals: Family<RefusalLabels, Counter>,
    pub(crate) connections: Gauge,
    pub(crate) connections_shed: Counter,
    pub(crate) connections_displaced: Counter,
    pub(crate) in_flight: Gauge,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReviewLabels {
    webhook: &'static str,
    kind: &'static str,
    operation: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct DurationLabels {
    webhook: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct FindingLabels {
    rule: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RefusalLabels {
    reason: &'static str,
}

impl Metrics {
    /// Registers all metrics.
    pub fn register(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("webhook");
        let metrics = Self {
            reviews: Family::default(),
            durations: Family::new_with_constructor(|| {
                Histogram::new([
                    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.5, 2.0,
                ])
            }),
            findings: Family::default(),
            refusals: Family::default(),
            connections: Gauge::default(),
            connections_shed: Counter::default(),
            connections_displaced: Counter::default(),
            in_flight: Gauge::default(),
        };
        registry.register(
            "reviews",
            "Reviews, by webhook, kind, operation and outcome",
            metrics.reviews.clone(),
        );
        registry.register_with_unit(
            "review_duration",
            "Time to answer a review, not including reading it",
            Unit::Seconds,
            metrics.durations.clone(),
        );
        registry.register(
            "findings",
            "Findings in reviewed objects, by rule",
            metrics.findings.clone(),
        );
        registry.register(
            "refusals",
            "Requests that got no review, by reason",
            metrics.refusals.clone(),
        );
        registry.register(
            "connections",
            "Open connections",
            metrics.connections.clone(),
        );
        registry.register(
            "connections_shed",
            "Connections closed because too many were open",
            metrics.connections_shed.clone(),
        );
        registry.register(
            "connections_displaced",
            "Connections that were closed to make room for others: of those that had proved least, or waited longest",
            metrics.connections_displaced.clone(),
        );
        registry.register(
            "reviews_in_flight",
            "Reviews being read or answered",
            metrics.in_flight.clone(),
        );
        metrics
    }

    /// Creates one series of each family, so that an encoded registry names every metric and label.
    pub fn create_series(&self) {
        for outcome in ["allowed", "warned", "denied"] {
            self.record_review("validate", "", "", outcome);
        }
        self.record_review("mutate", "", "", "patched");
        self.record_duration("validate", Duration::ZERO);
        self.record_duration("mutate", Duration::ZERO);
        drop(self.findings.get_or_create(&FindingLabels { rule: "" }));
        for reason in [
            "path",
            "method",
            "media_type",
            "too_large",
            "slow",
            "unreadable",
            "malformed",
            "overloaded",
            "broken",
        ] {
            self.record_refusal(reason);
        }
    }

    pub(crate) fn record_review(
        &self,
        webhook: &'static str,
        kind: &'static str,
        operation: &'static str,
        outcome: &'static str,
    ) {
        self.reviews
            .get_or_create(&ReviewLabels {
                webhook,
                kind,
                operation,
                outcome,
            })
            .inc();
    }

    pub(crate) fn record_duration(&self, webhook: &'static str, took: Duration) {
        self.durations
            .get_or_create(&DurationLabels { webhook })
            .observe(took.as_secs_f64());
    }

    pub(crate) fn record_findings(&self, rules: &[&'static Rule]) {
        for rule in rules {
            self.findings
                .get_or_create(&FindingLabels { rule: rule.id })
                .inc();
        }
    }

    pub(crate) fn record_refusal(&self, reason: &'static str) {
        self.refusals.get_or_create(&RefusalLabels { reason }).inc();
    }
}
