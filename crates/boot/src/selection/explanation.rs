//! Explains a selection to people.

use std::sync::Arc;

use serde::Serialize;

use crate::catalog::{Catalog, Found};
use crate::identity::MatchedBy;
use crate::name::{ObjectKey, ObjectRef};
use crate::profile::{Fit, Profile};
use crate::subject::Subject;
use crate::variables::{self, VariableFault};

use super::{NotSelected, RankedMatch, Selected};

/// Maximum number of candidates that an explanation lists. The rest is counted.
const MAX_CANDIDATES: usize = 1000;

/// The candidates for a subject by rank, and why each won or lost.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The subject's normalised labels, including the operator's.
    pub subject: Subject,
    /// The identities that are only a vendor's filler text and match nothing.
    pub placeholders: Vec<&'static str>,
    /// The Machine that the subject is, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine: Option<MachineFound>,
    /// The outcome.
    pub outcome: Outcome,
    /// The variables that the winner and its Profile need, and that are missing or invalid.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub variable_faults: Vec<VariableFault>,
    /// Every Assignment that an index found, by rank.
    pub candidates: Vec<Candidate>,
    /// Number of candidates that are not listed.
    pub omitted: usize,
    /// The Profiles that the winner selects, the best first.
    pub profiles: Vec<ProfileCandidate>,
}

/// The Machine of a subject.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MachineFound {
    /// Its key.
    pub machine: ObjectKey,
    /// The identity by which it was found.
    pub matched_by: MatchedBy,
    /// Another Machine that a weaker identity of the subject leads to. It is ignored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other: Option<ObjectKey>,
}

/// The outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(
    tag = "answer",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub enum Outcome {
    /// The subject boots this Profile.
    Boots {
        /// The winning Assignment.
        assignment: ObjectKey,
        /// The best-fitting Profile.
        profile: ObjectKey,
        /// Whether only age or name ranks it before another Assignment.
        conflict: bool,
    },
    /// No Assignment matches.
    NoAssignment {
        /// What is wrong, and what to do.
        reason: String,
    },
    /// The winning Assignment has no Profile for the subject.
    NoProfile {
        /// The winning Assignment.
        assignment: ObjectKey,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// The winning Assignment or its best-fitting Profile is invalid.
    NotAccepted {
        /// The winning Assignment.
        assignment: ObjectKey,
        /// The object to fix: this Assignment or a Profile.
        object: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// How an Assignment or a Profile fared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// It was selected.
    Won,
    /// It matches, but another ranks before it.
    Lost,
    /// It does not match the subject.
    NoMatch,
}

/// An Assignment that was considered.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Candidate {
    /// Its key.
    pub assignment: ObjectKey,
    /// How it fared.
    pub verdict: Verdict,
    /// Why.
    pub reason: String,
    /// The identity by which it was found.
    pub matched_by: MatchedBy,
    /// Its priority.
    pub priority: i32,
    /// Number of its label requirements.
    pub label_requirements: usize,
    /// Its creation time, if known.
    pub created: Option<jiff::Timestamp>,
}

/// A Profile that the winner selects.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProfileCandidate {
    /// Its key.
    pub profile: ObjectKey,
    /// How it fared.
    pub verdict: Verdict,
    /// Why.
    pub reason: String,
}

impl Catalog {
    /// Returns the answer of [`Catalog::select`], with every candidate and why it won or lost.
    pub fn explain(&self, subject: &Subject) -> Explanation {
        let mut candidates = Vec::new();
        let mut omitted = 0;
        let winner = self.winner(subject);
        let mut conflict = false;
        for ranked in self.ranked(subject) {
            let (verdict, reason) = self.judge(&ranked, winner.as_ref(), &mut conflict);
            if candidates.len() == MAX_CANDIDATES {
                omitted += 1;
                continue;
            }
            candidates.push(assignment_candidate(&ranked.found, verdict, reason));
        }
        let mut profiles = Vec::new();
        let decision = winner.ok_or(NotSelected::NoAssignment).and_then(|winner| {
            let fitting = self.fitting(winner.assignment, subject);
            profiles = self.profile_candidates(&fitting, subject);
            self.decide(winner, fitting.first().copied(), fitting.len(), subject)
        });
        let mut variable_faults = Vec::new();
        let outcome = match decision {
            Ok(selection) => {
                let Selected {
                    assignment,
                    profile,
                    ..
                } = selection;
                variable_faults = variables::faults(profile, Some(assignment), subject.machine());
                Outcome::Boots {
                    assignment: assignment.key.clone(),
                    profile: profile.key.clone(),
                    conflict,
                }
            }
            Err(error) => Outcome::from_error(error),
        };
        Explanation {
            subject: subject.clone(),
            placeholders: subject.placeholders().to_vec(),
            machine: self.machine_of(subject).map(|found| MachineFound {
                machine: found.machine.key.clone(),
                matched_by: found.by,
                other: found.other.map(|other| other.key.clone()),
            }),
            outcome,
            variable_faults,
            candidates,
            omitted,
            profiles,
        }
    }
}

impl Catalog {
    fn judge(
        &self,
        ranked: &RankedMatch<'_>,
        winner: Option<&Found<'_>>,
        conflict: &mut bool,
    ) -> (Verdict, String) {
        let found = &ranked.found;
        let name = || ObjectRef::Assignment(found.assignment.key.clone());
        let rejected = self.rejected_assignment(found.assignment);
        if let Some(requirement) = ranked.unmet {
            return (
                Verdict::NoMatch,
                format!("the machine does not meet {requirement}"),
            );
        }
        // An Assignment that matches implies a winner.
        let Some(winner) = winner else {
            return (Verdict::NoMatch, String::new());
        };
        if Arc::ptr_eq(winner.assignment, found.assignment) {
            let first = format!("ranks first, matched by {}", found.by);
            return match (rejected, self.rejected(&name())) {
                (Some(rejected), _) => (
                    Verdict::Won,
                    format!("{first}, but is invalid: {}", rejected.fault),
                ),
                (None, Some(newest)) => (
                    Verdict::Won,
                    format!(
                        "{first}; its last valid version is used, the newest is invalid: {}",
                        newest.fault
                    ),
                ),
                (None, None) => (Verdict::Won, first),
            };
        }
        if let Some(rejected) = rejected
            && found.rank(winner).is_lt()
        {
            let key = &winner.assignment.key;
            return (
                Verdict::Lost,
                format!(
                    "it is invalid, and {key} is more specific: {}",
                    rejected.fault
                ),
            );
        }
        let (reason, is_tie) = loss_reason(found, winner);
        let may_conflict =
            rejected.is_none() && self.rejected_assignment(winner.assignment).is_none();
        *conflict |= is_tie && may_conflict;
        (Verdict::Lost, reason)
    }

    fn profile_candidates(
        &self,
        fitting: &[(&Arc<Profile>, Fit<'_>)],
        subject: &Subject,
    ) -> Vec<ProfileCandidate> {
        let best = fitting.first().copied();
        let candidate = |(index, (profile, fit)): (usize, &(&Arc<Profile>, Fit<'_>))| {
            let mut candidate = profile_candidate(index, profile, fit, best, subject);
            match (
                self.rejected_profile(profile),
                self.rejected(&ObjectRef::Profile(profile.key.clone())),
            ) {
                (Some(rejected), _) => {
                    candidate.reason += &format!("; it is invalid: {}", rejected.fault);
                }
                (None, Some(newest)) => {
                    candidate.reason += &format!(
                        "; its last valid version is used, the newest is invalid: {}",
                        newest.fault
                    );
                }
                (None, None) => {}
            }
            candidate
        };
        fitting.iter().enumerate().map(candidate).collect()
    }
}

impl Outcome {
    fn from_error(error: NotSelected) -> Self {
        let message = error.to_string();
        match error {
            NotSelected::NoAssignment => Self::NoAssignment { reason: message },
            NotSelected::NoProfile {
                assignment, reason, ..
            } => Self::NoProfile {
                assignment: assignment.key.clone(),
                reason,
            },
            NotSelected::NotAccepted {
                assignment, object, ..
            } => Self::NotAccepted {
                assignment: assignment.key.clone(),
                object: object.to_string(),
                reason: message,
            },
        }
    }
}

/// Returns why an Assignment lost, and whether only age or name decided.
fn loss_reason(found: &Found<'_>, winner: &Found<'_>) -> (String, bool) {
    let (a, b) = (&winner.assignment, &found.assignment);
    let by = &winner.assignment.key;
    if a.priority != b.priority {
        (
            format!("{by} has priority {}, this one {}", a.priority, b.priority),
            false,
        )
    } else if winner.by != found.by {
        (
            format!("{by} matches by {}, this one by {}", winner.by, found.by),
            false,
        )
    } else if a.subjects.labels.len() != b.subjects.labels.len() {
        (
            format!(
                "{by} has {} label requirements, this one {}",
                a.subjects.labels.len(),
                b.subjects.labels.len()
            ),
            false,
        )
    } else {
        let what = if a.created == b.created {
            "comes first by namespace and name"
        } else {
            "is older"
        };
        (
            format!("{by} {what}; this is a conflict, because nothing else decides between them"),
            winner.conflicts_with(found),
        )
    }
}

fn assignment_candidate(found: &Found<'_>, verdict: Verdict, reason: String) -> Candidate {
    let assignment = found.assignment;
    Candidate {
        assignment: assignment.key.clone(),
        verdict,
        reason,
        matched_by: found.by,
        priority: assignment.priority,
        label_requirements: assignment.subjects.labels.len(),
        created: assignment.created,
    }
}

fn profile_candidate(
    index: usize,
    profile: &Arc<Profile>,
    fit: &Fit<'_>,
    best: Option<(&Arc<Profile>, Fit<'_>)>,
    subject: &Subject,
) -> ProfileCandidate {
    let (verdict, reason) = match (fit, best) {
        (Fit::Mismatch(constraint), _) => {
            let has = constraint.value_in(subject).unwrap_or_default();
            (
                Verdict::NoMatch,
                format!("it requires {constraint}, but the machine has {has}"),
            )
        }
        (Fit::Suitable(satisfied), _) if index == 0 => (
            Verdict::Won,
            format!("{satisfied} of its assignment/ labels match"),
        ),
        (Fit::Suitable(satisfied), Some((winner, Fit::Suitable(more)))) if more > *satisfied => (
            Verdict::Lost,
            format!(
                "{} matches {more} assignment/ labels, this one {satisfied}",
                winner.key.name
            ),
        ),
        (Fit::Suitable(_), Some((winner, _))) if winner.created != profile.created => {
            (Verdict::Lost, format!("{} is older", winner.key.name))
        }
        (Fit::Suitable(_), _) => (Verdict::Lost, "its name sorts later".to_owned()),
    };
    ProfileCandidate {
        profile: profile.key.clone(),
        verdict,
        reason,
    }
}
