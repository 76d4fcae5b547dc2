//! Refuses, before it is ever run, what fuel does not meter.
//!
//! minijinja charges for what it executes and produces, but not for what a comparison or a conversion to text visits inside of lists.
//! A list that holds another list twice, which holds another twice, is small in memory and endless to print or to compare; adding a
//! list to itself forty times is as bad. So here a list is one that is written out in the template: its items are texts, numbers, or
//! lists written out in place. `+` and `*` are for numbers, `~` for texts. That is enough to see, without running it, that no value is
//! larger than the text that made it.
//!
//! The kinds of variables are found by walking the template until nothing new is learned, then walking it once more to complain.

use std::collections::{BTreeMap, BTreeSet};

use minijinja::machinery::ast::{BinOpKind, Call, CallArg, Expr, Filter, ForLoop, Stmt, UnaryOpKind};
use minijinja::machinery::{Span, Token, parse, tokenize};

use super::functions::{FILTERS, TESTS};
use super::kind::Kind;
use super::{MAX_SOURCE_BYTES, Uses, VARIABLES, describe, syntax};
use crate::nearest::did_you_mean;

/// Most tokens between one pair of delimiters. The parser nests with them, and its stack is finite.
const MAX_TOKENS: usize = 500;
/// Most `elif`s in one template, for the same reason.
const MAX_ELIFS: usize = 128;

/// The line, where known, and the complaint.
pub(super) type Complaint = (Option<usize>, String);

/// Checks the source of one template, whose variables are [`VARIABLES`] and the names of the configs.
pub(super) fn check(source: &str, configs: &BTreeSet<&str>) -> Result<Uses, Complaint> {
    if source.len() > MAX_SOURCE_BYTES {
        return Err((None, format!("the text has {} bytes; a template may have {MAX_SOURCE_BYTES}", source.len())));
    }
    bound_nesting(source)?;
    let root = parse(source, "template", syntax()).map_err(|error| (error.line(), describe(&error)))?;
    let mut walk = Walk { configs, variables: BTreeMap::new(), uses: Uses::default(), complain: false };
    loop {
        let before = walk.variables.clone();
        walk.statement(&root)?;
        if walk.variables == before {
            break;
        }
    }
    walk.complain = true;
    walk.statement(&root)?;
    Ok(walk.uses)
}

fn bound_nesting(source: &str) -> Result<(), Complaint> {
    let mut tokens = 0;
    let mut elifs = 0;
    for token in tokenize(source, false, syntax()) {
        let (token, span) = token.map_err(|error| (error.line(), describe(&error)))?;
        tokens += 1;
        match token {
            Token::VariableStart | Token::BlockStart | Token::TemplateData(_) => tokens = 0,
            Token::Ident("elif") => elifs += 1,
            _ => {}
        }
        if tokens > MAX_TOKENS {
            return complain(span, format!("one expression has more than {MAX_TOKENS} words and signs; split it with {{% set %}}"));
        }
        if elifs > MAX_ELIFS {
            return complain(span, format!("more than {MAX_ELIFS} elif in one template; write a Profile for each case instead"));
        }
    }
    Ok(())
}

fn complain<T>(span: Span, reason: String) -> Result<T, Complaint> {
    Err((Some(usize::from(span.start_line)), reason))
}

struct Walk<'a> {
    configs: &'a BTreeSet<&'a str>,
    variables: BTreeMap<String, Kind>,
    uses: Uses,
    /// Off while kinds are still being found: a variable may be bound further down.
    complain: bool,
}

impl Walk<'_> {
    fn statements(&mut self, statements: &[Stmt<'_>]) -> Result<(), Complaint> {
        statements.iter().try_for_each(|statement| self.statement(statement))
    }

    fn statement(&mut self, statement: &Stmt<'_>) -> Result<(), Complaint> {
        match statement {
            Stmt::Template(template) => self.statements(&template.children),
            Stmt::EmitRaw(_) | Stmt::Continue(_) | Stmt::Break(_) => Ok(()),
            Stmt::EmitExpr(emit) => self.expression(&emit.expr).map(drop),
            Stmt::ForLoop(each) => self.for_loop(each),
            Stmt::IfCond(branch) => {
                self.expression(&branch.expr)?;
                self.statements(&branch.true_body)?;
                self.statements(&branch.false_body)
            }
            Stmt::WithBlock(with) => {
                for (target, value) in &with.assignments {
                    let kind = self.expression(value)?;
                    self.bind(target, kind)?;
                }
                self.statements(&with.body)
            }
            Stmt::Set(set) => {
                let kind = self.expression(&set.expr)?;
                self.bind(&set.target, kind)
            }
            Stmt::SetBlock(set) => {
                self.statements(&set.body)?;
                let kind = match &set.filter {
                    Some(Expr::Filter(filter)) => self.filter(filter, filter.span())?,
                    Some(other) => return complain(other.span(), "a {% set %} block takes one filter".into()),
                    None => Kind::Scalar,
                };
                self.bind(&set.target, kind)
            }
            Stmt::AutoEscape(block) => complain(block.span(), "{% autoescape %} does nothing here: no text is escaped".into()),
            Stmt::FilterBlock(block) => complain(block.span(), "write {% set NAME | FILTER %} instead of a {% filter %} block".into()),
            Stmt::Macro(block) => complain(block.span(), "macros are not available; use {% set %} and {% for %}".into()),
            Stmt::CallBlock(block) => complain(block.span(), "{% call %} is not available, as there are no macros".into()),
            Stmt::Do(block) => complain(block.span(), "{% do %} is not available; use {% set %}".into()),
        }
    }

    fn for_loop(&mut self, each: &ForLoop<'_>) -> Result<(), Complaint> {
        if each.recursive {
            return complain(each.iter.span(), "a loop can't be recursive".into());
        }
        let items = self.expression(&each.iter)?.item();
        self.bind(&each.target, items)?;
        if let Some(condition) = &each.filter_expr {
            self.expression(condition)?;
        }
        self.statements(&each.body)?;
        self.statements(&each.else_body)
    }

    /// Gives a variable, or several at once, a value of this kind.
    fn bind(&mut self, target: &Expr<'_>, kind: Kind) -> Result<(), Complaint> {
        match target {
            Expr::Var(variable) => {
                if self.is_given(variable.id) || variable.id == "loop" {
                    return complain(variable.span(), format!("`{}` already has a meaning; choose another name", variable.id));
                }
                let known = self.variables.remove(variable.id).unwrap_or(Kind::Never);
                self.variables.insert(variable.id.to_owned(), known.or(kind));
                Ok(())
            }
            Expr::List(targets) => targets.items.iter().try_for_each(|target| self.bind(target, kind.item())),
            Expr::Tuple(targets) => targets.items.iter().try_for_each(|target| self.bind(target, kind.item())),
            other => complain(other.span(), "only a variable can be set".into()),
        }
    }

    fn expression(&mut self, expression: &Expr<'_>) -> Result<Kind, Complaint> {
        match expression {
            Expr::Const(constant) => Ok(if constant.value.is_number() { Kind::Number } else { Kind::Scalar }),
            Expr::Var(variable) => self.variable(variable.id, variable.span()),
            Expr::GetAttr(get) => {
                let of = self.expression(&get.expr)?;
                Ok(self.item(&get.expr, Some(get.name), &of))
            }
            Expr::GetItem(get) => {
                let of = self.expression(&get.expr)?;
                self.expression(&get.subscript_expr)?;
                let name = get.subscript_expr.as_const();
                Ok(self.item(&get.expr, name.as_ref().and_then(|name| name.as_str()), &of))
            }
            Expr::Slice(slice) => {
                for bound in [&slice.start, &slice.stop, &slice.step].into_iter().flatten() {
                    self.expression(bound)?;
                }
                self.expression(&slice.expr)
            }
            Expr::UnaryOp(operation) => {
                self.expression(&operation.expr)?;
                Ok(if matches!(operation.op, UnaryOpKind::Neg) { Kind::Number } else { Kind::Scalar })
            }
            Expr::BinOp(operation) => {
                let left = self.expression(&operation.left)?;
                let right = self.expression(&operation.right)?;
                self.operation(operation.op, left, right, operation.span())
            }
            Expr::Compare(comparison) => {
                self.expression(&comparison.expr)?;
                comparison.ops.iter().try_for_each(|op| self.expression(&op.expr).map(drop))?;
                Ok(Kind::Scalar)
            }
            Expr::IfExpr(choice) => {
                self.expression(&choice.test_expr)?;
                let kind = self.expression(&choice.true_expr)?;
                Ok(match &choice.false_expr {
                    Some(other) => kind.or(self.expression(other)?),
                    None => kind,
                })
            }
            Expr::Filter(filter) => self.filter(filter, filter.span()),
            Expr::Test(test) => {
                if !TESTS.contains(&test.name) {
                    return complain(
                        test.span(),
                        format!("there is no test `{}`{}", test.name, did_you_mean(test.name, TESTS.iter().copied())),
                    );
                }
                self.expression(&test.expr)?;
                self.arguments(&test.args, test.span())?;
                Ok(Kind::Scalar)
            }
            Expr::Call(call) => self.call(call, call.span()),
            Expr::List(list) => self.literal(&list.items),
            Expr::Tuple(tuple) => self.literal(&tuple.items),
            Expr::Map(map) => {
                self.literal(&map.keys)?;
                self.literal(&map.values)
            }
        }
    }

    fn variable(&mut self, name: &str, span: Span) -> Result<Kind, Complaint> {
        if self.configs.contains(name) {
            self.uses.configs.insert(name.to_owned());
            return Ok(Kind::Scalar);
        }
        match name {
            "base_url" => return Ok(Kind::Scalar),
            "subject" | "encoded" => return Ok(Kind::list_of(Kind::Scalar)),
            "profile" => return Ok(Kind::Any),
            "assignment" => {
                self.uses.assignment = true;
                return Ok(Kind::Any);
            }
            "loop" => return Ok(Kind::Any),
            _ => {}
        }
        match self.variables.get(name) {
            Some(kind) => Ok(kind.clone()),
            None if !self.complain => Ok(Kind::Never),
            None => {
                let known = VARIABLES.iter().chain(self.configs).copied().chain(self.variables.keys().map(String::as_str));
                let hint = did_you_mean(name, known);
                let configs = if self.configs.is_empty() { "none" } else { &self.configs.iter().copied().collect::<Vec<_>>().join(", ") };
                complain(
                    span,
                    format!("`{name}` is not defined{hint} (configs of this Profile: {configs}; beside them: {})", VARIABLES.join(", ")),
                )
            }
        }
    }

    /// What `.name` or `[name]` gives.
    fn item(&mut self, of: &Expr<'_>, name: Option<&str>, kind: &Kind) -> Kind {
        let Expr::Var(variable) = of else { return kind.item() };
        match (variable.id, name) {
            ("subject" | "encoded", Some(label)) => {
                self.uses.labels.insert(label.to_owned());
                Kind::Scalar
            }
            ("profile" | "assignment", Some("labels")) => Kind::list_of(Kind::Scalar),
            ("profile" | "assignment", Some(_)) => Kind::Scalar,
            ("loop", Some("index" | "index0" | "revindex" | "revindex0" | "length" | "depth" | "depth0")) => Kind::Number,
            ("loop", Some("first" | "last")) => Kind::Scalar,
            _ => kind.item(),
        }
    }

    fn operation(&self, op: BinOpKind, left: Kind, right: Kind, span: Span) -> Result<Kind, Complaint> {
        match op {
            BinOpKind::Add if self.complain && !(left.is_number() && right.is_number()) => {
                complain(span, "`+` adds numbers: write a ~ b to join texts, a|int + b|int where the text is a number".into())
            }
            BinOpKind::Mul if self.complain && !(left.is_number() && right.is_number()) => {
                complain(span, "`*` multiplies numbers: write a|int * b|int where the text is a number".into())
            }
            BinOpKind::Concat if self.complain && !(left.is_scalar() && right.is_scalar()) => {
                complain(span, "`~` joins texts; a list becomes one by |join(' ')".into())
            }
            BinOpKind::Add | BinOpKind::Mul | BinOpKind::Sub | BinOpKind::Div | BinOpKind::FloorDiv | BinOpKind::Rem | BinOpKind::Pow => {
                Ok(Kind::Number)
            }
            BinOpKind::ScAnd | BinOpKind::ScOr => Ok(left.or(right)),
            _ => Ok(Kind::Scalar),
        }
    }

    fn filter(&mut self, filter: &Filter<'_>, span: Span) -> Result<Kind, Complaint> {
        let Some((_, signature)) = FILTERS.iter().find(|(name, _)| *name == filter.name) else {
            let hint = did_you_mean(filter.name, FILTERS.iter().map(|(name, _)| *name));
            return complain(span, format!("there is no filter `{}`{hint}", filter.name));
        };
        let input = filter.expr.as_ref().map_or(Ok(Kind::Scalar), |input| self.expression(input))?;
        let arguments = self.arguments(&filter.args, span)?;
        match signature.apply(input, arguments.into_iter()) {
            Err(reason) if self.complain => complain(span, format!("filter `{}` {reason}", filter.name)),
            result => Ok(result.unwrap_or(Kind::Any)),
        }
    }

    fn call(&mut self, call: &Call<'_>, span: Span) -> Result<Kind, Complaint> {
        let arguments = self.arguments(&call.args, span)?;
        match &call.expr {
            Expr::Var(function) if function.id == "range" => Ok(Kind::list_of(Kind::Number)),
            Expr::Var(function) => {
                complain(span, format!("there is no function `{}`; there is range(), and filters as in x|upper", function.id))
            }
            Expr::GetAttr(method) => match (&method.expr, method.name) {
                (Expr::Var(object), "cycle") if object.id == "loop" => Ok(arguments.into_iter().fold(Kind::Never, Kind::or)),
                (Expr::Var(object), "changed") if object.id == "loop" => Ok(Kind::Scalar),
                (_, name) => complain(span, format!("values have no methods; write x|{name}")),
            },
            _ => complain(span, "this is no function".into()),
        }
    }

    fn arguments(&mut self, arguments: &[CallArg<'_>], span: Span) -> Result<Vec<Kind>, Complaint> {
        let one = |argument: &CallArg<'_>| match argument {
            CallArg::Pos(value) | CallArg::Kwarg(_, value) => self.expression(value),
            CallArg::PosSplat(_) | CallArg::KwargSplat(_) => complain(span, "arguments can't be unpacked with * here".into()),
        };
        arguments.iter().map(one).collect()
    }

    /// The items of a list that is written out: each a text, a number, or a list that is written out itself.
    fn literal(&mut self, items: &[Expr<'_>]) -> Result<Kind, Complaint> {
        let mut kind = Kind::Never;
        for item in items {
            let found = self.expression(item)?;
            let is_written_out = matches!(item, Expr::List(_) | Expr::Tuple(_) | Expr::Map(_));
            if self.complain && !is_written_out && !found.is_scalar() {
                return complain(
                    item.span(),
                    "a list holds texts, numbers, and lists that are written out in place, but no variable that is a list".into(),
                );
            }
            kind = kind.or(found);
        }
        Ok(Kind::list_of(kind))
    }

    fn is_given(&self, name: &str) -> bool {
        VARIABLES.contains(&name) || self.configs.contains(name)
    }
}
