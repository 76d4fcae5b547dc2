//! Registers the metrics of each role.

use feed::{PublisherMetrics, ReplicaMetrics};
use prometheus_client::registry::Registry;

use crate::standalone::metrics::Metrics as FolderMetrics;

/// The metrics of `shaper api`.
pub(crate) struct Api {
    pub(crate) tls: tls::Metrics,
    pub(crate) replica: ReplicaMetrics,
    pub(crate) http: api::Metrics,
}

/// The metrics of `shaper controller`.
pub(crate) struct Controller {
    pub(crate) controller: controller::Metrics,
    pub(crate) publisher: PublisherMetrics,
    pub(crate) tls: tls::Metrics,
}

/// The metrics of `shaper webhook`.
pub(crate) struct Webhook {
    pub(crate) tls: tls::Metrics,
    pub(crate) replica: ReplicaMetrics,
    pub(crate) webhook: webhook::Metrics,
}

/// The metrics of `shaper standalone`, in addition to those of [`Tftp`] if it serves TFTP.
pub(crate) struct Standalone {
    pub(crate) tls: tls::Metrics,
    pub(crate) folder: FolderMetrics,
    pub(crate) http: api::Metrics,
}

/// The metrics of `shaper tftp`.
pub(crate) struct Tftp {
    pub(crate) tftp: tftp::Metrics,
}

/// Returns each role's metrics with one series of each family, so that an encoded registry names
/// every metric, its labels and its help.
pub fn of_roles() -> [(&'static str, Registry); 5] {
    let role = |name, register: fn(&mut Registry)| {
        let mut registry = Registry::with_prefix("shaper");
        register(&mut registry);
        (name, registry)
    };
    [
        role("api", |registry| Api::register(registry).create_series()),
        role("controller", |registry| {
            Controller::register(registry).create_series();
        }),
        role("webhook", |registry| {
            Webhook::register(registry).create_series();
        }),
        role("tftp", |registry| drop(Tftp::register(registry))),
        role("standalone", |registry| {
            Standalone::register(registry).create_series();
            Tftp::register(registry);
        }),
    ]
}

// === impl Api ===

impl Api {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        Self {
            tls: tls::Metrics::register(registry),
            replica: ReplicaMetrics::register(registry),
            http: api::Metrics::register(registry),
        }
    }

    fn create_series(&self) {
        self.tls.create_series();
        self.replica.create_series();
        self.http.create_series();
    }
}

// === impl Controller ===

impl Controller {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        Self {
            controller: controller::Metrics::register(registry),
            publisher: PublisherMetrics::register(registry),
            tls: tls::Metrics::register(registry),
        }
    }

    fn create_series(&self) {
        self.controller.create_series();
        self.publisher.create_series();
        self.tls.create_series();
    }
}

// === impl Webhook ===

impl Webhook {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        Self {
            tls: tls::Metrics::register(registry),
            replica: ReplicaMetrics::register(registry),
            webhook: webhook::Metrics::register(registry),
        }
    }

    fn create_series(&self) {
        self.tls.create_series();
        self.replica.create_series();
        self.webhook.create_series();
    }
}

// === impl Standalone ===

impl Standalone {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        Self {
            tls: tls::Metrics::register(registry),
            folder: FolderMetrics::register(registry),
            http: api::Metrics::register(registry),
        }
    }

    fn create_series(&self) {
        self.tls.create_series();
        self.folder.create_series();
        self.http.create_series();
    }
}

// === impl Tftp ===

impl Tftp {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        Self {
            tftp: tftp::Metrics::register(registry),
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn every_registered_metric_has_a_series() {
        for (role, registry) in of_roles() {
            let mut text = String::new();
            encode(&mut text, &registry).unwrap();
            // Metrics of a collector have no `Descriptor` in this output.
            let registered = format!("{registry:?}").matches("Descriptor {").count();
            let shown = text
                .lines()
                .filter(|line| line.starts_with("# HELP "))
                .count();
            assert!(
                registered <= shown,
                "{role}: {registered} registered, {shown} shown:\n{text}"
            );
        }
    }
}
