//! Finds what the variables of a template hold: a known text, or something that the format may read
//! as more than text, such as a quotation mark.

use std::collections::{BTreeMap, BTreeSet};

use minijinja::machinery::ast::{CallArg, Expr, Stmt};

use super::super::flow::value_of;
use super::super::quoting::Quoting;
use super::VALUE;

/// Maximum number of walks to find variables that are set from others.
const MAX_WALKS: usize = 8;

/// The variables that a template sets. The values of labels hold no syntax where they are not
/// quoted.
#[derive(Debug, Default)]
pub(super) struct Variables {
    /// Those that may hold syntax of the template's author.
    holders: BTreeSet<String>,
    /// The texts of those that are set once, before all branches and loops.
    texts: BTreeMap<String, String>,
    /// How often each is set.
    settings: BTreeMap<String, usize>,
}

// === impl Variables ===

impl Variables {
    pub(super) fn of(root: &Stmt<'_>) -> Self {
        let mut variables = Self::default();
        for _ in 0..MAX_WALKS {
            let before = variables.holders.len();
            variables.settings.clear();
            variables.statement(root);
            if variables.holders.len() == before {
                break;
            }
        }
        if let Stmt::Template(template) = root {
            for statement in &template.children {
                variables.read_text(statement);
            }
        }
        variables
    }

    /// Returns the text that an expression writes, with [`VALUE`] for values in it, if it is known.
    pub(super) fn text_of<'a>(&'a self, expression: &'a Expr<'_>) -> Option<&'a str> {
        match expression {
            Expr::Const(constant) => constant.value.as_str(),
            Expr::Var(variable) => self.texts.get(variable.id).map(String::as_str),
            _ => None,
        }
    }

    /// Records the text of the variable that a statement sets.
    fn read_text(&mut self, statement: &Stmt<'_>) {
        let (target, text) = match statement {
            Stmt::Set(set) => (&set.target, self.text_of(&set.expr).map(str::to_owned)),
            Stmt::SetBlock(set) if set.filter.is_none() => {
                let texts = set.body.iter().map(|it| self.written_text(it));
                (&set.target, texts.collect())
            }
            _ => return,
        };
        if let (Expr::Var(variable), Some(text)) = (target, text)
            && self.settings.get(variable.id) == Some(&1)
        {
            self.texts.insert(variable.id.to_owned(), text);
        }
    }

    fn written_text<'a>(&'a self, statement: &'a Stmt<'_>) -> Option<&'a str> {
        const ANY: &str = "\u{1}";
        const { assert!(ANY.len() == VALUE.len_utf8() && ANY.as_bytes()[0] == VALUE as u8) };
        match statement {
            Stmt::EmitRaw(raw) => Some(raw.raw),
            Stmt::EmitExpr(emit) => self
                .text_of(&emit.expr)
                .or_else(|| (!self.may_hold_syntax(&emit.expr)).then_some(ANY)),
            _ => None,
        }
    }

    /// Returns whether the value of an expression may hold syntax of the author.
    pub(super) fn may_hold_syntax(&self, expression: &Expr<'_>) -> bool {
        let any = |all: &[Expr<'_>]| all.iter().any(|it| self.may_hold_syntax(it));
        let in_arguments =
            |all: &[CallArg<'_>]| all.iter().any(|it| self.may_hold_syntax(value_of(it)));
        match expression {
            Expr::Const(constant) => constant.value.as_str().is_some_and(|text| !is_word(text)),
            Expr::Var(variable) => self.holders.contains(variable.id),
            Expr::Filter(filter) => {
                let is_plain = Quoting::of_filter(filter.name).is_some()
                    || matches!(filter.name, "b64encode" | "urlencode" | "int" | "length");
                let input = filter.expr.as_ref();
                !is_plain
                    && (input.is_some_and(|it| self.may_hold_syntax(it))
                        || in_arguments(&filter.args))
            }
            Expr::BinOp(operation) => {
                self.may_hold_syntax(&operation.left) || self.may_hold_syntax(&operation.right)
            }
            Expr::IfExpr(choice) => {
                self.may_hold_syntax(&choice.true_expr)
                    || choice
                        .false_expr
                        .as_ref()
                        .is_some_and(|it| self.may_hold_syntax(it))
            }
            Expr::List(list) => any(&list.items),
            Expr::Tuple(tuple) => any(&tuple.items),
            Expr::Map(map) => any(&map.keys) || any(&map.values),
            Expr::Slice(slice) => self.may_hold_syntax(&slice.expr),
            Expr::GetItem(get) => self.may_hold_syntax(&get.expr),
            Expr::GetAttr(get) => self.may_hold_syntax(&get.expr),
            Expr::Call(call) => in_arguments(&call.args),
            _ => false,
        }
    }

    fn statement(&mut self, statement: &Stmt<'_>) {
        match statement {
            Stmt::Template(template) => self.statements(&template.children),
            Stmt::ForLoop(each) => {
                self.set(&each.target, self.may_hold_syntax(&each.iter));
                self.statements(&each.body);
                self.statements(&each.else_body);
            }
            Stmt::IfCond(branch) => {
                self.statements(&branch.true_body);
                self.statements(&branch.false_body);
            }
            Stmt::WithBlock(with) => {
                for (target, value) in &with.assignments {
                    self.set(target, self.may_hold_syntax(value));
                }
                self.statements(&with.body);
            }
            Stmt::Set(set) => self.set(&set.target, self.may_hold_syntax(&set.expr)),
            Stmt::SetBlock(set) => {
                let is_quoted = matches!(&set.filter, Some(Expr::Filter(last)) if Quoting::of_filter(last.name).is_some());
                let writes_syntax = set.body.iter().any(|it| self.writes_syntax(it));
                self.set(&set.target, !is_quoted && writes_syntax);
                self.statements(&set.body);
            }
            _ => {}
        }
    }

    fn statements(&mut self, statements: &[Stmt<'_>]) {
        for statement in statements {
            self.statement(statement);
        }
    }

    /// Returns whether a statement may write syntax of the author.
    fn writes_syntax(&self, statement: &Stmt<'_>) -> bool {
        let any = |all: &[Stmt<'_>]| all.iter().any(|it| self.writes_syntax(it));
        match statement {
            Stmt::EmitRaw(raw) => !is_word(raw.raw),
            Stmt::EmitExpr(emit) => self.may_hold_syntax(&emit.expr),
            Stmt::ForLoop(each) => any(&each.body) || any(&each.else_body),
            Stmt::IfCond(branch) => any(&branch.true_body) || any(&branch.false_body),
            Stmt::WithBlock(with) => any(&with.body),
            _ => false,
        }
    }

    /// Records the variables that a statement sets.
    fn set(&mut self, target: &Expr<'_>, may_hold_syntax: bool) {
        match target {
            Expr::Var(variable) => {
                *self.settings.entry(variable.id.to_owned()).or_default() += 1;
                if may_hold_syntax {
                    self.holders.insert(variable.id.to_owned());
                }
            }
            Expr::List(list) => list
                .items
                .iter()
                .for_each(|item| self.set(item, may_hold_syntax)),
            Expr::Tuple(tuple) => tuple
                .items
                .iter()
                .for_each(|item| self.set(item, may_hold_syntax)),
            _ => {}
        }
    }
}

/// Returns whether a text is read as text by every format, in the middle of other text too: words
/// with single spaces, and with punctuation inside of words.
fn is_word(text: &str) -> bool {
    let is_inside = |c: char| c.is_alphanumeric() || "._/@+=-~%:,".contains(c);
    let is_end = |c: char| c.is_alphanumeric() || "._/@+=-".contains(c);
    text.split(' ').all(|word| {
        word.starts_with(|c: char| c.is_alphanumeric() || "/_".contains(c))
            && word.ends_with(is_end)
            && word.chars().all(is_inside)
    })
}
