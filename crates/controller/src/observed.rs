//! What is there of an object's status, in little memory: a controller keeps it of each object.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use crd::{AssignmentStatus, ProfileStatus};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::condition::{ConditionStatus, ConditionType, Digest};

/// The `resourceVersion` of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// As all are where etcd counts them.
    Number(u64),
    Other(Box<str>),
}

/// The status that is there, as far as it matters for writing another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Observed {
    /// Of all that is not a time.
    pub(crate) digest: Digest,
    /// By kind: none where there is no such condition.
    verdicts: [Option<ConditionStatus>; ConditionType::ALL.len()],
    /// By kind: since when, in seconds. It is written in seconds, too.
    since: [u32; ConditionType::ALL.len()],
    /// By kind, what those say that somebody should look at. Nothing where nobody should.
    bad: Option<Box<[Digest; ConditionType::ALL.len()]>>,
}

// === impl Version ===

/// That of an object of which none is known.
impl Default for Version {
    fn default() -> Self {
        Self::Other(Box::default())
    }
}

impl From<&str> for Version {
    fn from(text: &str) -> Self {
        // It is sent back as it came.
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
    /// What of a Profile's status is compared: all but times.
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

    /// What of an Assignment's status is compared: all but times.
    pub(crate) fn of_assignment(status: &AssignmentStatus) -> Self {
        let conditions = own_conditions(&status.conditions);
        Self::new(
            digest(&(
                status.observed_generation,
                &status.profiles,
                &status.subject,
                conditions,
            )),
            &status.conditions,
        )
    }

    /// Of a status with these conditions, of which all that is not a time has this digest.
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

    /// Since when a condition has had this verdict, if it has.
    pub(crate) fn since(&self, kind: ConditionType, verdict: ConditionStatus) -> Option<Timestamp> {
        let has = self.verdicts[kind as usize] == Some(verdict);
        has.then(|| Timestamp::from_second(self.since[kind as usize].into()).ok())
            .flatten()
    }

    /// Whether a condition is one that somebody should look at.
    pub(crate) fn is_problem(&self, kind: ConditionType) -> bool {
        self.verdicts[kind as usize].is_some_and(|verdict| kind.is_problem(verdict))
    }

    /// Whether a condition is one that somebody should look at, and says the same as this.
    pub(crate) fn is_same_problem(&self, kind: ConditionType, condition: &Condition) -> bool {
        self.is_problem(kind)
            && self
                .bad
                .as_deref()
                .is_some_and(|bad| bad[kind as usize] == words(condition))
    }
}

/// What can be compared: equal digests, equal values.
pub(crate) fn digest(value: &impl Hash) -> Digest {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    Digest(hasher.finish())
}

/// What conditions say, in an order of its own: the server may keep them in another, with those of others among them.
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

/// Which condition of this project's it is, and what it says. None where it is of somebody else.
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
    fn a_version_is_sent_back_as_it_came() {
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
    fn of_conditions_is_known_since_when_they_hold_and_what_bad_ones_say() {
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
            "times don't count"
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
    fn what_is_kept_of_each_object_is_small() {
        assert!(size_of::<Observed>() <= 40, "{}", size_of::<Observed>());
        assert_eq!(size_of::<Version>(), 16);
    }
}
