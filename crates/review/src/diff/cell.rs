//! A set of machines, described by the values that each label key may have.
//!
//! Every requirement of a selector, and every label that a Profile constrains, is such a set for
//! one key. So it cuts a cell into two, and after enough cuts all machines of a cell boot the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use boot::arch::BUILDARCH;
use boot::profile::Constraint;
use boot::{ExtrinsicLabels, Operator, Requirement, Subject};

/// A set of values: the listed ones, or all except these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Values {
    Only(BTreeSet<Box<str>>),
    But(BTreeSet<Box<str>>),
}

/// The possible states of one label: absent, presented by the machine, or set by the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Label {
    absent: bool,
    own: Values,
    operator: Values,
}

/// The labels that machines may present. A key that is absent from the map is unrestricted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cell {
    labels: BTreeMap<Box<str>, Label>,
}

/// How many machines of a cell meet a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coverage {
    /// All of them.
    Full,
    /// None of them.
    Empty,
    /// Some of them.
    Partial,
}

// === impl Values ===

impl Values {
    fn any() -> Self {
        Self::But(BTreeSet::new())
    }

    fn none() -> Self {
        Self::Only(BTreeSet::new())
    }

    fn is_none(&self) -> bool {
        matches!(self, Self::Only(values) if values.is_empty())
    }

    fn and(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::Only(a), Self::Only(b)) => Self::Only(a & b),
            (Self::Only(a), Self::But(b)) | (Self::But(b), Self::Only(a)) => Self::Only(a - b),
            (Self::But(a), Self::But(b)) => Self::But(a | b),
        }
    }

    fn not(&self) -> Self {
        match self {
            Self::Only(values) => Self::But(values.clone()),
            Self::But(values) => Self::Only(values.clone()),
        }
    }

    fn contains(&self, value: &str) -> bool {
        match self {
            Self::Only(values) => values.contains(value),
            Self::But(values) => !values.contains(value),
        }
    }

    /// Returns a value of the set.
    fn sample(&self, key: &str) -> Option<String> {
        match self {
            Self::Only(values) => values.first().map(ToString::to_string),
            Self::But(values) if key == BUILDARCH => {
                let known = crate::sample::ARCHITECTURES
                    .iter()
                    .map(|(arch, _)| (*arch).to_owned());
                known
                    .chain((0..=values.len()).map(|n| format!("arch{n}")))
                    .find(|arch| !values.contains(arch.as_str()))
            }
            Self::But(values) => (0..=values.len())
                .map(|n| sample_value(key, n))
                .find(|name| !values.contains(name.as_str())),
        }
    }
}

/// Returns a value that a machine can present, distinct for each number. An identity must parse as
/// one.
fn sample_value(key: &str, number: usize) -> String {
    match (key, number) {
        ("uuid", _) => format!("e5000000-0000-4000-8000-{number:012x}"),
        ("serial", _) => format!("OTHER{number}"),
        ("mac", _) => format!(
            "52:54:00:{:02x}:{:02x}:{:02x}",
            0xe5 ^ (number >> 16 & 0xff),
            number >> 8 & 0xff,
            number & 0xff
        ),
        (_, 0) => "other".to_owned(),
        _ => format!("other-{number}"),
    }
}

// === impl Label ===

impl Label {
    fn any() -> Self {
        Self {
            absent: true,
            own: Values::any(),
            operator: Values::any(),
        }
    }

    /// Returns the set that a requirement of a selector allows, presented or set by the operator.
    pub(super) fn required(requirement: &Requirement) -> Self {
        let (absent, values) = match &requirement.operator {
            Operator::In(values) => (false, Values::Only(values.iter().cloned().collect())),
            Operator::NotIn(values) => (true, Values::But(values.iter().cloned().collect())),
            Operator::Exists => (false, Values::any()),
            Operator::DoesNotExist => (true, Values::none()),
        };
        Self {
            absent,
            own: values.clone(),
            operator: values,
        }
    }

    /// Returns the label that satisfies a Profile's constraint, and the label that contradicts it.
    pub(super) fn constrained(constraint: &Constraint) -> (Self, Self) {
        let only = Values::Only(BTreeSet::from([constraint.value.as_str().into()]));
        let side = |values: Values| {
            let (own, operator) = if constraint.extrinsic {
                (Values::none(), values)
            } else {
                (values, Values::none())
            };
            Self {
                absent: false,
                own,
                operator,
            }
        };
        (side(only.clone()), side(only.not()))
    }

    /// A value that the operator sets.
    fn set_by_operator(value: &str) -> Self {
        Self {
            absent: false,
            own: Values::none(),
            operator: Values::Only(BTreeSet::from([value.into()])),
        }
    }

    /// A value that the machine presents.
    pub(super) fn presented(value: &str) -> Self {
        Self {
            absent: false,
            own: Values::Only(BTreeSet::from([value.into()])),
            operator: Values::none(),
        }
    }

    fn and(&self, other: &Self) -> Self {
        Self {
            absent: self.absent && other.absent,
            own: self.own.and(&other.own),
            operator: self.operator.and(&other.operator),
        }
    }

    pub(super) fn not(&self) -> Self {
        Self {
            absent: !self.absent,
            own: self.own.not(),
            operator: self.operator.not(),
        }
    }

    fn is_none(&self) -> bool {
        !self.absent && self.own.is_none() && self.operator.is_none()
    }

    /// Returns the values if the set lists them.
    fn listed(&self) -> Option<Vec<&str>> {
        match (&self.own, &self.operator) {
            (Values::Only(a), Values::Only(b)) if !self.absent => {
                Some(a.union(b).map(AsRef::as_ref).collect())
            }
            _ => None,
        }
    }
}

// === impl Cell ===

impl Cell {
    /// Returns the cell of all machines; with extrinsic labels, of all machines that reach such a
    /// server.
    pub(super) fn all(extrinsic: Option<&ExtrinsicLabels>) -> Self {
        let set = extrinsic.into_iter().flat_map(ExtrinsicLabels::iter);
        Self {
            labels: set
                .map(|(key, value)| (key.into(), Label::set_by_operator(value)))
                .collect(),
        }
    }

    /// Restricts the cell to machines that meet the condition. `None` if no machine remains.
    pub(super) fn and(&self, key: &str, label: &Label) -> Option<Self> {
        let both = self
            .labels
            .get(key)
            .map_or_else(|| label.clone(), |own| own.and(label));
        if both.is_none() {
            return None;
        }
        let mut cell = self.clone();
        cell.labels.insert(key.into(), both);
        Some(cell)
    }

    /// Restricts the cell to machines that present this value.
    pub(super) fn presenting(&self, key: &str, value: &str) -> Option<Self> {
        self.and(key, &Label::presented(value))
    }

    /// Restricts the cell to machines that meet all of these requirements.
    pub(super) fn meeting(&self, requirements: &[Requirement]) -> Option<Self> {
        requirements
            .iter()
            .try_fold(self.clone(), |cell, requirement| {
                cell.and(&requirement.key, &Label::required(requirement))
            })
    }

    pub(super) fn coverage(&self, key: &str, label: &Label) -> Coverage {
        let any = Label::any();
        let own = self.labels.get(key).unwrap_or(&any);
        let both = own.and(label);
        match both.is_none() {
            true => Coverage::Empty,
            false if both == *own => Coverage::Full,
            false => Coverage::Partial,
        }
    }

    /// Returns the possible values of a key, if they are listed.
    pub(super) fn listed(&self, key: &str) -> Option<Vec<&str>> {
        self.labels.get(key)?.listed()
    }

    /// Returns the values of which each machine of the cell presents one, if they are listed;
    /// otherwise nothing.
    pub(super) fn presented(&self, key: &str) -> Vec<&str> {
        match self.labels.get(key) {
            Some(Label {
                absent: false,
                own: Values::Only(values),
                ..
            }) => values.iter().map(AsRef::as_ref).collect(),
            _ => Vec::new(),
        }
    }

    /// Whether a machine belongs to the cell.
    pub(super) fn contains(&self, subject: &Subject) -> bool {
        self.labels.iter().all(|(key, label)| {
            match (subject.intrinsic(key), subject.extrinsic(key)) {
                (_, Some(value)) => label.operator.contains(value),
                (Some(value), None) => label.own.contains(value),
                (None, None) => label.absent,
            }
        })
    }

    /// Returns the cell without restrictions on these keys.
    pub(super) fn without<'k>(&self, keys: impl Iterator<Item = &'k str>) -> Self {
        let mut cell = self.clone();
        keys.for_each(|key| drop(cell.labels.remove(key)));
        cell
    }

    /// Returns a machine of the cell that presents these identities and little else.
    pub(super) fn subject(&self, identities: &[(&str, String)]) -> Option<Subject> {
        let mut query = String::new();
        let mut extrinsic = Vec::new();
        let mut present = |key: &str, value: &str| boot::query::append(&mut query, key, value);
        identities
            .iter()
            .for_each(|(key, value)| present(key, value));
        for (key, label) in &self.labels {
            if label.absent || identities.iter().any(|(identity, _)| *identity == &**key) {
                continue;
            }
            match (label.own.sample(key), label.operator.sample(key)) {
                (Some(value), _) => present(key, &value),
                (None, Some(value)) => extrinsic.push((key.to_string(), value)),
                (None, None) => return None,
            }
        }
        Subject::from_query(&query, &ExtrinsicLabels::new(extrinsic).ok()?).ok()
    }
}

/// Formats what the machines have in common like `kubectl --selector`. Empty for all machines.
impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |values: &BTreeSet<Box<str>>| {
            values
                .iter()
                .map(AsRef::as_ref)
                .collect::<Vec<&str>>()
                .join(",")
        };
        let mut first = true;
        for (key, label) in &self.labels {
            let (values, by) = if label.own == label.operator {
                (&label.own, "")
            } else if label.own.is_none() {
                (&label.operator, " (set by the operator)")
            } else if label.operator.is_none() {
                (&label.own, "")
            } else {
                (&label.own, " (or what the operator sets)")
            };
            let text = match (values, label.absent) {
                (Values::Only(values), true) if values.is_empty() => format!("!{key}"),
                (Values::Only(values), true) => format!("{key} in ({}) or !{key}", list(values)),
                (Values::Only(values), false) if values.len() == 1 => {
                    format!("{key}={}", list(values))
                }
                (Values::Only(values), false) => format!("{key} in ({})", list(values)),
                (Values::But(values), false) if values.is_empty() => key.to_string(),
                (Values::But(values), false) => format!("{key} notin ({}), {key}", list(values)),
                (Values::But(values), true) if values.is_empty() => continue,
                (Values::But(values), true) => format!("{key} notin ({})", list(values)),
            };
            write!(f, "{}{text}{by}", if first { "" } else { ", " })?;
            first = false;
        }
        Ok(())
    }
}
