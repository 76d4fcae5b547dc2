//! Finds the variables that a template reads.

use minijinja::machinery::Span;
use minijinja::machinery::ast::{BinOpKind, CallArg, Expr, Stmt, UnaryOpKind};

/// A use of a variable, as in `{{ vars.net.ip }}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VariableUse {
    /// The names after `vars`: `net`, `ip`. Never empty.
    pub path: Vec<String>,
    /// The line of the template, counted from 1.
    pub line: usize,
    /// Whether every render fails without the variable. False where the template asks whether it is
    /// there, gives a default, or reads it only under a condition.
    pub required: bool,
}

/// The variables that a template reads.
#[derive(Default)]
pub(super) struct VariableUses {
    /// Each once.
    pub(super) uses: Vec<VariableUse>,
    /// Whether it may read others.
    pub(super) any: bool,
}

/// Returns the variables that a template reads.
pub(super) fn of(root: &Stmt<'_>) -> VariableUses {
    let mut found = VariableUses::default();
    found.statement(root, true);
    found
}

impl VariableUse {
    /// Returns the name of the variable.
    pub fn name(&self) -> &str {
        self.path.first().map_or("", String::as_str)
    }
}

/// Walks a template. `required` is whether every render reaches that part.
impl VariableUses {
    fn statements(&mut self, statements: &[Stmt<'_>], required: bool) {
        for statement in statements {
            self.statement(statement, required);
        }
    }

    fn statement(&mut self, statement: &Stmt<'_>, required: bool) {
        match statement {
            Stmt::Template(template) => self.statements(&template.children, required),
            Stmt::EmitExpr(emit) => self.expression(&emit.expr, required),
            Stmt::ForLoop(each) => {
                self.expression(&each.iter, required);
                if let Some(condition) = &each.filter_expr {
                    self.condition(condition, false);
                }
                self.statements(&each.body, false);
                self.statements(&each.else_body, false);
            }
            Stmt::IfCond(branch) => {
                self.condition(&branch.expr, required);
                self.statements(&branch.true_body, false);
                self.statements(&branch.false_body, false);
            }
            Stmt::WithBlock(with) => {
                for (_, value) in &with.assignments {
                    self.optional(value, required);
                }
                self.statements(&with.body, required);
            }
            // An absent value can be set; the error comes where it is used.
            Stmt::Set(set) => self.optional(&set.expr, required),
            Stmt::SetBlock(set) => self.statements(&set.body, required),
            // The check rejects all others.
            _ => {}
        }
    }

    fn expression(&mut self, expression: &Expr<'_>, required: bool) {
        if let Some((path, span)) = path(expression) {
            self.record(path, span, required);
            if let Expr::GetItem(get) = expression {
                self.expression(&get.subscript_expr, required);
            }
            return;
        }
        match expression {
            Expr::Var(variable) => self.any |= variable.id == "vars",
            Expr::Const(_) => {}
            Expr::GetAttr(get) => self.expression(&get.expr, required),
            Expr::GetItem(get) => {
                self.expression(&get.expr, required);
                self.expression(&get.subscript_expr, required);
            }
            Expr::Slice(slice) => {
                self.expression(&slice.expr, required);
                for bound in [&slice.start, &slice.stop, &slice.step]
                    .into_iter()
                    .flatten()
                {
                    self.expression(bound, required);
                }
            }
            Expr::UnaryOp(operation) if matches!(operation.op, UnaryOpKind::Not) => {
                self.condition(&operation.expr, required);
            }
            Expr::UnaryOp(operation) => self.expression(&operation.expr, required),
            Expr::BinOp(operation) => {
                if matches!(operation.op, BinOpKind::ScAnd | BinOpKind::ScOr) {
                    self.condition(&operation.left, required);
                    self.optional(&operation.right, false);
                } else {
                    self.expression(&operation.left, required);
                    self.expression(&operation.right, required);
                }
            }
            Expr::Compare(comparison) => {
                self.expression(&comparison.expr, required);
                for operation in &comparison.ops {
                    self.expression(&operation.expr, required);
                }
            }
            Expr::IfExpr(choice) => {
                self.condition(&choice.test_expr, required);
                self.expression(&choice.true_expr, false);
                if let Some(other) = &choice.false_expr {
                    self.expression(other, false);
                }
            }
            Expr::Filter(filter) => {
                let has_default = matches!(filter.name, "default" | "d");
                if let Some(input) = &filter.expr {
                    if has_default {
                        self.optional(input, required);
                    } else {
                        self.expression(input, required);
                    }
                }
                self.arguments(&filter.args, required && !has_default);
            }
            Expr::Test(test) => {
                if matches!(test.name, "defined" | "undefined") {
                    self.optional(&test.expr, required);
                } else {
                    self.expression(&test.expr, required);
                }
                self.arguments(&test.args, required);
            }
            Expr::Call(call) => self.arguments(&call.args, required),
            Expr::List(list) => self.all(&list.items, required),
            Expr::Tuple(tuple) => self.all(&tuple.items, required),
            Expr::Map(map) => {
                self.all(&map.keys, required);
                self.all(&map.values, required);
            }
        }
    }

    /// Walks an expression whose value may be absent.
    fn optional(&mut self, expression: &Expr<'_>, required: bool) {
        match path(expression) {
            Some((path, span)) => {
                // The map that should hold it must be there.
                if let [.., _] = &path[..path.len() - 1] {
                    self.record(path[..path.len() - 1].to_vec(), span, required);
                }
                self.record(path, span, false);
            }
            None => self.expression(expression, required),
        }
    }

    /// Walks a condition, where an absent value is false.
    fn condition(&mut self, expression: &Expr<'_>, required: bool) {
        self.optional(expression, required);
    }

    fn all(&mut self, expressions: &[Expr<'_>], required: bool) {
        for expression in expressions {
            self.expression(expression, required);
        }
    }

    fn arguments(&mut self, arguments: &[CallArg<'_>], required: bool) {
        for argument in arguments {
            let (CallArg::Pos(value)
            | CallArg::Kwarg(_, value)
            | CallArg::PosSplat(value)
            | CallArg::KwargSplat(value)) = argument;
            self.expression(value, required);
        }
    }

    fn record(&mut self, path: Vec<String>, span: Span, required: bool) {
        let line = usize::from(span.start_line);
        match self.uses.iter_mut().find(|found| found.path == path) {
            // A line where it is required says more than one where it is not.
            Some(found) if required && !found.required => {
                (found.required, found.line) = (true, line);
            }
            Some(_) => {}
            None => self.uses.push(VariableUse {
                path,
                line,
                required,
            }),
        }
    }
}

/// Returns the path of a variable, if the expression is one. An index that is not constant text
/// ends the path.
fn path(expression: &Expr<'_>) -> Option<(Vec<String>, Span)> {
    let (of, name, span) = match expression {
        Expr::GetAttr(get) => (&get.expr, Some(get.name.to_owned()), get.span()),
        Expr::GetItem(get) => {
            let name = get.subscript_expr.as_const();
            let name = name.and_then(|name| name.as_str().map(str::to_owned));
            (&get.expr, name, get.span())
        }
        _ => return None,
    };
    let mut found = match of {
        Expr::Var(variable) if variable.id == "vars" => (Vec::new(), span),
        other => path(other)?,
    };
    match name {
        Some(name) => found.0.push(name),
        // `vars[name]`: any variable.
        None if found.0.is_empty() => return None,
        None => {}
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use minijinja::machinery::parse;

    use super::super::syntax;
    use super::*;

    fn uses(source: &str) -> String {
        let root = parse(source, "template", syntax()).expect("it is a template");
        let describe = |found: &VariableUse| {
            let optional = if found.required { "" } else { "?" };
            format!("{}{optional}:{}", found.path.join("."), found.line)
        };
        of(&root)
            .uses
            .iter()
            .map(describe)
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn a_variable_is_required_where_no_render_can_do_without_it() {
        for (source, expected) in [
            ("{{ vars.a }}\n{{ vars['b'] | upper }}", "a:1 b:2"),
            ("{{ vars.net.ip }} {{ vars.disks[0] }}", "net.ip:1 disks:1"),
            (
                "{% for d in vars.disks %}{{ vars.x }}{% endfor %}",
                "disks:1 x?:1",
            ),
            (
                "{{ vars.a | default('x') }}{{ vars.b is defined }}",
                "a?:1 b?:1",
            ),
            ("{{ vars.net.ip | default('x') }}", "net:1 net.ip?:1"),
            (
                "{% if vars.a %}{{ vars.b }}{% else %}{{ vars.c }}{% endif %}",
                "a?:1 b?:1 c?:1",
            ),
            ("{% if vars.a == 'x' %}y{% endif %}", "a:1"),
            (
                "{{ vars.a or vars.b }}{{ 'x' if not vars.c else vars.d }}",
                "a?:1 b?:1 c?:1 d?:1",
            ),
            ("{% set x = vars.a %}{{ x }}", "a?:1"),
            ("{% if vars.a %}{% endif %}\n{{ vars.a }}", "a:2"),
            ("{{ vars[subject.serial] }}", ""),
            ("{{ vars.by_serial[subject.serial] }}", "by_serial:1"),
        ] {
            assert_eq!(uses(source), expected, "{source}");
        }
    }
}
