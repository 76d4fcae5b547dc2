//! The iPXE linter: what a script does that iPXE will not do as its author means it.
//!
//! It reads the script that a machine gets, not the template, as iPXE reads it (`script`). Each rule has its reason and its source in
//! `docs/reference/linter.md`. A rule that can't be sure keeps silent: a word with `${` in it may become anything.

mod flow;
mod images;
mod lines;
mod names;
mod script;

use std::ops::Range;

use crate::rule::Rule;

use script::{Line, Word};

/// Most remarks that each pass over a script makes: nobody reads more, and a script of nothing but mistakes must not take for ever.
const MOST: usize = 100;
/// Most names among which the one that was meant is looked for.
const MOST_NAMES: usize = 1000;

/// Something in a script that iPXE will not take as it is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// Which rule is broken.
    pub rule: &'static Rule,
    /// The line of the script, counted from 1.
    pub line: usize,
    /// Its characters, counted from 1.
    pub columns: Range<usize>,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub help: Option<String>,
}

/// All remarks on a script for machines of this firmware (`efi`, `pcbios`), by line.
pub fn lint(script: &str, platform: &str) -> Vec<Remark> {
    let lines = script::lines(script);
    let mut remarks = Vec::new();
    lines::check(script, &lines, &mut remarks);
    names::check(&lines, &mut remarks);
    flow::check(&lines, &mut remarks);
    images::check(&lines, platform, &mut remarks);
    remarks.sort_by(|a, b| {
        (a.line, a.columns.start, a.rule.id).cmp(&(b.line, b.columns.start, b.rule.id))
    });
    remarks
}

// === impl Remark ===

impl Remark {
    fn at(rule: &'static Rule, word: &Word, message: String) -> Self {
        Self {
            rule,
            line: word.line,
            columns: word.start..word.end,
            message,
            help: None,
        }
    }

    fn of_line(rule: &'static Rule, line: &Line, message: String) -> Self {
        let first = line.label.iter().chain(&line.words).next();
        let columns = first.map_or(1..2, |word| word.start..word.end);
        Self {
            rule,
            line: line.number,
            columns,
            message,
            help: None,
        }
    }

    fn help(self, help: impl Into<String>) -> Self {
        Self {
            help: Some(help.into()),
            ..self
        }
    }
}

#[cfg(test)]
mod tests;
