//! Which identities of machines a finding may name.

use std::collections::BTreeSet;

use boot::profile::INTRINSIC_PREFIX;
use boot::subject::IDENTITIES;
use boot::{Mac, Operator, Requirement, identity};

/// The identities (UUIDs, serial numbers, MAC addresses) that findings may name.
///
/// The author of an object need not be allowed to read the others, and a webhook may not know who
/// asks. So a review of one object names only identities that the object itself names, and the
/// number of all others.
#[derive(Clone, Debug, Default)]
pub enum Disclosure {
    /// All, for a reader who has all objects.
    #[default]
    All,
    /// These, normalised.
    Only(BTreeSet<String>),
}

// === impl Disclosure ===

impl Disclosure {
    /// Allows the identities among these texts, however they are spelled.
    pub fn only<'t>(texts: impl IntoIterator<Item = &'t str>) -> Self {
        Self::Only(texts.into_iter().map(normalised).collect())
    }

    /// Whether an identity may be named.
    pub(crate) fn shows(&self, identity: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(known) => known.contains(&normalised(identity)),
        }
    }

    /// Whether the value of a label may be named: it is not an identity, or one that may be named.
    pub(crate) fn shows_label(&self, key: &str, value: &str) -> bool {
        let bare = key.strip_prefix(INTRINSIC_PREFIX).unwrap_or(key);
        let is_identity = IDENTITIES.contains(&bare)
            || identity::parse_uuid(value).is_some()
            || value.parse::<Mac>().is_ok();
        !is_identity || self.shows(value)
    }

    /// Formats a label.
    pub(crate) fn label(&self, key: &str, value: &str) -> String {
        if self.shows_label(key, value) {
            format!("{key}={value}")
        } else {
            format!("{key} (value not shown)")
        }
    }

    /// Formats a requirement of a selector.
    pub(crate) fn requirement(&self, requirement: &Requirement) -> String {
        let key = &requirement.key;
        let is_shown = match &requirement.operator {
            Operator::In(values) | Operator::NotIn(values) => {
                values.iter().all(|value| self.shows_label(key, value))
            }
            Operator::Exists | Operator::DoesNotExist => true,
        };
        if is_shown {
            requirement.to_string()
        } else {
            format!("{key} (values not shown)")
        }
    }
}

/// One spelling of an identity.
fn normalised(text: &str) -> String {
    let text = text.trim();
    if let Some(uuid) = identity::parse_uuid(text) {
        return uuid.to_string();
    }
    match text.parse::<Mac>() {
        Ok(mac) => mac.to_string(),
        Err(_) => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_shown_however_it_is_spelled() {
        let known = Disclosure::only([
            "47C6DA6774774970AA0384E48FF4F6AD",
            "52-54-00-12-34-56",
            " SN-1 ",
        ]);
        for shown in [
            "47c6da67-7477-4970-aa03-84e48ff4f6ad",
            "52:54:00:12:34:56",
            "SN-1",
        ] {
            assert!(known.shows(shown), "{shown}");
        }
        assert!(!known.shows("SN-2"));
        assert!(Disclosure::All.shows("SN-2"));
    }

    #[test]
    fn labels_are_hidden_only_if_they_are_identities_of_others() {
        let known = Disclosure::only(["SN-1"]);
        assert_eq!(known.label("serial", "SN-1"), "serial=SN-1");
        assert_eq!(known.label("serial", "SN-2"), "serial (value not shown)");
        assert_eq!(known.label("row", "7"), "row=7");
        // An identity under another key.
        for (key, value) in [
            ("assignment/ipxe-serial", "SN-2"),
            ("board", "47c6da67-7477-4970-aa03-84e48ff4f6ad"),
            ("netX", "52:54:00:12:34:56"),
        ] {
            assert!(!known.shows_label(key, value), "{key}={value}");
        }
    }
}
