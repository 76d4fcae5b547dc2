//! Includes: `{% include "users" %}` stands for the text of another config of the same Profile.
//!
//! The text is inserted before the template is checked. So whatever is known of a template, such as
//! which labels reach its text and in which format, holds for what it includes as well, and no
//! engine looks for a template while it renders. Each line of the result is traced back to the line
//! of the template that its author wrote.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use minijinja::machinery::{Span, Token, tokenize};

use super::diagnosis::LocatedError;
use super::{MAX_SOURCE_BYTES, SCRIPT, syntax};
use crate::config_name::ConfigName;
use crate::nearest::did_you_mean;

/// Maximum number of configs in a chain of includes.
const MAX_DEPTH: usize = 8;
/// Maximum size of all included texts of a Profile, in bytes. Each template has its own copy.
const MAX_INCLUDED_BYTES: usize = 4 * 1024 * 1024;

/// The configs that the templates of a Profile can include.
pub(super) struct Includes<'a> {
    configs: &'a BTreeMap<ConfigName, String>,
    /// Configs that have a fault of their own. They count as empty.
    broken: BTreeSet<&'a str>,
    /// How many bytes may still be included.
    budget: Cell<usize>,
}

/// A template with the texts that it includes.
pub(super) struct Expanded<'a> {
    pub(super) text: Cow<'a, str>,
    pub(super) origins: Origins,
}

/// Which lines of an expanded template come from which line of the original one.
#[derive(Debug, Default)]
pub(super) struct Origins {
    parts: Vec<Part>,
}

/// A part of an expanded template: own text, or an included one.
#[derive(Debug)]
struct Part {
    /// The line where it begins.
    line: usize,
    /// The line of the original: where the part begins there, or includes the config.
    origin: usize,
    /// The config, if it is included.
    included: Option<Box<str>>,
}

/// A template that can't be expanded.
#[derive(Debug)]
pub(super) struct IncludeError {
    /// The fault, in the template itself.
    pub(super) error: LocatedError,
    /// Whether the fault is in an included config, which has it as well when it is expanded.
    pub(super) is_included: bool,
}

/// An `{% include "NAME" %}`.
struct Tag<'s> {
    start: usize,
    end: usize,
    name: &'s str,
}

/// Expands one template.
struct Expander<'i, 'a> {
    includes: &'i Includes<'a>,
    /// The template and the configs that lead to the current text.
    chain: Vec<&'a str>,
    /// The tag of the template itself that is being expanded.
    tag: usize,
    text: String,
    line: usize,
    parts: Vec<Part>,
}

// === impl Includes ===

impl<'a> Includes<'a> {
    pub(super) fn new(configs: &'a BTreeMap<ConfigName, String>) -> Self {
        Self {
            configs,
            broken: BTreeSet::new(),
            budget: Cell::new(MAX_INCLUDED_BYTES),
        }
    }

    /// Counts these configs as empty.
    pub(super) fn without(
        configs: &'a BTreeMap<ConfigName, String>,
        broken: BTreeSet<&'a str>,
    ) -> Self {
        Self {
            broken,
            ..Self::new(configs)
        }
    }

    /// Returns the names of the configs.
    pub(super) fn names(&self) -> BTreeSet<&'a str> {
        self.configs.keys().map(ConfigName::as_str).collect()
    }

    /// Inserts what a config or, for `None`, the script includes.
    pub(super) fn expand(
        &self,
        config: Option<&'a ConfigName>,
        source: &'a str,
    ) -> Result<Expanded<'a>, IncludeError> {
        // Fast path: nearly all templates.
        if !source.contains("include") || source.len() > MAX_SOURCE_BYTES {
            return Ok(Expanded {
                text: Cow::Borrowed(source),
                origins: Origins::default(),
            });
        }
        let mut expander = Expander {
            includes: self,
            chain: vec![config.map_or(SCRIPT, ConfigName::as_str)],
            tag: 0,
            text: String::new(),
            line: 1,
            parts: Vec::new(),
        };
        expander.append(source)?;
        if expander.chain.len() == 1 && expander.parts.len() <= 1 {
            return Ok(Expanded {
                text: Cow::Borrowed(source),
                origins: Origins::default(),
            });
        }
        Ok(Expanded {
            text: Cow::Owned(expander.text),
            origins: Origins {
                parts: expander.parts,
            },
        })
    }
}

// === impl Expander ===

impl<'a> Expander<'_, 'a> {
    fn append(&mut self, source: &'a str) -> Result<(), IncludeError> {
        let (mut end, mut line) = (0, 1);
        for tag in tags(source) {
            let tag = tag.map_err(|error| self.error(error))?;
            let before = &source[end..tag.start];
            self.push_part(before, line, None);
            line += newlines(before);
            let whole = &source[tag.start..tag.end];
            self.include(&tag, whole, line)?;
            line += newlines(whole);
            end = tag.end;
        }
        self.push_part(&source[end..], line, None);
        Ok(())
    }

    /// Inserts the text of a config. Variables that it sets end with it.
    fn include(&mut self, tag: &Tag<'a>, whole: &str, line: usize) -> Result<(), IncludeError> {
        let name = tag.name;
        if self.chain.len() == 1 {
            self.tag = tag.start;
        }
        let fail = |expander: &Self, reason: String| {
            Err(expander.error(LocatedError::new(Some(tag.start), reason)))
        };
        if let Some(at) = self.chain.iter().position(|other| *other == name) {
            let mut chain = self.chain[at..].to_vec();
            chain.push(name);
            let reason = format!(
                "configs include each other in a loop: {}; remove one of these includes",
                chain.join(" -> ")
            );
            return Err(IncludeError {
                error: LocatedError::new(Some(self.tag), reason),
                // The others of the loop have this fault as well.
                is_included: at > 0,
            });
        }
        let configs = self.includes.configs;
        let Some(source) = configs.get(name) else {
            let hint = did_you_mean(name, configs.keys().map(ConfigName::as_str));
            return fail(
                self,
                format!(
                    "{{% include %}} names {name:?}, which is not a config of this Profile{hint}"
                ),
            );
        };
        if self.chain.len() > MAX_DEPTH {
            let reason = format!(
                "configs include each other more than {MAX_DEPTH} deep: {}",
                self.chain.join(" -> ")
            );
            return self.fail_here(reason);
        }
        // The line of the tag has a line break of its own.
        let source = source.strip_suffix('\n').unwrap_or(source);
        let source = source.strip_suffix('\r').unwrap_or(source);
        let source = if self.includes.broken.contains(name) {
            ""
        } else {
            source
        };
        if self.text.len() + source.len() > MAX_SOURCE_BYTES {
            let reason = format!(
                "the template has more than {MAX_SOURCE_BYTES} bytes with what it includes"
            );
            return self.fail_here(reason);
        }
        let Some(budget) = self.includes.budget.get().checked_sub(source.len()) else {
            let reason = format!(
                "the templates of this Profile include more than {MAX_INCLUDED_BYTES} bytes in all"
            );
            return self.fail_here(reason);
        };
        self.includes.budget.set(budget);
        let strips = |text: &str| if text.contains('-') { "-" } else { "" };
        let (start, rest) = (&whole[..3], &whole[whole.len() - 3..]);
        self.push_part(&format!("{{%{} with %}}", strips(start)), line, Some(name));
        self.chain.push(name);
        self.append(source)?;
        self.chain.pop();
        let breaks = "\n".repeat(newlines(whole));
        let end = format!("{{% endwith {breaks}{}%}}", strips(rest));
        self.push_part(&end, line, Some(name));
        Ok(())
    }

    /// Fails for the template that is expanded, however deep the fault is.
    fn fail_here<T>(&self, reason: String) -> Result<T, IncludeError> {
        Err(IncludeError {
            error: LocatedError::new(Some(self.tag), reason),
            is_included: false,
        })
    }

    fn error(&self, error: LocatedError) -> IncludeError {
        IncludeError {
            error,
            is_included: self.chain.len() > 1,
        }
    }

    /// Appends text. Only parts of the template itself, and what it includes, are recorded.
    fn push_part(&mut self, text: &str, origin: usize, included: Option<&str>) {
        if self.chain.len() == 1 && !text.is_empty() {
            // The rest of the line of an include is no text of the template.
            let skipped = usize::from(included.is_none() && text.starts_with('\n'));
            self.parts.push(Part {
                line: self.line + skipped,
                origin: origin + skipped,
                included: included.map(Box::from),
            });
        }
        self.text.push_str(text);
        self.line += newlines(text);
    }
}

// === impl Origins ===

impl Origins {
    /// Whether the template includes nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Returns the line of the original for a line of the expanded template, and the config that is
    /// included there.
    pub(super) fn of_line(&self, line: usize) -> (usize, Option<&str>) {
        let end = self.parts.partition_point(|part| part.line <= line);
        match self.parts[..end].last() {
            None => (line, None),
            Some(Part {
                origin,
                included: Some(name),
                ..
            }) => (*origin, Some(name)),
            Some(part) => (part.origin + line - part.line, None),
        }
    }
}

/// Finds the includes of a source, up to a fault that the check reports.
fn tags(source: &str) -> impl Iterator<Item = Result<Tag<'_>, LocatedError>> {
    let mut tokens = tokenize(source, false, syntax());
    std::iter::from_fn(move || {
        let mut next = || tokens.next()?.ok();
        loop {
            let (Token::BlockStart, span) = next()? else {
                continue;
            };
            let (Token::Ident("include"), _) = next()? else {
                continue;
            };
            return Some(tag(span, next(), next()));
        }
    })
}

fn tag<'s>(
    start: Span,
    name: Option<(Token<'s>, Span)>,
    end: Option<(Token<'s>, Span)>,
) -> Result<Tag<'s>, LocatedError> {
    match (name, end) {
        (Some((Token::Str(name), _)), Some((Token::BlockEnd, end))) => Ok(Tag {
            start: start.start_offset as usize,
            end: end.end_offset as usize,
            name,
        }),
        _ => Err(LocatedError::at(
            start,
            "{% include %} takes the name of a config in quotation marks, and nothing else: {% include \"users\" %}".to_owned(),
        )),
    }
}

fn newlines(text: &str) -> usize {
    text.bytes().filter(|byte| *byte == b'\n').count()
}
