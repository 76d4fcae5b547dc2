//! What an API server is answered.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use review::{Finding, Rule, rule};
use serde_json::{Value, json};

use crate::request::Request;

/// Most warnings of one answer, and the greatest length of each in characters: a server cuts all of them once they are 4,096 together.
const MAX_WARNINGS: usize = 12;
const MAX_WARNING_CHARACTERS: usize = 1000;
/// Most errors of one answer.
const MAX_ERRORS: usize = 50;

/// What an API server is answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    uid: String,
    /// Why it is refused, if it is: what is wrong with which field.
    causes: Vec<(String, String)>,
    kind: &'static str,
    name: String,
    warnings: Vec<String>,
    /// How many of the warnings, from the first, say what becomes of machines.
    machine_warnings: usize,
    patch: Vec<Value>,
}

/// How it ended, for those who count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It may be written.
    Allowed,
    /// It may, and there is something to say.
    Warned,
    /// It may not.
    Denied,
    /// It may, with changes.
    Patched,
}

impl Outcome {
    /// Its name in metrics.
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
    /// It may be written as it is.
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

    /// The same, with what there is to say.
    pub(crate) fn warn(mut self, warning: &str) -> Self {
        // A control character would make the server drop it.
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

    /// The same, with what a rule has to say.
    pub(crate) fn warn_of(self, rule: &Rule, warning: &str) -> Self {
        let mut answer = self.warn(warning);
        if [&rule::LOSES_PROFILE, &rule::MOVES_MACHINES].contains(&rule) {
            answer.machine_warnings = answer.warnings.len();
        }
        answer
    }

    /// It may not be written because of this.
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

    /// It is to be changed by this, as in RFC 6902.
    pub(crate) fn patch(mut self, operations: Vec<Value>) -> Self {
        self.patch = operations;
        self
    }

    /// How it ended.
    pub fn outcome(&self) -> Outcome {
        match self {
            _ if !self.causes.is_empty() => Outcome::Denied,
            _ if !self.patch.is_empty() => Outcome::Patched,
            _ if !self.warnings.is_empty() => Outcome::Warned,
            _ => Outcome::Allowed,
        }
    }

    /// Whether it may be written.
    pub fn is_allowed(&self) -> bool {
        self.causes.is_empty()
    }

    /// What there is to say, each in a sentence.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Why it is refused: for each error its field and what is wrong.
    pub fn causes(&self) -> impl Iterator<Item = (&str, &str)> {
        self.causes
            .iter()
            .map(|(field, message)| (field.as_str(), message.as_str()))
    }

    /// The operations by which the object is to be changed, as in RFC 6902.
    pub fn operations(&self) -> &[Value] {
        &self.patch
    }

    /// The whole message.
    pub fn to_json(&self) -> String {
        let mut response = json!({ "uid": self.uid, "allowed": self.is_allowed() });
        if !self.is_allowed() {
            response["status"] = self.status();
        }
        let mut warnings: Vec<_> = self.warnings.iter().take(MAX_WARNINGS).cloned().collect();
        if self.warnings.len() > MAX_WARNINGS {
            let teller = if self.machine_warnings > MAX_WARNINGS {
                "`shaper diff` tells all of machines, "
            } else {
                ""
            };
            let other = if self.machine_warnings == self.warnings.len() {
                ""
            } else {
                "`shaper validate` tells all of the object"
            };
            let tellers = [teller, other].concat();
            let tellers = tellers.trim_end_matches(", ");
            warnings.push(format!(
                "... and {} more; {tellers}",
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

    /// As the server itself answers where the schema is broken, so that kubectl shows both alike.
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
                "... and {} more; `shaper validate` tells all",
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
