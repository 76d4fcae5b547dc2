//! Computes the status that an object should have.

mod machine;

use std::collections::BTreeMap;
use std::sync::Arc;

use boot::{Assignment, Catalog, ConfigName, ObjectKey, ObjectRef, Profile};
use crd::{AssignmentStatus, ProfileStatus};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use uuid::Uuid;

use crate::condition::{ConditionStatus, ConditionType, UntimedCondition};
use crate::object::{Fault, Ids, ObservedMeta};

pub(crate) use machine::of_machine;

/// The maximum number of Profile names in a status. The condition's message has the total.
const MAX_PROFILES: usize = 16;
/// The maximum length of a subject summary, in characters.
const MAX_SUBJECT: usize = 64;

/// Whether an object is accepted, and if not, how its machines are served.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Acceptance<'a> {
    Accepted,
    /// Rejected; its last valid version stays in use.
    Kept(&'a Fault),
    /// Rejected, and no valid version is known here: its machines wait.
    Waits(&'a Fault),
    /// Rejected, no valid version is known here, and its machines can't be determined.
    Unclaimed(&'a Fault),
}

impl<'a> Acceptance<'a> {
    pub(crate) fn of(catalog: &Catalog, name: &ObjectRef, fault: Option<&'a Fault>) -> Self {
        match fault {
            None => Self::Accepted,
            Some(fault) if catalog.contains(name) => Self::Kept(fault),
            Some(fault)
                if catalog
                    .rejected(name)
                    .is_some_and(|rejected| rejected.is_unreadable()) =>
            {
                Self::Unclaimed(fault)
            }
            Some(fault) => Self::Waits(fault),
        }
    }
}

/// Returns the status of a Profile with an id for each config: existing ids are kept, missing ones
/// generated.
pub(crate) fn of_profile(
    meta: &ObservedMeta,
    known: Option<&Profile>,
    acceptance: Acceptance<'_>,
    now: Timestamp,
) -> ProfileStatus {
    let additional_config = match known {
        Some(profile) => ids_for(profile.templates.config_names(), meta.ids()),
        None => meta
            .ids()
            .iter()
            .map(|(name, id)| (name.to_string(), id.to_string()))
            .collect(),
    };
    let resolved = match acceptance {
        Acceptance::Waits(_) | Acceptance::Unclaimed(_) => UntimedCondition::new(
            ConditionType::Resolved,
            ConditionStatus::Unknown,
            "NotAccepted",
            "the Profile is invalid",
        ),
        _ => UntimedCondition::new(
            ConditionType::Resolved,
            ConditionStatus::True,
            "NoReferences",
            "all configs are defined in the Profile itself",
        ),
    };
    let accepted = accepted(acceptance);
    let mut conditions_now = readiness(&accepted, &[], "the configs have ids");
    conditions_now.extend([accepted, resolved]);
    let conditions = conditions(&conditions_now, meta, now);
    ProfileStatus {
        observed_generation: Some(meta.generation),
        additional_config,
        conditions,
    }
}

/// Returns the status of an Assignment. `profiles` are the names of the Profiles that its selectors
/// match, `conflicts` the Assignments that it conflicts with, `variables` whether its machines have
/// the variables that these Profiles need.
pub(crate) fn of_assignment<'a>(
    meta: &ObservedMeta,
    known: Option<&Assignment>,
    acceptance: Acceptance<'_>,
    profiles: &[Arc<str>],
    conflicts: impl ExactSizeIterator<Item = &'a ObjectKey>,
    variables: Option<UntimedCondition>,
    now: Timestamp,
) -> AssignmentStatus {
    let unknown = |kind| {
        UntimedCondition::new(
            kind,
            ConditionStatus::Unknown,
            "NotAccepted",
            "the Assignment is invalid",
        )
    };
    let found = known.map_or_else(
        || unknown(ConditionType::ProfileFound),
        |assignment| profile_found(assignment, profiles),
    );
    let conflicted = known.map_or_else(
        || unknown(ConditionType::Conflicted),
        |_| conflicted(conflicts),
    );
    let accepted = accepted(acceptance);
    let mut conditions_now = readiness(&accepted, &[&found], "a Profile is found");
    conditions_now.extend([accepted, found, conflicted]);
    conditions_now.extend(variables);
    AssignmentStatus {
        observed_generation: Some(meta.generation),
        subject: known.map(summary),
        profiles: profiles
            .iter()
            .take(MAX_PROFILES)
            .map(ToString::to_string)
            .collect(),
        profile_summary: profile_summary(profiles),
        conditions: conditions(&conditions_now, meta, now),
    }
}

/// Names Profiles in one short text.
fn profile_summary(profiles: &[Arc<str>]) -> Option<String> {
    let first = profiles.first()?;
    let all = profiles.join(", ");
    Some(if profiles.len() == 1 || all.len() <= MAX_SUBJECT {
        all
    } else {
        format!("{first} and {} more", profiles.len() - 1)
    })
}

/// Summarizes which machines an Assignment matches.
pub(crate) fn summary(assignment: &Assignment) -> String {
    let subjects = &assignment.subjects;
    let one_or_more =
        |one: Option<String>, count: usize, word: &str, words: &str| match (count, one) {
            (0, _) => None,
            (1, Some(one)) => Some(format!("{word} {one}")),
            _ => Some(format!("{count} {words}")),
        };
    let mut parts: Vec<String> = [
        one_or_more(
            subjects.uuids.first().map(ToString::to_string),
            subjects.uuids.len(),
            "uuid",
            "uuids",
        ),
        one_or_more(
            subjects.serials.first().map(ToString::to_string),
            subjects.serials.len(),
            "serial number",
            "serial numbers",
        ),
        one_or_more(
            subjects.macs.first().map(ToString::to_string),
            subjects.macs.len(),
            "mac",
            "macs",
        ),
    ]
    .into_iter()
    .flatten()
    .collect();
    parts.extend(
        subjects
            .labels
            .requirements()
            .iter()
            .map(ToString::to_string),
    );
    if parts.is_empty() {
        return "every machine".to_owned();
    }
    let all = parts.join(", ");
    match all.char_indices().nth(MAX_SUBJECT) {
        Some((end, _)) => format!("{}...", &all[..end]),
        None => all,
    }
}

/// Returns the conditions that tools read, as kstatus defines them (sigs.k8s.io/cli-utils,
/// `pkg/kstatus`): `Ready`, `Reconciling`, and `Stalled` where it is true. `dependencies` are the
/// conditions on other objects, `why` says why the object is ready without them.
///
/// `Reconciling` is always present: the definition of the resource sets it to true for new objects,
/// and a condition that another has set can only be overwritten.
fn readiness(
    accepted: &UntimedCondition,
    dependencies: &[&UntimedCondition],
    why: &str,
) -> Vec<UntimedCondition> {
    let like = |kind, verdict, other: &UntimedCondition| {
        UntimedCondition::new(kind, verdict, other.reason, &*other.message)
    };
    let reconciled = UntimedCondition::new(
        ConditionType::Reconciling,
        ConditionStatus::False,
        "Reconciled",
        "the status describes this generation",
    );
    if accepted.verdict != ConditionStatus::True {
        return vec![
            like(ConditionType::Ready, ConditionStatus::False, accepted),
            reconciled,
            like(ConditionType::Stalled, ConditionStatus::True, accepted),
        ];
    }
    let missing = dependencies
        .iter()
        .find(|condition| condition.verdict != ConditionStatus::True);
    let ready = match missing {
        None => UntimedCondition::new(
            ConditionType::Ready,
            ConditionStatus::True,
            "Ready",
            format!("the object is valid, and {why}"),
        ),
        Some(missing) => like(ConditionType::Ready, ConditionStatus::False, missing),
    };
    vec![ready, reconciled]
}

fn accepted(acceptance: Acceptance<'_>) -> UntimedCondition {
    let (Fault { reason, message }, rest) = match acceptance {
        Acceptance::Accepted => {
            return UntimedCondition::new(
                ConditionType::Accepted,
                ConditionStatus::True,
                "Accepted",
                "the object is valid",
            );
        }
        Acceptance::Kept(fault) => (fault, "its last valid version stays in use"),
        Acceptance::Waits(fault) => (
            fault,
            "its machines wait, unless an API replica still has its last valid version",
        ),
        Acceptance::Unclaimed(fault) => (
            fault,
            "its machines can't be determined and may get another Assignment",
        ),
    };
    UntimedCondition::new(
        ConditionType::Accepted,
        ConditionStatus::False,
        reason,
        format!("{message}; {rest}"),
    )
}

fn profile_found(assignment: &Assignment, profiles: &[Arc<str>]) -> UntimedCondition {
    match profiles {
        [] => {
            let selectors: Vec<_> = assignment
                .profiles
                .iter()
                .map(|(key, value)| format!("{key}={value}"))
                .collect();
            let wanted = if selectors.is_empty() {
                String::new()
            } else {
                format!(" with labels {}", selectors.join(","))
            };
            let namespace = &assignment.key.namespace;
            let message = format!(
                "no Profile{wanted} in namespace {namespace}; the Assignment's machines wait until there is one"
            );
            UntimedCondition::new(
                ConditionType::ProfileFound,
                ConditionStatus::False,
                "NoProfile",
                message,
            )
        }
        [one] => UntimedCondition::new(
            ConditionType::ProfileFound,
            ConditionStatus::True,
            "ProfileFound",
            format!("the selectors match Profile {one}"),
        ),
        many => {
            let message = format!(
                "the selectors match {} Profiles; each machine gets the best match",
                many.len()
            );
            UntimedCondition::new(
                ConditionType::ProfileFound,
                ConditionStatus::True,
                "ProfileFound",
                message,
            )
        }
    }
}

fn conflicted<'a>(conflicts: impl ExactSizeIterator<Item = &'a ObjectKey>) -> UntimedCondition {
    let may_be_more = conflicts.len() == boot::conflicts::MAX_NAMED;
    let names: Vec<_> = conflicts.map(ToString::to_string).collect();
    if names.is_empty() {
        return UntimedCondition::new(
            ConditionType::Conflicted,
            ConditionStatus::False,
            "NoConflict",
            "no other Assignment conflicts with this one",
        );
    }
    let more = if may_be_more {
        " (and possibly more)"
    } else {
        ""
    };
    let message = format!(
        "a machine can match this Assignment and {}{more}, and only age or name decides; give one of them a different priority or more labels",
        names.join(", ")
    );
    UntimedCondition::new(
        ConditionType::Conflicted,
        ConditionStatus::True,
        "TieBrokenByAge",
        message,
    )
}

fn ids_for<'a>(names: impl Iterator<Item = &'a ConfigName>, ids: &Ids) -> BTreeMap<String, String> {
    names
        .map(|name| {
            (
                name.to_string(),
                ids.get(name)
                    .copied()
                    .unwrap_or_else(Uuid::new_v4)
                    .to_string(),
            )
        })
        .collect()
}

/// Adds the transition time to each condition.
fn conditions(
    conditions_now: &[UntimedCondition],
    meta: &ObservedMeta,
    now: Timestamp,
) -> Vec<Condition> {
    let with_time = |condition: &UntimedCondition| {
        let since = meta.status.since(condition.kind, condition.verdict);
        debug_assert!(
            crate::reasons::is_listed(
                &condition.kind.to_string(),
                &condition.verdict.to_string(),
                condition.reason
            ),
            "reason missing from REASONS: {condition:?}"
        );
        Condition {
            type_: condition.kind.to_string(),
            status: condition.verdict.to_string(),
            reason: condition.reason.to_owned(),
            message: condition.message.clone(),
            observed_generation: Some(meta.generation),
            last_transition_time: Time(since.unwrap_or(now)),
        }
    };
    conditions_now.iter().map(with_time).collect()
}
