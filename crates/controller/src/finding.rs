//! What was found out about an object: the conditions of its status, before they have a time.

use std::fmt;
use std::str::FromStr;

/// A condition's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
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
pub(crate) enum Verdict {
    True,
    False,
    Unknown,
}

/// A condition without its time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Finding {
    pub(crate) kind: Kind,
    pub(crate) verdict: Verdict,
    /// One word for programs, in CamelCase.
    pub(crate) reason: &'static str,
    /// A sentence for people.
    pub(crate) message: String,
}

/// Stands for a value in comparisons.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Digest(pub(crate) u64);

impl Finding {
    pub(crate) fn new(
        kind: Kind,
        verdict: Verdict,
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

impl Kind {
    pub(crate) const ALL: [Self; 4] = [
        Self::Accepted,
        Self::Resolved,
        Self::ProfileFound,
        Self::Conflicted,
    ];

    /// Whether somebody should look at it.
    pub(crate) fn is_bad(self, verdict: Verdict) -> bool {
        verdict
            == if self == Self::Conflicted {
                Verdict::True
            } else {
                Verdict::False
            }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl FromStr for Kind {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.to_string() == text)
            .ok_or(())
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl FromStr for Verdict {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::True, Self::False, Self::Unknown]
            .into_iter()
            .find(|verdict| verdict.to_string() == text)
            .ok_or(())
    }
}
