//! Checks a single object.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use boot::arch::{self, BUILDARCH};
use boot::nearest::nearest;
use boot::profile::{EXTRINSIC_PREFIX, INTRINSIC_PREFIX};
use boot::render::RenderError;
use boot::{ConfigName, Mac, ObjectKey, ObjectRef, Templates, identity};
use crd::{FieldPath, Invalid};

use crate::finding::Finding;
use crate::rule;
use crate::sample;

mod cloud_config;
mod labels;
mod machine;
mod origin;
mod size;

pub use machine::machine;
use origin::Origin;

/// The converted object, and the findings about it.
#[derive(Clone, Debug)]
pub struct Reviewed<T> {
    /// The converted object. `None` if the conversion rejects it; the reason is then among the
    /// findings.
    pub object: Option<Arc<T>>,
    /// The findings.
    pub findings: Vec<Finding>,
}

/// The architectures that iPXE has names for.
const KNOWN_ARCHITECTURES: [&str; 8] = [
    "x86_64", "arm64", "i386", "arm32", "riscv32", "riscv64", "loong64", "s390x",
];
/// Maximum number of remarks on the scripts of one Profile.
const MAX_REMARKS: usize = 200;
/// The prefix of labels that say which machines a Profile is meant for.
const ASSIGNMENT_PREFIX: &str = "assignment";

/// Checks a Profile: its conversion, its labels, and its templates, rendered for sample machines.
///
/// ```
/// let manifest = serde_json::json!({
///     "apiVersion": "shaper.amahdha.com/v1alpha1",
///     "kind": "Profile",
///     "metadata": { "namespace": "lab", "name": "debian" },
///     "spec": { "ipxe": "#!ipxe\nkernal http://files.example/vmlinuz\nboot\n" },
/// });
/// let reviewed = review::profile(&serde_json::from_value(manifest)?);
///
/// assert!(reviewed.object.is_some());
/// let typo = reviewed
///     .findings
///     .iter()
///     .find(|finding| finding.rule.id == "ipxe-unknown-command");
/// assert_eq!(typo.and_then(|finding| finding.line), Some(2));
/// # Ok::<(), serde_json::Error>(())
/// ```
pub fn profile(profile: &crd::Profile) -> Reviewed<boot::Profile> {
    profile_with_deadline(profile, None)
}

/// Like [`profile`], but renders no templates after the deadline; a finding reports this.
pub fn profile_with_deadline(
    profile: &crd::Profile,
    deadline: Option<Instant>,
) -> Reviewed<boot::Profile> {
    let name = ObjectRef::Profile(object_key(
        profile.metadata.namespace.as_deref(),
        profile.metadata.name.as_deref(),
    ));
    let converted = match crd::convert_profile(profile) {
        Ok(converted) => converted,
        Err(error) => {
            return Reviewed {
                object: None,
                findings: conversion_findings(&name, &error),
            };
        }
    };
    let mut findings = Vec::new();
    let labels = profile.metadata.labels.iter().flatten();
    labels.for_each(|(key, value)| {
        check_target_label(
            &name,
            &FieldPath::new(["metadata", "labels"]),
            key,
            value,
            &mut findings,
        );
    });
    size::check(&name, profile, &mut findings);
    check_shebang(&name, &profile.spec.ipxe, &mut findings);
    labels::check(&name, &converted.templates, &mut findings);
    check_rendering(&name, &converted, deadline, &mut findings);
    Reviewed {
        object: Some(Arc::new(converted)),
        findings,
    }
}

/// Checks an Assignment: its conversion, and selectors that can't be intended.
pub fn assignment(assignment: &crd::Assignment) -> Reviewed<boot::Assignment> {
    let name = ObjectRef::Assignment(object_key(
        assignment.metadata.namespace.as_deref(),
        assignment.metadata.name.as_deref(),
    ));
    let converted = match crd::convert_assignment(assignment) {
        Ok(converted) => converted,
        Err(error) => {
            return Reviewed {
                object: None,
                findings: conversion_findings(&name, &error),
            };
        }
    };
    let mut findings = Vec::new();
    let spec = &assignment.spec;
    let selectors = FieldPath::new(["spec", "subjectSelectors"]);
    check_placeholders(&name, &spec.subject_selectors, &mut findings);
    for (key, value) in &spec.subject_selectors.match_labels {
        let field = selectors.key("matchLabels").key(key);
        let before = findings.len();
        check_subject_key(&name, field.clone(), key, &mut findings);
        findings[before..]
            .iter_mut()
            .for_each(|finding| finding.is_key = true);
        check_architecture(&name, field, key, value, &mut findings);
    }
    for (at, required) in spec.subject_selectors.match_expressions.iter().enumerate() {
        let field = selectors.key("matchExpressions").index(at);
        check_subject_key(&name, field.key("key"), &required.key, &mut findings);
        for (at, value) in required.values.iter().enumerate() {
            check_architecture(
                &name,
                field.key("values").index(at),
                &required.key,
                value,
                &mut findings,
            );
        }
    }
    let labels = &converted.subjects.labels;
    if !labels.is_compatible(labels) {
        let required: Vec<_> = labels
            .requirements()
            .iter()
            .map(ToString::to_string)
            .collect();
        let message = format!("no machine matches all of {}", required.join(", "));
        let help = "remove the contradiction; for alternatives, use one requirement with operator In, or several Assignments";
        findings.push(Finding::new(&rule::NEVER_MATCHES, &name, selectors, message).help(help));
    }
    for (key, value) in &spec.profile_selectors {
        check_target_label(
            &name,
            &FieldPath::new(["spec", "profileSelectors"]),
            key,
            value,
            &mut findings,
        );
    }
    Reviewed {
        object: Some(Arc::new(converted)),
        findings,
    }
}

/// Turns a conversion error into findings, in the conversion's words.
fn conversion_findings(name: &ObjectRef, error: &Invalid) -> Vec<Finding> {
    match error {
        Invalid::Field { field, reason } => {
            // The conversion's messages start with the item that they are about.
            let is_key = reason.starts_with("config name ") || reason.starts_with("label key ");
            vec![Finding {
                is_key,
                ..Finding::new(&rule::CONVERSION, name, field.clone(), reason)
            }]
        }
        Invalid::Templates(errors) => errors
            .iter()
            .map(|error| {
                let field = crd::template_field(error);
                Finding::new(&rule::TEMPLATE, name, field, &error.reason).at(error.line, None)
            })
            .collect(),
    }
}

fn object_key(namespace: Option<&str>, name: Option<&str>) -> ObjectKey {
    let namespace = namespace
        .filter(|namespace| !namespace.is_empty())
        .unwrap_or(crd::DEFAULT_NAMESPACE);
    ObjectKey::new(namespace, name.unwrap_or_default())
}

fn check_placeholders(
    name: &ObjectRef,
    selectors: &crd::SubjectSelectors,
    findings: &mut Vec<Finding>,
) {
    let uuid = |text: &str| identity::parse_uuid(text).is_some_and(identity::is_placeholder_uuid);
    let mac = |text: &str| text.parse::<Mac>().is_ok_and(|mac| mac.is_placeholder());
    let mut check = |field: &str, texts: &[String], is_placeholder: &dyn Fn(&str) -> bool| {
        for (at, text) in texts
            .iter()
            .enumerate()
            .filter(|(_, text)| is_placeholder(text))
        {
            let field = FieldPath::new(["spec", "subjectSelectors", field]).index(at);
            findings.push(placeholder_finding(name, field, text));
        }
    };
    check("uuids", &selectors.uuids, &uuid);
    check(
        "serialNumbers",
        &selectors.serial_numbers,
        &identity::is_placeholder_serial,
    );
    check("macAddresses", &selectors.mac_addresses, &mac);
}

fn placeholder_finding(name: &ObjectRef, field: FieldPath, text: &str) -> Finding {
    let message =
        format!("{text:?} is a placeholder that vendors leave on boards, so it matches no machine");
    let help = "use another identity of the machine, such as its MAC address";
    Finding::new(&rule::PLACEHOLDER, name, field, message).help(help)
}

/// Reports a key that looks like a typo of one that machines present.
fn check_subject_key(name: &ObjectRef, field: FieldPath, key: &str, findings: &mut Vec<Finding>) {
    if let Some(meant) = meant_key(key) {
        let message = format!("no machine presents {key:?} by itself (did you mean `{meant}`?)");
        let help = format!("if {key} is a label that you set with --label, this is fine");
        findings.push(Finding::new(&rule::LABEL_KEY, name, field, message).help(help));
    }
}

fn meant_key(key: &str) -> Option<&'static str> {
    // A plural is not taken for a typo: many sites call their kernel server `assets`.
    nearest(key, boot::subject::BOOTSTRAP_LABELS)
        .filter(|meant| *meant != key && key.strip_suffix('s') != Some(*meant))
}

fn check_architecture(
    name: &ObjectRef,
    field: FieldPath,
    key: &str,
    value: &str,
    findings: &mut Vec<Finding>,
) {
    let canonical = arch::canonical(value);
    if key != BUILDARCH || KNOWN_ARCHITECTURES.contains(&canonical.as_ref()) {
        return;
    }
    let others = ["amd64", "aarch64", "x86-64", "armv7"];
    let hint = boot::nearest::did_you_mean(value, KNOWN_ARCHITECTURES.into_iter().chain(others));
    let message = format!("iPXE has no architecture {value:?}{hint}");
    findings.push(
        Finding::new(&rule::UNKNOWN_ARCHITECTURE, name, field, message)
            .help(format!("there are {}", KNOWN_ARCHITECTURES.join(", "))),
    );
}

/// Checks labels of the form `assignment/ipxe-KEY` and `assignment/extrinsic-KEY`, in Profiles and
/// in selectors.
fn check_target_label(
    name: &ObjectRef,
    labels: &FieldPath,
    key: &str,
    value: &str,
    findings: &mut Vec<Finding>,
) {
    let field = || labels.key(key);
    if let Some(own) = key.strip_prefix(INTRINSIC_PREFIX) {
        if let Some(meant) = meant_key(own) {
            let message =
                format!("no machine presents {own:?} (did you mean `{INTRINSIC_PREFIX}{meant}`?)");
            findings.push(Finding::new(&rule::LABEL_KEY, name, field(), message).of_key());
        }
        return check_architecture(name, field(), own, value, findings);
    }
    if let Some(own) = key.strip_prefix(EXTRINSIC_PREFIX) {
        return check_architecture(name, field(), own, value, findings);
    }
    let Some((prefix, rest)) = key.split_once('/') else {
        return;
    };
    if prefix != ASSIGNMENT_PREFIX && nearest(prefix, [ASSIGNMENT_PREFIX]).is_none() {
        return;
    }
    let meant = boot::subject::BOOTSTRAP_LABELS
        .iter()
        .map(|own| format!("{INTRINSIC_PREFIX}{own}"))
        .collect::<Vec<_>>();
    let fixed = format!("{ASSIGNMENT_PREFIX}/{rest}");
    let is_fixed = fixed.starts_with(INTRINSIC_PREFIX) || fixed.starts_with(EXTRINSIC_PREFIX);
    let near = if is_fixed {
        Some(fixed.as_str())
    } else {
        nearest(key, meant.iter().map(String::as_str))
    };
    let hint = near.map_or_else(String::new, |near| format!(" (did you mean `{near}`?)"));
    let message = format!("the label {key:?} means nothing to shaper{hint}");
    let help = format!(
        "a Profile states what it requires of machines with {INTRINSIC_PREFIX}KEY and {EXTRINSIC_PREFIX}KEY"
    );
    findings.push(
        Finding::new(&rule::LABEL_KEY, name, field(), message)
            .of_key()
            .help(help),
    );
}

/// Reports a missing or misplaced `#!ipxe` line. The server adds the line if it is missing; the
/// author may expect another first line to have its effect.
fn check_shebang(name: &ObjectRef, source: &str, findings: &mut Vec<Finding>) {
    let start = source.trim_start_matches(['\u{feff}', ' ', '\t', '\r', '\n']);
    let is_script = start
        .strip_prefix("#!ipxe")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']));
    // An expression at the start of a template may produce the line.
    if is_script || start.starts_with("{{") || start.starts_with("{%") {
        return;
    }
    let line = source[..source.len() - start.len()].matches('\n').count() + 1;
    let first: String = start
        .lines()
        .next()
        .unwrap_or_default()
        .chars()
        .take(40)
        .collect();
    let message = format!(
        "the script starts with {first:?}; iPXE recognizes a script by its first line #!ipxe, which shaper adds"
    );
    let length = first.chars().count().max(1);
    findings.push(
        Finding::new(
            &ipxe::rule::SHEBANG,
            name,
            FieldPath::new(["spec", "ipxe"]),
            message,
        )
        .at(Some(line), Some(1..length + 1))
        .help("make #!ipxe the first line"),
    );
}

/// Renders all templates for machines of each architecture, as at boot, and lints the scripts.
fn check_rendering(
    name: &ObjectRef,
    profile: &boot::Profile,
    deadline: Option<Instant>,
    findings: &mut Vec<Finding>,
) {
    let selection = sample::selection(profile, None);
    let samples = sample::of(profile);
    let templates = &profile.templates;
    // A template that does not depend on the architecture renders the same for all of them; an
    // admission review has no time to render it seven times.
    let samples_for = |source: &str| {
        &samples[..if depends_on_machine(source) {
            samples.len()
        } else {
            samples.len().min(1)
        }]
    };
    let source = templates.script_source();
    let mut scripts: BTreeSet<(String, &str)> = BTreeSet::new();
    // The rules for UEFI include those for BIOS.
    let platform = |sample: &'_ sample::Sample| {
        if sample.platform == "pcbios" {
            "pcbios"
        } else {
            "efi"
        }
    };
    let any_efi = samples.iter().any(|sample| platform(sample) == "efi");
    let is_out_of_time = || deadline.is_some_and(|deadline| Instant::now() > deadline);
    let mut skipped_from = None;
    for sample in samples_for(source) {
        if is_out_of_time() {
            skipped_from = Some(FieldPath::new(["spec", "ipxe"]));
            break;
        }
        match selection.script(&sample.subject, sample::BASE_URL) {
            Ok(script) => {
                let platform = if any_efi && !depends_on_machine(source) {
                    "efi"
                } else {
                    platform(sample)
                };
                scripts.insert((script, platform));
            }
            Err(error) => {
                findings.extend(render_finding(name, "spec.ipxe", &error, sample));
                break;
            }
        }
    }
    for config in templates.config_names() {
        for sample in samples_for(templates.config_source(config)) {
            if is_out_of_time() {
                skipped_from.get_or_insert_with(|| {
                    FieldPath::new(["spec", "additionalConfig", config.as_str()])
                });
                break;
            }
            let assignment = Some(&selection.assignment);
            let rendered = boot::render::config(
                &selection.profile,
                config,
                &sample.subject,
                assignment,
                sample::BASE_URL,
            );
            let finding = match rendered {
                Ok(text) => cloud_config_finding(name, config, templates, &text),
                Err(error) => {
                    let template = format!("spec.additionalConfig.{config}");
                    render_finding(name, &template, &error, sample)
                }
            };
            if finding.is_some() {
                findings.extend(finding);
                break;
            }
        }
    }
    if let Some(field) = skipped_from {
        let message = "templates from here on were not checked: out of time";
        findings.push(
            Finding::new(&rule::INCOMPLETE_CHECK, name, field, message)
                .help("run `shaper validate`, which has no time limit"),
        );
    }
    let mut seen: Vec<Finding> = Vec::new();
    for (script, platform) in &scripts {
        if is_out_of_time() {
            let message = "the script was not checked for every machine: out of time";
            let finding = Finding::new(
                &rule::INCOMPLETE_CHECK,
                name,
                FieldPath::new(["spec", "ipxe"]),
                message,
            );
            findings.push(finding.help("run `shaper validate`, which has no time limit"));
            break;
        }
        let lines: Vec<&str> = script.split('\n').collect();
        let mut remarks = ipxe::lint(script, platform);
        // Errors come first, so that the limit never cuts them off.
        remarks.sort_by_key(|remark| remark.rule.severity);
        for remark in remarks {
            if seen.len() >= MAX_REMARKS {
                break;
            }
            let finding = remark_finding(
                name,
                source,
                &remark,
                lines.get(remark.line - 1).copied().unwrap_or_default(),
            );
            // The same template line, reported for another sample.
            let is_repeat = |other: &Finding| {
                other.rule == finding.rule
                    && other.line == finding.line
                    && other.columns == finding.columns
                    && finding.line.is_some()
            };
            if !seen
                .iter()
                .any(|other| is_repeat(other) || *other == finding)
            {
                seen.push(finding);
            }
        }
    }
    seen.sort_by(|a, b| {
        (a.line, a.columns.as_ref().map(|columns| columns.start))
            .cmp(&(b.line, b.columns.as_ref().map(|columns| columns.start)))
    });
    findings.extend(seen);
}

/// Whether a template could render differently on another architecture: it names one, or reads
/// labels that it does not name.
fn depends_on_machine(source: &str) -> bool {
    // What it includes may name one.
    let names_it = [BUILDARCH, "platform", "include"]
        .iter()
        .any(|name| source.contains(name));
    let is_unnamed = |variable: &str| {
        source
            .match_indices(variable)
            .any(|(at, _)| !source[at + variable.len()..].starts_with('.'))
    };
    names_it || is_unnamed("subject") || is_unnamed("encoded")
}

fn render_finding(
    name: &ObjectRef,
    template: &str,
    error: &RenderError,
    sample: &sample::Sample,
) -> Option<Finding> {
    let (line, reason) = match error {
        // The labels of the sample's Assignment are made up.
        RenderError::Failed { reason, .. } if reason.starts_with("assignment has no label") => {
            return None;
        }
        RenderError::Failed { line, reason, .. } => (*line, reason.clone()),
        // A real machine presents more labels than a template names.
        RenderError::MissingLabel { .. }
        | RenderError::MissingExtrinsic { .. }
        | RenderError::Unsafe(_)
        | RenderError::NotReady(_)
        // Another object may give it.
        | RenderError::MissingVariable { .. }
        | RenderError::NoMachine { .. }
        | RenderError::InvalidVariable { .. } => return None,
    };
    let message = format!(
        "can't be rendered for a sample machine ({}, {}): {reason}",
        sample.arch, sample.platform
    );
    Some(
        Finding::new(
            &rule::RENDER,
            name,
            FieldPath::new(template.split('.')),
            message,
        )
        .at(line, None),
    )
}

/// Reports a config for cloud-init that it can't read, at the template line that produced the
/// fault.
fn cloud_config_finding(
    name: &ObjectRef,
    config: &ConfigName,
    templates: &Templates,
    text: &str,
) -> Option<Finding> {
    let cloud_config::Fault { line, message } = cloud_config::check(text)?;
    let field = FieldPath::new(["spec", "additionalConfig", config.as_str()]);
    let rendered = text.split('\n').nth(line - 1).unwrap_or_default();
    let source = templates.config_source(config);
    let finding = Finding::new(&rule::CLOUD_CONFIG, name, field, message);
    Some(match origin::of(source, line, rendered, &(1..2)) {
        Origin::Known { line, .. } => finding.at(Some(line), None),
        Origin::Unknown => finding,
    })
}

/// Places a remark on a script at the template line that produced the script line.
fn remark_finding(name: &ObjectRef, source: &str, remark: &ipxe::Remark, line: &str) -> Finding {
    let field = FieldPath::new(["spec", "ipxe"]);
    let finding = match origin::of(source, remark.line, line, &remark.columns) {
        Origin::Known { line, columns } => {
            Finding::new(remark.rule, name, field, remark.message.clone()).at(Some(line), columns)
        }
        Origin::Unknown => {
            let shown: String = line.trim().chars().take(120).collect();
            let message = format!(
                "{} (in the line `{shown}`, as rendered for a sample machine)",
                remark.message
            );
            Finding::new(remark.rule, name, field, message)
        }
    };
    match &remark.help {
        Some(help) => finding.help(help.clone()),
        None => finding,
    }
}
