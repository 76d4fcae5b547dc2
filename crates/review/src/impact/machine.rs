//! A machine, as far as an Assignment describes it.

use super::{Constraint, Disclosure, ExtrinsicLabels, Operator, Subject, SubjectSelectors};

/// A machine that presents one identity of an Assignment, or none, and the labels that it requires.
pub(super) struct Machine<'a> {
    /// The label key, the name in messages, and the value of the identity.
    identity: Option<(&'static str, &'static str, String)>,
    subjects: &'a SubjectSelectors,
    /// The index of the choice of allowed values that it presents.
    label_set: usize,
}

// === impl Machine ===

impl<'a> Machine<'a> {
    /// Returns a machine for each named identity, or one if none is named, and variants of these
    /// for each choice of allowed values. Those with the first values come first, so that a bounded
    /// search covers each identity. There may be very many.
    pub(super) fn of(subjects: &'a SubjectSelectors) -> impl Iterator<Item = Self> {
        (0..label_set_count(subjects)).flat_map(|label_set| Self::of_label_set(subjects, label_set))
    }

    fn of_label_set(
        subjects: &'a SubjectSelectors,
        label_set: usize,
    ) -> impl Iterator<Item = Self> {
        let uuids = subjects
            .uuids
            .iter()
            .map(|uuid| ("uuid", "uuid", uuid.to_string()));
        let serials = subjects
            .serials
            .iter()
            .map(|serial| ("serial", "serial number", serial.to_string()));
        let macs = subjects
            .macs
            .iter()
            .map(|mac| ("mac", "MAC address", mac.to_string()));
        let unnamed = (!subjects.names_identities()).then_some(None);
        let all = uuids.chain(serials).chain(macs).map(Some).chain(unnamed);
        all.map(move |identity| Self {
            identity,
            subjects,
            label_set,
        })
    }

    /// Returns the name in messages of its identity.
    pub(super) fn kind(&self) -> Option<&'static str> {
        self.identity.as_ref().map(|(_, kind, _)| *kind)
    }

    /// Whether its identity may be named.
    pub(super) fn is_shown(&self, disclosure: &Disclosure) -> bool {
        let identity = self.identity.as_ref();
        identity.is_none_or(|(_, _, value)| disclosure.shows(value))
    }

    /// Describes its identity, or as far as they may be named, the labels that it presents.
    pub(super) fn describe(&self, disclosure: &Disclosure) -> String {
        match &self.identity {
            Some((_, kind, value)) => format!("{kind} {value}"),
            None => {
                let presented = self.requirements().map(|(requirement, value)| match value {
                    Some(value) => disclosure.label(&requirement.key, value),
                    None => disclosure.requirement(requirement),
                });
                machines_with(presented.collect())
            }
        }
    }

    /// Describes everything that an Assignment without identities allows, and counts the label
    /// sets.
    pub(super) fn describe_all(&self, disclosure: &Disclosure) -> (String, usize) {
        (
            machines_with(
                self.subjects
                    .labels
                    .requirements()
                    .iter()
                    .map(|requirement| disclosure.requirement(requirement))
                    .collect(),
            ),
            label_set_count(self.subjects),
        )
    }

    /// Returns what it presents, without the labels that a Profile requires. Machines with equal
    /// queries are the same.
    pub(super) fn query(&self) -> String {
        let mut query = String::new();
        if let Some((key, _, value)) = &self.identity {
            boot::query::append(&mut query, key, value);
        }
        self.append_labels(&mut query);
        query
    }

    /// Builds the machine. `None` if no machine can present this.
    pub(super) fn subject(&self, constraints: &[Constraint]) -> Option<Subject> {
        let mut query = String::new();
        if let Some((key, _, value)) = &self.identity {
            boot::query::append(&mut query, key, value);
        }
        // Of a label that occurs twice, the first value counts.
        constraints
            .iter()
            .filter(|constraint| !constraint.extrinsic)
            .for_each(|constraint| {
                boot::query::append(&mut query, &constraint.key, &constraint.value);
            });
        self.append_labels(&mut query);
        let extrinsic = constraints
            .iter()
            .filter(|constraint| constraint.extrinsic)
            .map(|constraint| (constraint.key.as_str(), constraint.value.as_str()));
        Subject::from_query(&query, &ExtrinsicLabels::new(extrinsic).ok()?).ok()
    }

    fn append_labels(&self, query: &mut String) {
        for (requirement, value) in self.requirements() {
            match (&requirement.operator, value) {
                (_, Some(value)) => boot::query::append(query, &requirement.key, value),
                (Operator::Exists, None) => boot::query::append(query, &requirement.key, "any"),
                (Operator::In(_) | Operator::NotIn(_) | Operator::DoesNotExist, None) => {}
            }
        }
    }

    /// Returns the requirements of the Assignment, with the chosen value for those that list
    /// several.
    fn requirements(&self) -> impl Iterator<Item = (&'a boot::Requirement, Option<&'a str>)> {
        let mut rest = self.label_set;
        self.subjects
            .labels
            .requirements()
            .iter()
            .map(move |requirement| {
                let Operator::In(values) = &requirement.operator else {
                    return (requirement, None);
                };
                let count = values.len().max(1);
                let value = values.get(rest % count);
                rest /= count;
                (requirement, value.map(AsRef::as_ref))
            })
    }
}

/// Returns the number of ways to choose among the values that an Assignment allows.
fn label_set_count(subjects: &SubjectSelectors) -> usize {
    let lists = subjects
        .labels
        .requirements()
        .iter()
        .filter_map(|requirement| match &requirement.operator {
            Operator::In(values) => Some(values.len()),
            _ => None,
        });
    lists.fold(1, usize::saturating_mul)
}

fn machines_with(labels: Vec<String>) -> String {
    if labels.is_empty() {
        "machines that no other Assignment matches".to_owned()
    } else {
        format!("machines with {}", labels.join(","))
    }
}
