//! Status conditions, before they get a transition time.

use std::fmt;
use std::str::FromStr;

/// The type of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum ConditionType {
    /// Whether the object does what it is for. Summarises the others for tools that wait.
    Ready,
    /// Whether the status does not describe this generation yet (kstatus).
    Reconciling,
    /// Present and true if the object stays as it is until somebody changes it (kstatus).
    Stalled,
    /// Whether the object is valid.
    Accepted,
    /// Whether the sources of a Profile's configs exist.
    Resolved,
    /// Whether an Assignment's selectors match a Profile.
    ProfileFound,
    /// Whether only age or name decides between this Assignment and another, or whether another
    /// Machine claims an identity of this one.
    Conflicted,
    /// Whether the machines of an Assignment have the variables that their Profiles need. Absent
    /// where no Profile needs any.
    VariablesComplete,
}

/// The status of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ConditionStatus {
    True,
    False,
    Unknown,
}

/// A condition without its transition time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct UntimedCondition {
    pub(crate) kind: ConditionType,
    pub(crate) verdict: ConditionStatus,
    /// A CamelCase word for programs.
    pub(crate) reason: &'static str,
    /// A sentence for people.
    pub(crate) message: String,
}

/// A hash that is compared instead of the value.
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
    pub(crate) const ALL: [Self; 8] = [
        Self::Ready,
        Self::Reconciling,
        Self::Stalled,
        Self::Accepted,
        Self::Resolved,
        Self::ProfileFound,
        Self::Conflicted,
        Self::VariablesComplete,
    ];

    /// Returns whether a condition with this status is a problem, which is told by an event.
    pub(crate) fn is_problem(self, verdict: ConditionStatus) -> bool {
        match self {
            Self::Conflicted => verdict == ConditionStatus::True,
            Self::Accepted | Self::Resolved | Self::ProfileFound | Self::VariablesComplete => {
                verdict == ConditionStatus::False
            }
            // They say what the others say.
            Self::Ready | Self::Reconciling | Self::Stalled => false,
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
