//! Names of configs. Each is a variable in templates, so names that the template language uses are
//! reserved.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use serde::Serialize;

/// The name of a config of a Profile. It matches `[A-Za-z_][A-Za-z0-9_]*`, so that templates can
/// use it as a variable.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ConfigName(Box<str>);

/// The text is not a valid config name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidConfigName {
    /// The text is not an identifier.
    #[error(
        "config name {name:?} must be an identifier (letters, digits and _, not starting with a digit, at most 63 characters), because templates use it as a variable{hint}",
        name = .0,
        hint = did_you_mean(.0)
    )]
    NotAnIdentifier(String),
    /// The template language uses the name.
    #[error("config name {0:?} is reserved in templates; choose another")]
    Reserved(String),
}

/// Suggests an identifier for a name of several words: `userData` for cloud-init's `user-data`.
fn did_you_mean(text: &str) -> String {
    let mut words = text.split(['-', '.', ' ']).filter(|word| !word.is_empty());
    let mut name = words.next().unwrap_or_default().to_owned();
    for word in words {
        let mut chars = word.chars();
        name.extend(chars.next().map(|first| first.to_ascii_uppercase()));
        name.push_str(chars.as_str());
    }
    match name.parse::<ConfigName>() {
        Ok(name) if name.as_str() != text => format!(" (did you mean `{name}`?)"),
        _ => String::new(),
    }
}

/// Maximum length of a config name, in bytes.
pub const MAX_CONFIG_NAME_BYTES: usize = 63;

/// The variables that every template has, in addition to one for each config of its Profile.
pub const VARIABLES: [&str; 8] = [
    "subject",
    "encoded",
    "extrinsic",
    "machine",
    "vars",
    "profile",
    "assignment",
    "base_url",
];

/// Names that templates of a later version use.
const RESERVED: [&str; 2] = ["assets", "certificate"];

/// Words of the template language, in addition to [`VARIABLES`].
const KEYWORDS: [&str; 12] = [
    "and", "else", "false", "if", "in", "is", "loop", "none", "not", "or", "range", "true",
];

impl ConfigName {
    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ConfigName {
    type Err = InvalidConfigName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let starts_well = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if !starts_well
            || text.len() > MAX_CONFIG_NAME_BYTES
            || !text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        {
            return Err(InvalidConfigName::NotAnIdentifier(
                text.chars().take(MAX_CONFIG_NAME_BYTES).collect(),
            ));
        }
        let lower = text.to_ascii_lowercase();
        if VARIABLES.contains(&text)
            || RESERVED.contains(&text)
            || KEYWORDS.contains(&lower.as_str())
        {
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
    fn a_config_name_is_an_identifier_that_templates_do_not_use() {
        for name in ["config0", "ignitionFile", "_x", "A"] {
            assert!(name.parse::<ConfigName>().is_ok(), "{name}");
        }
        for name in ["", "0config", "user-data", "a b", "é", &"x".repeat(64)] {
            assert!(
                matches!(
                    name.parse::<ConfigName>(),
                    Err(InvalidConfigName::NotAnIdentifier(_))
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

    #[test]
    fn a_cloud_init_file_name_gets_a_hint() {
        let message = |name: &str| name.parse::<ConfigName>().unwrap_err().to_string();
        assert!(message("user-data").ends_with("(did you mean `userData`?)"));
        assert!(message("network-config").ends_with("(did you mean `networkConfig`?)"));
        for name in ["0config", "é", "-"] {
            assert!(!message(name).contains("did you mean"), "{name}");
        }
    }
}
