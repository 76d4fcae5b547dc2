//! Names of objects and of their parts.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::ops::Deref;
use std::str::FromStr;
use std::sync::Arc;

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use crate::alike;

/// The name of an object and where that is: its namespace, and the cluster where that is not the only one.
///
/// Keys are in the order of namespace, name, partition: so the last word of selection is the same wherever objects live. A clone is the same
/// key, not a second one: whoever keeps something of an object beside the catalog keeps it under the catalog's own key.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ObjectKey {
    /// The same for very many objects: to look into it fetches nothing from memory that was not there a moment ago.
    place: Arc<Place>,
    /// The name, unique in its namespace for one kind.
    pub name: Arc<str>,
}

/// Where an object is.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Place {
    /// The Kubernetes namespace.
    pub namespace: Arc<str>,
    /// The cluster, among several that together hold the catalog. Empty where there is only one.
    pub partition: Arc<str>,
}

/// The name of one config of a Profile: `[A-Za-z_][A-Za-z0-9_]*`, so that it is a variable in templates.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ConfigName(Box<str>);

/// The text can't name a config.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidConfigName {
    /// It is no identifier.
    #[error(
        "config name {0:?} must be an identifier (letters, digits and _, not starting with a digit, at most 63 long), so that {{{{ name }}}} is a variable"
    )]
    NoIdentifier(String),
    /// Templates already know the name.
    #[error("config name {0:?} already has a meaning in templates; choose another")]
    Reserved(String),
}

/// Longest name of a config, in bytes.
pub const MAX_CONFIG_NAME_BYTES: usize = 63;

/// The words of the template language, beside [`crate::template::VARIABLES`].
const KEYWORDS: [&str; 12] = [
    "and", "else", "false", "if", "in", "is", "loop", "none", "not", "or", "range", "true",
];

impl ObjectKey {
    /// The key of an object.
    pub fn new(namespace: impl AsRef<str>, name: impl Into<Arc<str>>) -> Self {
        Self {
            place: alike::place("", namespace.as_ref()),
            name: name.into(),
        }
    }

    /// Where the object is: the same for all that are there.
    pub(crate) fn place(&self) -> &Arc<Place> {
        &self.place
    }

    /// Gives the pieces of which `Display` is made.
    pub fn spell(&self, give: &mut impl FnMut(&str)) {
        if !self.partition.is_empty() {
            give(&self.partition);
            give(":");
        }
        give(&self.namespace);
        give("/");
        give(&self.name);
    }

    /// The same namespace and name in one of several clusters.
    pub fn in_partition(self, partition: impl AsRef<str>) -> Self {
        Self {
            place: alike::place(partition.as_ref(), &self.namespace),
            ..self
        }
    }
}

impl Deref for ObjectKey {
    type Target = Place;

    fn deref(&self) -> &Place {
        &self.place
    }
}

impl Ord for ObjectKey {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_name = || {
            self.name
                .cmp(&other.name)
                .then_with(|| self.partition.cmp(&other.partition))
        };
        self.namespace.cmp(&other.namespace).then_with(by_name)
    }
}

impl PartialOrd for ObjectKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// `{"namespace": ..., "name": ...}`, and the partition where there is one.
impl Serialize for ObjectKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (
            name,
            Place {
                namespace,
                partition,
            },
        ) = (&self.name, &**self);
        let mut fields =
            serializer.serialize_struct("ObjectKey", 2 + usize::from(!partition.is_empty()))?;
        fields.serialize_field("namespace", &**namespace)?;
        fields.serialize_field("name", &**name)?;
        if !partition.is_empty() {
            fields.serialize_field("partition", &**partition)?;
        }
        fields.end()
    }
}

/// `namespace/name`, or `partition:namespace/name`.
impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut written = Ok(());
        self.spell(&mut |piece| written = written.and_then(|()| f.write_str(piece)));
        written
    }
}

impl ConfigName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ConfigName {
    type Err = InvalidConfigName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let starts = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if !starts
            || text.len() > MAX_CONFIG_NAME_BYTES
            || !text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        {
            return Err(InvalidConfigName::NoIdentifier(
                text.chars().take(MAX_CONFIG_NAME_BYTES).collect(),
            ));
        }
        let lower = text.to_ascii_lowercase();
        if crate::template::VARIABLES.contains(&text) || KEYWORDS.contains(&lower.as_str()) {
            return Err(InvalidConfigName::Reserved(text.to_owned()));
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for ConfigName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for ConfigName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_name_is_a_variable_that_means_nothing_else() {
        for name in ["config0", "ignitionFile", "_x", "A"] {
            assert!(name.parse::<ConfigName>().is_ok(), "{name}");
        }
        for name in ["", "0config", "user-data", "a b", "é", &"x".repeat(64)] {
            assert!(
                matches!(
                    name.parse::<ConfigName>(),
                    Err(InvalidConfigName::NoIdentifier(_))
                ),
                "{name}"
            );
        }
        for name in ["subject", "base_url", "True", "loop", "not"] {
            assert!(
                matches!(
                    name.parse::<ConfigName>(),
                    Err(InvalidConfigName::Reserved(_))
                ),
                "{name}"
            );
        }
    }
}
