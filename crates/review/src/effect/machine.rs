//! A machine as far as an Assignment tells of it.

use super::{ExtrinsicLabels, Operator, Subject, SubjectSelectors, Want};

/// A machine that says one of the identities of an Assignment, or none, and presents the labels that it asks for.
pub(super) struct Machine<'a> {
    /// The key of the label, what people call it, and its value.
    identity: Option<(&'static str, &'static str, String)>,
    subjects: &'a SubjectSelectors,
}

// === impl Machine ===

impl<'a> Machine<'a> {
    /// One for each identity that is named; one for all where none is.
    pub(super) fn of(subjects: &'a SubjectSelectors) -> impl Iterator<Item = Self> {
        let uuids = subjects.uuids.iter().map(|uuid| ("uuid", "uuid", uuid.to_string()));
        let serials = subjects.serials.iter().map(|serial| ("serial", "serial number", serial.to_string()));
        let macs = subjects.macs.iter().map(|mac| ("mac", "MAC address", mac.to_string()));
        let unnamed = (!subjects.names_identities()).then_some(None);
        let all = uuids.chain(serials).chain(macs).map(Some).chain(unnamed);
        all.map(move |identity| Self { identity, subjects })
    }

    /// What people call its identity.
    pub(super) fn kind(&self) -> Option<&'static str> {
        self.identity.as_ref().map(|(_, kind, _)| *kind)
    }

    /// Its identity, or the labels that it presents.
    pub(super) fn shown(&self) -> String {
        match &self.identity {
            Some((_, kind, value)) => format!("{kind} {value}"),
            None => {
                let asked: Vec<_> = self.subjects.labels.requirements().iter().map(ToString::to_string).collect();
                if asked.is_empty() {
                    return "machines that no other Assignment matches".to_owned();
                }
                format!("machines with {}", asked.join(","))
            }
        }
    }

    /// The machine. None where there can be none.
    pub(super) fn subject(&self, wants: &[Want]) -> Option<Subject> {
        let mut query = String::new();
        let mut present = |key: &str, value: &str| boot::query::append(&mut query, key, value);
        if let Some((key, _, value)) = &self.identity {
            present(key, value);
        }
        // Of a label that comes twice the first value counts.
        for want in wants.iter().filter(|want| !want.extrinsic) {
            present(&want.key, &want.value);
        }
        for requirement in self.subjects.labels.requirements() {
            match &requirement.operator {
                Operator::In(values) => present(&requirement.key, values.first()?),
                Operator::Exists => present(&requirement.key, "any"),
                Operator::NotIn(_) | Operator::DoesNotExist => {}
            }
        }
        let extrinsic = wants.iter().filter(|want| want.extrinsic).map(|want| (want.key.as_str(), want.value.as_str()));
        Subject::from_query(&query, &ExtrinsicLabels::new(extrinsic).ok()?).ok()
    }
}
