//! Generates `metrics.md`: every metric of every role.

use std::collections::{BTreeMap, BTreeSet};

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use crate::markdown::{code, described, head, table};

/// Conditions to alert on: the metric, the expression, and what to do.
const ALERTS: &[(&str, &str, &str)] = &[
    (
        "shaper_guard_holding",
        "== 1",
        "objects vanished at once: confirm the deletion, or restore them",
    ),
    (
        "shaper_feed_connected",
        "== 0 for 5 minutes",
        "no controller can be followed: machines get the last known state",
    ),
    (
        "shaper_snapshot_age_seconds",
        "> 300",
        "what is served is old: look at controllers and their API server",
    ),
    (
        "shaper_feed_incompatible_objects",
        "> 0",
        "replica and controller have different versions",
    ),
    (
        "shaper_feed_copy_unsaved",
        "== 1",
        "the disk of --state-dir is full or read-only",
    ),
    (
        "shaper_partition_conflicts",
        "> 0",
        "two clusters claim the same machines",
    ),
    (
        "shaper_duplicate_config_ids",
        "> 0",
        "machines wait: a status was copied into another cluster; `/readyz?verbose` names the configs",
    ),
    (
        "shaper_config_ids_replaced_total",
        "rate > 0",
        "somebody copied the status of a Profile; its events say which",
    ),
    (
        "shaper_api_connected",
        "== 0 for 5 minutes",
        "the API server can't be reached",
    ),
    (
        "shaper_status_refused",
        "> 0 for an hour",
        "a policy or a quota refuses status writes; `/readyz?verbose` names an object and the reason",
    ),
    (
        "shaper_objects_rejected",
        "> 0",
        "objects are invalid; their conditions say why",
    ),
    (
        "shaper_assignments_unreadable",
        "> 0",
        "machines may get another Assignment than the one that is invalid",
    ),
    (
        "shaper_assignments_conflicted",
        "> 0",
        "only age or name decides between Assignments",
    ),
    (
        "shaper_manifest_problems",
        "> 0",
        "a file of the folder is broken: `shaper validate` shows it",
    ),
    (
        "shaper_manifest_read_stalled",
        "> 0",
        "a read does not return, most likely of a network file system; changes are not followed",
    ),
    (
        "shaper_manifest_scan_incomplete",
        "> 0",
        "the folder exceeds a limit, which `/readyz?verbose` names; files beyond it are not followed",
    ),
    (
        "shaper_tftp_read_stalled",
        "> 0",
        "a read does not return, most likely of a network file system; changes are not followed",
    ),
    (
        "shaper_tftp_scan_incomplete",
        "> 0",
        "the TFTP root exceeds a limit, which `/readyz?verbose` names; files beyond it are not followed",
    ),
    (
        "shaper_manifest_rejected_objects",
        "> 0",
        "machines wait for an object of a broken file",
    ),
    (
        "shaper_state_unsaved",
        "== 1",
        "the disk of --state-dir is full or read-only",
    ),
    (
        "shaper_folder_copy_unsaved",
        "== 1",
        "the disk of --state-dir is full or read-only",
    ),
    (
        "shaper_tls_files_invalid",
        "== 1",
        "a renewed certificate can't be used",
    ),
    (
        "shaper_cert_not_after_timestamp_seconds",
        "- time() < 7 days",
        "a certificate is about to expire",
    ),
    (
        "shaper_tls_handshake_errors_total",
        "rate > 0 for 10 minutes",
        "a peer has no valid certificate, or a machine does not trust ours",
    ),
    (
        "shaper_http_requests_total",
        "rate of outcomes other than `ok` above what is usual",
        "machines wait or get no Profile; the log names them",
    ),
    (
        "shaper_http_connections_shed_total",
        "rate > 0",
        "more machines than --http-connections",
    ),
    (
        "shaper_http_connections_displaced_total",
        "rate > 0",
        "all connections are taken, perhaps by strangers; the log names the address that holds most",
    ),
    (
        "shaper_http_accept_errors_total",
        "rate > 0",
        "the limit of open files is too low",
    ),
    (
        "shaper_webhook_connections_shed_total",
        "rate > 0",
        "the API server opens more connections than the webhook takes",
    ),
    (
        "shaper_tftp_skipped_files",
        "> 0",
        "files below --tftp-root are not served; the log names them",
    ),
    (
        "shaper_tftp_send_errors_total",
        "rate > 0",
        "the network does not take packets",
    ),
];

/// A metric as it is exposed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Metric {
    kind: String,
    help: String,
    /// Each label, with its values if they are known in advance.
    labels: BTreeMap<String, BTreeSet<String>>,
    roles: BTreeSet<&'static str>,
}

pub(crate) fn page() -> String {
    let metrics = of(&shaper::metrics::of_roles());
    for (name, ..) in ALERTS {
        assert!(
            metrics.contains_key(*name),
            "an alert is about {name}, which no role has"
        );
    }
    let mut page = head(
        "Metrics",
        "Every server exposes these at `/metrics` of its [admin port](http.md#admin-port), in the OpenMetrics text format. A \
         series of a label value appears when it first counts. *Alert on* is a proposal: what to compare, and what it means.",
    );
    page += "\n";
    let rows = metrics.iter().map(|(name, metric)| row(name, metric));
    page + &table(["metric", "type", "roles", "meaning", "alert on"], rows)
}

fn row(name: &str, metric: &Metric) -> [String; 5] {
    let labels: Vec<_> = metric.labels.keys().map(String::as_str).collect();
    let shown = match labels.as_slice() {
        [] => code(name),
        labels => code(&format!("{name}{{{}}}", labels.join(","))),
    };
    let mut meaning = described(name, Some(metric.help.trim_end_matches('.')));
    for (label, values) in metric
        .labels
        .iter()
        .filter(|(_, values)| !values.is_empty())
    {
        let values: Vec<_> = values.iter().map(|value| code(value)).collect();
        meaning += &format!(" {}: {}.", code(label), values.join(", "));
    }
    let alert = ALERTS.iter().find(|(of, ..)| *of == name);
    let alert = alert.map(|(_, when, what)| {
        format!(
            "{}: {what}",
            if when.contains('`') {
                (*when).to_owned()
            } else {
                code(when)
            }
        )
    });
    let roles: Vec<_> = metric.roles.iter().copied().collect();
    [
        shown,
        metric.kind.clone(),
        roles.join(", "),
        meaning,
        alert.unwrap_or_default(),
    ]
}

/// Returns all metrics of these registries, by the name of their series.
fn of(roles: &[(&'static str, Registry)]) -> BTreeMap<String, Metric> {
    let mut all: BTreeMap<String, Metric> = BTreeMap::new();
    for (role, registry) in roles {
        let mut text = String::new();
        encode(&mut text, registry).expect("a String takes all text");
        for (name, metric) in read(&text) {
            let known = all.entry(name).or_insert_with(|| Metric {
                kind: metric.kind.clone(),
                ..Metric::default()
            });
            if !known.help.contains(&metric.help) {
                let also = if known.help.is_empty() { "" } else { " " };
                known.help += &format!("{also}{}", metric.help);
            }
            for (label, values) in metric.labels {
                known.labels.entry(label).or_default().extend(values);
            }
            known.roles.insert(role);
        }
    }
    all
}

/// Parses metrics in the `OpenMetrics` text format.
fn read(text: &str) -> BTreeMap<String, Metric> {
    let mut metrics: BTreeMap<String, Metric> = BTreeMap::new();
    let (mut help, mut kind, mut family) = ("", "", "");
    for line in text.lines() {
        let (marker, rest) = line.split_once(' ').unwrap_or_default();
        if marker == "#" {
            let mut words = rest.splitn(3, ' ');
            match (words.next(), words.next(), words.next()) {
                (Some("HELP"), Some(name), says) => {
                    (family, help) = (name, says.unwrap_or_default());
                }
                (Some("TYPE"), _, Some(is)) => kind = is,
                _ => {}
            }
            continue;
        }
        let name = if kind == "counter" {
            format!("{family}_total")
        } else {
            family.to_owned()
        };
        let metric = metrics.entry(name).or_default();
        (metric.kind, metric.help) = (kind.to_owned(), help.to_owned());
        let labels = line
            .split_once('{')
            .and_then(|(_, rest)| rest.rsplit_once('}'))
            .map_or("", |(labels, _)| labels);
        for pair in labels.split(',').filter(|pair| !pair.is_empty()) {
            let Some((label, value)) = pair.split_once('=') else {
                continue;
            };
            if label != "le" {
                let values = metric.labels.entry(label.to_owned()).or_default();
                let value = value.trim_matches('"');
                values.extend((!value.is_empty()).then(|| value.to_owned()));
            }
        }
    }
    metrics
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::metrics::gauge::Gauge;

    use super::*;

    #[test]
    #[should_panic(expected = "shaper_lost has no description")]
    fn a_metric_without_help_is_refused() {
        let mut registry = Registry::with_prefix("shaper");
        registry.register("lost", "", Gauge::<i64>::default());
        for (name, metric) in of(&[("api", registry)]) {
            row(&name, &metric);
        }
    }

    #[test]
    fn a_metric_of_two_roles_is_listed_once_with_both() {
        let registry = || {
            let mut registry = Registry::with_prefix("shaper");
            registry.register("seen", "How many were seen", Counter::<u64>::default());
            registry
        };
        let metrics = of(&[("api", registry()), ("tftp", registry())]);
        let [(name, metric)] = metrics.iter().collect::<Vec<_>>()[..] else {
            panic!("{metrics:?}")
        };
        assert_eq!(
            row(name, metric)[..4],
            [
                "`shaper_seen_total`",
                "counter",
                "api, tftp",
                "How many were seen."
            ]
        );
    }
}
