//! The rule by which a subject gets an Assignment and that a Profile. [`Catalog::select`] and [`Catalog::explain`] are one walk.
//!
//! 1. An Assignment matches when any of its identities does and all of its labels do.
//! 2. Higher priority goes first; then uuid over serial over mac over none; then more label requirements; then the older; then
//!    namespace and name. The first that matches wins.
//! 3. Of the Profiles in its namespace that have all labels of `profileSelectors`, those are dropped that ask for another value of a
//!    label than the subject presents. More of such labels satisfied goes first; then the older; then the name.
//! 4. If none is left, the answer is "no profile", and never the next Assignment: a machine must not be reinstalled by a default because
//!    somebody mistyped a label.
//! 5. An object that exists and is not accepted, and of which nobody knows what it said before, stands in its place by what can be told of
//!    it. Whoever gets it boots nothing, and neither the next Assignment nor the next Profile: it waits until the object is mended. But an
//!    Assignment that is not accepted and names no machines does not go before an accepted one that is more specific, whatever its priority.

mod explanation;

use std::cmp::Ordering;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::assignment::Assignment;
use crate::catalog::{Catalog, Found};
use crate::identity::MatchedBy;
use crate::name::ObjectRef;
use crate::profile::{Fit, Profile};
use crate::rejected::Rejected;
use crate::selector::Requirement;
use crate::subject::Subject;

pub use explanation::{Candidate, Explanation, Outcome, ProfileCandidate, Verdict};

/// What a subject boots, and why.
#[derive(Clone, Debug)]
pub struct Selection {
    /// The Assignment that won.
    pub assignment: Arc<Assignment>,
    /// What it matched by.
    pub by: MatchedBy,
    /// The Profile that suits best.
    pub profile: Arc<Profile>,
}

/// The same, while the catalog is looked at. Who answers machines keeps neither object: to count one more that has it would be a write to
/// memory that all threads read.
#[derive(Clone, Copy, Debug)]
pub struct Selected<'c> {
    /// The Assignment that won.
    pub assignment: &'c Arc<Assignment>,
    /// What it matched by.
    pub by: MatchedBy,
    /// The Profile that suits best.
    pub profile: &'c Arc<Profile>,
}

/// Why a subject boots nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSelected {
    /// No Assignment matches.
    #[error(
        "no Assignment matches this machine: create one that names its uuid, serial or mac, or a default without subjectSelectors"
    )]
    NoAssignment,
    /// An Assignment matches and finds no Profile.
    #[error("Assignment {} matches this machine, but {reason}", assignment.key)]
    NoProfile {
        /// The Assignment that won.
        assignment: Arc<Assignment>,
        /// What it matched by.
        by: MatchedBy,
        /// What is the matter with the Profiles.
        reason: String,
    },
    /// The Assignment that matches, or the Profile that suits best, is not accepted.
    #[error("{object} is not accepted, and this machine waits until it is mended: {fault}")]
    NotAccepted {
        /// The Assignment that won.
        assignment: Arc<Assignment>,
        /// What it matched by.
        by: MatchedBy,
        /// The object that is not accepted: this Assignment, or a Profile that it selects.
        object: ObjectRef,
        /// What is wrong with it.
        fault: Box<str>,
    },
}

/// The Profiles that an Assignment selects, with how each suits a subject.
type Fitting<'c> = SmallVec<[(&'c Arc<Profile>, Fit<'c>); 4]>;

/// An Assignment that could match, in its place among the others.
struct Ranked<'c> {
    found: Found<'c>,
    /// What stands against it.
    unmet: Option<&'c Requirement>,
}

impl Catalog {
    /// What the subject boots, to be kept.
    pub fn select(&self, subject: &Subject) -> Result<Selection, NotSelected> {
        self.selected(subject).map(Selected::kept)
    }

    /// What the subject boots.
    pub fn selected(&self, subject: &Subject) -> Result<Selected<'_>, NotSelected> {
        let winner = self.winner(subject).ok_or(NotSelected::NoAssignment)?;
        // The first that `fitting` has, without a list of the rest: of those that are equal, this is the first as well.
        let (mut count, mut best) = (0, None);
        for profile in self.profiles_of(winner.assignment) {
            count += 1;
            let fit = profile.fit(subject);
            if best.is_none_or(|(_, other): (_, Fit<'_>)| fit.sort_key() < other.sort_key()) {
                best = Some((profile, fit));
            }
        }
        self.decide(winner, best, count, subject)
    }

    /// The Assignment that gets the subject: the first accepted one that matches, unless one that is not accepted stands before it.
    fn winner(&self, subject: &Subject) -> Option<Found<'_>> {
        if let Some(found) = self.certain_winner(subject) {
            return Some(found);
        }
        let mut before: SmallVec<[Found<'_>; 4]> = SmallVec::new();
        let mut accepted = None;
        for Ranked { found, .. } in self.ranked(subject).filter(|ranked| ranked.unmet.is_none()) {
            if self.rejected_assignment(found.assignment).is_none() {
                accepted = Some(found);
                break;
            }
            before.push(found);
        }
        let stands =
            |found: &Found<'_>| accepted.is_none_or(|accepted| !found.yields_to(&accepted));
        before.into_iter().find(stands).or(accepted)
    }

    /// All Assignments that an index finds for the subject, by rank, each once. Lazy: who takes the first pays for the first.
    fn ranked<'c>(&'c self, subject: &Subject) -> impl Iterator<Item = Ranked<'c>> {
        let mut queues: SmallVec<[_; 4]> = SmallVec::new();
        for (by, bucket) in self.buckets(subject) {
            let mut queue = bucket.iter();
            if let Some(first) = queue.next() {
                queues.push((
                    Found {
                        by,
                        assignment: first,
                    },
                    queue,
                ));
            }
        }
        std::iter::from_fn(move || {
            loop {
                let (at, _) = queues
                    .iter()
                    .enumerate()
                    .min_by(|(_, (a, _)), (_, (b, _))| a.rank(b))?;
                let found = queues[at].0;
                match queues[at].1.next() {
                    Some(next) => queues[at].0.assignment = next,
                    None => drop(queues.swap_remove(at)),
                }
                // One that names the uuid and the mac of a machine is found twice; its place is that of the stronger. Nothing is stronger than the
                // uuid, so that nothing need be fetched from memory to know it.
                if found.by != MatchedBy::Uuid
                    && found.assignment.subjects.identify(subject) != Some(found.by)
                {
                    continue;
                }
                return Some(Ranked {
                    found,
                    unmet: found.assignment.subjects.labels.unmet(subject),
                });
            }
        })
    }

    /// The Profiles that an Assignment selects, the best for the subject first and those that disagree with it last.
    fn fitting<'c>(&'c self, assignment: &'c Assignment, subject: &Subject) -> Fitting<'c> {
        let mut profiles: Fitting<'_> = self
            .profiles_of(assignment)
            .map(|profile| (profile, profile.fit(subject)))
            .collect();
        // Stable: among equals, the older stays first.
        profiles.sort_by_key(|(_, fit)| fit.sort_key());
        profiles
    }
}

impl Catalog {
    /// What an Assignment that won gives to the subject: the best of so many Profiles that it selects, if that suits.
    fn decide<'c>(
        &'c self,
        winner: Found<'c>,
        best: Option<(&'c Arc<Profile>, Fit<'_>)>,
        count: usize,
        subject: &Subject,
    ) -> Result<Selected<'c>, NotSelected> {
        let Found { by, assignment } = winner;
        let not_accepted = |rejected: &Rejected| {
            let (object, fault) = (rejected.name(), rejected.fault.clone());
            Err(NotSelected::NotAccepted {
                assignment: assignment.clone(),
                by,
                object,
                fault,
            })
        };
        if let Some(rejected) = self.rejected_assignment(assignment) {
            return not_accepted(rejected);
        }
        if let Some((profile, Fit::Suitable(_))) = best
            && let Some(rejected) = self.rejected_profile(profile)
        {
            return not_accepted(rejected);
        }
        let profile = match best {
            Some((profile, Fit::Suitable(_))) => profile,
            Some((nearest, Fit::Mismatch(want))) => {
                let (nearest, has) = (
                    &nearest.key.name,
                    want.presented_by(subject).unwrap_or_default(),
                );
                let reason = format!(
                    "none of the {count} Profiles that it selects suits: {nearest} wants {want}, the machine has {has}"
                );
                return Err(NotSelected::NoProfile {
                    assignment: assignment.clone(),
                    by,
                    reason,
                });
            }
            None => {
                let selectors: Vec<_> = assignment
                    .profiles
                    .iter()
                    .map(|(key, value)| format!("{key}={value}"))
                    .collect();
                let (selectors, namespace) = (selectors.join(","), &assignment.key.namespace);
                let reason = format!(
                    "no Profile in namespace {namespace} has the labels {selectors}: mend its profileSelectors or label a Profile"
                );
                return Err(NotSelected::NoProfile {
                    assignment: assignment.clone(),
                    by,
                    reason,
                });
            }
        };
        Ok(Selected {
            assignment,
            by,
            profile,
        })
    }
}

impl Selected<'_> {
    /// The same, for as long as anybody wants it.
    pub fn kept(self) -> Selection {
        Selection {
            assignment: self.assignment.clone(),
            by: self.by,
            profile: self.profile.clone(),
        }
    }
}

impl Found<'_> {
    /// Which goes first where both match: the second clause of the rule.
    pub fn rank(&self, other: &Self) -> Ordering {
        let (a, b) = (self.assignment, other.assignment);
        b.priority
            .cmp(&a.priority)
            .then_with(|| self.by.cmp(&other.by))
            .then_with(|| a.cmp_rank(b))
    }

    /// Whether this one, which is not accepted, leaves the machine to an accepted one that comes later. A priority lifts it over what is as
    /// specific and no further, unless it names the machine: what is written wrong must not take machines from those who mean just them.
    fn yields_to(&self, accepted: &Self) -> bool {
        let requirements = |found: &Self| found.assignment.subjects.labels.len();
        self.by == MatchedBy::Labels
            && (accepted.by != MatchedBy::Labels || requirements(accepted) > requirements(self))
    }

    /// Whether nothing that somebody chose tells them apart.
    fn conflicts_with(&self, other: &Self) -> bool {
        self.by == other.by && self.assignment.cmp_precedence(other.assignment).is_eq()
    }
}
