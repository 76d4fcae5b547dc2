//! The rule by which a subject gets an Assignment and that a Profile. [`Catalog::select`] and [`Catalog::explain`] are one walk.
//!
//! 1. An Assignment matches when any of its identities does and all of its labels do.
//! 2. Higher priority goes first; then uuid over serial over mac over none; then more label requirements; then the older; then
//!    namespace and name. The first that matches wins.
//! 3. Of the Profiles in its namespace that have all labels of `profileSelectors`, those are dropped that ask for another value of a
//!    label than the subject presents. More of such labels satisfied goes first; then the older; then the name.
//! 4. If none is left, the answer is "no profile", and never the next Assignment: a machine must not be reinstalled by a default because
//!    somebody mistyped a label.

mod explanation;

use std::cmp::{Ordering, Reverse};
use std::sync::Arc;

use smallvec::SmallVec;

use crate::assignment::Assignment;
use crate::catalog::{Catalog, Found};
use crate::identity::MatchedBy;
use crate::profile::{Fit, Profile};
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

/// Why a subject boots nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSelected {
    /// No Assignment matches.
    #[error("no Assignment matches this machine: create one that names its uuid, serial or mac, or a default without subjectSelectors")]
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
    /// What the subject boots.
    pub fn select(&self, subject: &Subject) -> Result<Selection, NotSelected> {
        let winner = self.ranked(subject).find(|ranked| ranked.unmet.is_none()).ok_or(NotSelected::NoAssignment)?.found;
        decide(winner, &self.fitting(winner.assignment, subject), subject)
    }

    /// All Assignments that an index finds for the subject, by rank, each once. Lazy: who takes the first pays for the first.
    fn ranked<'c>(&'c self, subject: &'c Subject) -> impl Iterator<Item = Ranked<'c>> {
        let mut queues: SmallVec<[_; 4]> = SmallVec::new();
        for (by, bucket) in self.buckets(subject) {
            let mut queue = bucket.iter();
            if let Some(first) = queue.next() {
                queues.push((Found { by, assignment: first }, queue));
            }
        }
        std::iter::from_fn(move || {
            loop {
                let (at, _) = queues.iter().enumerate().min_by(|(_, (a, _)), (_, (b, _))| a.rank(b))?;
                let found = queues[at].0;
                match queues[at].1.next() {
                    Some(next) => queues[at].0.assignment = next,
                    None => drop(queues.swap_remove(at)),
                }
                // One that names the uuid and the mac of a machine is found twice; its place is that of the stronger.
                if found.assignment.subjects.identify(subject) != Some(found.by) {
                    continue;
                }
                return Some(Ranked { found, unmet: found.assignment.subjects.labels.unmet(subject) });
            }
        })
    }

    /// The Profiles that an Assignment selects, the best for the subject first and those that disagree with it last.
    fn fitting<'c>(&'c self, assignment: &'c Assignment, subject: &Subject) -> Fitting<'c> {
        let mut profiles: Fitting<'_> = self.profiles_of(assignment).map(|profile| (profile, profile.fit(subject))).collect();
        // Stable: among equals, the older stays first.
        profiles.sort_by_key(|(_, fit)| match fit {
            Fit::Suits(satisfied) => (false, Reverse(*satisfied)),
            Fit::Disagrees(_) => (true, Reverse(0)),
        });
        profiles
    }
}

/// What an Assignment that won gives to the subject.
fn decide(winner: Found<'_>, fitting: &[(&Arc<Profile>, Fit<'_>)], subject: &Subject) -> Result<Selection, NotSelected> {
    let Found { by, assignment } = winner;
    let profile = match fitting.first() {
        Some((profile, Fit::Suits(_))) => (*profile).clone(),
        Some((nearest, Fit::Disagrees(want))) => {
            let (count, nearest, has) = (fitting.len(), &nearest.key.name, want.presented_by(subject).unwrap_or_default());
            let reason = format!("none of the {count} Profiles that it selects suits: {nearest} wants {want}, the machine has {has}");
            return Err(NotSelected::NoProfile { assignment: assignment.clone(), by, reason });
        }
        None => {
            let selectors: Vec<_> = assignment.profiles.iter().map(|(key, value)| format!("{key}={value}")).collect();
            let (selectors, namespace) = (selectors.join(","), &assignment.key.namespace);
            let reason =
                format!("no Profile in namespace {namespace} has the labels {selectors}: mend its profileSelectors or label a Profile");
            return Err(NotSelected::NoProfile { assignment: assignment.clone(), by, reason });
        }
    };
    Ok(Selection { assignment: assignment.clone(), by, profile })
}

impl Found<'_> {
    /// Which goes first where both match: the second clause of the rule.
    pub fn rank(&self, other: &Self) -> Ordering {
        let (a, b) = (self.assignment, other.assignment);
        b.priority.cmp(&a.priority).then_with(|| self.by.cmp(&other.by)).then_with(|| a.standing(b))
    }

    /// Whether nothing that somebody chose tells them apart.
    fn ties_with(&self, other: &Self) -> bool {
        self.by == other.by && self.assignment.merit(other.assignment).is_eq()
    }
}
