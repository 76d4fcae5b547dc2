//! The answer to an admission review.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use review::{Finding, Rule, rule};
use serde_json::{Value, json};

use crate::request::Request;

/// Limits on the warnings of one answer: how many, and how many characters each. An API server
/// truncates warnings once they add up to 4,096 characters.
const MAX_WARNINGS: usize = 12;
const MAX_WARNING_CHARACTERS: usize = 1000;
/// Maximum number of errors in one answer.
const MAX_ERRORS: usize = 50;

/// The answer to an admission review.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    uid: String,
    /// Why the object is denied, if it is: a field and what is wrong with it.
    causes: Vec<(String, String)>,
    kind: &'static str,
    name: String,
    warnings: Vec<String>,
    /// How many of the first warnings describe machines that would boot something else.
    machine_warnings: usize,
    patch: Vec<Value>,
}

/// The outcome of a review, as counted by the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The object may be written.
    Allowed,
    /// The object may be written, with warnings.
    Warned,
    /// The object may not be written.
    Denied,
    /// The object may be written, with changes.
    Patched,
}

impl Outcome {
    /// The label value in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Warned => "warned",
            Self::Denied => "denied",
            Self::Patched => "patched",
        }
    }
}

// === impl Answer ===

impl Answer {
    /// Allows the object unchanged.
    pub fn allow(request: &Request<'_>) -> Self {
        let kind = request.kind.as_ref().map_or("", |kind| kind.name());
        Self {
            uid: request.uid.clone(),
            causes: Vec::new(),
            kind,
            name: request.object_name().1.into_owned(),
            warnings: Vec::new(),
            machine_warnings: 0,
            patch: Vec::new(),
        }
    }

    /// Adds a warning, unless the answer already has it.
    pub(crate) fn warn(mut self, warning: &str) -> Self {
        // An API server drops warnings that contain control characters.
        let text: String = warning
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        let is_long = text.chars().count() > MAX_WARNING_CHARACTERS;
        let text = if is_long {
            text.chars()
                .take(MAX_WARNING_CHARACTERS - 3)
                .chain("...".chars())
                .collect()
        } else {
            text
        };
        if !self.warnings.contains(&text) {
            self.warnings.push(text);
        }
        self
    }

    /// Adds a warning of a rule.
    pub(crate) fn warn_of(self, rule: &Rule, warning: &str) -> Self {
        let mut answer = self.warn(warning);
        if [&rule::LOSES_PROFILE, &rule::MOVES_MACHINES].contains(&rule) {
            answer.machine_warnings = answer.warnings.len();
        }
        answer
    }

    /// Denies the object because of this finding.
    pub(crate) fn deny(mut self, finding: &Finding) -> Self {
        let help = finding
            .help
            .as_ref()
            .map_or_else(String::new, |help| format!(" ({help})"));
        self.causes.push((
            finding.field.to_string(),
            format!("{}{help}", finding.message_with_line()),
        ));
        self
    }

    /// Adds the patch operations (RFC 6902).
    pub(crate) fn patch(mut self, operations: Vec<Value>) -> Self {
        self.patch = operations;
        self
    }

    /// The outcome.
    pub fn outcome(&self) -> Outcome {
        match self {
            _ if !self.causes.is_empty() => Outcome::Denied,
            _ if !self.patch.is_empty() => Outcome::Patched,
            _ if !self.warnings.is_empty() => Outcome::Warned,
            _ => Outcome::Allowed,
        }
    }

    /// Whether the object may be written.
    pub fn is_allowed(&self) -> bool {
        self.causes.is_empty()
    }

    /// The warnings, one sentence each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The errors: the field and what is wrong with it.
    pub fn causes(&self) -> impl Iterator<Item = (&str, &str)> {
        self.causes
            .iter()
            .map(|(field, message)| (field.as_str(), message.as_str()))
    }

    /// The patch operations (RFC 6902).
    pub fn operations(&self) -> &[Value] {
        &self.patch
    }

    /// The answer as an `AdmissionReview` in JSON.
    pub fn to_json(&self) -> String {
        let mut response = json!({ "uid": self.uid, "allowed": self.is_allowed() });
        if !self.is_allowed() {
            response["status"] = self.status();
        }
        let mut warnings: Vec<_> = self.warnings.iter().take(MAX_WARNINGS).cloned().collect();
        if self.warnings.len() > MAX_WARNINGS {
            let diff_hint = if self.machine_warnings > MAX_WARNINGS {
                "`shaper diff` lists all affected machines, "
            } else {
                ""
            };
            let validate_hint = if self.machine_warnings == self.warnings.len() {
                ""
            } else {
                "`shaper validate` lists all findings"
            };
            let hints = [diff_hint, validate_hint].concat();
            let hints = hints.trim_end_matches(", ");
            warnings.push(format!(
                "... and {} more; {hints}",
                self.warnings.len() - MAX_WARNINGS
            ));
        }
        if !warnings.is_empty() {
            response["warnings"] = warnings.into();
        }
        if !self.patch.is_empty() {
            response["patchType"] = "JSONPatch".into();
            response["patch"] = STANDARD
                .encode(Value::from(self.patch.clone()).to_string())
                .into();
        }
        json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response }).to_string()
    }

    /// A status in the form that the API server uses for schema violations, so that kubectl shows
    /// both the same way.
    fn status(&self) -> Value {
        let sentence = |(field, message): &(String, String)| {
            if field.is_empty() {
                message.clone()
            } else {
                format!("{field}: {message}")
            }
        };
        let sentences = self.causes.iter().take(MAX_ERRORS).map(sentence);
        let mut sentences: Vec<_> = sentences.collect();
        if self.causes.len() > MAX_ERRORS {
            sentences.push(format!(
                "... and {} more; `shaper validate` lists all",
                self.causes.len() - MAX_ERRORS
            ));
        }
        let message = sentences.join("; ");
        let cause = |(field, message): &(String, String)| json!({ "reason": "FieldValueInvalid", "field": field, "message": message });
        let causes: Vec<_> = self.causes.iter().take(MAX_ERRORS).map(cause).collect();
        let details =
            json!({ "group": crd::GROUP, "kind": self.kind, "name": self.name, "causes": causes });
        json!({ "code": 422, "reason": "Invalid", "message": message, "details": details })
    }
}
