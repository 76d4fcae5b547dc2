//! Compiles the templates of a Profile. They are parsed and checked once, when the object changes.
//!
//! The syntax is Jinja's, but the language is smaller. The module `check` rejects at load what
//! could run or grow without bound, with the line and what to write instead; everything else is
//! metered while it renders ([`FUEL`], [`MAX_OUTPUT_BYTES`]). So no Profile can take the server
//! down, whatever its author writes.

mod check;
mod flow;
mod functions;
mod hosts;
mod kind;
pub(crate) mod plan;
mod position;
pub(crate) mod quoting;
pub(crate) mod reach;
mod script_line;
mod tokens;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value};

use crate::config_format::{ConfigFormat, Syntax};
use crate::config_name::ConfigName;

use check::Checked;
use plan::Plan;

/// Maximum size of a template's source, in bytes.
pub const MAX_SOURCE_BYTES: usize = 256 * 1024;
/// Maximum size of a template's output, in bytes.
pub const MAX_OUTPUT_BYTES: usize = 1024 * 1024;
/// Fuel of one render. An instruction costs 1, and so do 64 bytes of text. The largest output uses
/// 16,384.
pub const FUEL: u64 = 24_000;

/// The name of the script's template. The others are named by [`ConfigName`]s, which contain no
/// dot.
const SCRIPT: &str = "spec.ipxe";

/// The compiled templates of a Profile.
pub struct Templates {
    environment: Environment<'static>,
    script: Uses,
    configs: BTreeMap<ConfigName, Config>,
    sources: BTreeMap<Box<str>, Box<str>>,
    /// The plans of templates that need no engine, by template name.
    plans: BTreeMap<Box<str>, Plan>,
}

/// A compiled config.
#[derive(Debug)]
struct Config {
    uses: Uses,
    /// The format that the Profile declares.
    format: Option<ConfigFormat>,
    syntax: Syntax,
}

/// A use of a label in a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelUse {
    /// The label's key. `None` if the source does not tell which label it is, as in a loop.
    pub label: Option<String>,
    /// The line of the template, counted from 1.
    pub line: usize,
}

/// What a template refers to, as far as its source tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uses {
    /// Labels of the subject.
    pub labels: BTreeSet<String>,
    /// Labels of the operator.
    pub extrinsic: BTreeSet<String>,
    /// Labels of the subject that reach the text of a config outside of a filter of its format,
    /// each once.
    pub raw: Vec<LabelUse>,
    /// Labels of the subject that are in the host of a URL, each once.
    pub hosts: Vec<LabelUse>,
    /// Configs of the Profile.
    pub configs: BTreeSet<String>,
    /// Whether it uses `assignment`.
    pub assignment: bool,
}

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

/// Returns the filters that templates can use.
pub fn filters() -> impl Iterator<Item = &'static str> {
    functions::FILTERS.iter().map(|(name, _)| *name)
}

/// Returns the expression for a label of a variable: `subject.serial`, `subject['asset-tag']`.
pub fn access(variable: &str, label: &str) -> String {
    let is_identifier = label.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && label
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if is_identifier {
        format!("{variable}.{label}")
    } else {
        format!("{variable}['{label}']")
    }
}

/// Returns the tests that templates can use, as in `is defined`.
pub fn tests() -> impl Iterator<Item = &'static str> {
    functions::TESTS.iter().copied()
}

// === impl Templates ===

impl Templates {
    /// Parses and checks the script and all configs.
    pub fn compile(
        script: &str,
        configs: &BTreeMap<ConfigName, String>,
    ) -> Result<Self, TemplateError> {
        Self::compile_with_formats(script, configs, &BTreeMap::new())
    }

    /// Parses and checks the script and all configs, some of which have a declared format.
    pub fn compile_with_formats(
        script: &str,
        configs: &BTreeMap<ConfigName, String>,
        formats: &BTreeMap<ConfigName, ConfigFormat>,
    ) -> Result<Self, TemplateError> {
        let mut environment = environment();
        let (mut sources, mut plans) = (BTreeMap::new(), BTreeMap::new());
        let names: BTreeSet<&str> = configs.keys().map(ConfigName::as_str).collect();
        let mut add = |field: String, name: String, source: &str, syntax: Option<Syntax>| {
            let locate = |(line, reason)| TemplateError {
                field: field.clone(),
                line,
                reason,
            };
            let checked = check::check(source, &names, syntax).map_err(locate)?;
            let Checked { uses, plan, .. } = checked;
            sources.insert(name.as_str().into(), source.into());
            plans.extend(plan.map(|plan| (name.as_str().into(), plan)));
            let added = environment.add_template_owned(name, checked.source.into_owned());
            added
                .map(|()| uses)
                .map_err(|error| locate((error.line(), describe(&error))))
        };
        let script = add(SCRIPT.to_owned(), SCRIPT.to_owned(), script, None)?;
        let configs = configs
            .iter()
            .map(|(name, source)| {
                let format = formats.get(name).copied();
                let syntax = Syntax::of(name, source, format);
                let field = format!("spec.additionalConfig.{name}");
                let uses = add(field, name.to_string(), source, Some(syntax))?;
                let config = Config {
                    uses,
                    format,
                    syntax,
                };
                Ok((name.clone(), config))
            })
            .collect::<Result<_, TemplateError>>()?;
        Ok(Self {
            environment,
            script,
            configs,
            sources,
            plans,
        })
    }

    /// Returns what the script refers to.
    pub fn script_uses(&self) -> &Uses {
        &self.script
    }

    /// Returns what a config refers to.
    pub fn config_uses(&self, name: &str) -> Option<&Uses> {
        self.configs.get(name).map(|config| &config.uses)
    }

    /// Returns the format that the Profile declares for a config.
    pub fn config_format(&self, name: &ConfigName) -> Option<ConfigFormat> {
        self.configs.get(name)?.format
    }

    /// Returns the syntax of a config, as far as it is known.
    pub fn config_syntax(&self, name: &ConfigName) -> Syntax {
        let config = self.configs.get(name);
        config.map_or(Syntax::Unknown, |config| config.syntax)
    }

    /// Returns the name of a config, if it exists.
    pub fn config_named(&self, name: &str) -> Option<&ConfigName> {
        self.configs.get_key_value(name).map(|(name, _)| name)
    }

    /// Iterates over the names of the configs, sorted.
    pub fn config_names(&self) -> impl ExactSizeIterator<Item = &ConfigName> {
        self.configs.keys()
    }

    /// Returns the source of the script.
    pub fn script_source(&self) -> &str {
        self.source(SCRIPT)
    }

    /// Returns the source of a config.
    pub fn config_source(&self, name: &ConfigName) -> &str {
        self.source(name.as_str())
    }

    /// Returns the plan of a config or, for `None`, of the script, if it needs no engine.
    pub(crate) fn plan(&self, config: Option<&ConfigName>) -> Option<&Plan> {
        self.plans.get(config.map_or(SCRIPT, ConfigName::as_str))
    }

    /// Renders a config or, for `None`, the script.
    pub(crate) fn render(
        &self,
        config: Option<&ConfigName>,
        root: Value,
    ) -> Result<String, minijinja::Error> {
        self.environment
            .get_template(config.map_or(SCRIPT, ConfigName::as_str))?
            .render(root)
    }

    fn source(&self, name: &str) -> &str {
        self.sources.get(name).map_or("", |source| source.as_ref())
    }
}

/// Templates are equal if their sources and the declared formats are.
impl PartialEq for Templates {
    fn eq(&self, other: &Self) -> bool {
        let formats = |templates: &Self| -> Vec<_> {
            templates.configs.values().map(|it| it.format).collect()
        };
        self.sources == other.sources && formats(self) == formats(other)
    }
}

impl Eq for Templates {}

impl fmt::Debug for Templates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Templates")
            .field("script", &self.script)
            .field("configs", &self.configs)
            .finish_non_exhaustive()
    }
}

// === impl TemplateError ===

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}, line {line}: {}", self.field, self.reason),
            None => write!(f, "{}: {}", self.field, self.reason),
        }
    }
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    functions::register(&mut environment);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    // Strict, except for `{% if subject.asset %}`: an absent label is false, and printing it is an
    // error.
    environment.set_undefined_behavior(UndefinedBehavior::SemiStrict);
    environment.set_syntax(syntax());
    environment.set_fuel(Some(FUEL));
    environment
}

fn syntax() -> SyntaxConfig {
    // The last newline is part of the script or config.
    SyntaxConfig::builder()
        .keep_trailing_newline(true)
        .build()
        .expect("the default delimiters are valid")
}

/// Returns the message of a template engine's error, without its position.
pub(crate) fn describe(error: &minijinja::Error) -> String {
    let detail = error
        .detail()
        .map_or_else(|| Cow::Owned(error.kind().to_string()), Cow::Borrowed);
    match std::error::Error::source(error) {
        Some(source) => format!("{detail}: {source}"),
        None => detail.into_owned(),
    }
}
