//! Renders a selection to the text that a machine gets.

mod plan;
mod safety;
mod scope;
mod variables;

use std::sync::Arc;

use minijinja::ErrorKind;

use crate::assignment::Assignment;
use crate::config_name::ConfigName;
use crate::profile::Profile;
use crate::selection::{Selected, Selection};
use crate::subject::Subject;
use crate::template::{MAX_OUTPUT_BYTES, SCRIPT, access, describe};
use crate::variables as variable;

use plan::PlanRenderer;
use safety::Place;
pub use safety::Unsafe;
use scope::{LastMissing, Missing, Scope};

/// The first line of every script (`ipxe:src/image/script.c`).
const SHEBANG: &str = "#!ipxe";

/// The text could not be rendered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// A label that the machine sent is unsafe where the template uses it.
    #[error("{0}")]
    Unsafe(Unsafe),
    /// The template needs a label that the machine does not present.
    #[error(
        "line {line} of {template} needs the label {label:?}, which this machine does not present; make the machine send it, or write {{{{ subject.{label} | default('...') }}}}{hint}",
        hint = operator_label_hint(label)
    )]
    MissingLabel {
        /// The script's or the config's name.
        template: String,
        /// The line, counted from 1.
        line: usize,
        /// The label's key.
        label: String,
    },
    /// The template needs a label that the operator did not set on this server.
    #[error(
        "line {line} of {template} needs the operator's label {label:?}, which this server does not have; start shaper with --label {label}=VALUE, or write {{{{ {} | default('...') }}}}",
        access("extrinsic", label)
    )]
    MissingExtrinsic {
        /// The script's or the config's name.
        template: String,
        /// The line, counted from 1.
        line: usize,
        /// The label's key.
        label: String,
    },
    /// The template needs a variable that nobody gives.
    #[error(
        "line {line} of {template} needs the variable {variable:?}, which is in spec.variables of {givers}; add it there, or write {{{{ vars.{variable} | default('...') }}}}"
    )]
    MissingVariable {
        /// The script's or the config's name.
        template: String,
        /// The line, counted from 1.
        line: usize,
        /// The names that lead to the variable, joined by dots.
        variable: String,
        /// The objects that could give it, in words.
        givers: String,
    },
    /// The template needs a Machine, and the machine has none.
    #[error(
        "line {line} of {template} needs the Machine object of this machine, and there is none; create a Machine with its uuid, serial or mac, or write {{% if machine %}}"
    )]
    NoMachine {
        /// The script's or the config's name.
        template: String,
        /// The line, counted from 1.
        line: usize,
    },
    /// A variable that the template uses does not satisfy the Profile's schema.
    #[error(
        "{template} uses variables that don't satisfy spec.variablesSchema of the Profile: {fault}"
    )]
    InvalidVariable {
        /// The script's or the config's name.
        template: String,
        /// The variable, and what is wrong with it.
        fault: String,
    },
    /// A config has no id yet, so that it can't be linked to.
    #[error("config {0} has no id yet; try again in a moment")]
    NotReady(ConfigName),
    /// The template itself fails.
    #[error("{template}{} can't be rendered: {reason}", line_suffix(*line))]
    Failed {
        /// The script's or the config's name.
        template: String,
        /// The line, counted from 1, if known.
        line: Option<usize>,
        /// The template engine's message.
        reason: String,
    },
}

impl Selection {
    /// Renders the script, like [`Selected::script`].
    pub fn script(&self, subject: &Arc<Subject>, base_url: &str) -> Result<String, RenderError> {
        Selected {
            assignment: &self.assignment,
            by: self.by,
            profile: &self.profile,
        }
        .script(subject, base_url)
    }
}

impl Selected<'_> {
    /// Renders the script of the selected Profile for the subject. It always starts with `#!ipxe`
    /// and ends with a newline.
    ///
    /// `base_url` is the address by which the client reached the server, without a trailing slash.
    pub fn script(&self, subject: &Arc<Subject>, base_url: &str) -> Result<String, RenderError> {
        let Self {
            assignment,
            profile,
            ..
        } = *self;
        if let Some(name) = profile.config_without_id() {
            return Err(RenderError::NotReady(name.clone()));
        }
        let rendering = Rendering {
            config: None,
            subject,
            profile,
            assignment: Some(assignment),
            base_url,
        };
        rendering.render().map(as_script)
    }
}

/// Renders a config of a Profile for the subject, byte for byte as its template says. If the
/// template starts with a statement, as in `{% set x = 1 %}`, blank lines at the start are removed:
/// what reads the config looks for `#cloud-config` or `#!` in its first line.
///
/// `assignment` is the Assignment that gives the subject this Profile, if there still is one.
pub fn config(
    profile: &Arc<Profile>,
    name: &ConfigName,
    subject: &Arc<Subject>,
    assignment: Option<&Arc<Assignment>>,
    base_url: &str,
) -> Result<String, RenderError> {
    let rendering = Rendering {
        config: Some(name),
        subject,
        profile,
        assignment,
        base_url,
    };
    let text = rendering.render()?;
    if profile.templates.starts_with_statement(name) {
        return Ok(without_leading_blank_lines(text));
    }
    Ok(text)
}

/// A text to render.
struct Rendering<'a> {
    /// `None` for the script.
    config: Option<&'a ConfigName>,
    subject: &'a Arc<Subject>,
    profile: &'a Arc<Profile>,
    assignment: Option<&'a Arc<Assignment>>,
    base_url: &'a str,
}

/// Suggests `--label` for a missing label that the bootstrap script does not send, which is most
/// likely the operator's.
fn operator_label_hint(label: &str) -> String {
    if crate::subject::BOOTSTRAP_LABELS.contains(&label) {
        return String::new();
    }
    format!("; if it is an operator's label, start shaper with --label {label}=VALUE")
}

// === impl Rendering ===

impl Rendering<'_> {
    fn render(&self) -> Result<String, RenderError> {
        self.check_variables()?;
        match self.render_plan() {
            Some(text) => Ok(text),
            None => self
                .render_with_engine()
                .map_err(|error| error.redact_ids(self.profile)),
        }
    }

    /// Checks the variables that the template uses against the Profile's schema.
    fn check_variables(&self) -> Result<(), RenderError> {
        let Some(schema) = &self.profile.variables_schema else {
            return Ok(());
        };
        let templates = &self.profile.templates;
        let uses = match self.config {
            Some(name) => templates.config_uses(name.as_str()),
            None => Some(templates.script_uses()),
        };
        let Some(uses) = uses.filter(|uses| uses.any_variable || !uses.variables.is_empty()) else {
            return Ok(());
        };
        let machine = self.subject.machine().map(|machine| &**machine);
        let variables = variable::merge(self.profile, self.assignment.map(|it| &**it), machine);
        let is_used = |name: &str| uses.variables.iter().any(|used| used.name() == name);
        let fault = schema.check(&variables).into_iter().find(|fault| {
            let name = fault.variable.as_deref();
            uses.any_variable || name.is_none_or(is_used)
        });
        match fault {
            None => Ok(()),
            Some(fault) => Err(RenderError::InvalidVariable {
                template: self.config.map_or(SCRIPT, ConfigName::as_str).to_owned(),
                fault: fault.to_string(),
            }),
        }
    }

    /// Returns the objects that could give a variable, in words.
    fn givers(&self) -> String {
        let assignment = self.assignment.map(|it| format!("Assignment {}", it.key));
        let machine = self.subject.machine();
        let machine = machine.map(|it| format!("Machine {}", it.key));
        let profile = Some(format!("Profile {}", self.profile.key));
        let all: Vec<_> = [machine, assignment, profile]
            .into_iter()
            .flatten()
            .collect();
        match all.split_last() {
            Some((only, [])) => format!("neither {only} nor a Machine"),
            Some((last, others)) => format!("neither {} nor {last}", others.join(", ")),
            None => String::new(),
        }
    }

    /// Renders a template without the engine, if it has a plan and every value is plain text.
    fn render_plan(&self) -> Option<String> {
        let Self {
            config,
            subject,
            profile,
            assignment,
            base_url,
        } = *self;
        let plan = profile.templates.plan(config)?;
        let assignment = assignment.map(|assignment| &**assignment);
        PlanRenderer {
            subject,
            profile,
            assignment,
            base_url,
            place: config.map_or(Place::Script, |name| {
                Place::Config(name, profile.templates.config_syntax(name))
            }),
        }
        .render(plan)
    }

    fn render_with_engine(&self) -> Result<String, RenderError> {
        let Self {
            config,
            subject,
            profile,
            assignment,
            base_url,
        } = *self;
        let scope = Scope::new(
            config.map(|name| (name.clone(), profile.templates.config_syntax(name))),
            subject.clone(),
            profile.clone(),
            assignment.cloned(),
            base_url,
        );
        let last_missing = scope.last_missing();
        let rendered = profile.templates.render(config, scope.into_value());
        rendered
            .map_err(|error| self.error(&error, &last_missing))
            .and_then(|text| {
                if text.len() > MAX_OUTPUT_BYTES {
                    return Err(RenderError::Failed {
                        template: self.template().to_owned(),
                        line: None,
                        reason: "the output is longer than 2 MiB".to_owned(),
                    });
                }
                Ok(text)
            })
    }

    /// Returns the name of the template in messages.
    fn template(&self) -> &str {
        self.config.map_or(SCRIPT, ConfigName::as_str)
    }

    /// Converts an error of the engine.
    fn error(&self, error: &minijinja::Error, last_missing: &LastMissing) -> RenderError {
        if let Some(reason) = scope::carried_error(error) {
            return reason;
        }
        let (line, included) = error.line().map_or((None, None), |line| {
            let (line, included) = self.profile.templates.origin(self.config, line);
            (Some(line), included)
        });
        let template = match included {
            Some(name) => format!("{}, which includes {name},", self.template()),
            None => self.template().to_owned(),
        };
        let missing = match error.kind() {
            ErrorKind::UndefinedError => last_missing.take(),
            _ => None,
        };
        match missing {
            Some(Missing::Subject(label)) => RenderError::MissingLabel {
                template,
                line: line.unwrap_or(1),
                label: label.into(),
            },
            Some(Missing::Operator(label)) => RenderError::MissingExtrinsic {
                template,
                line: line.unwrap_or(1),
                label: label.into(),
            },
            Some(Missing::Variable(variable)) => RenderError::MissingVariable {
                template,
                line: line.unwrap_or(1),
                variable: variable.into(),
                givers: self.givers(),
            },
            Some(Missing::Machine) => RenderError::NoMachine {
                template,
                line: line.unwrap_or(1),
            },
            other => RenderError::Failed {
                template,
                line,
                reason: match other {
                    Some(Missing::Object { variable, key }) => {
                        format!("{variable} has no label {key:?}")
                    }
                    _ if error.kind() == ErrorKind::OutOfFuel => {
                        "it exceeds the work limit of one answer; use smaller loops and less text"
                            .to_owned()
                    }
                    _ => describe(error),
                },
            },
        }
    }
}

// === impl RenderError ===

impl RenderError {
    /// Removes config ids from the message. A template can pass a config's URL to an expression
    /// that an error quotes; errors are logged, and ids must not be.
    fn redact_ids(self, profile: &Profile) -> Self {
        let redact = |text: String| {
            profile.ids.values().fold(text, |text, id| {
                let id = id.to_string();
                if text.contains(&id) {
                    text.replace(&id, "ID")
                } else {
                    text
                }
            })
        };
        match self {
            Self::MissingLabel {
                template,
                line,
                label,
            } => Self::MissingLabel {
                template,
                line,
                label: redact(label),
            },
            Self::MissingExtrinsic {
                template,
                line,
                label,
            } => Self::MissingExtrinsic {
                template,
                line,
                label: redact(label),
            },
            Self::Failed {
                template,
                line,
                reason,
            } => Self::Failed {
                template,
                line,
                reason: redact(reason),
            },
            Self::MissingVariable {
                template,
                line,
                variable,
                givers,
            } => Self::MissingVariable {
                template,
                line,
                variable: redact(variable),
                givers,
            },
            Self::Unsafe(_)
            | Self::NotReady(_)
            | Self::NoMachine { .. }
            | Self::InvalidVariable { .. } => self,
        }
    }
}

fn without_leading_blank_lines(mut text: String) -> String {
    let blank = text.len() - text.trim_start().len();
    if let Some(end) = text[..blank].rfind('\n') {
        text.drain(..=end);
    }
    text
}

fn line_suffix(line: Option<usize>) -> String {
    line.map_or_else(String::new, |line| format!(", line {line},"))
}

/// Makes the shebang the first line. Without it, iPXE on BIOS runs the text as machine code.
fn as_script(text: String) -> String {
    let trimmed = text.trim_start_matches(['\u{feff}', ' ', '\t', '\r', '\n']);
    let is_script = trimmed
        .strip_prefix(SHEBANG)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']));
    let ends_with_newline = trimmed.ends_with('\n') && (trimmed.len() > SHEBANG.len());
    if is_script && ends_with_newline && trimmed.len() == text.len() {
        return text;
    }
    let mut script = String::with_capacity(trimmed.len() + SHEBANG.len() + 2);
    if !is_script {
        script.push_str(SHEBANG);
        script.push('\n');
    }
    script.push_str(trimmed);
    if !script.ends_with('\n') {
        script.push('\n');
    }
    script
}
