//! A finding about an object.

use std::ops::Range;

use boot::ObjectRef;
use crd::FieldPath;

use crate::rule::{Rule, Severity};

/// A finding about an object, and the place where to fix it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The broken rule.
    pub rule: &'static Rule,
    /// The object that the finding is about.
    pub object: ObjectRef,
    /// The field of the object.
    pub field: FieldPath,
    /// Whether the finding is about the name of the field instead of its value.
    pub is_key: bool,
    /// The line in the text of the field, counted from 1, if known.
    pub line: Option<usize>,
    /// The columns of that line, counted from 1, if known.
    pub columns: Option<Range<usize>>,
    /// What is wrong: a sentence that makes sense without the place.
    pub message: String,
    /// What to do, unless the message says it.
    pub help: Option<String>,
}

// === impl Finding ===

impl Finding {
    /// Creates a finding about a whole field.
    pub fn new(
        rule: &'static Rule,
        object: &ObjectRef,
        field: FieldPath,
        message: impl Into<String>,
    ) -> Self {
        Self {
            rule,
            object: object.clone(),
            field,
            is_key: false,
            line: None,
            columns: None,
            message: message.into(),
            help: None,
        }
    }

    /// Makes the finding one about the name of the field.
    #[must_use]
    pub fn of_key(self) -> Self {
        Self {
            is_key: true,
            ..self
        }
    }

    /// Adds what to do.
    #[must_use]
    pub fn help(self, help: impl Into<String>) -> Self {
        Self {
            help: Some(help.into()),
            ..self
        }
    }

    /// Sets the position in the text of the field.
    #[must_use]
    pub fn at(self, line: Option<usize>, columns: Option<Range<usize>>) -> Self {
        Self {
            line,
            columns,
            ..self
        }
    }

    /// The severity of the rule.
    pub fn severity(&self) -> Severity {
        self.rule.severity
    }

    /// The message, prefixed by the line number, for output that does not show the text.
    pub fn message_with_line(&self) -> String {
        match self.line {
            Some(line) => format!("line {line} of the text: {}", self.message),
            None => self.message.clone(),
        }
    }

    /// The message, prefixed by the field.
    pub fn sentence(&self) -> String {
        let field = self.field.to_string();
        if field.is_empty() {
            self.message_with_line()
        } else {
            format!("{field}: {}", self.message_with_line())
        }
    }

    /// Whether the object can't be served as it is.
    pub fn is_error(&self) -> bool {
        self.severity() == Severity::Error
    }
}
