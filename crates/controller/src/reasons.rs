//! The conditions that status can have, for their reference.

/// One reason of one condition.
#[derive(Debug)]
pub struct Reason {
    /// The kinds of objects that can have it.
    pub objects: &'static [&'static str],
    /// The type of the condition.
    pub condition: &'static str,
    /// `True`, `False` or `Unknown`.
    pub status: &'static str,
    /// One word for programs, in CamelCase.
    pub reason: &'static str,
    /// What it means, and what to do.
    pub meaning: &'static str,
}

const BOTH: &[&str] = &["Profile", "Assignment"];
const PROFILE: &[&str] = &["Profile"];
const ASSIGNMENT: &[&str] = &["Assignment"];

const fn reason(
    objects: &'static [&'static str],
    condition: &'static str,
    status: &'static str,
    reason: &'static str,
    meaning: &'static str,
) -> Reason {
    Reason {
        objects,
        condition,
        status,
        reason,
        meaning,
    }
}

/// Every reason that the controller writes.
pub static REASONS: &[Reason] = &[
    reason(
        BOTH,
        "Accepted",
        "True",
        "Accepted",
        "The object is valid, and machines are answered by it.",
    ),
    reason(
        BOTH,
        "Accepted",
        "False",
        "InvalidField",
        "A field holds a value that it can't have. The message names the field, and says whether the last valid version stays in use.",
    ),
    reason(
        PROFILE,
        "Accepted",
        "False",
        "InvalidTemplate",
        "A template does not parse, or uses a name that does not exist. The message names template and line.",
    ),
    reason(
        BOTH,
        "Accepted",
        "False",
        "Unreadable",
        "The object does not have the shape that this version of shaper knows. Compare the versions of the definitions and of the controllers.",
    ),
    reason(
        BOTH,
        "Accepted",
        "False",
        "UnknownField",
        "The object has a field of a newer version of shaper. Upgrade the controllers.",
    ),
    reason(
        PROFILE,
        "Resolved",
        "True",
        "NoReferences",
        "All configs are written in the Profile itself.",
    ),
    reason(
        PROFILE,
        "Resolved",
        "Unknown",
        "NotAccepted",
        "The Profile is invalid; see Accepted.",
    ),
    reason(
        ASSIGNMENT,
        "ProfileFound",
        "True",
        "ProfileFound",
        "`profileSelectors` select at least one Profile.",
    ),
    reason(
        ASSIGNMENT,
        "ProfileFound",
        "False",
        "NoProfile",
        "No Profile of the namespace has the labels of `profileSelectors`. The machines of the Assignment wait; fix `profileSelectors` or label a Profile.",
    ),
    reason(
        ASSIGNMENT,
        "ProfileFound",
        "Unknown",
        "NotAccepted",
        "The Assignment is invalid; see Accepted.",
    ),
    reason(
        ASSIGNMENT,
        "Conflicted",
        "False",
        "NoConflict",
        "No other Assignment ties with it.",
    ),
    reason(
        ASSIGNMENT,
        "Conflicted",
        "True",
        "TieBrokenByAge",
        "A machine can match this Assignment and another, and only age or name decides. Give one of them another priority, or more labels.",
    ),
    reason(
        ASSIGNMENT,
        "Conflicted",
        "Unknown",
        "NotAccepted",
        "The Assignment is invalid; see Accepted.",
    ),
];

/// Whether the reference has this condition.
pub(crate) fn is_listed(condition: &str, status: &str, reason: &str) -> bool {
    REASONS.iter().any(|listed| {
        (listed.condition, listed.status, listed.reason) == (condition, status, reason)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_reason_is_one_that_the_code_writes() {
        let source = concat!(include_str!("status.rs"), include_str!("object.rs"));
        for reason in REASONS {
            assert!(
                source.contains(&format!("\"{}\"", reason.reason)),
                "{reason:?}"
            );
        }
    }
}
