//! What was found out about an object: the conditions of its status, before they have a time.

use std::fmt;
use std::str::FromStr;

/// A condition's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum ConditionType {
    /// The object counts.
    Accepted,
    /// The sources of a Profile's configs are there.
    Resolved,
    /// The selectors of an Assignment match a Profile.
    ProfileFound,
    /// Only age or name decides between an Assignment and another.
    Conflicted,
}

/// A condition's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ConditionStatus {
    True,
    False,
    Unknown,
}

/// A condition without its time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct UntimedCondition {
    pub(crate) kind: ConditionType,
    pub(crate) verdict: ConditionStatus,
    /// One word for programs, in CamelCase.
    pub(crate) reason: &'static str,
    /// A sentence for people.
    pub(crate) message: String,
}

/// Stands for a value in comparisons.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Digest(pub(crate) u64);

impl UntimedCondition {
    pub(crate) fn new(
        kind: ConditionType,
        verdict: ConditionStatus,
        reason: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            verdict,
            reason,
            message: message.into(),
        }
    }
}

impl ConditionType {
    pub(crate) const ALL: [Self; 4] = [
        Self::Accepted,
        Self::Resolved,
        Self::ProfileFound,
        Self::Conflicted,
    ];

    /// Whether somebody should look at it.
    pub(crate) fn is_problem(self, verdict: ConditionStatus) -> bool {
        verdict
            == if self == Self::Conflicted {
                ConditionStatus::True
            } else {
                ConditionStatus::False
            }
    }
}

impl fmt::Display for ConditionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl FromStr for ConditionType {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.to_string() == text)
            .ok_or(())
    }
}

impl fmt::Display for ConditionStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl FromStr for ConditionStatus {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::True, Self::False, Self::Unknown]
            .into_iter()
            .find(|verdict| verdict.to_string() == text)
            .ok_or(())
    }
}
