//! A machine as far as an Assignment tells of it.

use super::{ExtrinsicLabels, Operator, Subject, SubjectSelectors, Want};

/// A machine that says one of the identities of an Assignment, or none, and presents the labels that it asks for.
pub(super) struct Machine<'a> {
    /// The key of the label, what people call it, and its value.
    identity: Option<(&'static str, &'static str, String)>,
    subjects: &'a SubjectSelectors,
    /// Which of the values it presents that the Assignment allows, of all the ways to choose them.
    label_set: usize,
}

// === impl Machine ===

impl<'a> Machine<'a> {
    /// One for each identity that is named, or one for all where none is; and such ones for each choice of the values that are allowed.
    /// Those with the first values come first, so that whoever stops has seen each identity. They may be very many.
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

    /// What people call its identity.
    pub(super) fn kind(&self) -> Option<&'static str> {
        self.identity.as_ref().map(|(_, kind, _)| *kind)
    }

    /// Its identity, or the labels that it presents.
    pub(super) fn describe(&self) -> String {
        match &self.identity {
            Some((_, kind, value)) => format!("{kind} {value}"),
            None => {
                let presented = self.requirements().map(|(requirement, value)| match value {
                    Some(value) => format!("{}={value}", requirement.key),
                    None => requirement.to_string(),
                });
                machines_with(presented.collect())
            }
        }
    }

    /// All that the Assignment allows, where it names no identities, and how many sorts of machines these are.
    pub(super) fn describe_all(&self) -> (String, usize) {
        (
            machines_with(
                self.subjects
                    .labels
                    .requirements()
                    .iter()
                    .map(ToString::to_string)
                    .collect(),
            ),
            label_set_count(self.subjects),
        )
    }

    /// What it presents but for what a Profile wants: two that present the same are one.
    pub(super) fn query(&self) -> String {
        let mut query = String::new();
        if let Some((key, _, value)) = &self.identity {
            boot::query::append(&mut query, key, value);
        }
        self.append_labels(&mut query);
        query
    }

    /// The machine. None where there can be none.
    pub(super) fn subject(&self, wants: &[Want]) -> Option<Subject> {
        let mut query = String::new();
        if let Some((key, _, value)) = &self.identity {
            boot::query::append(&mut query, key, value);
        }
        // Of a label that comes twice the first value counts.
        wants
            .iter()
            .filter(|want| !want.extrinsic)
            .for_each(|want| boot::query::append(&mut query, &want.key, &want.value));
        self.append_labels(&mut query);
        let extrinsic = wants
            .iter()
            .filter(|want| want.extrinsic)
            .map(|want| (want.key.as_str(), want.value.as_str()));
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

    /// What the Assignment asks for, with the value that is chosen where it lists some.
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

/// In how many ways the values can be chosen that an Assignment allows.
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
