//! Finds URLs whose host a machine may choose, because the template writes one of its labels there.

use std::collections::{BTreeMap, BTreeSet};

use minijinja::machinery::ast::{CallArg, Expr, Stmt};

use super::LabelUse;

/// Labels that can't name a host: a UUID and a MAC address.
const HARMLESS: [&str; 2] = ["uuid", "mac"];

/// Stands for the value of an expression in a word.
const VALUE: char = '\u{1}';

/// Walks a template with the word that is being written.
struct Walker {
    is_script: bool,
    /// The text since the last white space, quotation mark or bracket.
    word: String,
    /// A label that could be the start of a URL: the word so far is this label.
    start: Option<LabelUse>,
    /// The labels that each variable is made of.
    variables: BTreeMap<String, BTreeSet<String>>,
    found: Vec<LabelUse>,
}

/// Returns the labels that are in the host of a URL, each once. In a script, a URL may also begin
/// with a label, as in `{{ subject.assets }}/vmlinuz`.
pub(super) fn of(root: &Stmt<'_>, is_script: bool) -> Vec<LabelUse> {
    let mut walker = Walker {
        is_script,
        word: String::new(),
        start: None,
        variables: BTreeMap::new(),
        found: Vec::new(),
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
                let mut labels = BTreeSet::new();
                self.labels(&emit.expr, &mut labels);
                self.value(&labels, usize::from(emit.expr.span().start_line));
            }
            Stmt::ForLoop(each) => {
                let mut labels = BTreeSet::new();
                self.labels(&each.iter, &mut labels);
                self.bind(&each.target, &labels);
                self.statements(&each.body);
                self.statements(&each.else_body);
            }
            Stmt::IfCond(branch) => {
                let before = (self.word.clone(), self.start.clone());
                self.statements(&branch.false_body);
                (self.word, self.start) = before;
                self.statements(&branch.true_body);
            }
            Stmt::WithBlock(with) => {
                for (target, value) in &with.assignments {
                    let mut labels = BTreeSet::new();
                    self.labels(value, &mut labels);
                    self.bind(target, &labels);
                }
                self.statements(&with.body);
            }
            Stmt::Set(set) => {
                let mut labels = BTreeSet::new();
                self.labels(&set.expr, &mut labels);
                self.bind(&set.target, &labels);
            }
            Stmt::SetBlock(set) => {
                let before = (std::mem::take(&mut self.word), self.start.take());
                let mut labels = BTreeSet::new();
                self.block(&set.body, &mut labels);
                self.bind(&set.target, &labels);
                (self.word, self.start) = before;
            }
            _ => {}
        }
    }

    /// Walks the text that a variable is set to, and adds the labels that it begins with, which may
    /// be in the host of a URL where the variable is written.
    fn block(&mut self, statements: &[Stmt<'_>], labels: &mut BTreeSet<String>) {
        for statement in statements {
            if let Stmt::EmitExpr(emit) = statement
                && self.word.chars().all(|c| c == VALUE)
            {
                self.labels(&emit.expr, labels);
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
        let is_separator = |c: char| c.is_whitespace() || "\"'`<>[](),".contains(c);
        if let Some(at) = text.rfind(is_separator) {
            self.word.clear();
            self.word
                .push_str(text[at..].trim_start_matches(is_separator));
        } else {
            self.word.push_str(text);
        }
    }

    fn value(&mut self, labels: &BTreeSet<String>, line: usize) {
        let used = labels.first().map(|label| LabelUse {
            label: Some(label.clone()),
            line,
        });
        if let Some(used) = used {
            let host = self.word.rsplit_once("://").map(|(_, host)| host);
            if host.is_some_and(|host| !host.contains(['/', '?', '#'])) {
                self.add(used);
            } else {
                let before = self.word.trim_end_matches(VALUE);
                if self.is_script && (before.is_empty() || before.ends_with('=')) {
                    self.start.get_or_insert(used);
                }
            }
        }
        self.word.push(VALUE);
    }

    fn found_start(&mut self) {
        if let Some(used) = self.start.take() {
            self.add(used);
        }
    }

    fn add(&mut self, used: LabelUse) {
        if !self.found.iter().any(|known| known.label == used.label) {
            self.found.push(used);
        }
    }

    fn bind(&mut self, target: &Expr<'_>, labels: &BTreeSet<String>) {
        match target {
            Expr::Var(variable) => {
                let known = self.variables.entry(variable.id.to_owned()).or_default();
                known.extend(labels.iter().cloned());
            }
            Expr::List(targets) => targets.items.iter().for_each(|it| self.bind(it, labels)),
            Expr::Tuple(targets) => targets.items.iter().for_each(|it| self.bind(it, labels)),
            _ => {}
        }
    }

    /// Adds the labels that the value of an expression is made of, apart from its conditions.
    fn labels(&self, expression: &Expr<'_>, labels: &mut BTreeSet<String>) {
        match expression {
            Expr::Var(variable) => {
                labels.extend(
                    self.variables
                        .get(variable.id)
                        .into_iter()
                        .flatten()
                        .cloned(),
                );
            }
            Expr::GetAttr(get) => self.item(&get.expr, Some(get.name), labels),
            Expr::GetItem(get) => {
                let name = get.subscript_expr.as_const();
                self.item(
                    &get.expr,
                    name.as_ref().and_then(|name| name.as_str()),
                    labels,
                );
            }
            Expr::Slice(slice) => self.labels(&slice.expr, labels),
            Expr::BinOp(operation) => {
                self.labels(&operation.left, labels);
                self.labels(&operation.right, labels);
            }
            Expr::IfExpr(choice) => {
                self.labels(&choice.true_expr, labels);
                if let Some(other) = &choice.false_expr {
                    self.labels(other, labels);
                }
            }
            Expr::Filter(filter) => {
                if let Some(input) = &filter.expr {
                    self.labels(input, labels);
                }
                for argument in &filter.args {
                    if let CallArg::Pos(value) | CallArg::Kwarg(_, value) = argument {
                        self.labels(value, labels);
                    }
                }
            }
            Expr::List(list) => list.items.iter().for_each(|it| self.labels(it, labels)),
            Expr::Tuple(tuple) => tuple.items.iter().for_each(|it| self.labels(it, labels)),
            // Conditions are not part of the value, and the others have no labels.
            _ => {}
        }
    }

    fn item(&self, of: &Expr<'_>, name: Option<&str>, labels: &mut BTreeSet<String>) {
        match of {
            Expr::Var(variable) if matches!(variable.id, "subject" | "encoded") => {
                let name = name.filter(|name| !HARMLESS.contains(name));
                labels.extend(name.map(str::to_owned));
            }
            other => self.labels(other, labels),
        }
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
