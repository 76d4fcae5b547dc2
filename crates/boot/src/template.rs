//! Compiles the templates of a Profile. They are parsed and checked once, when the object changes.
//!
//! The syntax is Jinja's, but the language is smaller. The module `check` rejects at load what
//! could run or grow without bound, with the line and what to write instead; everything else is
//! metered while it renders ([`FUEL`], [`MAX_OUTPUT_BYTES`]). So no Profile can take the server
//! down, whatever its author writes.

mod attributes;
mod check;
mod diagnosis;
mod errors;
mod flow;
mod functions;
mod hosts;
mod include;
mod kind;
pub(crate) mod plan;
mod position;
pub(crate) mod quoting;
pub(crate) mod reach;
mod script_line;
mod tokens;
mod variables;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::LazyLock;

use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value};

use crate::config_format::{ConfigFormat, Syntax};
use crate::config_name::ConfigName;

use check::Checked;
pub use errors::{TemplateError, TemplateErrors};
use include::{Includes, Origins};
use plan::Plan;
pub use variables::VariableUse;

/// Maximum size of a template's source with all that it includes, in bytes.
pub const MAX_SOURCE_BYTES: usize = 1024 * 1024;
/// Maximum size of a template's output, in bytes.
pub const MAX_OUTPUT_BYTES: usize = 2 * 1024 * 1024;
/// Fuel of one render. An instruction costs 1, and so do 64 bytes of text. The largest output uses
/// 32,768.
pub const FUEL: u64 = 48_000;

/// The name of the script's template. The others are named by [`ConfigName`]s, which contain no
/// dot.
pub(crate) const SCRIPT: &str = "spec.ipxe";

/// The compiled templates of a Profile.
pub struct Templates {
    environment: Environment<'static>,
    script: Uses,
    configs: BTreeMap<ConfigName, Config>,
    sources: BTreeMap<Box<str>, Box<str>>,
    /// The plans of templates that need no engine, by template name.
    plans: BTreeMap<Box<str>, Plan>,
    /// Where the lines of templates that include others come from, by template name.
    origins: BTreeMap<Box<str>, Origins>,
}

/// A compiled config.
#[derive(Debug)]
struct Config {
    uses: Uses,
    /// The format that the Profile declares.
    format: Option<ConfigFormat>,
    syntax: Syntax,
    /// Whether the template starts with a statement, whose line is not part of the text.
    starts_with_statement: bool,
}

/// Compiles the templates of a Profile, one by one.
struct Compiler<'a> {
    includes: Includes<'a>,
    names: BTreeSet<&'a str>,
    formats: &'a BTreeMap<ConfigName, ConfigFormat>,
    templates: Templates,
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
    /// The variables that it reads, each once.
    pub variables: Vec<VariableUse>,
    /// Whether it may read any variable, as in a loop over all.
    pub any_variable: bool,
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
    ) -> Result<Self, TemplateErrors> {
        Self::compile_with_formats(script, configs, &BTreeMap::new())
    }

    /// Parses and checks the script and all configs, some of which have a declared format. The
    /// error has the first fault of each template.
    pub fn compile_with_formats(
        script: &str,
        configs: &BTreeMap<ConfigName, String>,
        formats: &BTreeMap<ConfigName, ConfigFormat>,
    ) -> Result<Self, TemplateErrors> {
        let includes = Includes::new(configs);
        let mut compiler = Compiler::new(includes, formats);
        let all = || [(None, script)].into_iter().chain(named(configs));
        let mut failures = Vec::new();
        for (config, source) in all() {
            if let Err(failure) = compiler.add(config, source) {
                failures.push((config, source, failure));
            }
        }
        if failures.is_empty() {
            return Ok(compiler.templates);
        }
        // A template that includes a broken config may have a fault of its own besides.
        let (own, others): (Vec<_>, Vec<_>) = failures
            .into_iter()
            .partition(|(.., failure)| !failure.is_included);
        let broken = own
            .iter()
            .filter_map(|(config, ..)| config.map(ConfigName::as_str));
        let mut compiler = Compiler::new(Includes::without(configs, broken.collect()), formats);
        let again = others
            .into_iter()
            .filter_map(|(config, source, _)| compiler.add(config, source).err());
        let errors = own
            .into_iter()
            .map(|(.., failure)| failure)
            .chain(again)
            .map(|failure| failure.error);
        Err(TemplateErrors::new(errors.collect()))
    }

    /// Returns what the script refers to.
    pub fn script_uses(&self) -> &Uses {
        &self.script
    }

    /// Iterates over what the script, by `None`, and each config refers to.
    pub fn all_uses(&self) -> impl Iterator<Item = (Option<&ConfigName>, &Uses)> {
        let configs = self.configs.iter();
        let configs = configs.map(|(name, config)| (Some(name), &config.uses));
        std::iter::once((None, &self.script)).chain(configs)
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

    /// Returns whether the lines at the start of a config that are blank are those of statements.
    pub(crate) fn starts_with_statement(&self, config: &ConfigName) -> bool {
        let config = self.configs.get(config);
        config.is_some_and(|config| config.starts_with_statement)
    }

    /// Returns the line of a template for a line of which the engine knows, and the name of the
    /// config that is included there.
    pub(crate) fn origin(&self, config: Option<&ConfigName>, line: usize) -> (usize, Option<&str>) {
        let origins = self.origins.get(config.map_or(SCRIPT, ConfigName::as_str));
        origins.map_or((line, None), |origins| origins.of_line(line))
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

// === impl Compiler ===

impl<'a> Compiler<'a> {
    fn new(includes: Includes<'a>, formats: &'a BTreeMap<ConfigName, ConfigFormat>) -> Self {
        Self {
            names: includes.names(),
            includes,
            formats,
            templates: Templates {
                environment: environment(),
                script: Uses::default(),
                configs: BTreeMap::new(),
                sources: BTreeMap::new(),
                plans: BTreeMap::new(),
                origins: BTreeMap::new(),
            },
        }
    }

    /// Compiles a config or, for `None`, the script.
    fn add(&mut self, config: Option<&'a ConfigName>, source: &'a str) -> Result<(), Failure> {
        let field = config.map_or_else(
            || SCRIPT.to_owned(),
            |name| format!("spec.additionalConfig.{name}"),
        );
        let fail = |line, reason, is_included| Failure {
            error: TemplateError {
                field: field.clone(),
                line,
                reason,
            },
            is_included,
        };
        let expanded = self.includes.expand(config, source).map_err(|failed| {
            let (line, reason) = failed.error.explain(source, config.is_none());
            fail(line, reason, failed.is_included)
        })?;
        let format = config.and_then(|name| self.formats.get(name).copied());
        let syntax = config.map(|name| Syntax::of(name, &expanded.text, format));
        let text = &*expanded.text;
        let located = |(line, reason): (Option<usize>, String)| {
            let (line, included) = line.map_or((None, None), |line| {
                let (line, included) = expanded.origins.of_line(line);
                (Some(line), included)
            });
            match included {
                Some(name) => fail(
                    line,
                    format!("in the included config {name}: {reason}"),
                    true,
                ),
                None => fail(line, reason, false),
            }
        };
        let Checked {
            uses,
            plan,
            source: checked,
        } = check::check(text, &self.names, syntax).map_err(located)?;
        let name = config.map_or(SCRIPT, ConfigName::as_str);
        self.templates
            .environment
            .add_template_owned(name.to_owned(), checked.into_owned())
            .map_err(|error| located((error.line(), describe(&error))))?;
        let uses = uses.at_origins(&expanded.origins);
        match (config, syntax) {
            (Some(name), Some(syntax)) => {
                let config = Config {
                    uses,
                    format,
                    syntax,
                    starts_with_statement: text.trim_start_matches([' ', '\t']).starts_with("{%"),
                };
                self.templates.configs.insert(name.clone(), config);
            }
            _ => self.templates.script = uses,
        }
        self.templates.sources.insert(name.into(), source.into());
        self.templates
            .plans
            .extend(plan.map(|plan| (name.into(), plan)));
        if !expanded.origins.is_empty() {
            self.templates.origins.insert(name.into(), expanded.origins);
        }
        Ok(())
    }
}

// === impl Uses ===

impl Uses {
    /// Places the uses at the lines that the author of the template wrote.
    fn at_origins(mut self, origins: &Origins) -> Self {
        for used in self.raw.iter_mut().chain(&mut self.hosts) {
            used.line = origins.of_line(used.line).0;
        }
        self
    }
}

/// A template that can't be compiled.
struct Failure {
    error: TemplateError,
    /// Whether the fault is in an included config.
    is_included: bool,
}

fn named(
    configs: &BTreeMap<ConfigName, String>,
) -> impl Iterator<Item = (Option<&ConfigName>, &str)> {
    configs
        .iter()
        .map(|(name, source)| (Some(name), source.as_str()))
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    functions::register(&mut environment);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    // Strict, except for `{% if subject.asset %}`: an absent label is false, and printing it is an
    // error.
    environment.set_undefined_behavior(UndefinedBehavior::SemiStrict);
    environment.set_syntax(syntax());
    environment.set_formatter(functions::print);
    environment.set_fuel(Some(FUEL));
    environment
}

/// Jinja's delimiters `{{ }}` and `{% %}`, without comments: bash's `${#array[@]}` would start one,
/// and what follows would be missing from a config without a word.
fn syntax() -> SyntaxConfig {
    static SYNTAX: LazyLock<SyntaxConfig> = LazyLock::new(|| {
        // The engine wants delimiters of comments, so these are longer than any source.
        let never = "\0".repeat(MAX_SOURCE_BYTES + 1);
        SyntaxConfig::builder()
            .comment_delimiters(never.clone(), never)
            // The last newline is part of the script or config.
            .keep_trailing_newline(true)
            .build()
            .expect("the delimiters are not empty and differ")
    });
    SYNTAX.clone()
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
