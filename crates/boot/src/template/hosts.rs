//! Finds URLs whose host a machine may choose, because the template writes one of its labels there.

use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;

use minijinja::machinery::ast::{CallArg, Expr, Stmt};

use super::LabelUse;

/// Labels that can't name a host: a UUID and a MAC address.
const HARMLESS: [&str; 2] = ["uuid", "mac"];

/// What ends a word, apart from white space.
const SEPARATORS: &str = "\"'`<>[](),";
/// What comes before a host.
const BEFORE_HOST: &[u8] = b"://";

/// Walks a template with the word that is being written.
struct Walker {
    is_script: bool,
    word: Word,
    /// A label that could be the start of a URL: the word so far is this label.
    start: Option<LabelUse>,
    /// A label that each variable is made of, if there is one.
    variables: BTreeMap<String, Rc<str>>,
    found: Vec<LabelUse>,
    /// The labels in `found`.
    reported: HashSet<Option<String>>,
}

/// What matters of the text since the last white space, quotation mark or bracket.
#[derive(Clone, Copy, Default)]
struct Word {
    /// The last character that is not part of a value.
    last: Option<char>,
    /// How much of `://` is written.
    before_host: usize,
    is_in_host: bool,
}

/// Returns the labels that are in the host of a URL, each once. In a script, a URL may also begin
/// with a label, as in `{{ subject.assets }}/vmlinuz`.
pub(super) fn of(root: &Stmt<'_>, is_script: bool) -> Vec<LabelUse> {
    let mut walker = Walker {
        is_script,
        word: Word::default(),
        start: None,
        variables: BTreeMap::new(),
        found: Vec::new(),
        reported: HashSet::new(),
    };
    walker.statement(root);
    walker.found
}

// === impl Walker ===

impl Walker {
    fn statement(&mut self, statement: &Stmt<'_>) {
        match statement {
            Stmt::Template(template) => self.statements(&template.children),
            Stmt::EmitRaw(raw) => self.text(raw.raw),
            Stmt::EmitExpr(emit) => {
                let mut label = None;
                self.label(&emit.expr, &mut label);
                self.value(label.as_ref(), usize::from(emit.expr.span().start_line));
            }
            Stmt::ForLoop(each) => {
                let mut label = None;
                self.label(&each.iter, &mut label);
                self.bind(&each.target, label.as_ref());
                self.statements(&each.body);
                self.statements(&each.else_body);
            }
            Stmt::IfCond(branch) => {
                let before = (self.word, self.start.clone());
                self.statements(&branch.false_body);
                (self.word, self.start) = before;
                self.statements(&branch.true_body);
            }
            Stmt::WithBlock(with) => {
                for (target, value) in &with.assignments {
                    let mut label = None;
                    self.label(value, &mut label);
                    self.bind(target, label.as_ref());
                }
                self.statements(&with.body);
            }
            Stmt::Set(set) => {
                let mut label = None;
                self.label(&set.expr, &mut label);
                self.bind(&set.target, label.as_ref());
            }
            Stmt::SetBlock(set) => {
                let before = (std::mem::take(&mut self.word), self.start.take());
                let mut label = None;
                self.block(&set.body, &mut label);
                self.bind(&set.target, label.as_ref());
                (self.word, self.start) = before;
            }
            _ => {}
        }
    }

    /// Walks the text that a variable is set to, and finds a label that it begins with, which may be
    /// in the host of a URL where the variable is written.
    fn block(&mut self, statements: &[Stmt<'_>], label: &mut Option<Rc<str>>) {
        for statement in statements {
            if let Stmt::EmitExpr(emit) = statement
                && self.word.last.is_none()
            {
                self.label(&emit.expr, label);
            }
            self.statement(statement);
        }
    }

    fn statements(&mut self, statements: &[Stmt<'_>]) {
        for statement in statements {
            self.statement(statement);
        }
    }

    fn text(&mut self, text: &str) {
        if text.starts_with('/') {
            self.found_start();
        }
        self.start = None;
        for c in text.chars() {
            self.word.push(c);
        }
    }

    fn value(&mut self, label: Option<&Rc<str>>, line: usize) {
        if let Some(label) = label {
            let used = LabelUse {
                label: Some(label.to_string()),
                line,
            };
            if self.word.is_in_host {
                self.add(used);
            } else if self.is_script && self.word.last.is_none_or(|c| c == '=') {
                self.start.get_or_insert(used);
            }
        }
        self.word.before_host = 0;
    }

    fn found_start(&mut self) {
        if let Some(used) = self.start.take() {
            self.add(used);
        }
    }

    fn add(&mut self, used: LabelUse) {
        if self.reported.insert(used.label.clone()) {
            self.found.push(used);
        }
    }

    fn bind(&mut self, target: &Expr<'_>, label: Option<&Rc<str>>) {
        let Some(label) = label else {
            return;
        };
        match target {
            Expr::Var(variable) if !self.variables.contains_key(variable.id) => {
                let name = variable.id.to_owned();
                self.variables.insert(name, label.clone());
            }
            Expr::List(list) => list.items.iter().for_each(|it| self.bind(it, Some(label))),
            Expr::Tuple(tuple) => tuple.items.iter().for_each(|it| self.bind(it, Some(label))),
            _ => {}
        }
    }

    /// Finds a label that the value of an expression is made of, apart from its conditions, unless
    /// one is known already.
    fn label(&self, expression: &Expr<'_>, label: &mut Option<Rc<str>>) {
        if label.is_some() {
            return;
        }
        let mut all = |all: &[Expr<'_>]| all.iter().for_each(|it| self.label(it, label));
        match expression {
            Expr::Var(variable) => *label = self.variables.get(variable.id).cloned(),
            Expr::GetAttr(get) => self.item(&get.expr, Some(get.name), label),
            Expr::GetItem(get) => {
                let name = get.subscript_expr.as_const();
                let name = name.as_ref().and_then(|name| name.as_str());
                self.item(&get.expr, name, label);
            }
            Expr::Slice(slice) => self.label(&slice.expr, label),
            Expr::BinOp(operation) => {
                self.label(&operation.left, label);
                self.label(&operation.right, label);
            }
            Expr::IfExpr(choice) => {
                self.label(&choice.true_expr, label);
                if let Some(other) = &choice.false_expr {
                    self.label(other, label);
                }
            }
            Expr::Filter(filter) => {
                if let Some(input) = &filter.expr {
                    self.label(input, label);
                }
                for argument in &filter.args {
                    if let CallArg::Pos(value) | CallArg::Kwarg(_, value) = argument {
                        self.label(value, label);
                    }
                }
            }
            Expr::List(list) => all(&list.items),
            Expr::Tuple(tuple) => all(&tuple.items),
            // Conditions are not part of the value, and the others have no labels.
            _ => {}
        }
    }

    fn item(&self, of: &Expr<'_>, name: Option<&str>, label: &mut Option<Rc<str>>) {
        match of {
            Expr::Var(variable) if matches!(variable.id, "subject" | "encoded") => {
                let name = name.filter(|name| !HARMLESS.contains(name));
                *label = name.map(Rc::from);
            }
            other => self.label(other, label),
        }
    }
}

// === impl Word ===

impl Word {
    fn push(&mut self, c: char) {
        if c.is_whitespace() || SEPARATORS.contains(c) {
            *self = Self::default();
            return;
        }
        self.is_in_host &= !matches!(c, '/' | '?' | '#');
        self.before_host = match BEFORE_HOST.get(self.before_host) {
            Some(next) if char::from(*next) == c => self.before_host + 1,
            _ => usize::from(c == ':'),
        };
        self.is_in_host |= self.before_host == BEFORE_HOST.len();
        self.last = Some(c);
    }
}

#[cfg(test)]
mod tests {
    use minijinja::machinery::parse;

    use super::super::syntax;
    use super::*;

    fn hosts(source: &str, is_script: bool) -> Vec<String> {
        let root = parse(source, "template", syntax()).expect("it is a template");
        let found = of(&root, is_script).into_iter();
        found.map(|used| used.label.unwrap_or_default()).collect()
    }

    #[test]
    fn a_label_in_the_host_of_a_url_is_found() {
        for source in [
            "kernel http://{{ subject.x }}/vmlinuz",
            "kernel http://{{ encoded.x }}.lab.example/vmlinuz",
            "kernel http://user@{{ subject.x | default('files') }}:80/vmlinuz",
            "{% set h = subject.x %}chain http://{{ h }}",
            "{\"source\": \"https://{{ subject['x'] }}/a\"}",
            "chain http://{% if subject.y %}{{ subject.x }}{% else %}files{% endif %}/a",
            "chain http://a{{ 'b' if subject.y else subject.x }}/",
        ] {
            assert_eq!(hosts(source, false), ["x"], "{source}");
        }
        for source in [
            "kernel {{ subject.x }}/vmlinuz",
            "kernel {{ subject.x }}{{ subject.y }}/vmlinuz",
            "{% set u %}{{ subject.x }}:80{% endset %}kernel {{ u }}/vmlinuz",
        ] {
            assert_eq!(hosts(source, true), ["x"], "{source}");
        }
        let set = "{% set h %}{{ subject.x }}.lab{% endset %}chain http://{{ h }}/";
        assert_eq!(hosts(set, false), ["x"]);
        assert_eq!(hosts("kernel k url={{ subject.x }}/vmlinuz", true), ["x"]);
    }

    #[test]
    fn a_label_in_another_place_is_not_found() {
        for source in [
            "kernel http://files/{{ subject.x }}/vmlinuz",
            "kernel {{ extrinsic.x }}/{{ subject.x }}/vmlinuz",
            "kernel http://{{ extrinsic.x }}/vmlinuz",
            "kernel http://{{ subject.mac }}.lab/vmlinuz http://{{ subject.uuid }}.lab/",
            "kernel http://files?a={{ subject.x }}",
            "echo {{ subject.x }} at http://files/",
            "chain {% if subject.x %}http://a/{% else %}http://b/{% endif %}",
            "set dir /{{ subject.x }}/a",
            "{% set d %}/{{ subject.x }}{% endset %}chain http://files{{ d }}",
        ] {
            for is_script in [true, false] {
                assert_eq!(hosts(source, is_script), [""; 0], "{source}");
            }
        }
    }
}
