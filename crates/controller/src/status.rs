//! The status that an object should have.

use std::collections::BTreeMap;
use std::sync::Arc;

use boot::{Assignment, Catalog, ConfigName, ObjectKey, ObjectRef, Profile};
use crd::{AssignmentStatus, ProfileStatus};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use uuid::Uuid;

use crate::condition::{ConditionStatus, ConditionType, UntimedCondition};
use crate::object::{Fault, Ids, ObservedMeta};

/// Most names of Profiles in a status; the condition says how many there are.
const MAX_PROFILES: usize = 16;
/// Longest summary of a subject, in characters.
const MAX_SUBJECT: usize = 64;

/// Whether an object is accepted, and what is done with it if not.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Acceptance<'a> {
    Accepted,
    /// Its last accepted version stays in use.
    Kept(&'a Fault),
    /// No accepted version is known here; whoever would get it waits.
    Waits(&'a Fault),
    /// ... and whom it concerns can't be told.
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
                    .is_some_and(|unaccepted| unaccepted.claims_nothing()) =>
            {
                Self::Unclaimed(fault)
            }
            Some(fault) => Self::Waits(fault),
        }
    }
}

/// The status of a Profile, with an id for each config: those that it has, and new ones.
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
            "the Profile is not accepted",
        ),
        _ => UntimedCondition::new(
            ConditionType::Resolved,
            ConditionStatus::True,
            "NoReferences",
            "all of its configs are written in the Profile itself",
        ),
    };
    let conditions_now = [accepted(acceptance), resolved];
    let conditions = conditions(&conditions_now, meta, now);
    ProfileStatus {
        observed_generation: Some(meta.generation),
        additional_config,
        conditions,
    }
}

/// The status of an Assignment. `profiles` are the names of those that its selectors match, `conflicts` those that it is in conflict with.
pub(crate) fn of_assignment<'a>(
    meta: &ObservedMeta,
    known: Option<&Assignment>,
    acceptance: Acceptance<'_>,
    profiles: &[Arc<str>],
    conflicts: impl ExactSizeIterator<Item = &'a ObjectKey>,
    now: Timestamp,
) -> AssignmentStatus {
    let unknown = |kind| {
        UntimedCondition::new(
            kind,
            ConditionStatus::Unknown,
            "NotAccepted",
            "the Assignment is not accepted",
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
    let conditions_now = [accepted(acceptance), found, conflicted];
    AssignmentStatus {
        observed_generation: Some(meta.generation),
        subject: known.map(summary),
        profiles: profiles
            .iter()
            .take(MAX_PROFILES)
            .map(ToString::to_string)
            .collect(),
        conditions: conditions(&conditions_now, meta, now),
    }
}

/// Who is meant, in few words.
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

fn accepted(acceptance: Acceptance<'_>) -> UntimedCondition {
    let (Fault { reason, message }, rest) = match acceptance {
        Acceptance::Accepted => {
            return UntimedCondition::new(
                ConditionType::Accepted,
                ConditionStatus::True,
                "Accepted",
                "machines are answered by it",
            );
        }
        Acceptance::Kept(fault) => (fault, "its last accepted version stays in use"),
        Acceptance::Waits(fault) => (
            fault,
            "machines that would get it wait, unless an API server still knows its last accepted version",
        ),
        Acceptance::Unclaimed(fault) => (
            fault,
            "which machines it means can't be told, so that they may get another",
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
                format!(" with the labels {}", selectors.join(","))
            };
            let namespace = &assignment.key.namespace;
            let message = format!(
                "there is no Profile{wanted} in namespace {namespace}: the machines that it matches wait for one"
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
            format!("it selects the Profile {one}"),
        ),
        many => {
            let message = format!(
                "it selects {} Profiles, of which each machine gets the one that suits it best",
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
            "no other Assignment ties with it",
        );
    }
    let more = if may_be_more {
        " (and perhaps more)"
    } else {
        ""
    };
    let message = format!(
        "a machine can match it and {}{more}, and only age or name decides: give one of them another priority, or more labels",
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

/// With the time since when each verdict has been what it is.
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
            "a reason that the reference lacks: {condition:?}"
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
