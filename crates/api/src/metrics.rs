//! What the server counts.
//!
//! What each request adds to is counted by each thread for itself and added up when somebody asks: numbers that all threads write would be
//! fetched from another core for each request. What is rare, or comes once a connection, is counted together.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::answer::{Answer, Outcome, Route};

/// What the server counts. A clone counts the same.
#[derive(Clone)]
pub struct Metrics {
    own: Arc<Counts>,
    all: All,
    placeholders: Family<Identity, Counter>,
    pub(crate) connections: Gauge,
    pub(crate) connections_shed: Counter,
    pub(crate) accept_errors: Counter,
}

/// What one thread counts.
#[derive(Debug, Default)]
struct Counts {
    /// By route, then outcome, in the order of their discriminants: no lookup on the way of a request.
    requests: [[AtomicU64; Outcome::ALL.len()]; Route::ALL.len()],
    durations: [Durations; Route::ALL.len()],
    bytes: AtomicU64,
    in_flight: AtomicUsize,
}

#[derive(Debug, Default)]
struct Durations {
    nanoseconds: AtomicU64,
    /// Those that took at most as long as the bound of the same place, and longer than that before.
    counts: [AtomicU64; BOUNDS.len()],
}

/// What all threads count, also those that are gone.
#[derive(Clone, Debug, Default)]
struct All(Arc<Mutex<Vec<Arc<Counts>>>>);

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

/// Seconds.
const BOUNDS: [f64; 12] = [
    0.000_01,
    0.000_025,
    0.000_05,
    0.000_1,
    0.000_25,
    0.000_5,
    0.001,
    0.005,
    0.025,
    0.1,
    0.5,
    f64::INFINITY,
];

// === impl Metrics ===

impl Metrics {
    /// Registers everything, each at zero.
    pub fn register(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("http");
        let all = All::default();
        let metrics = Self {
            own: all.another(),
            all: all.clone(),
            placeholders: Family::default(),
            connections: Gauge::default(),
            connections_shed: Counter::default(),
            accept_errors: Counter::default(),
        };
        registry.register_collector(Box::new(all));
        registry.register(
            "placeholder_identities",
            "Identities presented that are only a vendor's filler and match nothing",
            metrics.placeholders.clone(),
        );
        registry.register(
            "connections",
            "Open connections",
            metrics.connections.clone(),
        );
        registry.register(
            "connections_shed",
            "Connections that got a 503 because there were too many",
            metrics.connections_shed.clone(),
        );
        registry.register(
            "accept_errors",
            "Failures to accept a connection, most of them for want of file descriptors",
            metrics.accept_errors.clone(),
        );
        metrics
    }

    /// Creates one series of each family, so that an encoded registry names every metric and label.
    pub fn create_series(&self) {
        drop(self.placeholders.get_or_create(&Identity { identity: "" }));
    }

    /// The same for another thread, which counts what each request counts for itself.
    pub(crate) fn of_another_thread(&self) -> Self {
        Self {
            own: self.all.another(),
            ..self.clone()
        }
    }

    /// A request is being answered. So many were on this thread already.
    pub(crate) fn begin(&self) -> usize {
        self.own.in_flight.fetch_add(1, Ordering::Relaxed)
    }

    /// A request is not being answered any more. Said on the thread, or by a clone, where it began.
    pub(crate) fn end(&self) {
        self.own.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many are being answered on all threads. Looks at what other threads write: not for each request.
    pub(crate) fn in_flight(&self) -> usize {
        self.all.in_flight()
    }

    pub(crate) fn count(&self, answer: &Answer<'_>, took: Duration) {
        let (route, outcome) = (answer.route as usize, answer.outcome as usize);
        self.own.requests[route][outcome].fetch_add(1, Ordering::Relaxed);
        self.own.durations[route].count(took);
        self.own
            .bytes
            .fetch_add(answer.body.len() as u64, Ordering::Relaxed);
        if answer.route == Route::Script {
            for identity in answer
                .subject
                .iter()
                .flat_map(|subject| subject.placeholders())
            {
                self.placeholders
                    .get_or_create(&Identity { identity })
                    .inc();
            }
        }
    }
}

// === impl Durations ===

impl Durations {
    fn count(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let place = BOUNDS
            .iter()
            .position(|bound| seconds <= *bound)
            .unwrap_or(BOUNDS.len() - 1);
        self.counts[place].fetch_add(1, Ordering::Relaxed);
        // Wraps after 584 years of answering.
        self.nanoseconds.fetch_add(
            u64::try_from(took.as_nanos()).unwrap_or_default(),
            Ordering::Relaxed,
        );
    }
}

// === impl All ===

impl All {
    fn another(&self) -> Arc<Counts> {
        let counts = Arc::<Counts>::default();
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(counts.clone());
        counts
    }

    fn in_flight(&self) -> usize {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter()
            .map(|counts| counts.in_flight.load(Ordering::Relaxed))
            .sum()
    }
}

impl Collector for All {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let all = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let sum = |of: &dyn Fn(&Counts) -> &AtomicU64| {
            all.iter()
                .map(|counts| of(counts).load(Ordering::Relaxed))
                .sum::<u64>()
        };

        let help = "Requests by what was asked for and how it ended.";
        let mut requests =
            encoder.encode_descriptor("requests", help, None, MetricType::Counter)?;
        for route in Route::ALL {
            for outcome in Outcome::ALL {
                let count = sum(&|counts| &counts.requests[route as usize][outcome as usize]);
                let ended = Ended {
                    route: route.name(),
                    outcome: outcome.name(),
                };
                requests
                    .encode_family(&ended)?
                    .encode_counter(&count, NO_EXEMPLAR)?;
            }
        }

        let help = "Time to make an answer, without sending it.";
        let mut durations = encoder.encode_descriptor(
            "request_duration",
            help,
            Some(&Unit::Seconds),
            MetricType::Histogram,
        )?;
        for route in Route::ALL {
            let mut buckets = BOUNDS.map(|bound| (bound, 0));
            for (place, (_, count)) in buckets.iter_mut().enumerate() {
                *count = sum(&|counts| &counts.durations[route as usize].counts[place]);
            }
            let seconds =
                Duration::from_nanos(sum(&|counts| &counts.durations[route as usize].nanoseconds))
                    .as_secs_f64();
            let count = buckets.iter().map(|(_, count)| count).sum();
            let asked = Asked {
                route: route.name(),
            };
            durations
                .encode_family(&asked)?
                .encode_histogram::<Asked>(seconds, count, &buckets, None)?;
        }

        let in_flight = i64::try_from(self.in_flight()).unwrap_or(i64::MAX);
        encoder
            .encode_descriptor(
                "requests_in_flight",
                "Requests being answered.",
                None,
                MetricType::Gauge,
            )?
            .encode_gauge(&in_flight)?;

        let bytes = sum(&|counts| &counts.bytes);
        let mut answers = encoder.encode_descriptor(
            "response_body",
            "Size of all answers.",
            Some(&Unit::Bytes),
            MetricType::Counter,
        )?;
        answers.encode_counter(&bytes, NO_EXEMPLAR)
    }
}

const NO_EXEMPLAR: Option<&Exemplar<Asked, u64>> = None;

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn what_threads_count_for_themselves_is_told_as_one() {
        let mut registry = Registry::with_prefix("shaper");
        let metrics = Metrics::register(&mut registry);
        let others = [metrics.of_another_thread(), metrics.of_another_thread()];
        let answer = Answer::text(Route::Script, "12345".to_owned());
        for (metrics, took) in
            [&metrics, &others[0], &others[1]]
                .into_iter()
                .zip([10_000, 20_000, 2_000_000_000])
        {
            metrics.begin();
            metrics.count(&answer, Duration::from_nanos(took));
        }
        others[1].count(
            &Answer::failure(Route::Config, Outcome::NoConfig, String::new()),
            Duration::from_millis(1),
        );
        others[0].clone().end();
        drop(others);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            "# HELP shaper_http_requests Requests by what was asked for and how it ended.",
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
