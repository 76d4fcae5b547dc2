//! Metrics about certificates and handshakes.

use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Metrics of all certificate directories. Clones share their values.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    not_after: Family<DirectoryLabels, Gauge>,
    reloads: Family<DirectoryLabels, Counter>,
    failures: Family<FailureLabels, Counter>,
    files_invalid: Family<DirectoryLabels, Gauge>,
    handshake_errors: Family<FailureLabels, Counter>,
}

/// Labels by the directory's use: `feed`, `https`, `webhook`.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct DirectoryLabels {
    tls: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct FailureLabels {
    tls: &'static str,
    reason: &'static str,
}

impl Metrics {
    /// Registers all metrics.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "cert_not_after_timestamp_seconds",
            "Expiry of the certificate in use, in seconds since the Unix epoch",
            metrics.not_after.clone(),
        );
        registry.register(
            "tls_reloads",
            "Certificates loaded, the first included",
            metrics.reloads.clone(),
        );
        registry.register(
            "tls_reload_failures",
            "Failures to load certificate files, by reason",
            metrics.failures.clone(),
        );
        registry.register(
            "tls_files_invalid",
            "1 while the certificate files are invalid and older ones, if any, stay in use",
            metrics.files_invalid.clone(),
        );
        registry.register(
            "tls_handshake_errors",
            "Failed TLS handshakes, by reason",
            metrics.handshake_errors.clone(),
        );
        metrics
    }

    /// Creates one series of each family, so that an encoded registry names every metric and label.
    pub fn create_series(&self) {
        self.loaded("", UNIX_EPOCH);
        self.failed("", "");
        self.handshake_failed("", "");
    }

    /// Counts a failed handshake. `reason` comes from
    /// [`handshake_reason`](crate::handshake_reason).
    pub fn handshake_failed(&self, tls: &'static str, reason: &'static str) {
        self.handshake_errors
            .get_or_create(&FailureLabels { tls, reason })
            .inc();
    }

    pub(crate) fn loaded(&self, tls: &'static str, not_after: SystemTime) {
        let seconds = not_after
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        self.not_after
            .get_or_create(&DirectoryLabels { tls })
            .set(i64::try_from(seconds).unwrap_or(i64::MAX));
        self.reloads.get_or_create(&DirectoryLabels { tls }).inc();
        self.recovered(tls);
    }

    pub(crate) fn recovered(&self, tls: &'static str) {
        self.files_invalid
            .get_or_create(&DirectoryLabels { tls })
            .set(0);
    }

    pub(crate) fn failed(&self, tls: &'static str, reason: &'static str) {
        self.failures
            .get_or_create(&FailureLabels { tls, reason })
            .inc();
        self.files_invalid
            .get_or_create(&DirectoryLabels { tls })
            .set(1);
    }
}
