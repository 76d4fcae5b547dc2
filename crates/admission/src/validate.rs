//! Decides whether an object may be written, and collects warnings.

use std::time::{Duration, Instant};

use boot::{Catalog, Change, ObjectKey, ObjectRef};
use crd::FieldPath;
use review::impact::{self, Limits};
use review::{Disclosure, Finding, Reviewed, Rule, Survey, rule};
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::answer::Answer;
use crate::request::{Kind, Operation, Request, parse_json};

/// An Assignment without identities is compared with at most this many others, which no index can
/// tell apart.
const MAX_CONFLICT_CANDIDATES: usize = 10_000;

/// The warning while the catalog is not available.
const NO_CATALOG_WARNING: &str = "other objects are not known yet, so conflicts, missing Profiles and machines that would lose their Profile were not \
    checked (if this persists, check the controllers of shaper; `shaper validate` and `shaper diff` check them too)";
/// The catalog counts as stale from this age on.
const STALE_AFTER: Duration = Duration::from_secs(90);

/// Longest string of an object that may be an identity, in bytes.
const MAX_IDENTITY_BYTES: usize = 1024;

/// Time for checking the stored object when the new one is invalid.
const OLD_OBJECT_BUDGET: Duration = Duration::from_millis(700);

/// What a review is checked against.
#[derive(Clone, Copy)]
pub struct Context<'c> {
    /// All objects, ideally [with a selector index](Catalog::with_selector_index). `None` until
    /// they are known.
    pub catalog: Option<&'c Catalog>,
    /// How long ago the catalog was last known to be current. `None` if the caller maintains it.
    pub age: Option<Duration>,
    /// The partition of the API server that asks.
    pub partition: &'c str,
    /// When the answer is due.
    pub deadline: Option<Instant>,
}

/// An answer, and what the caller needs besides.
#[derive(Debug)]
pub struct Verdict {
    /// The answer.
    pub answer: Answer,
    /// The broken rules, with repetitions.
    pub rules: Vec<&'static Rule>,
    /// The change to the catalog if the object is written, if known.
    pub change: Option<Change>,
}

/// The result of checking one object by itself.
struct Checked {
    change: Option<Change>,
    findings: Vec<Finding>,
}

/// Validates a request.
///
/// Other kinds and unknown operations are allowed. Deletions, and updates of objects that are being
/// deleted, are never denied. An object that was invalid before and does not get worse may be
/// changed in anything but its spec.
pub fn validate(request: &Request<'_>, context: &Context<'_>) -> Verdict {
    let answer = Answer::allow(request);
    let unchecked = |answer| Verdict {
        answer,
        rules: Vec::new(),
        change: None,
    };
    let kind = match &request.kind {
        Ok(kind) => *kind,
        Err(other) => {
            return unchecked(answer.warn(&format!(
                "not checked: shaper checks Profile, Assignment and Machine of {}, not {other}",
                crd::API_VERSION
            )));
        }
    };
    match &request.operation {
        Operation::Delete => {
            let (namespace, name) = request.object_name();
            let key = ObjectKey::new(namespace, name).in_partition(context.partition);
            let change = match kind {
                Kind::Profile => Change::ProfileDeleted(key),
                Kind::Assignment => Change::AssignmentDeleted(key),
                Kind::Machine => Change::MachineDeleted(key),
            };
            let findings = cross_object(request, context, &change);
            allow(answer, findings, context, Some(change))
        }
        Operation::Create | Operation::Update if request.subresource.is_empty() => {
            validate_write(request, kind, answer, context)
        }
        Operation::Create | Operation::Update => unchecked(answer),
        Operation::Other(name) => {
            let shown: String = name.chars().take(32).collect();
            unchecked(answer.warn(&format!("not checked: the operation {shown:?} is unknown")))
        }
    }
}

fn validate_write(
    request: &Request<'_>,
    kind: Kind,
    answer: Answer,
    context: &Context<'_>,
) -> Verdict {
    let Some(object) = request.object else {
        let answer = answer.warn("not checked: the review has no object");
        return Verdict {
            answer,
            rules: Vec::new(),
            change: None,
        };
    };
    if is_being_deleted(object) {
        return Verdict {
            answer,
            rules: Vec::new(),
            change: None,
        };
    }
    let checked = check_object(request, kind, object, context);
    let is_wrong = checked.findings.iter().any(Finding::is_error);
    let mut known = if is_wrong && request.operation == Operation::Update {
        existing_faults(request, kind)
    } else {
        ExistingFaults::Nothing
    };
    let mut rules: Vec<_> = checked
        .findings
        .iter()
        .map(|finding| finding.rule)
        .collect();
    let (mut refused, mut warnings) = (Vec::new(), Vec::new());
    for finding in checked.findings {
        if finding.is_error() && !known.excuses(&finding) {
            refused.push(finding);
        } else {
            warnings.push(finding);
        }
    }
    if !refused.is_empty() {
        let answer = add_warnings(answer, warnings);
        return Verdict {
            answer: refused.iter().fold(answer, Answer::deny),
            rules,
            change: None,
        };
    }
    if let Some(change) = &checked.change {
        let cross_object = cross_object(request, context, change);
        rules.extend(cross_object.iter().map(|finding| finding.rule));
        warnings.extend(cross_object);
    }
    let verdict = allow(answer, warnings, context, checked.change);
    Verdict { rules, ..verdict }
}

/// Allows the object and adds the findings as warnings.
fn allow(
    mut answer: Answer,
    findings: Vec<Finding>,
    context: &Context<'_>,
    change: Option<Change>,
) -> Verdict {
    let rules = findings.iter().map(|finding| finding.rule).collect();
    if change.is_some() {
        answer = match (context.catalog, context.age) {
            (None, _) => answer.warn(NO_CATALOG_WARNING),
            (Some(_), Some(age)) if age >= STALE_AFTER => answer.warn(&format!(
                "the catalog is {} old, so warnings about conflicts, missing Profiles and machines that would lose their Profile may be \
                 wrong (check the controllers of shaper; `shaper validate` and `shaper diff` use the current objects)",
                format_age(age)
            )),
            (Some(_), _) => answer,
        };
    }
    Verdict {
        answer: add_warnings(answer, findings),
        rules,
        change,
    }
}

fn format_age(age: Duration) -> String {
    match age.as_secs() / 60 {
        0 | 1 => "1 minute".to_owned(),
        n if n < 120 => format!("{n} minutes"),
        n => format!("{} hours", n / 60),
    }
}

/// Adds the findings as warnings, most severe first, because the API server truncates the last
/// ones.
fn add_warnings(answer: Answer, mut findings: Vec<Finding>) -> Answer {
    findings.sort_by_key(severity_order);
    findings.iter().fold(answer, |answer, finding| {
        answer.warn_of(finding.rule, &sentence(finding))
    })
}

/// Sort key: changes of what machines boot first, then conflicts, then other findings of the
/// object, then findings in its script.
fn severity_order(finding: &Finding) -> usize {
    let gravest = [
        &rule::LOSES_PROFILE,
        &rule::MOVES_MACHINES,
        &rule::INCOMPLETE_CHECK,
        &rule::SHARED_IDENTITY,
        &rule::CONFLICT,
        &rule::NO_PROFILE,
    ];
    let is_remark = finding.rule.id.starts_with("ipxe-");
    gravest
        .iter()
        .position(|rule| **rule == *finding.rule)
        .unwrap_or(gravest.len() + usize::from(is_remark))
}

/// A finding with the name of its object: when a folder is applied, warnings are shown without
/// context.
fn sentence(finding: &Finding) -> String {
    let object = &finding.object;
    let (kind, name, sentence) = (object.kind(), &object.key().name, finding.sentence());
    match &finding.help {
        Some(help) => format!("{kind} {name}: {sentence} ({help})"),
        None => format!("{kind} {name}: {sentence}"),
    }
}

/// Checks the object by itself.
fn check_object(
    request: &Request<'_>,
    kind: Kind,
    object: &RawValue,
    context: &Context<'_>,
) -> Checked {
    let (namespace, name) = request.object_name();
    let object_name = ObjectKey::new(
        namespace,
        if name.is_empty() {
            "unnamed".into()
        } else {
            name
        },
    );
    match kind {
        Kind::Profile => match read::<crd::Profile>(object) {
            Ok(mut profile) => {
                (profile.metadata.namespace, profile.metadata.name) = (
                    Some(object_name.namespace.to_string()),
                    Some(object_name.name.to_string()),
                );
                let Reviewed { object, findings } =
                    review::profile_with_deadline(&profile, context.deadline);
                let placed = |profile: std::sync::Arc<boot::Profile>| {
                    Change::Profile(profile.in_partition(context.partition).into())
                };
                Checked {
                    change: object.map(placed),
                    findings,
                }
            }
            Err(reason) => unreadable(&ObjectRef::Profile(object_name), &reason),
        },
        Kind::Assignment => match read::<crd::Assignment>(object) {
            Ok(mut assignment) => {
                (assignment.metadata.namespace, assignment.metadata.name) = (
                    Some(object_name.namespace.to_string()),
                    Some(object_name.name.to_string()),
                );
                let Reviewed { object, findings } = review::assignment(&assignment);
                let placed = |assignment: std::sync::Arc<boot::Assignment>| {
                    let key = assignment.key.clone().in_partition(context.partition);
                    Change::Assignment(
                        boot::Assignment {
                            key,
                            ..(*assignment).clone()
                        }
                        .into(),
                    )
                };
                Checked {
                    change: object.map(placed),
                    findings,
                }
            }
            Err(reason) => unreadable(&ObjectRef::Assignment(object_name), &reason),
        },
        Kind::Machine => match read::<crd::Machine>(object) {
            Ok(mut machine) => {
                machine.metadata.name = Some(object_name.name.to_string());
                let Reviewed { object, findings } = review::machine(&machine);
                let placed = |machine: std::sync::Arc<boot::Machine>| {
                    let key = machine.key.clone().in_partition(context.partition);
                    Change::Machine(
                        boot::Machine {
                            key,
                            ..(*machine).clone()
                        }
                        .into(),
                    )
                };
                Checked {
                    change: object.map(placed),
                    findings,
                }
            }
            Err(reason) => unreadable(&ObjectRef::Machine(object_name), &reason),
        },
    }
}

/// Parses the typed object without its status and managed fields, so that errors there do not fail
/// a change of the rest.
fn read<T: DeserializeOwned>(object: &RawValue) -> Result<T, String> {
    let mut value: Value = serde_json::from_str(object.get()).map_err(|error| error.to_string())?;
    if let Some(fields) = value.as_object_mut() {
        fields.remove("status");
        if let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
    }
    serde_json::from_value(value).map_err(|error| error.to_string())
}

fn unreadable(name: &ObjectRef, reason: &str) -> Checked {
    let reason: String = reason.chars().take(300).collect();
    let finding = Finding::new(&rule::SCHEMA, name, FieldPath::default(), format!("does not match the schema: {reason}"))
        .help("`kubectl explain` lists the fields and their types; if this version of shaper has others, apply its config/crd");
    Checked {
        change: None,
        findings: vec![finding],
    }
}

/// Checks the object against all others, and what its change does to machines.
fn cross_object(request: &Request<'_>, context: &Context<'_>, change: &Change) -> Vec<Finding> {
    let Some(catalog) = context.catalog else {
        return Vec::new();
    };
    let mut next = catalog.clone();
    next.apply(change.clone());
    let disclosure = disclosure(request);
    let survey = || {
        Survey::of(&next)
            .with_conflict_limit(MAX_CONFLICT_CANDIDATES)
            .with_disclosure(disclosure.clone())
    };
    let mut findings = match change {
        Change::Profile(profile) => survey().profile(profile),
        Change::Assignment(assignment) => survey().assignment_with_losers(assignment),
        Change::Machine(machine) => survey().machine(machine),
        Change::ProfileDeleted(_)
        | Change::AssignmentDeleted(_)
        | Change::MachineDeleted(_)
        | Change::Rejected(_) => Vec::new(),
    };
    findings.extend(impact::of(
        catalog,
        change,
        &disclosure,
        Limits {
            deadline: context.deadline,
            ..Limits::default()
        },
    ));
    findings
}

/// The identities that the review itself names: those of the new and of the stored object, as the
/// API server sends them. A caller that makes up a review learns no others.
fn disclosure(request: &Request<'_>) -> Disclosure {
    let objects = [request.object, request.old_object].map(parse_json);
    let mut texts = Vec::new();
    for object in objects.iter().flatten() {
        collect_texts(&object["spec"], &mut texts);
        collect_texts(&object["metadata"]["labels"], &mut texts);
    }
    Disclosure::only(texts)
}

/// Collects the strings of a JSON value that are short enough for an identity.
fn collect_texts<'v>(value: &'v Value, texts: &mut Vec<&'v str>) {
    match value {
        Value::String(text) if text.len() <= MAX_IDENTITY_BYTES => texts.push(text),
        Value::Array(all) => all.iter().for_each(|one| collect_texts(one, texts)),
        Value::Object(all) => all.values().for_each(|one| collect_texts(one, texts)),
        _ => {}
    }
}

fn is_being_deleted(object: &RawValue) -> bool {
    parse_json(Some(object))
        .is_some_and(|object| !object["metadata"]["deletionTimestamp"].is_null())
}

/// What was wrong with the stored object.
enum ExistingFaults {
    /// Nothing that excuses a fault.
    Nothing,
    /// These faults.
    Faults(Vec<Finding>),
    /// It can't be parsed, so its spec can't get worse.
    Spec,
}

fn existing_faults(request: &Request<'_>, kind: Kind) -> ExistingFaults {
    let (Some(new), Some(old)) = (parse_json(request.object), parse_json(request.old_object))
    else {
        return ExistingFaults::Nothing;
    };
    let Some(raw) = request.old_object.filter(|_| new["spec"] == old["spec"]) else {
        return ExistingFaults::Nothing;
    };
    // A separate deadline: even if the new object used up its time, the faults of the stored one
    // must be found.
    let context = Context {
        catalog: None,
        age: None,
        partition: "",
        deadline: Some(Instant::now() + OLD_OBJECT_BUDGET),
    };
    let checked = check_object(request, kind, raw, &context);
    if checked
        .findings
        .iter()
        .any(|finding| *finding.rule == rule::SCHEMA)
    {
        ExistingFaults::Spec
    } else {
        ExistingFaults::Faults(checked.findings)
    }
}

// === impl Known ===

impl ExistingFaults {
    /// Whether the same rule was broken in the same place before. The message is not compared, as
    /// it may name another sample machine after a label was added. Each fault excuses one finding.
    fn excuses(&mut self, finding: &Finding) -> bool {
        let is_same = |known: &Finding| {
            known.rule == finding.rule && known.field == finding.field && known.line == finding.line
        };
        match self {
            Self::Nothing => false,
            Self::Faults(known) => {
                let at = known.iter().position(is_same);
                at.map(|at| known.swap_remove(at)).is_some()
            }
            Self::Spec => finding
                .field
                .segments()
                .first()
                .is_none_or(|step| *step == crd::PathSegment::Key("spec".to_owned())),
        }
    }
}
