//! Compiles the templates of a Profile. They are parsed and checked once, when the object changes.
//!
//! The syntax is Jinja's, but the language is smaller. The module `check` rejects at load what
//! could run or grow without bound, with the line and what to write instead; everything else is
//! metered while it renders ([`FUEL`], [`MAX_OUTPUT_BYTES`]). So no Profile can take the server
//! down, whatever its author writes.

mod check;
mod functions;
mod kind;
pub(crate) mod plan;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value};

use crate::config_name::ConfigName;

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
    configs: BTreeMap<ConfigName, Uses>,
    sources: BTreeMap<Box<str>, Box<str>>,
    /// The plans of templates that need no engine, by template name.
    plans: BTreeMap<Box<str>, Plan>,
}

/// What a template refers to, as far as its source tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uses {
    /// Labels of the subject.
    pub labels: BTreeSet<String>,
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
        let mut environment = environment();
        let (mut sources, mut plans) = (BTreeMap::new(), BTreeMap::new());
        let names: BTreeSet<&str> = configs.keys().map(ConfigName::as_str).collect();
        let mut add = |field: String, name: String, source: &str| {
            let locate = |(line, reason)| TemplateError {
                field: field.clone(),
                line,
                reason,
            };
            let (uses, plan) = check::check(source, &names).map_err(locate)?;
            sources.insert(name.as_str().into(), source.into());
            plans.extend(plan.map(|plan| (name.as_str().into(), plan)));
            let added = environment.add_template_owned(name, source.to_owned());
            added
                .map(|()| uses)
                .map_err(|error| locate((error.line(), describe(&error))))
        };
        let script = add(SCRIPT.to_owned(), SCRIPT.to_owned(), script)?;
        let configs = configs
            .iter()
            .map(|(name, source)| {
                Ok((
                    name.clone(),
                    add(
                        format!("spec.additionalConfig.{name}"),
                        name.to_string(),
                        source,
                    )?,
                ))
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
        self.configs.get(name)
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

/// Templates are equal if their sources are.
impl PartialEq for Templates {
    fn eq(&self, other: &Self) -> bool {
        self.sources == other.sources
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
