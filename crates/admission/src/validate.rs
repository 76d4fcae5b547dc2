//! Whether an object may be written, and what somebody should know who writes it.

use std::time::{Duration, Instant};

use boot::{Catalog, Change, ObjectKey, ObjectRef};
use crd::FieldPath;
use review::impact::{self, Limits};
use review::{Finding, Reviewed, Rule, Survey, rule};
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::answer::Answer;
use crate::request::{Kind, Operation, Request, parse_json};

/// An Assignment is held against so many others without identities, which an index can't tell apart.
const MAX_CONFLICT_CANDIDATES: usize = 10_000;

/// What is said while other objects are not known.
const NO_CATALOG_WARNING: &str = "other objects are not known here yet, so that conflicts, missing Profiles and machines that would lose theirs were not \
    looked for (look at the controllers of shaper if this stays; `shaper validate` and `shaper diff` look for them)";
/// What is known of other objects is old from here on.
const STALE_AFTER: Duration = Duration::from_secs(90);

/// How long the object may be looked at that a wrong one replaces.
const OLD_OBJECT_BUDGET: Duration = Duration::from_millis(700);

/// What else there is.
#[derive(Clone, Copy)]
pub struct Context<'c> {
    /// All objects, best [with selectors](Catalog::with_selector_index). None where they are not known yet.
    pub catalog: Option<&'c Catalog>,
    /// How long ago the catalog was last known to be true. None where it is kept by whoever asks.
    pub age: Option<Duration>,
    /// The cluster of the server that asks, as the catalog calls it.
    pub partition: &'c str,
    /// When the answer has to be there.
    pub deadline: Option<Instant>,
}

/// An answer, and what came out on the way.
#[derive(Debug)]
pub struct Verdict {
    /// What the server is answered.
    pub answer: Answer,
    /// The rules that were broken, with repetitions.
    pub rules: Vec<&'static Rule>,
    /// What becomes of the catalog if the object is written, if that is known.
    pub change: Option<Change>,
}

/// An object that was looked at.
struct Checked {
    change: Option<Change>,
    findings: Vec<Finding>,
}

/// Judges a request.
///
/// What is not ours, and operations that are not known, are allowed. A deletion is never refused, nor is a change of an object that is
/// being deleted. An object that was wrong before and is not made worse may be changed in anything but its spec.
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
            let known = "shaper checks Profile and Assignment of";
            return unchecked(answer.warn(&format!(
                "{known} {} only, and this is {other}",
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
            };
            let findings = cross_object(context, &change);
            allow(answer, findings, context, Some(change))
        }
        Operation::Create | Operation::Update if request.subresource.is_empty() => {
            validate_write(request, kind, answer, context)
        }
        Operation::Create | Operation::Update => unchecked(answer),
        Operation::Other(name) => {
            let shown: String = name.chars().take(32).collect();
            unchecked(answer.warn(&format!(
                "shaper does not know the operation {shown:?} and has checked nothing"
            )))
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
        let answer = answer.warn("the review holds no object, so that nothing was checked");
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
            refused.push(finding)
        } else {
            warnings.push(finding)
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
        let cross_object = cross_object(context, change);
        rules.extend(cross_object.iter().map(|finding| finding.rule));
        warnings.extend(cross_object);
    }
    let verdict = allow(answer, warnings, context, checked.change);
    Verdict { rules, ..verdict }
}

/// Allows, and says all this.
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
                "what is known here of other objects is {} old, so that conflicts, missing Profiles and machines that would lose theirs may be \
                 told wrong (look at the controllers of shaper; `shaper validate` and `shaper diff` see the cluster as it is)",
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

/// Says all this, the gravest first: what comes late may be cut off.
fn add_warnings(answer: Answer, mut findings: Vec<Finding>) -> Answer {
    findings.sort_by_key(severity_order);
    findings.iter().fold(answer, |answer, finding| {
        answer.warn_of(finding.rule, &sentence(finding))
    })
}

/// Less is graver: what happens to machines, then whose they are, then what is odd about the object, then about its script.
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

/// With the name of the object: whoever applies a folder sees warnings alone.
fn sentence(finding: &Finding) -> String {
    let kind = match finding.object {
        ObjectRef::Profile(_) => Kind::Profile,
        ObjectRef::Assignment(_) => Kind::Assignment,
    };
    let (kind, name, sentence) = (kind.name(), &finding.object.key().name, finding.sentence());
    match &finding.help {
        Some(help) => format!("{kind} {name}: {sentence} ({help})"),
        None => format!("{kind} {name}: {sentence}"),
    }
}

/// What the object tells by itself.
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
    }
}

/// The typed object. What its status holds is no concern of those who write the rest, and must not spoil it.
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
    let finding = Finding::new(&rule::SCHEMA, name, FieldPath::default(), format!("it can't be read: {reason}"))
        .help("`kubectl explain` tells the fields and their types; apply the definitions of this version of shaper (config/crd) if it knows others");
    Checked {
        change: None,
        findings: vec![finding],
    }
}

/// What the object is among all others, and what becomes of machines.
fn cross_object(context: &Context<'_>, change: &Change) -> Vec<Finding> {
    let Some(catalog) = context.catalog else {
        return Vec::new();
    };
    let mut next = catalog.clone();
    next.apply(change.clone());
    let survey = || Survey::of(&next).with_conflict_limit(MAX_CONFLICT_CANDIDATES);
    let mut findings = match change {
        Change::Profile(profile) => survey().profile(profile),
        Change::Assignment(assignment) => survey().assignment_with_losers(assignment),
        Change::ProfileDeleted(_) | Change::AssignmentDeleted(_) | Change::Rejected(_) => {
            Vec::new()
        }
    };
    findings.extend(impact::of(
        catalog,
        change,
        Limits {
            deadline: context.deadline,
            ..Limits::default()
        },
    ));
    findings
}

fn is_being_deleted(object: &RawValue) -> bool {
    parse_json(Some(object))
        .is_some_and(|object| !object["metadata"]["deletionTimestamp"].is_null())
}

/// What was wrong with the object before.
enum ExistingFaults {
    /// Nothing that would excuse anything.
    Nothing,
    /// These.
    Faults(Vec<Finding>),
    /// It can't be read, so that its spec can only be as wrong as it was.
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
    // A time of its own: if the new object took all there was, what was wrong with the old one must still be found.
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
    /// Whether this was wrong before, in the same place; the words may name a sample machine, which is another since a label was added.
    /// Each fault excuses one.
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
