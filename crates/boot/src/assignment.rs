//! Which subjects get which Profile.

use std::cmp::Ordering;

use jiff::Timestamp;

use crate::name::ObjectKey;
use crate::profile::older_first;
use crate::selector::SubjectSelectors;
use crate::sorted::Labels;

/// Which subjects get which Profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// Namespace and name.
    pub key: ObjectKey,
    /// When it was created, if that is known. What has no time counts as the youngest.
    pub created: Option<Timestamp>,
    /// Its own labels, which templates can read.
    pub labels: Labels,
    /// The subjects that it speaks of.
    pub subjects: SubjectSelectors,
    /// The labels that a Profile of the same namespace must have, in their normal spelling ([`crate::profile::normalise_labels`]).
    pub profiles: Labels,
    /// Higher goes first.
    pub priority: i32,
}

/// The place of an Assignment among those that match by the same identity, or by none: the rest of the rule of selection.
impl Assignment {
    pub(crate) fn cmp_rank(&self, other: &Self) -> Ordering {
        self.cmp_precedence(other)
            .then_with(|| older_first(self.created, other.created))
            .then_with(|| self.key.cmp(&other.key))
    }

    /// The part of the order that somebody chose: priority, then the number of label requirements.
    pub(crate) fn cmp_precedence(&self, other: &Self) -> Ordering {
        other
            .priority
            .cmp(&self.priority)
            .then_with(|| other.subjects.labels.len().cmp(&self.subjects.labels.len()))
    }
}
