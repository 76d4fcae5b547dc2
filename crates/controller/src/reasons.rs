//! All reasons that conditions can have, for the generated reference.

/// A reason of a condition.
#[derive(Debug)]
pub struct Reason {
    /// The kinds of objects that can have the condition.
    pub objects: &'static [&'static str],
    /// The type of the condition.
    pub condition: &'static str,
    /// `True`, `False` or `Unknown`.
    pub status: &'static str,
    /// A CamelCase word for programs.
    pub reason: &'static str,
    /// What the reason means, and what to do.
    pub meaning: &'static str,
}

const ALL: &[&str] = &["Profile", "Assignment", "Machine"];
const PROFILE: &[&str] = &["Profile"];
const ASSIGNMENT: &[&str] = &["Assignment"];
const MACHINE: &[&str] = &["Machine"];

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
        ALL,
        "Ready",
        "True",
        "Ready",
        "The object does what it is for: it is valid, and an Assignment has a Profile, a Profile the ids of its configs. A Machine needs nothing else.",
    ),
    reason(
        ASSIGNMENT,
        "Ready",
        "False",
        "NoProfile",
        "No Profile in the namespace has the labels in `profileSelectors`; see ProfileFound.",
    ),
    reason(
        ALL,
        "Ready",
        "Unknown",
        "Pending",
        "No controller has looked at the object yet. The API server shows this for a new object; after a few seconds, see whether a controller runs and holds the Lease.",
    ),
    reason(
        ALL,
        "Reconciling",
        "True",
        "Pending",
        "No controller has looked at the object yet; see Ready.",
    ),
    reason(
        ALL,
        "Reconciling",
        "False",
        "Reconciled",
        "The status describes this generation of the object.",
    ),
    reason(
        ALL,
        "Ready",
        "False",
        "InvalidField",
        "The object is invalid; see Accepted.",
    ),
    reason(
        ALL,
        "Stalled",
        "True",
        "InvalidField",
        "The object is invalid; see Accepted.",
    ),
    reason(
        PROFILE,
        "Ready",
        "False",
        "InvalidTemplate",
        "The object is invalid; see Accepted.",
    ),
    reason(
        PROFILE,
        "Stalled",
        "True",
        "InvalidTemplate",
        "The object is invalid; see Accepted.",
    ),
    reason(
        ALL,
        "Ready",
        "False",
        "Unreadable",
        "The object is invalid; see Accepted.",
    ),
    reason(
        ALL,
        "Stalled",
        "True",
        "Unreadable",
        "The object is invalid; see Accepted.",
    ),
    reason(
        ALL,
        "Ready",
        "False",
        "UnknownField",
        "The object is invalid; see Accepted.",
    ),
    reason(
        ALL,
        "Stalled",
        "True",
        "UnknownField",
        "The object is invalid; see Accepted.",
    ),
    reason(ALL, "Accepted", "True", "Accepted", "The object is valid."),
    reason(
        ALL,
        "Accepted",
        "False",
        "InvalidField",
        "A field has an invalid value. The message names the field, and says whether the last valid version stays in use.",
    ),
    reason(
        PROFILE,
        "Accepted",
        "False",
        "InvalidTemplate",
        "A template does not parse, or uses a name that does not exist. The message names the template and the line.",
    ),
    reason(
        ALL,
        "Accepted",
        "False",
        "Unreadable",
        "The object does not match the schema of this version of shaper. Compare the versions of the CustomResourceDefinitions and of the controllers.",
    ),
    reason(
        ALL,
        "Accepted",
        "False",
        "UnknownField",
        "The object has a field that this version of shaper does not know. Upgrade the controllers.",
    ),
    reason(
        PROFILE,
        "Resolved",
        "True",
        "NoReferences",
        "All configs are defined in the Profile itself.",
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
        "No Profile in the namespace has the labels in `profileSelectors`. The machines of the Assignment wait; fix `profileSelectors` or label a Profile.",
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
        "No other Assignment conflicts with this one.",
    ),
    reason(
        ASSIGNMENT,
        "Conflicted",
        "True",
        "TieBrokenByAge",
        "A machine can match this Assignment and another, and only age or name decides. Give one of them a different priority or more labels.",
    ),
    reason(
        ASSIGNMENT,
        "Conflicted",
        "Unknown",
        "NotAccepted",
        "The Assignment is invalid; see Accepted.",
    ),
    reason(
        MACHINE,
        "Conflicted",
        "False",
        "NoConflict",
        "No other Machine claims an identity of this one.",
    ),
    reason(
        MACHINE,
        "Conflicted",
        "True",
        "DuplicateIdentity",
        "Another Machine claims an identity of this one. A machine that presents it is the oldest of them. Remove the identity from all but one.",
    ),
    reason(
        MACHINE,
        "Conflicted",
        "Unknown",
        "NotAccepted",
        "The Machine is invalid; see Accepted.",
    ),
    reason(
        ASSIGNMENT,
        "VariablesComplete",
        "True",
        "Complete",
        "No variable that the selected Profiles need is missing. The condition is absent if they need none.",
    ),
    reason(
        ASSIGNMENT,
        "VariablesComplete",
        "False",
        "MissingVariables",
        "A machine lacks a variable that its Profile needs, and gets an error instead of its script or config. The message names the variable. Set it in the Machine, the Assignment or the Profile.",
    ),
    reason(
        ASSIGNMENT,
        "VariablesComplete",
        "False",
        "InvalidVariables",
        "A variable does not satisfy the `variablesSchema` of the Profile. The message names it. Correct it in the Machine, the Assignment or the Profile.",
    ),
];

/// Returns whether `REASONS` has this combination.
pub(crate) fn is_listed(condition: &str, status: &str, reason: &str) -> bool {
    REASONS.iter().any(|listed| {
        (listed.condition, listed.status, listed.reason) == (condition, status, reason)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_reason_is_used_in_the_code() {
        let source = concat!(
            include_str!("status.rs"),
            include_str!("status/machine.rs"),
            include_str!("placements.rs"),
            include_str!("object.rs"),
            include_str!("../../crd/src/schema.rs")
        );
        for reason in REASONS {
            assert!(
                source.contains(&format!("\"{}\"", reason.reason)),
                "{reason:?}"
            );
        }
    }
}
