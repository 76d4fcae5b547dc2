//! Whether an object may be written, and what somebody should know who writes it.

use std::time::{Duration, Instant};

use boot::{Catalog, Change, Name, ObjectKey};
use crd::FieldPath;
use review::effect::{self, Limits};
use review::{Finding, Reviewed, Rule, Survey, rule};
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::answer::Answer;
use crate::request::{Kind, Operation, Request, value};

/// An Assignment is held against so many others without identities, which an index can't tell apart.
const MOST_RIVALS: usize = 10_000;

/// What is said while other objects are not known.
const UNKNOWN: &str = "other objects are not known here yet, so that conflicts, missing Profiles and machines that would lose theirs were not \
    looked for (look at the controllers of shaper if this stays; `shaper validate` and `shaper diff` look for them)";
/// What is known of other objects is old from here on.
const OLD: Duration = Duration::from_secs(90);

/// How long the object may be looked at that a wrong one replaces.
const TIME_FOR_OLD: Duration = Duration::from_millis(700);

/// What else there is.
#[derive(Clone, Copy)]
pub struct Beside<'c> {
    /// All objects, best [with selectors](Catalog::with_selectors). None where they are not known yet.
    pub catalog: Option<&'c Catalog>,
    /// How long ago the catalog was last known to be true. None where it is kept by whoever asks.
    pub age: Option<Duration>,
    /// The cluster of the server that asks, as the catalog calls it.
    pub partition: &'c str,
    /// When the answer has to be there.
    pub until: Option<Instant>,
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
struct Looked {
    change: Option<Change>,
    findings: Vec<Finding>,
}

/// Judges a request.
///
/// What is not ours, and operations that are not known, are allowed. A deletion is never refused, nor is a change of an object that is
/// being deleted. An object that was wrong before and is not made worse may be changed in anything but its spec.
pub fn validate(request: &Request<'_>, beside: &Beside<'_>) -> Verdict {
    let answer = Answer::allow(request);
    let nothing = |answer| Verdict {
        answer,
        rules: Vec::new(),
        change: None,
    };
    let kind = match &request.kind {
        Ok(kind) => *kind,
        Err(other) => {
            let known = "shaper checks Profile and Assignment of";
            return nothing(answer.warn(&format!(
                "{known} {} only, and this is {other}",
                crd::API_VERSION
            )));
        }
    };
    match &request.operation {
        Operation::Delete => {
            let (namespace, name) = request.place();
            let key = ObjectKey::new(namespace, name).in_partition(beside.partition);
            let change = match kind {
                Kind::Profile => Change::ProfileGone(key),
                Kind::Assignment => Change::AssignmentGone(key),
            };
            let findings = among(beside, &change);
            say(answer, findings, beside, Some(change))
        }
        Operation::Create | Operation::Update if request.subresource.is_empty() => {
            written(request, kind, answer, beside)
        }
        Operation::Create | Operation::Update => nothing(answer),
        Operation::Other(name) => {
            let shown: String = name.chars().take(32).collect();
            nothing(answer.warn(&format!(
                "shaper does not know the operation {shown:?} and has checked nothing"
            )))
        }
    }
}

fn written(request: &Request<'_>, kind: Kind, answer: Answer, beside: &Beside<'_>) -> Verdict {
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
    let looked = look(request, kind, object, beside);
    let is_wrong = looked.findings.iter().any(Finding::is_error);
    let mut known = if is_wrong && request.operation == Operation::Update {
        known_faults(request, kind)
    } else {
        Known::Nothing
    };
    let mut rules: Vec<_> = looked.findings.iter().map(|finding| finding.rule).collect();
    let (mut refused, mut told) = (Vec::new(), Vec::new());
    for finding in looked.findings {
        if finding.is_error() && !known.excuses(&finding) {
            refused.push(finding)
        } else {
            told.push(finding)
        }
    }
    if !refused.is_empty() {
        let answer = tell(answer, told);
        return Verdict {
            answer: refused.iter().fold(answer, Answer::deny),
            rules,
            change: None,
        };
    }
    if let Some(change) = &looked.change {
        let among = among(beside, change);
        rules.extend(among.iter().map(|finding| finding.rule));
        told.extend(among);
    }
    let verdict = say(answer, told, beside, looked.change);
    Verdict { rules, ..verdict }
}

/// Allows, and says all this.
fn say(
    mut answer: Answer,
    findings: Vec<Finding>,
    beside: &Beside<'_>,
    change: Option<Change>,
) -> Verdict {
    let rules = findings.iter().map(|finding| finding.rule).collect();
    if change.is_some() {
        answer = match (beside.catalog, beside.age) {
            (None, _) => answer.warn(UNKNOWN),
            (Some(_), Some(age)) if age >= OLD => answer.warn(&format!(
                "what is known here of other objects is {} old, so that conflicts, missing Profiles and machines that would lose theirs may be \
                 told wrong (look at the controllers of shaper; `shaper validate` and `shaper diff` see the cluster as it is)",
                minutes(age)
            )),
            (Some(_), _) => answer,
        };
    }
    Verdict {
        answer: tell(answer, findings),
        rules,
        change,
    }
}

fn minutes(age: Duration) -> String {
    match age.as_secs() / 60 {
        0 | 1 => "1 minute".to_owned(),
        n if n < 120 => format!("{n} minutes"),
        n => format!("{} hours", n / 60),
    }
}

/// Says all this, the gravest first: what comes late may be cut off.
fn tell(answer: Answer, mut findings: Vec<Finding>) -> Answer {
    findings.sort_by_key(weight);
    findings.iter().fold(answer, |answer, finding| {
        answer.warn_by(finding.rule, &sentence(finding))
    })
}

/// Less is graver: what happens to machines, then whose they are, then what is odd about the object, then about its script.
fn weight(finding: &Finding) -> usize {
    let gravest = [
        &rule::LOSES_PROFILE,
        &rule::MOVES_MACHINES,
        &rule::NOT_ALL_TRIED,
        &rule::CLAIMED,
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
        Name::Profile(_) => Kind::Profile,
        Name::Assignment(_) => Kind::Assignment,
    };
    let (kind, name, sentence) = (kind.name(), &finding.object.key().name, finding.sentence());
    match &finding.help {
        Some(help) => format!("{kind} {name}: {sentence} ({help})"),
        None => format!("{kind} {name}: {sentence}"),
    }
}

/// What the object tells by itself.
fn look(request: &Request<'_>, kind: Kind, object: &RawValue, beside: &Beside<'_>) -> Looked {
    let (namespace, name) = request.place();
    let place = ObjectKey::new(
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
                    Some(place.namespace.to_string()),
                    Some(place.name.to_string()),
                );
                let Reviewed { object, findings } = review::profile_until(&profile, beside.until);
                let placed = |profile: std::sync::Arc<boot::Profile>| {
                    Change::Profile(profile.in_partition(beside.partition).into())
                };
                Looked {
                    change: object.map(placed),
                    findings,
                }
            }
            Err(reason) => unreadable(&Name::Profile(place), &reason),
        },
        Kind::Assignment => match read::<crd::Assignment>(object) {
            Ok(mut assignment) => {
                (assignment.metadata.namespace, assignment.metadata.name) = (
                    Some(place.namespace.to_string()),
                    Some(place.name.to_string()),
                );
                let Reviewed { object, findings } = review::assignment(&assignment);
                let placed = |assignment: std::sync::Arc<boot::Assignment>| {
                    let key = assignment.key.clone().in_partition(beside.partition);
                    Change::Assignment(
                        boot::Assignment {
                            key,
                            ..(*assignment).clone()
                        }
                        .into(),
                    )
                };
                Looked {
                    change: object.map(placed),
                    findings,
                }
            }
            Err(reason) => unreadable(&Name::Assignment(place), &reason),
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

fn unreadable(name: &Name, reason: &str) -> Looked {
    let reason: String = reason.chars().take(300).collect();
    let finding = Finding::new(&rule::SCHEMA, name, FieldPath::default(), format!("it can't be read: {reason}"))
        .help("`kubectl explain` tells the fields and their types; apply the definitions of this version of shaper (config/crd) if it knows others");
    Looked {
        change: None,
        findings: vec![finding],
    }
}

/// What the object is among all others, and what becomes of machines.
fn among(beside: &Beside<'_>, change: &Change) -> Vec<Finding> {
    let Some(catalog) = beside.catalog else {
        return Vec::new();
    };
    let mut next = catalog.clone();
    next.apply(change.clone());
    let survey = || Survey::of(&next).within(MOST_RIVALS);
    let mut findings = match change {
        Change::Profile(profile) => survey().profile(profile),
        Change::Assignment(assignment) => survey().written(assignment),
        Change::ProfileGone(_) | Change::AssignmentGone(_) | Change::Unaccepted(_) => Vec::new(),
    };
    findings.extend(effect::of(
        catalog,
        change,
        Limits {
            until: beside.until,
            ..Limits::default()
        },
    ));
    findings
}

fn is_being_deleted(object: &RawValue) -> bool {
    value(Some(object)).is_some_and(|object| !object["metadata"]["deletionTimestamp"].is_null())
}

/// What was wrong with the object before.
enum Known {
    /// Nothing that would excuse anything.
    Nothing,
    /// These.
    Faults(Vec<Finding>),
    /// It can't be read, so that its spec can only be as wrong as it was.
    Spec,
}

fn known_faults(request: &Request<'_>, kind: Kind) -> Known {
    let (Some(new), Some(old)) = (value(request.object), value(request.old_object)) else {
        return Known::Nothing;
    };
    let Some(raw) = request.old_object.filter(|_| new["spec"] == old["spec"]) else {
        return Known::Nothing;
    };
    // A time of its own: if the new object took all there was, what was wrong with the old one must still be found.
    let beside = Beside {
        catalog: None,
        age: None,
        partition: "",
        until: Some(Instant::now() + TIME_FOR_OLD),
    };
    let looked = look(request, kind, raw, &beside);
    if looked
        .findings
        .iter()
        .any(|finding| *finding.rule == rule::SCHEMA)
    {
        Known::Spec
    } else {
        Known::Faults(looked.findings)
    }
}

// === impl Known ===

impl Known {
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
                .steps()
                .first()
                .is_none_or(|step| *step == crd::Step::Key("spec".to_owned())),
        }
    }
}
