//! Metrics of the HTTP server.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::answer::{Answer, Outcome, Route};

/// The metrics of the HTTP server. Clones share their values.
#[derive(Clone)]
pub struct Metrics {
    requests: Family<RequestLabels, Counter>,
    durations: Family<RouteLabels, Histogram, fn() -> Histogram>,
    body_bytes: Counter,
    placeholders: Family<IdentityLabels, Counter>,
    contradicting_machines: Counter,
    /// Requests being answered. The limit on them reads this gauge.
    pub(crate) in_flight: Gauge,
    pub(crate) connections: Gauge,
    pub(crate) connections_shed: Counter,
    pub(crate) connections_displaced: Counter,
    pub(crate) accept_errors: Counter,
    pub(crate) log_lines_left_out: Counter,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    route: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RouteLabels {
    route: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct IdentityLabels {
    identity: &'static str,
}

/// Upper bounds of the duration histogram, in seconds.
const DURATION_BOUNDS: [f64; 11] = [
    0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.005, 0.025, 0.1, 0.5,
];

// === impl Metrics ===

impl Metrics {
    /// Registers all metrics, with each combination of route and outcome at zero.
    pub fn register(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("http");
        let metrics = Self {
            requests: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(DURATION_BOUNDS)),
            body_bytes: Counter::default(),
            placeholders: Family::default(),
            contradicting_machines: Counter::default(),
            in_flight: Gauge::default(),
            connections: Gauge::default(),
            connections_shed: Counter::default(),
            connections_displaced: Counter::default(),
            accept_errors: Counter::default(),
            log_lines_left_out: Counter::default(),
        };
        for route in Route::ALL.map(Route::name) {
            drop(metrics.durations.get_or_create(&RouteLabels { route }));
            for outcome in Outcome::ALL.map(Outcome::name) {
                drop(
                    metrics
                        .requests
                        .get_or_create(&RequestLabels { route, outcome }),
                );
            }
        }
        registry.register(
            "requests",
            "Requests, by route and outcome",
            metrics.requests.clone(),
        );
        registry.register_with_unit(
            "request_duration",
            "Time to make an answer, not including sending it",
            Unit::Seconds,
            metrics.durations.clone(),
        );
        registry.register(
            "requests_in_flight",
            "Requests being answered",
            metrics.in_flight.clone(),
        );
        registry.register_with_unit(
            "response_body",
            "Total size of all answer bodies",
            Unit::Bytes,
            metrics.body_bytes.clone(),
        );
        registry.register(
            "placeholder_identities",
            "Presented identities that are vendor placeholders and match nothing",
            metrics.placeholders.clone(),
        );
        registry.register(
            "contradicting_machines",
            "Requests for a script whose identities belong to two Machines, of which the stronger identity decided",
            metrics.contradicting_machines.clone(),
        );
        registry.register(
            "connections",
            "Open connections",
            metrics.connections.clone(),
        );
        registry.register(
            "connections_shed",
            "Connections answered with 503 because too many were open",
            metrics.connections_shed.clone(),
        );
        registry.register(
            "connections_displaced",
            "Connections that were closed to make room for others: of those that had proved least, or waited longest",
            metrics.connections_displaced.clone(),
        );
        registry.register(
            "accept_errors",
            "Failed accept calls, mostly because of a lack of file descriptors",
            metrics.accept_errors.clone(),
        );
        registry.register(
            "log_lines_left_out",
            "Refused requests without a line in the log, because there were too many",
            metrics.log_lines_left_out.clone(),
        );
        metrics
    }

    /// Creates one series of each family, so that an encoded registry names every metric and label.
    pub fn create_series(&self) {
        drop(
            self.placeholders
                .get_or_create(&IdentityLabels { identity: "" }),
        );
    }

    /// Counts an answered request.
    pub(crate) fn count(&self, answer: &Answer<'_>, took: Duration) {
        let route = answer.route.name();
        let outcome = answer.outcome.name();
        self.requests
            .get_or_create(&RequestLabels { route, outcome })
            .inc();
        self.durations
            .get_or_create(&RouteLabels { route })
            .observe(took.as_secs_f64());
        self.body_bytes.inc_by(answer.body.len() as u64);
        if answer.route == Route::Script {
            let subject = answer.subject.as_ref();
            if subject.is_some_and(|subject| subject.presents_two_machines()) {
                self.contradicting_machines.inc();
            }
            for identity in answer
                .subject
                .iter()
                .flat_map(|subject| subject.placeholders())
            {
                self.placeholders
                    .get_or_create(&IdentityLabels { identity })
                    .inc();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn clones_count_together_and_series_start_at_zero() {
        let mut registry = Registry::with_prefix("shaper");
        let metrics = Metrics::register(&mut registry);
        let others = [metrics.clone(), metrics.clone()];
        let answer = Answer::text(Route::Script, "12345".to_owned());
        for (metrics, took) in
            [&metrics, &others[0], &others[1]]
                .into_iter()
                .zip([10_000, 20_000, 2_000_000_000])
        {
            metrics.in_flight.inc();
            metrics.count(&answer, Duration::from_nanos(took));
        }
        others[1].count(
            &Answer::failure(Route::Config, Outcome::NoConfig, String::new()),
            Duration::from_millis(1),
        );
        others[0].in_flight.dec();
        drop(others);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            "# HELP shaper_http_requests Requests, by route and outcome.",
            "# TYPE shaper_http_requests counter",
            r#"shaper_http_requests_total{route="ipxe",outcome="ok"} 3"#,
            r#"shaper_http_requests_total{route="config",outcome="no_config"} 1"#,
            r#"shaper_http_requests_total{route="bootstrap",outcome="ok"} 0"#,
            "# TYPE shaper_http_request_duration_seconds histogram",
            "# UNIT shaper_http_request_duration_seconds seconds",
            r#"shaper_http_request_duration_seconds_sum{route="ipxe"} 2.00003"#,
            r#"shaper_http_request_duration_seconds_count{route="ipxe"} 3"#,
            r#"shaper_http_request_duration_seconds_bucket{le="0.00001",route="ipxe"} 1"#,
            r#"shaper_http_request_duration_seconds_bucket{le="0.000025",route="ipxe"} 2"#,
            r#"shaper_http_request_duration_seconds_bucket{le="0.5",route="ipxe"} 2"#,
            r#"shaper_http_request_duration_seconds_bucket{le="+Inf",route="ipxe"} 3"#,
            r#"shaper_http_request_duration_seconds_bucket{le="0.001",route="config"} 1"#,
            "# TYPE shaper_http_requests_in_flight gauge",
            "shaper_http_requests_in_flight 2",
            "# TYPE shaper_http_response_body_bytes counter",
            "shaper_http_response_body_bytes_total 15",
        ] {
            assert!(
                text.lines().any(|other| other == line),
                "{line} is not in\n{text}"
            );
        }
    }
}
