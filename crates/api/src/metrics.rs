//! What the server counts.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::answer::{Answer, Outcome, Route};

/// What the server counts. A clone counts the same.
#[derive(Clone)]
pub struct Metrics {
    /// By route, then outcome, in the order of their discriminants: no lookup on the way of a request.
    requests: [[Counter; Outcome::ALL.len()]; Route::ALL.len()],
    durations: [Histogram; Route::ALL.len()],
    placeholders: Family<Identity, Counter>,
    pub(crate) connections: Gauge,
    pub(crate) connections_shed: Counter,
    pub(crate) accept_errors: Counter,
    pub(crate) in_flight: Gauge,
    pub(crate) bytes: Counter<u64, AtomicU64>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Ended {
    route: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Asked {
    route: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Identity {
    identity: &'static str,
}

impl Metrics {
    /// Registers everything, each at zero.
    pub fn register(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("http");
        let requests = Family::<Ended, Counter>::default();
        let durations = Family::<Asked, Histogram>::new_with_constructor(|| {
            Histogram::new([0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.005, 0.025, 0.1, 0.5])
        });
        let metrics = Self {
            requests: Route::ALL.map(|route| {
                Outcome::ALL.map(|outcome| requests.get_or_create(&Ended { route: route.name(), outcome: outcome.name() }).clone())
            }),
            durations: Route::ALL.map(|route| durations.get_or_create(&Asked { route: route.name() }).clone()),
            placeholders: Family::default(),
            connections: Gauge::default(),
            connections_shed: Counter::default(),
            accept_errors: Counter::default(),
            in_flight: Gauge::default(),
            bytes: Counter::default(),
        };
        registry.register("requests", "Requests by what was asked for and how it ended", requests);
        registry.register_with_unit("request_duration", "Time to make an answer, without sending it", Unit::Seconds, durations);
        registry.register(
            "placeholder_identities",
            "Identities presented that are only a vendor's filler and match nothing",
            metrics.placeholders.clone(),
        );
        registry.register("connections", "Open connections", metrics.connections.clone());
        registry.register("connections_shed", "Connections that got a 503 because there were too many", metrics.connections_shed.clone());
        registry.register(
            "accept_errors",
            "Failures to accept a connection, most of them for want of file descriptors",
            metrics.accept_errors.clone(),
        );
        registry.register("requests_in_flight", "Requests being answered", metrics.in_flight.clone());
        registry.register_with_unit("response_body", "Size of all answers", Unit::Bytes, metrics.bytes.clone());
        metrics
    }

    pub(crate) fn count(&self, answer: &Answer, took: Duration) {
        let (route, outcome) = (answer.route as usize, answer.outcome as usize);
        self.requests[route][outcome].inc();
        self.durations[route].observe(took.as_secs_f64());
        self.bytes.inc_by(answer.body.len() as u64);
        if answer.route == Route::Script {
            for identity in answer.subject.iter().flat_map(|subject| subject.placeholders()) {
                self.placeholders.get_or_create(&Identity { identity }).inc();
            }
        }
    }
}
