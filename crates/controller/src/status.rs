//! The status that an object should have.

use std::collections::BTreeMap;
use std::sync::Arc;

use boot::{Assignment, Catalog, ConfigName, ObjectKey, ObjectRef, Profile};
use crd::{AssignmentStatus, ProfileStatus};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use uuid::Uuid;

use crate::finding::{Finding, Kind, Verdict};
use crate::object::{Facts, Fault, Ids};

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
    facts: &Facts,
    known: Option<&Profile>,
    acceptance: Acceptance<'_>,
    now: Timestamp,
) -> ProfileStatus {
    let additional_config = match known {
        Some(profile) => ids_for(profile.templates.config_names(), facts.ids()),
        None => facts
            .ids()
            .iter()
            .map(|(name, id)| (name.to_string(), id.to_string()))
            .collect(),
    };
    let resolved = match acceptance {
        Acceptance::Waits(_) | Acceptance::Unclaimed(_) => Finding::new(
            Kind::Resolved,
            Verdict::Unknown,
            "NotAccepted",
            "the Profile is not accepted",
        ),
        _ => Finding::new(
            Kind::Resolved,
            Verdict::True,
            "NoReferences",
            "all of its configs are written in the Profile itself",
        ),
    };
    let findings = [accepted(acceptance), resolved];
    let conditions = conditions(&findings, facts, now);
    ProfileStatus {
        observed_generation: Some(facts.generation),
        additional_config,
        conditions,
    }
}

/// The status of an Assignment. `profiles` are the names of those that its selectors match, `rivals` those that it is in conflict with.
pub(crate) fn of_assignment<'a>(
    facts: &Facts,
    known: Option<&Assignment>,
    acceptance: Acceptance<'_>,
    profiles: &[Arc<str>],
    rivals: impl ExactSizeIterator<Item = &'a ObjectKey>,
    now: Timestamp,
) -> AssignmentStatus {
    let unknown = |kind| {
        Finding::new(
            kind,
            Verdict::Unknown,
            "NotAccepted",
            "the Assignment is not accepted",
        )
    };
    let found = known.map_or_else(
        || unknown(Kind::ProfileFound),
        |assignment| profile_found(assignment, profiles),
    );
    let conflicted = known.map_or_else(|| unknown(Kind::Conflicted), |_| conflicted(rivals));
    let findings = [accepted(acceptance), found, conflicted];
    AssignmentStatus {
        observed_generation: Some(facts.generation),
        subject: known.map(summary),
        profiles: profiles
            .iter()
            .take(MAX_PROFILES)
            .map(ToString::to_string)
            .collect(),
        conditions: conditions(&findings, facts, now),
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

fn accepted(acceptance: Acceptance<'_>) -> Finding {
    let (Fault { reason, sentence }, rest) = match acceptance {
        Acceptance::Accepted => {
            return Finding::new(
                Kind::Accepted,
                Verdict::True,
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
    Finding::new(
        Kind::Accepted,
        Verdict::False,
        reason,
        format!("{sentence}; {rest}"),
    )
}

fn profile_found(assignment: &Assignment, profiles: &[Arc<str>]) -> Finding {
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
            Finding::new(Kind::ProfileFound, Verdict::False, "NoProfile", message)
        }
        [one] => Finding::new(
            Kind::ProfileFound,
            Verdict::True,
            "ProfileFound",
            format!("it selects the Profile {one}"),
        ),
        many => {
            let message = format!(
                "it selects {} Profiles, of which each machine gets the one that suits it best",
                many.len()
            );
            Finding::new(Kind::ProfileFound, Verdict::True, "ProfileFound", message)
        }
    }
}

fn conflicted<'a>(rivals: impl ExactSizeIterator<Item = &'a ObjectKey>) -> Finding {
    let may_be_more = rivals.len() == boot::conflicts::MAX_NAMED;
    let names: Vec<_> = rivals.map(ToString::to_string).collect();
    if names.is_empty() {
        return Finding::new(
            Kind::Conflicted,
            Verdict::False,
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
    Finding::new(Kind::Conflicted, Verdict::True, "OnlyAgeDecides", message)
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
fn conditions(findings: &[Finding], facts: &Facts, now: Timestamp) -> Vec<Condition> {
    let with_time = |finding: &Finding| {
        let since = facts.status.since(finding.kind, finding.verdict);
        Condition {
            type_: finding.kind.to_string(),
            status: finding.verdict.to_string(),
            reason: finding.reason.to_owned(),
            message: finding.message.clone(),
            observed_generation: Some(facts.generation),
            last_transition_time: Time(since.unwrap_or(now)),
        }
    };
    findings.iter().map(with_time).collect()
}
