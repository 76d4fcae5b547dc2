//! Formats findings as SARIF 2.1.0 (OASIS, 27 March 2020), which code hosts show next to the lines
//! of a change.

use review::{Severity, rule};
use serde_json::{Value, json};

use super::Report;

pub(super) fn write(report: &Report<'_>) -> String {
    let rules: Vec<Value> = rule::all()
        .map(|rule| {
            json!({
                "id": rule.id,
                "shortDescription": { "text": rule.summary },
                "defaultConfiguration": { "level": level(rule.severity) },
            })
        })
        .collect();
    let results: Vec<Value> = report
        .faults()
        .map(|(source, fault)| result(report, &source.name, fault))
        .collect();
    let log = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": { "name": "shaper", "version": env!("CARGO_PKG_VERSION"), "rules": rules } },
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    });
    serde_json::to_string_pretty(&log).expect("its keys are strings") + "\n"
}

fn result(report: &Report<'_>, file: &str, fault: &manifests::Fault) -> Value {
    let index = rule::all().position(|rule| rule.id == fault.rule.id);
    let help = fault
        .help
        .as_ref()
        .map_or_else(String::new, |help| format!("\n{help}"));
    let mut place = json!({ "artifactLocation": { "uri": uri(file) } });
    if let Some(spot) = fault.spot.filter(|spot| spot.line > 0) {
        let mut region = json!({ "startLine": spot.line });
        if spot.start > 0 && spot.end > spot.start {
            region["startColumn"] = spot.start.into();
            region["endColumn"] = spot.end.into();
        }
        place["region"] = region;
    }
    let mut location = json!({ "physicalLocation": place });
    if let Some(object) = &fault.object {
        location["logicalLocations"] =
            json!([{ "fullyQualifiedName": object.to_string(), "kind": "object" }]);
    }
    json!({
        "ruleId": fault.rule.id,
        "ruleIndex": index,
        "level": level(report.severity(fault)),
        "message": { "text": fault.sentence() + &help },
        "locations": [location],
    })
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    }
}

/// Formats a path as a relative or a `file:` reference (RFC 3986).
fn uri(path: &str) -> String {
    let mut uri = String::from(if path.starts_with('/') { "file://" } else { "" });
    for (at, part) in path.split('/').enumerate() {
        if at > 0 {
            uri.push('/');
        }
        // A colon in the first segment would make it a scheme.
        let mut encoded = String::new();
        boot::query::encode_into(&mut encoded, part);
        uri += &encoded.replace(':', "%3A");
    }
    uri
}
