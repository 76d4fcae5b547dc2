//! Labels that the operator sets for all machines of a server.

use std::sync::Arc;

use super::{IDENTITIES, MAX_KEY_BYTES, MAX_VALUE_BYTES, excerpt, normalise};

/// The labels that the operator set on this server. A query can't override them.
#[derive(Clone, Debug, Default)]
pub struct ExtrinsicLabels(Arc<[(Box<str>, Box<str>)]>);

/// A label that the operator set is invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidExtrinsic {
    /// The key is empty, too long or has a character that label keys can't have.
    #[error("label key {0:?} must be 1 to {MAX_KEY_BYTES} letters, digits, '-', '_', '.' or '/'")]
    Key(String),
    /// The value is empty, too long or contains control characters.
    #[error(
        "the value of label {0:?} must be 1 to {MAX_VALUE_BYTES} bytes without control characters"
    )]
    Value(String),
    /// Every machine would have the same identity.
    #[error("label {0:?} identifies a machine, so it can't be set for all machines")]
    Identity(String),
    /// A key occurs twice.
    #[error("label {0:?} is given twice")]
    Duplicate(String),
}

// === impl ExtrinsicLabels ===

impl ExtrinsicLabels {
    /// Checks and normalises the operator's labels.
    pub fn new<K: AsRef<str>, V: AsRef<str>>(
        labels: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, InvalidExtrinsic> {
        let mut checked: Vec<(Box<str>, Box<str>)> = Vec::new();
        for (key, value) in labels {
            let (key, value) = (key.as_ref(), value.as_ref());
            if key.is_empty()
                || key.len() > MAX_KEY_BYTES
                || !key
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(&b))
            {
                return Err(InvalidExtrinsic::Key(excerpt(key)));
            }
            if IDENTITIES.contains(&key) {
                return Err(InvalidExtrinsic::Identity(key.to_owned()));
            }
            if value.is_empty()
                || value.len() > MAX_VALUE_BYTES
                || value.chars().any(char::is_control)
            {
                return Err(InvalidExtrinsic::Value(key.to_owned()));
            }
            checked.push((Box::from(key), normalise(key, value).into_boxed_str()));
        }
        checked.sort_unstable();
        match checked.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            Some(pair) => Err(InvalidExtrinsic::Duplicate(pair[0].0.to_string())),
            None => Ok(Self(checked.into())),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.iter()
            .map(|(key, value)| key.len() + value.len())
            .sum()
    }

    /// Iterates over the keys and values, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(key, value)| (key.as_ref(), value.as_ref()))
    }
}
