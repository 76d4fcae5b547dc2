//! Finds where templates use a machine's labels in a way that lets the machine decide too much.

use boot::config_format::Syntax;
use boot::template::{LabelUse, Uses, access};
use boot::{ObjectRef, Templates};
use crd::FieldPath;

use crate::finding::Finding;
use crate::rule;

/// Reports labels that reach a config raw, and URLs whose host a machine may choose.
pub(super) fn check(name: &ObjectRef, templates: &Templates, findings: &mut Vec<Finding>) {
    let script = FieldPath::new(["spec", "ipxe"]);
    check_hosts(name, &script, templates.script_uses(), findings);
    for config in templates.config_names() {
        let field = FieldPath::new(["spec", "additionalConfig", config.as_str()]);
        let Some(uses) = templates.config_uses(config.as_str()) else {
            continue;
        };
        let syntax = templates.config_syntax(config);
        for used in uses.raw.iter().filter(|used| may_be_unsafe(used)) {
            findings.push(raw(name, field.clone(), used, syntax));
        }
        check_hosts(name, &field, uses, findings);
    }
}

/// Whether a label can have a value that is not plain text. UUIDs and MAC addresses are parsed.
fn may_be_unsafe(used: &LabelUse) -> bool {
    !matches!(used.label.as_deref(), Some("uuid" | "mac"))
}

fn raw(name: &ObjectRef, field: FieldPath, used: &LabelUse, syntax: Syntax) -> Finding {
    let (filter, place) = (syntax.filter(), syntax.filter_place());
    let or_format = if syntax == Syntax::Unknown {
        "; if another filter fits the format, name it in spec.configFormats"
    } else {
        ""
    };
    let (message, help) = match &used.label {
        Some(label) => (
            format!(
                "the label {label:?} reaches the config as the machine presents it: a value that is not plain text in {syntax} is a 400"
            ),
            format!(
                "write {{{{ {} | {filter} }}}}, {place}, or {} if it is an operator's label{or_format}",
                access("subject", label),
                access("extrinsic", label)
            ),
        ),
        None => (
            format!(
                "labels reach the config as the machine presents them: a value that is not plain text in {syntax} is a 400"
            ),
            format!("write them through | {filter}, {place}{or_format}"),
        ),
    };
    Finding::new(&rule::RAW_LABEL, name, field, message)
        .at(Some(used.line), None)
        .help(help)
}

fn check_hosts(name: &ObjectRef, field: &FieldPath, uses: &Uses, findings: &mut Vec<Finding>) {
    for used in &uses.hosts {
        let Some(label) = &used.label else { continue };
        let message = format!("a machine may choose the host of this URL, by its label {label:?}");
        let help = format!(
            "write {{{{ {} }}}} if it is an operator's label; otherwise, choose the host by a Profile for each value",
            access("extrinsic", label)
        );
        findings.push(
            Finding::new(&rule::HOST_FROM_LABEL, name, field.clone(), message)
                .at(Some(used.line), None)
                .help(help),
        );
    }
}
