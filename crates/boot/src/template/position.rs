//! Follows the text of a config through a template, to know at each value whether the format reads
//! quotation marks there.
//!
//! A filter such as `toyaml` escapes a value for the place of a whole value. Inside of quotation
//! marks, of a longer scalar or of a here document, its quotation marks would be text, or end the
//! text.

mod json;
mod kickstart;
mod shell;
mod variables;
mod yaml;

use std::cell::Cell;
use std::rc::Rc;

use minijinja::machinery::ast::{Expr, Stmt, UnaryOpKind};

use crate::config_format::{ConfigFormat, Syntax};

use json::Json;
use kickstart::Kickstart;
use shell::Shell;
use variables::Variables;
use yaml::Yaml;

/// Of a text with more possible states than this, as its branches differ, none counts as known.
const MAX_STATES: usize = 16;
/// Inside of more loops, nothing counts as known: each multiplies the time to find the states.
const MAX_LOOPS: usize = 3;
/// Maximum number of rounds to find the states at the start of a loop.
const MAX_ROUNDS: usize = 3;
/// How many characters are read for each byte of the source, in all states and rounds. After that,
/// nothing counts as known.
const READS_PER_BYTE: usize = 32;
/// Maximum number of characters that are read in all.
const MAX_READS: usize = 8 * 1024 * 1024;
/// Stands for a value in the text.
const VALUE: char = '\u{1}';

/// The position in the text that a template writes, as far as it is known before it is rendered.
#[derive(Clone, Debug)]
pub(super) struct Position {
    states: Format,
    /// How many characters may still be read.
    budget: Rc<Cell<usize>>,
    variables: Rc<Variables>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Format {
    Yaml(States<Yaml>),
    Json(States<Json>),
    Shell(States<Shell>),
    Kickstart(States<Kickstart>),
    /// The format has no quotation marks, or the template uses no filter that quotes.
    Untracked,
}

/// What a format's lexer has read so far.
trait Lexer: Clone + Default + PartialEq {
    /// Reads one character of the text.
    fn read(&mut self, c: char);

    /// Returns whether a quoted value would be read as one value here.
    fn reads_quotes(&self) -> bool;
}

/// The states in which a lexer may be, one for each way through the branches of a template. Empty
/// if too many are possible.
#[derive(Clone, Debug, PartialEq, Eq)]
struct States<L>(Vec<L>);

// === impl Position ===

impl Position {
    /// Returns the position at the start of a template with this source.
    pub(super) fn start(syntax: Syntax, root: &Stmt<'_>, source: &str) -> Self {
        let states = match syntax {
            Syntax::Known(ConfigFormat::Yaml) => Format::Yaml(States::start()),
            Syntax::Known(ConfigFormat::Json) => Format::Json(States::start()),
            Syntax::Known(ConfigFormat::Kickstart) => Format::Kickstart(States::start()),
            // Most formats read quotation marks like a shell.
            Syntax::Known(ConfigFormat::Shell) | Syntax::Sections | Syntax::Unknown => {
                Format::Shell(States::start())
            }
            Syntax::Known(ConfigFormat::Text) | Syntax::Ipxe | Syntax::OtherLanguage => {
                Format::Untracked
            }
        };
        Self {
            states,
            budget: Rc::new(Cell::new((source.len() * READS_PER_BYTE).min(MAX_READS))),
            variables: Rc::new(Variables::of(root)),
        }
    }

    /// Returns a position that knows of no quotation marks.
    pub(super) fn untracked() -> Self {
        Self {
            states: Format::Untracked,
            budget: Rc::default(),
            variables: Rc::default(),
        }
    }

    /// Returns the position at the start of a text whose own position is not known yet.
    pub(super) fn start_again(&self) -> Self {
        let states = match self.states {
            Format::Yaml(_) => Format::Yaml(States::start()),
            Format::Json(_) => Format::Json(States::start()),
            Format::Shell(_) => Format::Shell(States::start()),
            Format::Kickstart(_) => Format::Kickstart(States::start()),
            Format::Untracked => Format::Untracked,
        };
        Self {
            states,
            ..self.clone()
        }
    }

    /// Counts nothing as known where the meaning of a text depends on how far the lines around it
    /// are indented, which is not known of a variable's text.
    pub(super) fn lose_indentation(&mut self) {
        if matches!(self.states, Format::Yaml(_)) {
            self.forget();
        }
    }

    /// Passes over text of the template.
    pub(super) fn push(&mut self, text: &str) {
        let states = match &self.states {
            Format::Yaml(states) => states.0.len(),
            Format::Json(states) => states.0.len(),
            Format::Shell(states) => states.0.len(),
            Format::Kickstart(states) => states.0.len(),
            Format::Untracked => return,
        };
        let left = self.budget.get().checked_sub(states * text.len());
        self.budget.set(left.unwrap_or(0));
        if left.is_none() {
            self.forget();
        }
        match &mut self.states {
            Format::Yaml(states) => states.push(text),
            Format::Json(states) => states.push(text),
            Format::Shell(states) => states.push(text),
            Format::Kickstart(states) => states.push(text),
            Format::Untracked => {}
        }
    }

    /// Passes over the value of an expression.
    pub(super) fn push_value(&mut self, expression: &Expr<'_>) {
        if self.states == Format::Untracked {
            return;
        }
        let variables = self.variables.clone();
        if let Some(text) = variables.text_of(expression) {
            self.push(text);
        } else if variables.may_hold_syntax(expression) {
            self.forget();
        } else {
            self.push(VALUE.encode_utf8(&mut [0; 4]));
        }
    }

    /// Returns whether a quoted value would be read as one value here, on every way through the
    /// template.
    pub(super) fn reads_quotes(&self) -> bool {
        match &self.states {
            Format::Yaml(states) => states.reads_quotes(),
            Format::Json(states) => states.reads_quotes(),
            Format::Shell(states) => states.reads_quotes(),
            Format::Kickstart(states) => states.reads_quotes(),
            Format::Untracked => true,
        }
    }

    /// Adds the states after another branch.
    pub(super) fn merge(&mut self, other: Self) {
        match (&mut self.states, other.states) {
            (Format::Yaml(states), Format::Yaml(other)) => states.merge(other),
            (Format::Json(states), Format::Json(other)) => states.merge(other),
            (Format::Shell(states), Format::Shell(other)) => states.merge(other),
            (Format::Kickstart(states), Format::Kickstart(other)) => states.merge(other),
            _ => {}
        }
    }

    /// Returns the position at the start of each round of a loop that is inside of `loops` others.
    pub(super) fn in_loop(&self, body: &[Stmt<'_>], loops: usize) -> Self {
        let mut position = self.clone();
        if self.states == Format::Untracked {
            return position;
        }
        let rounds = if loops < MAX_LOOPS { MAX_ROUNDS } else { 0 };
        for _ in 0..rounds {
            let before = position.states.clone();
            let mut after = position.clone();
            after.push_all(body, loops + 1, true);
            position.merge(after);
            if position.states == before {
                return position;
            }
        }
        position.forget();
        position
    }

    /// Passes over the text of statements that are inside of `loops` loops. `goes_on` says that
    /// this round of the innermost loop is not the last one.
    fn push_all(&mut self, statements: &[Stmt<'_>], loops: usize, goes_on: bool) {
        for statement in statements {
            match statement {
                Stmt::Template(template) => self.push_all(&template.children, loops, goes_on),
                Stmt::EmitRaw(raw) => self.push(raw.raw),
                Stmt::EmitExpr(emit) => self.push_value(&emit.expr),
                Stmt::ForLoop(each) => {
                    let mut none = self.clone();
                    none.push_all(&each.else_body, loops, goes_on);
                    *self = self.in_loop(&each.body, loops);
                    self.push_all(&each.body, loops + 1, false);
                    self.merge(none);
                }
                Stmt::IfCond(branch) => match is_last_round(&branch.expr) {
                    Some(true) if goes_on => self.push_all(&branch.false_body, loops, goes_on),
                    Some(false) if goes_on => self.push_all(&branch.true_body, loops, goes_on),
                    _ => {
                        let mut no = self.clone();
                        no.push_all(&branch.false_body, loops, goes_on);
                        self.push_all(&branch.true_body, loops, goes_on);
                        self.merge(no);
                    }
                },
                Stmt::WithBlock(with) => self.push_all(&with.body, loops, goes_on),
                // The others write nothing here. After `break` and `continue`, the rest of the body
                // counts as written as well: to forget is all that they could add.
                Stmt::Continue(_) | Stmt::Break(_) => self.forget(),
                _ => {}
            }
        }
    }

    /// Counts nothing as known from here on.
    pub(super) fn forget(&mut self) {
        match &mut self.states {
            Format::Yaml(states) => states.0.clear(),
            Format::Json(states) => states.0.clear(),
            Format::Shell(states) => states.0.clear(),
            Format::Kickstart(states) => states.0.clear(),
            Format::Untracked => {}
        }
    }
}

/// Returns whether a condition holds in the last round of a loop only, or in all others only.
fn is_last_round(condition: &Expr<'_>) -> Option<bool> {
    match condition {
        Expr::GetAttr(get) => match &get.expr {
            Expr::Var(variable) if variable.id == "loop" && get.name == "last" => Some(true),
            _ => None,
        },
        Expr::UnaryOp(operation) if matches!(operation.op, UnaryOpKind::Not) => {
            is_last_round(&operation.expr).map(|is_last| !is_last)
        }
        _ => None,
    }
}

// === impl States ===

impl<L: Lexer> States<L> {
    fn start() -> Self {
        Self(vec![L::default()])
    }

    fn push(&mut self, text: &str) {
        for state in &mut self.0 {
            text.chars().for_each(|c| state.read(c));
        }
        self.remove_duplicates();
    }

    fn reads_quotes(&self) -> bool {
        !self.0.is_empty() && self.0.iter().all(L::reads_quotes)
    }

    fn merge(&mut self, mut other: Self) {
        if self.0.is_empty() || other.0.is_empty() {
            self.0.clear();
            return;
        }
        self.0.append(&mut other.0);
        self.remove_duplicates();
    }

    fn remove_duplicates(&mut self) {
        let mut at = 1;
        while at < self.0.len() {
            if self.0[..at].contains(&self.0[at]) {
                self.0.swap_remove(at);
            } else {
                at += 1;
            }
        }
        if self.0.len() > MAX_STATES {
            self.0.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use minijinja::machinery::parse;

    use super::super::syntax;
    use super::*;

    /// Returns the position after a template.
    fn after(source: &str, format: ConfigFormat) -> Position {
        let root = parse(source, "template", syntax()).expect("it is a template");
        let mut position = Position::start(Syntax::Known(format), &root, &source.repeat(10));
        position.push_all(std::slice::from_ref(&root), 0, false);
        position
    }

    /// Returns the body of the loop at the end of a template.
    fn last_loop<'a>(root: &'a Stmt<'a>) -> &'a [Stmt<'a>] {
        match root {
            Stmt::Template(template) => match template.children.last() {
                Some(Stmt::ForLoop(each)) => &each.body,
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_quoted_value_must_be_read_on_every_way_through_the_branches() {
        for (source, reads) in [
            ("{% if a %}x: {% else %}y: {% endif %}", true),
            ("{% if a %}x: {% else %}y: z{% endif %}", false),
            ("{% if a %}x: |\n{% endif %}  ", false),
            ("{% if a %}x: |\n  y\n{% endif %}z: ", true),
            ("{% for a in b %}\n- {{ a }}\n{% endfor %}- ", true),
            ("x: [{% for a in b %}{{ a }}, {% endfor %}", true),
            ("{{ \"'\" }}a: ", false),
            ("{% set q = \"'\" %}{{ q }}a: ", false),
            ("{% set q %}x: '{% endset %}{{ q }}a: ", false),
            ("{% set q %}x: '{% endset %}a: {{ q | toyaml }}\nb: ", true),
            ("{% set q = 'a' %}{{ q }}: ", true),
        ] {
            let position = after(source, ConfigFormat::Yaml);
            assert_eq!(position.reads_quotes(), reads, "{source}");
        }
    }

    #[test]
    fn the_text_of_a_variable_is_read_where_it_is_written() {
        for (source, reads) in [
            ("{% set a = '$' %}{{ a }}", false),
            ("{% set a = 'cat <<EOF' %}{{ a }}\n", false),
            ("{% set a = 'cat <<EOF' %}{{ a }}\nEOF\n", true),
            ("{% set a = \"\\n\" %}# it's{{ a }}echo ", true),
            ("{% set a = \"\\n\" %}{{ [1, a] | join }}echo ", false),
            ("{% if b %}{% set a = '\"' %}{% endif %}{{ a }}", false),
            ("{% set a = '\"' %}{{ a }}{% set a = 'b' %} ", false),
            (
                "{% set a = 'web-1 http://a:8080/b?c=d' | d %}{{ a }} ",
                false,
            ),
            (
                "{% set a = ['web-1', 'http://a:8080/b'] %}{{ a[0] }} ",
                true,
            ),
        ] {
            let position = after(source, ConfigFormat::Shell);
            assert_eq!(position.reads_quotes(), reads, "{source}");
        }
    }

    #[test]
    fn the_start_of_a_loop_has_the_states_of_all_rounds() {
        let source = "echo {% for a in b %}{{ a }} \"{% endfor %}";
        let root = parse(source, "template", syntax()).expect("it is a template");
        let body = last_loop(&root);
        let before = after("echo ", ConfigFormat::Shell);
        assert!(before.reads_quotes());
        assert!(!before.in_loop(body, 0).reads_quotes());
    }

    #[test]
    fn a_separator_is_written_after_each_round_but_the_last() {
        for (separator, reads) in [
            ("{% if not loop.last %}, {% endif %}", true),
            ("{% if loop.last %}{% else %}, {% endif %}", true),
            ("{% if a %}, {% endif %}", false),
        ] {
            let source = format!("x: [{{% for a in b %}}{{{{ a }}}}{separator}{{% endfor %}}");
            let root = parse(&source, "template", syntax()).expect("it is a template");
            let body = last_loop(&root);
            let start = after("x: [", ConfigFormat::Yaml).in_loop(body, 0);
            assert_eq!(start.reads_quotes(), reads, "{separator}");
        }
    }

    #[test]
    fn too_many_states_are_unknown_for_good() {
        let source: String = (0..20)
            .map(|at| format!("{{% if a %}}cat <<E{at}\n{{% endif %}}"))
            .collect();
        assert!(!after(&source, ConfigFormat::Shell).reads_quotes());
    }
}
