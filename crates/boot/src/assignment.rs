//! Assignments: which subjects get which Profile.

use std::cmp::Ordering;

use jiff::Timestamp;

use crate::name::ObjectKey;
use crate::profile::older_first;
use crate::selector::SubjectSelectors;
use crate::sorted::Labels;
use crate::variables::Variables;

/// Assigns a Profile to the subjects that it selects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The Assignment's namespace and name.
    pub key: ObjectKey,
    /// The creation time, if known. An Assignment without one counts as the youngest.
    pub created: Option<Timestamp>,
    /// The Assignment's own labels, which templates can read.
    pub labels: Labels,
    /// Selects subjects.
    pub subjects: SubjectSelectors,
    /// The labels that a Profile in the same namespace must have, with normalised values
    /// ([`crate::profile::normalise_labels`]).
    pub profiles: Labels,
    /// The priority. A higher one ranks first.
    pub priority: i32,
    /// Values for templates, which override the Profile's.
    pub variables: Variables,
}

/// Ranks Assignments that match by the same identity, or by none: the rest of the selection rule.
impl Assignment {
    pub(crate) fn cmp_rank(&self, other: &Self) -> Ordering {
        self.cmp_precedence(other)
            .then_with(|| older_first(self.created, other.created))
            .then_with(|| self.key.cmp(&other.key))
    }

    /// Compares what the authors chose: the priority, then the number of label requirements.
    pub(crate) fn cmp_precedence(&self, other: &Self) -> Ordering {
        other
            .priority
            .cmp(&self.priority)
            .then_with(|| other.subjects.labels.len().cmp(&self.subjects.labels.len()))
    }
}
