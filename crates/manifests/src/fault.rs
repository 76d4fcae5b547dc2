//! What is wrong in a file, where, and in which words.

use boot::ObjectRef;
use crd::FieldPath;
use review::{Finding, Rule, rule};

use super::tree::{Node, Spot};

/// One thing that is wrong in a file, or that its author should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The place, where it is known.
    pub spot: Option<Spot>,
    /// Which rule is broken.
    pub rule: &'static Rule,
    /// The object, where one is known.
    pub object: Option<Box<ObjectRef>>,
    /// The field of the object.
    pub field: FieldPath,
    /// What is wrong: a sentence, or what follows the name of the field.
    pub reason: String,
    /// What to do, where the reason does not say it.
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

    /// Of the file itself: no object was found at this place.
    pub(super) fn file(spot: Option<Spot>, reason: impl Into<String>) -> Self {
        Self::new(&rule::FILE, spot, reason)
    }

    /// A finding about the object that this node is.
    pub(super) fn found(finding: Finding, node: &Node<'_>, lines: &Lines<'_>) -> Self {
        let placed = finding.message_with_line();
        let Finding {
            rule,
            object,
            field,
            line,
            columns,
            message,
            help,
            is_key,
        } = finding;
        let mut reason = message;
        let mut spot = if is_key {
            node.key_spot_of(&field)
        } else {
            node.spot_of(&field)
        };
        if let Some(inner) = line {
            match node.line_in(&field, inner) {
                Some((at, text)) => {
                    // What the line of the file has more than that of the text is its indentation.
                    let indent = lines
                        .get(at)
                        .chars()
                        .count()
                        .saturating_sub(text.chars().count());
                    let columns = columns
                        .map_or(0..0, |columns| indent + columns.start..indent + columns.end);
                    spot = Spot::new(at, columns);
                }
                None => reason = placed,
            }
        }
        Self {
            spot: Some(spot),
            rule,
            object: Some(Box::new(object)),
            field,
            reason,
            help,
        }
    }

    /// The line, where it is known.
    pub fn line(&self) -> Option<usize> {
        self.spot.map(|spot| spot.line as usize)
    }

    /// The whole sentence, with the field that it is about.
    pub fn sentence(&self) -> String {
        let (field, reason) = (self.field.to_string(), &self.reason);
        match reason.starts_with([':', ' ']) {
            _ if field.is_empty() => reason.clone(),
            true => format!("{field}{reason}"),
            false => format!("{field}: {reason}"),
        }
    }
}

/// The lines of a text that stands below others in its file, found when they are first asked for.
pub(super) struct Lines<'t> {
    text: &'t str,
    above: usize,
    starts: std::cell::OnceCell<Vec<usize>>,
}

// === impl Lines ===

impl<'t> Lines<'t> {
    pub(super) fn of(text: &'t str, above: usize) -> Self {
        Self {
            text,
            above,
            starts: std::cell::OnceCell::new(),
        }
    }

    /// A line of the file, without its end. To YAML a carriage return alone ends one, too.
    fn get(&self, line: usize) -> &'t str {
        let starts = self.starts.get_or_init(|| {
            let bytes = self.text.as_bytes();
            let ends = |at: &usize| {
                bytes[*at] == b'\n' || bytes[*at] == b'\r' && bytes.get(at + 1) != Some(&b'\n')
            };
            let after = (0..bytes.len()).filter(ends).map(|at| at + 1);
            std::iter::once(0).chain(after).collect()
        });
        let start = line
            .checked_sub(self.above + 1)
            .and_then(|at| starts.get(at).copied());
        start
            .and_then(|start| self.text[start..].split(['\n', '\r']).next())
            .unwrap_or_default()
    }
}
