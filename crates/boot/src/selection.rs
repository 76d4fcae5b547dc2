//! The selection rule: which Assignment a subject gets, and which Profile that gives it.
//! [`Catalog::select`] and [`Catalog::explain`] share one implementation.
//!
//! 1. An Assignment matches if any of its identities match and all its labels do.
//! 2. Matches are ranked by higher priority; then uuid over serial over mac over none; then more
//!    label requirements; then age, the older first; then namespace and name. The first one wins.
//! 3. Of the Profiles in the Assignment's namespace that have all labels of `profileSelectors`,
//!    those that require another value of a label than the subject presents are dropped. The rest
//!    is ranked by more such labels that match; then age, the older first; then name.
//! 4. If no Profile is left, the answer is "no profile", never the next Assignment: a typo in a
//!    label must not let a default reinstall the machine.
//! 5. An invalid object that has no valid version is ranked by the part of it that could be read.
//!    If it wins, the machine boots nothing and waits until the object is fixed; the next
//!    Assignment or Profile is not tried. But an invalid Assignment that lists no identities never
//!    ranks before a valid one that is more specific, whatever its priority.

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

pub use explanation::{Candidate, Explanation, MachineFound, Outcome, ProfileCandidate, Verdict};

/// What a subject boots, and why.
#[derive(Clone, Debug)]
pub struct Selection {
    /// The winning Assignment.
    pub assignment: Arc<Assignment>,
    /// The identity by which it matched.
    pub by: MatchedBy,
    /// The best-fitting Profile.
    pub profile: Arc<Profile>,
}

/// A [`Selection`] that borrows from the catalog. The request path uses it because cloning the
/// `Arc`s would bounce their reference counts between cores.
#[derive(Clone, Copy, Debug)]
pub struct Selected<'c> {
    /// The winning Assignment.
    pub assignment: &'c Arc<Assignment>,
    /// The identity by which it matched.
    pub by: MatchedBy,
    /// The best-fitting Profile.
    pub profile: &'c Arc<Profile>,
}

/// Why a subject boots nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSelected {
    /// No Assignment matches.
    #[error(
        "no Assignment matches this machine; create one that lists its uuid, serial or mac, or a default without subjectSelectors"
    )]
    NoAssignment,
    /// An Assignment matches, but no Profile does.
    #[error("Assignment {} matches this machine, but {reason}", assignment.key)]
    NoProfile {
        /// The winning Assignment.
        assignment: Arc<Assignment>,
        /// The identity by which it matched.
        by: MatchedBy,
        /// Why no Profile matches.
        reason: String,
    },
    /// The matching Assignment, its best-fitting Profile or the subject's Machine is invalid.
    #[error("{object} is invalid, so this machine waits until it is fixed: {fault}")]
    NotAccepted {
        /// The winning Assignment.
        assignment: Arc<Assignment>,
        /// The identity by which it matched.
        by: MatchedBy,
        /// The invalid object: this Assignment, a Profile that it selects, or the subject's Machine.
        object: ObjectRef,
        /// What is wrong with the object.
        fault: Box<str>,
    },
}

/// The Profiles that an Assignment selects, with how well each fits the subject.
type Fitting<'c> = SmallVec<[(&'c Arc<Profile>, Fit<'c>); 4]>;

/// An Assignment that may match, in order of rank.
struct RankedMatch<'c> {
    found: Found<'c>,
    /// The first label requirement that the subject does not meet.
    unmet: Option<&'c Requirement>,
}

impl Catalog {
    /// Returns what the subject boots, with shared ownership.
    pub fn select(&self, subject: &Subject) -> Result<Selection, NotSelected> {
        self.select_ref(subject).map(Selected::to_selection)
    }

    /// Returns what the subject boots, borrowed from the catalog.
    pub fn select_ref(&self, subject: &Subject) -> Result<Selected<'_>, NotSelected> {
        let winner = self.winner(subject).ok_or(NotSelected::NoAssignment)?;
        // Finds the first entry of `fitting` without building the list. Of equal Profiles, the
        // first wins there as well.
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

    /// Returns the Assignment that gets the subject: the first valid one that matches, unless an
    /// invalid one ranks before it.
    fn winner(&self, subject: &Subject) -> Option<Found<'_>> {
        if let Some(found) = self.certain_winner(subject) {
            return Some(found);
        }
        let mut before: SmallVec<[Found<'_>; 4]> = SmallVec::new();
        let mut accepted = None;
        for RankedMatch { found, .. } in
            self.ranked(subject).filter(|ranked| ranked.unmet.is_none())
        {
            if self.rejected_assignment(found.assignment).is_none() {
                accepted = Some(found);
                break;
            }
            before.push(found);
        }
        let holds = |found: &Found<'_>| accepted.is_none_or(|accepted| !found.yields_to(&accepted));
        before.into_iter().find(holds).or(accepted)
    }

    /// Iterates over all Assignments that an index finds for the subject, by rank and each once.
    /// Lazy, so that taking the first one is cheap.
    fn ranked<'c>(&'c self, subject: &Subject) -> impl Iterator<Item = RankedMatch<'c>> {
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
        let mut last: Option<&Arc<Assignment>> = None;
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
                // An Assignment that lists two MAC addresses of a Machine is found by each, at once.
                if last.is_some_and(|last| Arc::ptr_eq(last, found.assignment)) {
                    continue;
                }
                // An Assignment that lists both the uuid and the mac of a machine is found twice;
                // it ranks by the stronger. Nothing is stronger than the uuid, so that match needs
                // no check and no access to memory.
                if found.by != MatchedBy::Uuid
                    && found.assignment.subjects.identify(subject) != Some(found.by)
                {
                    continue;
                }
                last = Some(found.assignment);
                return Some(RankedMatch {
                    found,
                    unmet: found.assignment.subjects.labels.unmet(subject),
                });
            }
        })
    }

    /// Returns the Profiles that an Assignment selects, the best fit first and mismatches last.
    fn fitting<'c>(&'c self, assignment: &'c Assignment, subject: &Subject) -> Fitting<'c> {
        let mut profiles: Fitting<'_> = self
            .profiles_of(assignment)
            .map(|profile| (profile, profile.fit(subject)))
            .collect();
        // The sort is stable: among equals, the older stays first.
        profiles.sort_by_key(|(_, fit)| fit.sort_key());
        profiles
    }
}

impl Catalog {
    /// Returns what the winning Assignment gives the subject: the best of the `count` Profiles that
    /// it selects, if that fits.
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
        if let Some(machine) = subject.machine()
            && let Some(rejected) = self.rejected_machine(machine)
        {
            return not_accepted(rejected);
        }
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
            Some((nearest, Fit::Mismatch(constraint))) => {
                let (nearest, has) = (
                    &nearest.key.name,
                    constraint.value_in(subject).unwrap_or_default(),
                );
                let reason = format!(
                    "none of the {count} Profiles that it selects fits: {nearest} requires {constraint}, but the machine has {has}"
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
                    "no Profile in namespace {namespace} has labels {selectors}; fix profileSelectors or label a Profile"
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
    /// Returns the selection with shared ownership.
    pub fn to_selection(self) -> Selection {
        Selection {
            assignment: self.assignment.clone(),
            by: self.by,
            profile: self.profile.clone(),
        }
    }
}

impl Found<'_> {
    /// Compares the ranks of two matching Assignments: clause 2 of the rule.
    pub fn rank(&self, other: &Self) -> Ordering {
        let (a, b) = (self.assignment, other.assignment);
        b.priority
            .cmp(&a.priority)
            .then_with(|| self.by.cmp(&other.by))
            .then_with(|| a.cmp_rank(b))
    }

    /// Returns whether this invalid Assignment leaves the machine to a valid one of lower rank.
    /// Unless it lists the machine's identity, its priority does not lift it over a more specific
    /// Assignment: a broken object must not take machines from Assignments that are meant for
    /// exactly those machines.
    fn yields_to(&self, accepted: &Self) -> bool {
        let requirements = |found: &Self| found.assignment.subjects.labels.len();
        self.by == MatchedBy::Labels
            && (accepted.by != MatchedBy::Labels || requirements(accepted) > requirements(self))
    }

    /// Returns whether only age or name decides between the two.
    fn conflicts_with(&self, other: &Self) -> bool {
        self.by == other.by && self.assignment.cmp_precedence(other.assignment).is_eq()
    }
}
