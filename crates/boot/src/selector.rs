//! Selectors: which subjects an Assignment matches.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use uuid::Uuid;

use crate::identity::{self, Mac, MatchedBy};
use crate::sorted::Sorted;
use crate::subject::{Subject, normalise};

/// Selects subjects. Empty selectors match every subject.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubjectSelectors {
    /// SMBIOS UUIDs. Any listed identity of any kind is enough.
    pub uuids: Sorted<Uuid>,
    /// SMBIOS serial numbers, without surrounding spaces.
    pub serials: Sorted<Arc<str>>,
    /// MAC addresses.
    pub macs: Sorted<Mac>,
    /// Label requirements, which must hold in addition.
    pub labels: LabelSelector,
}

/// Label requirements, all of which must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    requirements: Box<[Requirement]>,
}

/// A requirement on one label.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Requirement {
    /// The label's key.
    pub key: Box<str>,
    /// The condition on the label's value.
    pub operator: Operator,
}

/// The operators of a Kubernetes label selector. As in Kubernetes, `NotIn` holds if the label is
/// absent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operator {
    /// The value is one of these.
    In(Sorted<Box<str>>),
    /// The value is none of these, or the label is absent.
    NotIn(Sorted<Box<str>>),
    /// The label is present.
    Exists,
    /// The label is absent.
    DoesNotExist,
}

// === impl SubjectSelectors ===

impl SubjectSelectors {
    /// Returns whether any identities are listed.
    pub fn names_identities(&self) -> bool {
        !(self.uuids.is_empty() && self.serials.is_empty() && self.macs.is_empty())
    }

    /// Returns the strongest listed identity that the subject or its Machine has. `None` if
    /// identities are listed and they have none of them.
    pub fn identify(&self, subject: &Subject) -> Option<MatchedBy> {
        if !self.names_identities() {
            return Some(MatchedBy::Labels);
        }
        let machine = subject.machine();
        if !self.uuids.is_empty() {
            let of_machine = machine.and_then(|machine| machine.real_uuid());
            let mut uuids = [subject.uuid(), of_machine].into_iter().flatten();
            let has = |uuid: &Uuid| self.uuids.contains(uuid);
            if uuids.clone().any(|uuid| has(&uuid)) {
                return Some(MatchedBy::Uuid);
            }
            if uuids.any(|uuid| has(&identity::other_byte_order(uuid))) {
                return Some(MatchedBy::UuidOtherByteOrder);
            }
        }
        if !self.serials.is_empty() {
            let of_machine = machine.and_then(|machine| machine.real_serial());
            let of_machine = of_machine.map(|serial| &**serial);
            let mut serials = [subject.serial(), of_machine].into_iter().flatten();
            if serials.any(|serial| self.serials.contains(serial)) {
                return Some(MatchedBy::Serial);
            }
        }
        let is_listed = |mac: &Mac| self.macs.contains(mac);
        let is_mac = subject.mac().as_ref().is_some_and(is_listed)
            || machine.is_some_and(|machine| machine.real_macs().any(is_listed));
        is_mac.then_some(MatchedBy::Mac)
    }
}

// === impl LabelSelector ===

impl LabelSelector {
    /// Creates a selector from `matchLabels` and the requirements of `matchExpressions`, with
    /// normalised values.
    pub fn new(
        match_labels: &BTreeMap<String, String>,
        expressions: impl IntoIterator<Item = Requirement>,
    ) -> Self {
        let equals = match_labels.iter().map(|(key, value)| Requirement {
            key: key.as_str().into(),
            operator: Operator::In(Sorted::from([value.as_str().into()])),
        });
        let mut requirements: Vec<_> = equals
            .chain(expressions)
            .map(Requirement::normalised)
            .collect();
        requirements.sort_unstable();
        requirements.dedup();
        Self {
            requirements: requirements.into(),
        }
    }

    /// Returns the number of requirements. More requirements are more specific.
    pub fn len(&self) -> usize {
        self.requirements.len()
    }

    /// Returns whether there are no requirements.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Returns the requirements, sorted by key.
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// Returns the first requirement that the subject does not meet.
    pub fn unmet<'s>(&'s self, subject: &Subject) -> Option<&'s Requirement> {
        self.requirements
            .iter()
            .find(|requirement| !requirement.holds(subject.label(&requirement.key)))
    }

    /// Returns whether some subject could meet the requirements of both selectors.
    pub fn is_compatible(&self, other: &Self) -> bool {
        let mut all: Vec<_> = self
            .requirements
            .iter()
            .chain(&other.requirements)
            .collect();
        all.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        all.chunk_by(|a, b| a.key == b.key).all(can_all_hold)
    }
}

/// Returns whether requirements on one label can hold together.
fn can_all_hold(requirements: &[&Requirement]) -> bool {
    let holds = |value: Option<&str>| {
        requirements
            .iter()
            .all(|requirement| requirement.holds(value))
    };
    let mut lists = requirements
        .iter()
        .filter_map(|requirement| match &requirement.operator {
            Operator::In(values) => Some(values),
            _ => None,
        });
    match lists.next() {
        Some(values) => values.iter().any(|value| holds(Some(value))),
        // Possible values outnumber any list, so only the presence of the label matters.
        None => {
            holds(None)
                || !requirements
                    .iter()
                    .any(|requirement| requirement.operator == Operator::DoesNotExist)
        }
    }
}

// === impl Requirement ===

impl Requirement {
    /// Returns whether the requirement holds for this value, or for an absent label.
    pub fn holds(&self, value: Option<&str>) -> bool {
        match &self.operator {
            Operator::In(values) => value.is_some_and(|value| values.contains(value)),
            Operator::NotIn(values) => !value.is_some_and(|value| values.contains(value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }

    fn normalised(self) -> Self {
        let all = |values: Sorted<Box<str>>| {
            values
                .iter()
                .map(|value| normalise(&self.key, value).into_boxed_str())
                .collect()
        };
        let operator = match self.operator {
            Operator::In(values) => Operator::In(all(values)),
            Operator::NotIn(values) => Operator::NotIn(all(values)),
            other => other,
        };
        Self {
            key: self.key,
            operator,
        }
    }
}

/// Writes the syntax of `kubectl --selector`: `rack=r1`, `rack in (r1,r2)`, `rack`, `!rack`.
impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        let list = |values: &Sorted<Box<str>>| {
            values
                .iter()
                .map(AsRef::as_ref)
                .collect::<Vec<&str>>()
                .join(",")
        };
        match &self.operator {
            Operator::In(values) if values.len() == 1 => write!(f, "{key}={}", list(values)),
            Operator::In(values) => write!(f, "{key} in ({})", list(values)),
            Operator::NotIn(values) => write!(f, "{key} notin ({})", list(values)),
            Operator::Exists => write!(f, "{key}"),
            Operator::DoesNotExist => write!(f, "!{key}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subject::ExtrinsicLabels;

    fn subject(query: &str) -> Subject {
        Subject::from_query(query, &ExtrinsicLabels::default()).unwrap()
    }

    fn require(key: &str, operator: Operator) -> LabelSelector {
        LabelSelector::new(
            &BTreeMap::new(),
            [Requirement {
                key: key.into(),
                operator,
            }],
        )
    }

    #[test]
    fn selector_operators_match_as_in_kubernetes() {
        let set = || Sorted::from([Box::from("a"), Box::from("b")]);
        let cases = [
            (Operator::In(set()), [true, false, false]),
            (Operator::NotIn(set()), [false, true, true]),
            (Operator::Exists, [true, true, false]),
            (Operator::DoesNotExist, [false, false, true]),
        ];
        for (operator, [listed, other, absent]) in cases {
            let selector = require("k", operator);
            assert_eq!(
                selector.unmet(&subject("k=a")).is_none(),
                listed,
                "{selector:?}"
            );
            assert_eq!(
                selector.unmet(&subject("k=c")).is_none(),
                other,
                "{selector:?}"
            );
            assert_eq!(
                selector.unmet(&subject("k=")).is_none(),
                absent,
                "{selector:?}"
            );
        }
    }

    #[test]
    fn a_selector_accepts_any_alias_of_an_architecture() {
        let selector =
            LabelSelector::new(&BTreeMap::from([("buildarch".into(), "amd64".into())]), []);
        assert!(selector.unmet(&subject("buildarch=x86_64")).is_none());
    }

    #[test]
    fn the_strongest_identity_counts() {
        let selectors = SubjectSelectors {
            uuids: Sorted::from([
                identity::parse_uuid("00112233-4455-6677-8899-aabbccddeeff").unwrap()
            ]),
            macs: Sorted::from(["52:54:00:ab:cd:ef".parse().unwrap()]),
            ..SubjectSelectors::default()
        };
        let by = |query| selectors.identify(&subject(query));
        assert_eq!(
            by("uuid=00112233-4455-6677-8899-aabbccddeeff&mac=525400abcdef"),
            Some(MatchedBy::Uuid)
        );
        assert_eq!(
            by("uuid=33221100-5544-7766-8899-aabbccddeeff&mac=525400abcdef"),
            Some(MatchedBy::UuidOtherByteOrder)
        );
        assert_eq!(by("mac=525400abcdef"), Some(MatchedBy::Mac));
        assert_eq!(by("mac=525400abcdee"), None);
        assert_eq!(
            SubjectSelectors::default().identify(&subject("")),
            Some(MatchedBy::Labels)
        );
    }
}
