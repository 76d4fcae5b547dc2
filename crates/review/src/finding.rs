//! One thing that somebody should know about an object.

use std::ops::Range;

use boot::ObjectRef;
use crd::FieldPath;

use crate::rule::{Rule, Severity};

/// One thing that somebody should know about an object, and the place in the object where it is to be mended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which rule is broken.
    pub rule: &'static Rule,
    /// The object.
    pub object: ObjectRef,
    /// The field of the object.
    pub field: FieldPath,
    /// Whether the field's name is meant, and not what it holds.
    pub is_key: bool,
    /// The line inside the text of the field, counted from 1, where the fault has one.
    pub line: Option<usize>,
    /// The characters of that line, counted from 1, where they are known.
    pub columns: Option<Range<usize>>,
    /// What is wrong: a sentence that can stand alone, without the place.
    pub message: String,
    /// What to do, where the message does not say it.
    pub help: Option<String>,
}

// === impl Finding ===

impl Finding {
    /// A finding about a field as a whole.
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

    /// The same about the name of the field.
    #[must_use]
    pub fn of_key(self) -> Self {
        Self {
            is_key: true,
            ..self
        }
    }

    /// The same with what to do.
    #[must_use]
    pub fn help(self, help: impl Into<String>) -> Self {
        Self {
            help: Some(help.into()),
            ..self
        }
    }

    /// The same at a line of the field's text.
    #[must_use]
    pub fn at(self, line: Option<usize>, columns: Option<Range<usize>>) -> Self {
        Self {
            line,
            columns,
            ..self
        }
    }

    /// How bad it is.
    pub fn severity(&self) -> Severity {
        self.rule.severity
    }

    /// What is wrong, with the line of the text where it has one, for those who do not show the text.
    pub fn message_with_line(&self) -> String {
        match self.line {
            Some(line) => format!("line {line} of the text: {}", self.message),
            None => self.message.clone(),
        }
    }

    /// The whole sentence, with the field that it is about.
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
