//! Formats findings for scripts, as one object whose fields are stable.

use boot::ObjectRef;
use review::Severity;
use serde::Serialize;

use super::Report;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'r> {
    /// Incremented when a field changes its meaning or is removed.
    version: u32,
    errors: usize,
    warnings: usize,
    files: usize,
    assignments: usize,
    profiles: usize,
    findings: Vec<Found<'r>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Found<'r> {
    rule: &'static str,
    severity: Severity,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    help: Option<&'r str>,
    file: &'r str,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_column: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    object: Option<Object<'r>>,
    #[serde(skip_serializing_if = "String::is_empty")]
    field: String,
}

#[derive(Serialize)]
struct Object<'r> {
    kind: &'static str,
    namespace: &'r str,
    name: &'r str,
}

pub(super) fn write(report: &Report<'_>) -> String {
    let findings = report.faults().map(|(source, fault)| {
        let columns = fault.spot.filter(|spot| spot.start > 0);
        Found {
            rule: fault.rule.id,
            severity: report.severity(fault),
            message: fault.sentence(),
            help: fault.help.as_deref(),
            file: &source.name,
            line: fault.spot.map(|spot| spot.line),
            column: columns.map(|spot| spot.start),
            end_column: columns.map(|spot| spot.end),
            object: fault.object.as_deref().map(object),
            field: fault.field.to_string(),
        }
    });
    let document = Document {
        version: 1,
        errors: report.errors(),
        warnings: report.warnings(),
        files: report.batch.sources.len(),
        assignments: report.batch.catalog.assignment_count(),
        profiles: report.batch.catalog.profile_count(),
        findings: findings.collect(),
    };
    serde_json::to_string_pretty(&document).expect("its keys are strings") + "\n"
}

fn object(name: &ObjectRef) -> Object<'_> {
    let kind = name.kind();
    Object {
        kind,
        namespace: &name.key().namespace,
        name: &name.key().name,
    }
}
