//! A fault in a file: its position and its wording.

use boot::ObjectRef;
use crd::FieldPath;
use review::{Rule, rule};

use super::spot::Spot;

/// An error or a warning about a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The position, if known.
    pub spot: Option<Spot>,
    /// The broken rule.
    pub rule: &'static Rule,
    /// The object, if known.
    pub object: Option<Box<ObjectRef>>,
    /// The field of the object.
    pub field: FieldPath,
    /// What is wrong: a sentence, or the part that follows the name of the field.
    pub reason: String,
    /// What to do, unless the reason says it.
    pub help: Option<String>,
}

// === impl Fault ===

impl Fault {
    pub(super) fn new(rule: &'static Rule, spot: Option<Spot>, reason: impl Into<String>) -> Self {
        Self {
            spot,
            rule,
            object: None,
            field: FieldPath::default(),
            reason: reason.into(),
            help: None,
        }
    }

    /// Creates a fault of the file itself: no object was found at this position.
    pub(super) fn file(spot: Option<Spot>, reason: impl Into<String>) -> Self {
        Self::new(&rule::FILE, spot, reason)
    }

    /// Returns the line, if known.
    pub fn line(&self) -> Option<usize> {
        self.spot.map(|spot| spot.line as usize)
    }

    /// Returns the whole sentence, including the field.
    pub fn sentence(&self) -> String {
        let (field, reason) = (self.field.to_string(), &self.reason);
        match reason.starts_with([':', ' ']) {
            _ if field.is_empty() => reason.clone(),
            true => format!("{field}{reason}"),
            false => format!("{field}: {reason}"),
        }
    }
}
