//! A model of selection: the rule of the design, clause by clause, over a list of everything.
//!
//! It does its own matching. From the crate under test it uses only what builds the same objects
//! for the catalog.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use boot::profile::normalise_labels;
use boot::{
    Assignment, ExtrinsicLabels, LabelSelector, ObjectKey, ObjectRef, Operator, Profile, Rejected,
    Requirement, Subject, SubjectSelectors, Templates,
};

/// The second is the first in the other byte order; the third is the same in both.
pub(crate) const UUIDS: [&str; 4] = [
    "00112233-4455-6677-8899-aabbccddeeff",
    "33221100-5544-7766-8899-aabbccddeeff",
    "11111111-2222-3333-8899-aabbccddeeff",
    "00000000-0000-0000-0000-000000000000",
];
pub(crate) const SERIALS: [&str; 3] = ["S1", "S2", "None"];
pub(crate) const MACS: [&str; 3] = [
    "52:54:00:00:00:01",
    "52:54:00:00:00:02",
    "00:00:00:00:00:00",
];

/// Identities as clients write them: other spellings of the same.
pub(crate) const PRESENTED_UUIDS: [&str; 5] = [
    UUIDS[0],
    "33221100554477668899AABBCCDDEEFF",
    UUIDS[1],
    UUIDS[2],
    UUIDS[3],
];
pub(crate) const PRESENTED_SERIALS: [&str; 4] = ["S1", " S1 ", "S2", "None"];
pub(crate) const PRESENTED_MACS: [&str; 4] = [
    "52:54:00:00:00:01",
    "52-54-00-00-00-02",
    "525400000001",
    "00:00:00:00:00:00",
];

#[derive(Clone, Debug)]
pub(crate) struct RawAssignment {
    pub(crate) key: ObjectKey,
    pub(crate) created: Option<i64>,
    pub(crate) uuids: Vec<String>,
    pub(crate) serials: Vec<String>,
    pub(crate) macs: Vec<String>,
    pub(crate) match_labels: BTreeMap<String, String>,
    pub(crate) expressions: Vec<Expression>,
    pub(crate) profiles: BTreeMap<String, String>,
    pub(crate) priority: i32,
}

#[derive(Clone, Debug)]
pub(crate) struct Expression {
    pub(crate) key: String,
    pub(crate) operator: &'static str,
    pub(crate) values: Vec<String>,
}

#[derive(Clone, Debug)]
pub(crate) struct RawProfile {
    pub(crate) key: ObjectKey,
    pub(crate) created: Option<i64>,
    pub(crate) labels: BTreeMap<String, String>,
}

#[derive(Clone, Debug)]
pub(crate) struct RawSubject {
    pub(crate) uuid: Option<String>,
    pub(crate) serial: Option<String>,
    pub(crate) mac: Option<String>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) extrinsic: BTreeMap<String, String>,
}

/// All objects.
#[derive(Clone, Debug, Default)]
pub(crate) struct World {
    pub(crate) assignments: BTreeMap<ObjectKey, RawAssignment>,
    pub(crate) profiles: BTreeMap<ObjectKey, RawProfile>,
    /// The current faults, whether or not a valid version is known.
    pub(crate) faults: BTreeMap<ObjectRef, Rejected>,
    /// Invalid objects without a valid version.
    pub(crate) faulty_assignments: BTreeMap<ObjectKey, RawAssignment>,
    pub(crate) faulty_profiles: BTreeMap<ObjectKey, RawProfile>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum By {
    Uuid,
    Swapped,
    Serial,
    Mac,
    None,
}

pub(crate) struct Matching<'w> {
    pub(crate) assignment: &'w RawAssignment,
    pub(crate) by: By,
    pub(crate) is_faulty: bool,
}

impl World {
    /// Clauses 1 and 2: returns the matching Assignments, by rank.
    pub(crate) fn matching(&self, subject: &RawSubject) -> Vec<Matching<'_>> {
        let accepted = self
            .assignments
            .values()
            .map(|assignment| (assignment, false));
        let all = accepted.chain(
            self.faulty_assignments
                .values()
                .map(|assignment| (assignment, true)),
        );
        let mut matching: Vec<_> = all
            .filter_map(|(assignment, is_faulty)| {
                Some(Matching {
                    assignment,
                    by: assignment.matches(subject)?,
                    is_faulty,
                })
            })
            .collect();
        matching.sort_by_key(
            |Matching {
                 assignment: a, by, ..
             }| {
                let name = (
                    a.key.namespace.clone(),
                    a.key.name.clone(),
                    a.key.partition.clone(),
                );
                (
                    Reverse(a.priority),
                    *by,
                    Reverse(a.requirements().len()),
                    age(a.created),
                    name,
                )
            },
        );
        matching
    }

    /// Clause 5: returns the index of the winner among the matching. An invalid one wins before the
    /// first valid one, unless it lists no machines and the valid one is more specific.
    pub(crate) fn winner(&self, subject: &RawSubject) -> Option<usize> {
        let matching = self.matching(subject);
        let accepted = matching.iter().position(|one| !one.is_faulty);
        let specific = |one: &Matching<'_>| {
            (
                one.by != By::None,
                if one.by == By::None {
                    one.assignment.requirements().len()
                } else {
                    0
                },
            )
        };
        let holds = |faulty: &Matching<'_>| match accepted.map(|at| &matching[at]) {
            None => true,
            Some(accepted) => faulty.by != By::None || specific(faulty) >= specific(accepted),
        };
        let before = accepted.unwrap_or(matching.len());
        matching[..before].iter().position(holds).or(accepted)
    }

    /// Returns whether only age or name ranks the winner before the next valid Assignment.
    pub(crate) fn conflicted(&self, subject: &RawSubject) -> bool {
        let chosen = |m: &Matching<'_>| {
            (
                m.assignment.priority,
                m.by,
                m.assignment.requirements().len(),
            )
        };
        let matching: Vec<_> = self
            .matching(subject)
            .into_iter()
            .filter(|one| !one.is_faulty)
            .collect();
        matching.len() > 1 && chosen(&matching[0]) == chosen(&matching[1])
    }

    /// Clause 3: returns the remaining Profiles, the best first.
    pub(crate) fn profiles_for(
        &self,
        assignment: &RawAssignment,
        subject: &RawSubject,
    ) -> Vec<ObjectKey> {
        let mut left = Vec::new();
        for profile in self.profiles.values().chain(self.faulty_profiles.values()) {
            let has = |key: &String, value: &String| {
                profile
                    .labels
                    .get(key)
                    .is_some_and(|own| spell(key, own) == spell(key, value))
            };
            let is_beside = profile.key.namespace == assignment.key.namespace
                && profile.key.partition == assignment.key.partition;
            if !is_beside
                || !assignment
                    .profiles
                    .iter()
                    .all(|(key, value)| has(key, value))
            {
                continue;
            }
            let mut satisfied = 0;
            let mut disagrees = false;
            for (key, value) in &profile.labels {
                let presented = match (
                    key.strip_prefix("assignment/ipxe-"),
                    key.strip_prefix("assignment/extrinsic-"),
                ) {
                    (Some(key), _) if subject.extrinsic.contains_key(key) => None,
                    (Some(key), _) => subject.labels.get(key),
                    (_, Some(key)) => subject.extrinsic.get(key),
                    _ => None,
                };
                if let Some(presented) = presented {
                    let agrees = spell(key, presented) == spell(key, value);
                    satisfied += usize::from(agrees);
                    disagrees |= !agrees;
                }
            }
            if !disagrees {
                left.push((
                    Reverse(satisfied),
                    age(profile.created),
                    profile.key.name.clone(),
                    profile.key.clone(),
                ));
            }
        }
        left.sort();
        left.into_iter().map(|(.., key)| key).collect()
    }
}

impl By {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Uuid => "uuid",
            Self::Swapped => "uuid (other byte order)",
            Self::Serial => "serial",
            Self::Mac => "mac",
            Self::None => "labels",
        }
    }
}

impl RawAssignment {
    fn matches(&self, subject: &RawSubject) -> Option<By> {
        let met = |expression: &Expression| {
            let value = subject.label(&expression.key);
            let listed = value.is_some_and(|value| {
                expression
                    .values
                    .iter()
                    .any(|v| spell(&expression.key, v) == value)
            });
            match expression.operator {
                "In" => listed,
                "NotIn" => !listed,
                "Exists" => value.is_some(),
                _ => value.is_none(),
            }
        };
        let equal =
            |(key, value): (&String, &String)| subject.label(key) == Some(spell(key, value));
        if !self.expressions.iter().all(met) || !self.match_labels.iter().all(equal) {
            return None;
        }
        if self.uuids.is_empty() && self.serials.is_empty() && self.macs.is_empty() {
            return Some(By::None);
        }
        let real = |text: &&String| {
            !text.starts_with("00000000") && !text.starts_with("00:00") && *text != "None"
        };
        if let Some(uuid) = subject.uuid.as_ref().filter(real) {
            let digits = |text: &str| text.replace('-', "").to_ascii_lowercase();
            let uuid = digits(uuid);
            if self.uuids.iter().any(|own| digits(own) == uuid) {
                return Some(By::Uuid);
            }
            if self.uuids.iter().any(|own| digits(own) == swapped(&uuid)) {
                return Some(By::Swapped);
            }
        }
        if subject
            .serial
            .as_ref()
            .filter(real)
            .is_some_and(|serial| self.serials.iter().any(|own| own == serial.trim()))
        {
            return Some(By::Serial);
        }
        let digits = |text: &str| text.replace([':', '-'], "");
        let mac = subject.mac.as_ref().filter(real).map(|mac| digits(mac));
        mac.is_some_and(|mac| self.macs.iter().any(|own| digits(own) == mac))
            .then_some(By::Mac)
    }

    /// Returns the label requirements without duplicates.
    fn requirements(&self) -> BTreeSet<(String, &'static str, BTreeSet<String>)> {
        let equal = self
            .match_labels
            .iter()
            .map(|(key, value)| (key, "In", vec![value]));
        let expressions = self
            .expressions
            .iter()
            .map(|e| (&e.key, e.operator, e.values.iter().collect()));
        let all = equal.chain(expressions).map(|(key, operator, values)| {
            let listed = operator.ends_with("In");
            let values = values
                .into_iter()
                .filter(|_| listed)
                .map(|value| spell(key, value).to_owned())
                .collect();
            (key.clone(), operator, values)
        });
        all.collect()
    }

    pub(crate) fn build(&self) -> Assignment {
        let expressions = self.expressions.iter().map(|expression| {
            let values = expression
                .values
                .iter()
                .map(|value| value.as_str().into())
                .collect();
            let operator = match expression.operator {
                "In" => Operator::In(values),
                "NotIn" => Operator::NotIn(values),
                "Exists" => Operator::Exists,
                _ => Operator::DoesNotExist,
            };
            Requirement {
                key: expression.key.as_str().into(),
                operator,
            }
        });
        Assignment {
            key: self.key.clone(),
            created: self.created.map(time),
            labels: boot::Labels::default(),
            subjects: SubjectSelectors {
                uuids: self
                    .uuids
                    .iter()
                    .map(|uuid| boot::identity::parse_uuid(uuid).unwrap())
                    .collect(),
                serials: self
                    .serials
                    .iter()
                    .map(|serial| serial.as_str().into())
                    .collect(),
                macs: self.macs.iter().map(|mac| mac.parse().unwrap()).collect(),
                labels: LabelSelector::new(&self.match_labels, expressions),
            },
            profiles: normalise_labels(&self.profiles),
            priority: self.priority,
            variables: boot::Variables::default(),
        }
    }
}

impl Default for RawAssignment {
    fn default() -> Self {
        Self {
            key: ObjectKey::new("ns", ""),
            created: None,
            uuids: Vec::new(),
            serials: Vec::new(),
            macs: Vec::new(),
            match_labels: BTreeMap::new(),
            expressions: Vec::new(),
            profiles: BTreeMap::new(),
            priority: 0,
        }
    }
}

impl RawProfile {
    pub(crate) fn build(&self) -> Profile {
        /// Selection ignores templates, and compiling them would dominate the time.
        static TEMPLATES: LazyLock<Arc<Templates>> =
            LazyLock::new(|| Arc::new(Templates::compile("#!ipxe\n", &BTreeMap::new()).unwrap()));
        Profile::with_templates(
            self.key.clone(),
            self.created.map(time),
            &self.labels,
            TEMPLATES.clone(),
        )
    }

    pub(crate) fn build_partial(&self) -> Profile {
        Profile::partial(self.key.clone(), self.created.map(time), &self.labels)
    }

    pub(crate) fn build_with_config(&self, name: &str) -> Profile {
        let configs = BTreeMap::from([(name.parse().unwrap(), String::new())]);
        Profile::compile(
            self.key.clone(),
            self.created.map(time),
            &self.labels,
            "#!ipxe\n",
            &configs,
        )
        .unwrap()
    }
}

impl RawSubject {
    pub(crate) fn build(&self) -> Subject {
        let identities = [
            ("uuid", &self.uuid),
            ("serial", &self.serial),
            ("mac", &self.mac),
        ];
        let identities = identities
            .into_iter()
            .filter_map(|(key, value)| Some((key, value.as_ref()?)));
        let labels = self.labels.iter().map(|(key, value)| (key.as_str(), value));
        let query: Vec<_> = labels
            .chain(identities)
            .map(|(key, value)| format!("{key}={}", value.replace(' ', "%20")))
            .collect();
        Subject::from_query(
            &query.join("&"),
            &ExtrinsicLabels::new(&self.extrinsic).unwrap(),
        )
        .unwrap()
    }

    fn label(&self, key: &str) -> Option<&str> {
        self.extrinsic
            .get(key)
            .or_else(|| self.labels.get(key))
            .map(|value| spell(key, value))
    }
}

/// Normalises an alias of an architecture.
fn spell<'v>(key: &str, value: &'v str) -> &'v str {
    match value {
        "amd64" if key.ends_with("buildarch") => "x86_64",
        "aarch64" if key.ends_with("buildarch") => "arm64",
        _ => value,
    }
}

/// Reverses the bytes of the first three fields.
fn swapped(digits: &str) -> String {
    let bytes = |range: std::ops::Range<usize>| {
        range
            .step_by(2)
            .map(|at| &digits[at..at + 2])
            .rev()
            .collect::<String>()
    };
    [
        bytes(0..8),
        bytes(8..12),
        bytes(12..16),
        digits[16..].to_owned(),
    ]
    .concat()
}

/// A sort key. An object without a creation time counts as the youngest.
fn age(created: Option<i64>) -> (bool, Option<i64>) {
    (created.is_none(), created)
}

fn time(second: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_second(second).unwrap()
}
