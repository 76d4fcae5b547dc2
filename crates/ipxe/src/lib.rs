//! The iPXE script language: a parser, and a linter that finds what a script does in iPXE that its
//! author did not intend.
//!
//! [`lint`] reads a rendered script, not a template, the way iPXE does: lines, words, commands
//! (`src/image/script.c`, `src/core/exec.c`). Each [`Remark`] names one of the [`rule`]s;
//! `docs/reference/linter.md` has their reasons and sources. A rule that is not certain reports
//! nothing: a word that contains `${` may expand to anything.
//!
//! ```
//! let script = "#!ipxe\nkernel http://192.0.2.1/vmlinuz|| goto failed\nboot\n";
//! let remarks = ipxe::lint(script, "efi");
//! assert_eq!(remarks[0].rule.id, "ipxe-glued-operator");
//! assert_eq!(remarks[0].line, 2);
//! ```

mod arguments;
mod flow;
mod images;
mod lines;
mod names;
pub mod rule;
mod script;

use std::ops::Range;

use crate::rule::Rule;

use script::{Line, Word};

/// Maximum number of remarks per pass over a script: readers need no more, and it bounds the time
/// for a script that consists of mistakes.
const MOST: usize = 100;
/// Maximum number of names searched for the one that was meant.
const MOST_NAMES: usize = 1000;

/// A place in a script that iPXE does not interpret as its author intended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// The broken rule.
    pub rule: &'static Rule,
    /// The line of the script, counted from 1.
    pub line: usize,
    /// The columns of that line, counted from 1.
    pub columns: Range<usize>,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub help: Option<String>,
}

/// Returns all remarks on a script for machines with this firmware (`efi`, `pcbios`), sorted by
/// line.
pub fn lint(script: &str, platform: &str) -> Vec<Remark> {
    let lines = script::lines(script);
    let mut remarks = Vec::new();
    lines::check(script, &lines, &mut remarks);
    names::check(&lines, &mut remarks);
    flow::check(&lines, &mut remarks);
    images::check(&lines, platform, &mut remarks);
    arguments::check(&lines, &mut remarks);
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
