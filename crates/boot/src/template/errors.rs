//! What is wrong with the templates of a Profile.

use std::fmt;

/// Maximum length of a message that has the faults of several templates, in bytes. Conditions, log
/// lines and answers to machines contain it.
const MAX_MESSAGE_BYTES: usize = 4096;

/// The template can't be compiled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct TemplateError {
    /// The field that holds the template: `spec.ipxe` or `spec.additionalConfig.NAME`.
    pub field: String,
    /// The line of the template, counted from 1, if known.
    pub line: Option<usize>,
    /// What is wrong, and what to write instead.
    pub reason: String,
}

/// Some templates of a Profile can't be compiled: the first fault of each. There is at least one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct TemplateErrors(Box<[TemplateError]>);

// === impl TemplateError ===

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}, line {line}: {}", self.field, self.reason),
            None => write!(f, "{}: {}", self.field, self.reason),
        }
    }
}

// === impl TemplateErrors ===

impl TemplateErrors {
    /// Sorts the errors: that of the script, then those of the configs by name.
    pub(super) fn new(mut errors: Vec<TemplateError>) -> Self {
        assert!(!errors.is_empty(), "a Profile without a fault is compiled");
        errors.sort_by_key(|error| (error.field.contains("Config"), error.field.clone()));
        Self(errors.into())
    }

    /// Returns the error of the first template that has one.
    pub fn first(&self) -> &TemplateError {
        &self.0[0]
    }

    /// Iterates over the errors.
    pub fn iter(&self) -> std::slice::Iter<'_, TemplateError> {
        self.0.iter()
    }
}

impl<'e> IntoIterator for &'e TemplateErrors {
    type Item = &'e TemplateError;
    type IntoIter = std::slice::Iter<'e, TemplateError>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Writes all errors, or as many as fit into one message.
impl fmt::Display for TemplateErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut message = self.first().to_string();
        for (at, error) in self.0.iter().enumerate().skip(1) {
            let text = error.to_string();
            if message.len() + text.len() > MAX_MESSAGE_BYTES {
                let more = self.0.len() - at;
                message += &format!("; and {more} more templates have errors");
                break;
            }
            message += "; ";
            message += &text;
        }
        f.write_str(&message)
    }
}
