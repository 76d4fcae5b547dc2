//! The metrics of each role.

use feed::{PublisherMetrics, ReplicaMetrics};
use prometheus_client::registry::Registry;

use crate::standalone;

/// The metrics of each role, with one series of each family: encoded, a registry names every metric, its labels and its help.
pub fn of_roles() -> [(&'static str, Registry); 5] {
    let role = |name, parts: &[fn(&mut Registry)]| {
        let mut registry = Registry::with_prefix("shaper");
        parts.iter().for_each(|part| part(&mut registry));
        (name, registry)
    };
    [
        role("api", &[tls, replica, http]),
        role("controller", &[controller, publisher, tls]),
        role("webhook", &[tls, replica, webhook]),
        role("tftp", &[tftp]),
        role(
            "standalone",
            &[tls, standalone::register_series, http, tftp],
        ),
    ]
}

fn http(registry: &mut Registry) {
    api::Metrics::register(registry).create_series();
}

fn controller(registry: &mut Registry) {
    controller::Metrics::register(registry).create_series();
}

fn publisher(registry: &mut Registry) {
    PublisherMetrics::register(registry).create_series();
}

fn replica(registry: &mut Registry) {
    ReplicaMetrics::register(registry).create_series();
}

fn webhook(registry: &mut Registry) {
    webhook::Metrics::register(registry).create_series();
}

fn tftp(registry: &mut Registry) {
    tftp::Metrics::register(registry);
}

fn tls(registry: &mut Registry) {
    tls::Metrics::register(registry).create_series();
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
            // What a collector brings has no descriptor of its own here.
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
