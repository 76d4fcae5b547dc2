//! A compact form of an object's current status, kept for every object.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use crd::{AssignmentStatus, MachineStatus, ProfileStatus};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::condition::{ConditionStatus, ConditionType, Digest};

/// The `resourceVersion` of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// The usual case: a revision of etcd.
    Number(u64),
    Other(Box<str>),
}

/// The current status of an object, reduced to what is needed to decide about the next write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Observed {
    /// Covers everything except times.
    pub(crate) digest: Digest,
    /// The status of each condition type; `None` if the condition is absent.
    verdicts: [Option<ConditionStatus>; ConditionType::ALL.len()],
    /// The transition time of each condition type in seconds, the precision in which it is written.
    since: [u32; ConditionType::ALL.len()],
    /// Digests of the conditions that are problems, by type; `None` if there are none.
    bad: Option<Box<[Digest; ConditionType::ALL.len()]>>,
}

// === impl Version ===

/// The version of an object whose version is unknown.
impl Default for Version {
    fn default() -> Self {
        Self::Other(Box::default())
    }
}

impl From<&str> for Version {
    fn from(text: &str) -> Self {
        // Keep the exact text: the version is sent back to the server.
        match text.parse() {
            Ok(number) if u64::to_string(&number) == text => Self::Number(number),
            _ => Self::Other(text.into()),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Other(text) => text.fmt(f),
        }
    }
}

// === impl Observed ===

impl Observed {
    /// Summarizes a Profile's status; the digest covers everything except times.
    pub(crate) fn of_profile(status: &ProfileStatus) -> Self {
        let conditions = own_conditions(&status.conditions);
        Self::new(
            digest(&(
                status.observed_generation,
                &status.additional_config,
                conditions,
            )),
            &status.conditions,
        )
    }

    /// Summarizes an Assignment's status; the digest covers everything except times.
    pub(crate) fn of_assignment(status: &AssignmentStatus) -> Self {
        let conditions = own_conditions(&status.conditions);
        Self::new(
            digest(&(
                status.observed_generation,
                &status.profiles,
                &status.profile_summary,
                &status.subject,
                conditions,
            )),
            &status.conditions,
        )
    }

    /// Summarizes a Machine's status; the digest covers everything except times.
    pub(crate) fn of_machine(status: &MachineStatus) -> Self {
        let conditions = own_conditions(&status.conditions);
        Self::new(
            digest(&(
                status.observed_generation,
                &status.identities,
                &status.assignment,
                &status.profile,
                conditions,
            )),
            &status.conditions,
        )
    }

    /// Summarizes a status with these conditions; `digest` covers everything except times.
    fn new(digest: Digest, conditions: &[Condition]) -> Self {
        let mut observed = Self {
            digest,
            ..Self::default()
        };
        for condition in conditions {
            let Some((kind, verdict)) = read(condition) else {
                continue;
            };
            observed.verdicts[kind as usize] = Some(verdict);
            observed.since[kind as usize] =
                u32::try_from(condition.last_transition_time.0.as_second().max(0))
                    .unwrap_or(u32::MAX);
            if kind.is_problem(verdict) {
                observed.bad.get_or_insert_default()[kind as usize] = words(condition);
            }
        }
        observed
    }

    /// Returns since when a condition has had this status, or `None` if it has another.
    pub(crate) fn since(&self, kind: ConditionType, verdict: ConditionStatus) -> Option<Timestamp> {
        let has = self.verdicts[kind as usize] == Some(verdict);
        has.then(|| Timestamp::from_second(self.since[kind as usize].into()).ok())
            .flatten()
    }

    /// Returns whether the object has a condition.
    pub(crate) fn has(&self, kind: ConditionType) -> bool {
        self.verdicts[kind as usize].is_some()
    }

    /// Returns whether a condition is a problem.
    pub(crate) fn is_problem(&self, kind: ConditionType) -> bool {
        self.verdicts[kind as usize].is_some_and(|verdict| kind.is_problem(verdict))
    }

    /// Returns whether a condition is a problem and says the same as `condition`.
    pub(crate) fn is_same_problem(&self, kind: ConditionType, condition: &Condition) -> bool {
        self.is_problem(kind)
            && self
                .bad
                .as_deref()
                .is_some_and(|bad| bad[kind as usize] == words(condition))
    }
}

/// Hashes a value for comparison: equal digests mean equal values.
pub(crate) fn digest(value: &impl Hash) -> Digest {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    Digest(hasher.finish())
}

/// Returns shaper's own conditions in a fixed order. The server may store them in another order,
/// mixed with those of other controllers.
fn own_conditions(
    conditions: &[Condition],
) -> BTreeMap<ConditionType, (&str, &str, &str, Option<i64>)> {
    let own = conditions.iter().filter_map(|c| {
        Some((
            c.type_.parse().ok()?,
            (&*c.status, &*c.reason, &*c.message, c.observed_generation),
        ))
    });
    own.collect()
}

/// Returns the type and status of a condition, or `None` if it is not one of shaper's.
pub(crate) fn read(condition: &Condition) -> Option<(ConditionType, ConditionStatus)> {
    Some((
        condition.type_.parse().ok()?,
        condition.status.parse().ok()?,
    ))
}

fn words(condition: &Condition) -> Digest {
    digest(&(&condition.status, &condition.reason, &condition.message))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn condition(kind: &str, status: &str, message: &str, at: i64) -> Condition {
        Condition {
            type_: kind.into(),
            status: status.into(),
            reason: "Reason".into(),
            message: message.into(),
            observed_generation: Some(1),
            last_transition_time: Time(Timestamp::from_second(at).unwrap()),
        }
    }

    #[test]
    fn versions_keep_their_exact_text() {
        for text in [
            "0",
            "7",
            "18446744073709551615",
            "18446744073709551616",
            "007",
            "+7",
            "",
            "a7",
        ] {
            assert_eq!(Version::from(text).to_string(), text);
        }
        assert_eq!(Version::from("7"), Version::Number(7));
        assert!(matches!(Version::from("07"), Version::Other(_)));
    }

    #[test]
    fn observed_keeps_transition_times_and_problems() {
        let conditions = [
            condition("Accepted", "True", "yes", 5),
            condition("Conflicted", "True", "with a", 7),
            condition("Others", "True", "", 9),
        ];
        let observed = Observed::new(Digest(1), &conditions);
        assert_eq!(
            observed.since(ConditionType::Accepted, ConditionStatus::True),
            Timestamp::from_second(5).ok()
        );
        assert_eq!(
            observed.since(ConditionType::Accepted, ConditionStatus::False),
            None
        );
        assert_eq!(
            observed.since(ConditionType::ProfileFound, ConditionStatus::True),
            None
        );
        assert_eq!(
            [
                ConditionType::Accepted,
                ConditionType::Conflicted,
                ConditionType::Resolved
            ]
            .map(|kind| observed.is_problem(kind)),
            [false, true, false]
        );
        assert!(
            observed.is_same_problem(
                ConditionType::Conflicted,
                &condition("Conflicted", "True", "with a", 8)
            ),
            "transition times are ignored"
        );
        assert!(!observed.is_same_problem(
            ConditionType::Conflicted,
            &condition("Conflicted", "True", "with b", 7)
        ));
        assert!(!observed.is_same_problem(
            ConditionType::Accepted,
            &condition("Accepted", "True", "yes", 5)
        ));
    }

    #[test]
    fn the_state_kept_per_object_is_small() {
        assert!(size_of::<Observed>() <= 56, "{}", size_of::<Observed>());
        assert_eq!(size_of::<Version>(), 16);
    }
}
