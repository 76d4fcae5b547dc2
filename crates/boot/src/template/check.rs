//! Rejects, before a template ever runs, what fuel does not meter.
//!
//! minijinja charges for what it executes and writes, but not for the items that a comparison or a
//! conversion to text visits inside lists, nor for the bytes that a comparison reads. A list that
//! contains another list twice, which contains another twice, is small in memory and takes forever
//! to print or compare; adding a list to itself forty times is as bad. So a list must be written
//! out in the template: its items are text, numbers, or list literals. `+` and `*` are for numbers,
//! `~` is for text. This is enough to prove, without running the template, that no value is larger
//! than the text that made it. One side of a comparison must be short ([`Kind::Word`]), and a view
//! of a list can't be viewed again ([`Kind::View`]): each view would add a level to the stack.
//!
//! The checker finds the kinds of variables by walking the template until nothing changes, then
//! walks it once more to report errors.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use minijinja::machinery::ast::{
    BinOpKind, Call, CallArg, CompareOp, CompareOpKind, Expr, Filter, ForLoop, Stmt, UnaryOpKind,
};
use minijinja::machinery::{Span, parse};

use super::attributes;
use super::diagnosis::LocatedError;
use super::flow::Flow;
use super::functions::{FILTERS, MAX_ITEMS, TESTS};
use super::hosts;
use super::kind::Kind;
use super::plan::Plan;
use super::reach::Reach;
use super::tokens;
use super::variables;
use crate::config_format::Syntax;
use crate::config_name::VARIABLES;

use super::{MAX_SOURCE_BYTES, Uses, syntax};
use crate::nearest::did_you_mean;

/// Maximum length of text that counts as a word, in bytes.
const MAX_WORD_BYTES: usize = 1024;
/// Maximum number of walks to find the kinds of variables. Each walk resolves one more variable
/// that is set from a variable set further down, and few templates have many of these.
const MAX_WALKS: usize = 8;
/// Maximum number of config names that an error lists.
const MAX_LISTED_CONFIGS: usize = 16;

/// A template that passed the check.
pub(super) struct Checked<'a> {
    pub(super) uses: Uses,
    /// The plan, if the template needs no engine.
    pub(super) plan: Option<Plan>,
    /// The source for the engine: the same, except that `subject` is named by its [`Reach`].
    pub(super) source: Cow<'a, str>,
}

/// Checks the source of a template. Its variables are [`VARIABLES`] and the config names. `syntax`
/// is that of a config, and `None` for the script. The error has the line, if known, and the
/// message.
pub(super) fn check<'a>(
    source: &'a str,
    configs: &BTreeSet<&str>,
    syntax: Option<Syntax>,
) -> Result<Checked<'a>, (Option<usize>, String)> {
    checked(source, configs, syntax).map_err(|error| error.explain(source, syntax.is_none()))
}

fn checked<'a>(
    source: &'a str,
    configs: &BTreeSet<&str>,
    syntax_of_config: Option<Syntax>,
) -> Result<Checked<'a>, LocatedError> {
    if source.len() > MAX_SOURCE_BYTES {
        let reason = format!(
            "the template has {} bytes; the limit is {MAX_SOURCE_BYTES}",
            source.len()
        );
        return Err(LocatedError::new(None, reason));
    }
    tokens::check(source)?;
    let root = parse(source, "template", syntax()).map_err(|error| LocatedError::syntax(&error))?;
    let mut checker = Checker {
        configs,
        variables: BTreeMap::new(),
        uses: Uses::default(),
        reports: false,
    };
    let mut learned = true;
    for _ in 0..MAX_WALKS {
        let before = checker.variables.clone();
        checker.statement(&root)?;
        learned = checker.variables != before;
        if !learned {
            break;
        }
    }
    if learned {
        let reason = "too many variables are set from variables that are set further down; set each variable before you use it";
        return Err(LocatedError::new(None, reason.into()));
    }
    checker.reports = true;
    checker.statement(&root)?;
    let flow = Flow::of(&root, source, syntax_of_config.unwrap_or(Syntax::Ipxe));
    let variables = variables::of(&root);
    let uses = Uses {
        raw: flow.raw,
        variables: variables.uses,
        any_variable: variables.any,
        hosts: hosts::of(&root, syntax_of_config.is_none_or(|it| it == Syntax::Ipxe)),
        ..checker.uses
    };
    if flow.places.is_empty() {
        return Ok(Checked {
            uses,
            plan: Plan::of(&root, configs),
            source: Cow::Borrowed(source),
        });
    }
    let renamed = rename_subject(source, flow.places);
    let root =
        parse(&renamed, "template", syntax()).map_err(|error| LocatedError::syntax(&error))?;
    let plan = Plan::of(&root, configs);
    drop(root);
    Ok(Checked {
        uses,
        plan,
        source: Cow::Owned(renamed),
    })
}

/// Renames the variable `subject` in these places. All names stay in their lines.
fn rename_subject(source: &str, mut places: Vec<(Range<usize>, Reach)>) -> String {
    // Of two at one place, the one that demands more.
    places.sort_unstable_by_key(|(place, reach)| (place.start, Reverse(*reach)));
    let mut out = String::with_capacity(source.len() + places.len() * 80);
    let mut end = 0;
    for (place, reach) in places {
        // A place that holds something else would be a fault of the parser; it stays checked.
        if source.get(place.clone()) == Some("subject") && place.start >= end {
            out.push_str(&source[end..place.start]);
            out.push_str(reach.variable());
            end = place.end;
        }
    }
    out.push_str(&source[end..]);
    out
}

pub(super) fn reject<T>(span: Span, reason: String) -> Result<T, LocatedError> {
    Err(LocatedError::at(span, reason))
}

/// Rejects a name that does not exist, which may belong to a template of another tool.
fn reject_name<T>(span: Span, reason: String) -> Result<T, LocatedError> {
    Err(LocatedError::unknown_name(span, reason))
}

struct Checker<'a> {
    configs: &'a BTreeSet<&'a str>,
    variables: BTreeMap<String, Kind>,
    uses: Uses,
    /// False while kinds are still being found: a variable may be bound further down.
    reports: bool,
}

impl Checker<'_> {
    fn statements(&mut self, statements: &[Stmt<'_>]) -> Result<(), LocatedError> {
        statements
            .iter()
            .try_for_each(|statement| self.statement(statement))
    }

    fn statement(&mut self, statement: &Stmt<'_>) -> Result<(), LocatedError> {
        match statement {
            Stmt::Template(template) => self.statements(&template.children),
            Stmt::EmitRaw(_) | Stmt::Continue(_) | Stmt::Break(_) => Ok(()),
            Stmt::EmitExpr(emit) => match self.expression(&emit.expr)? {
                kind if kind.is_scalar() || !self.reports => Ok(()),
                _ => reject(
                    emit.expr.span(),
                    "a list or map can't be printed; write x|join(' ') or x|tojson".into(),
                ),
            },
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
                    Some(other) => {
                        return reject(other.span(), "a {% set %} block takes one filter".into());
                    }
                    None => Kind::Scalar,
                };
                self.bind(&set.target, kind)
            }
            Stmt::AutoEscape(block) => reject(
                block.span(),
                "{% autoescape %} is not available; nothing is escaped".into(),
            ),
            Stmt::FilterBlock(block) => reject(
                block.span(),
                "{% filter %} is not available; use a {% set NAME | FILTER %} block".into(),
            ),
            Stmt::Macro(block) => reject(
                block.span(),
                "macros are not available; use {% set %} and {% for %}".into(),
            ),
            Stmt::CallBlock(block) => reject(
                block.span(),
                "{% call %} is not available because there are no macros".into(),
            ),
            Stmt::Do(block) => reject(
                block.span(),
                "{% do %} is not available; use {% set %}".into(),
            ),
        }
    }

    fn for_loop(&mut self, each: &ForLoop<'_>) -> Result<(), LocatedError> {
        if each.recursive {
            return reject(each.iter.span(), "recursive loops are not available".into());
        }
        let items = self.expression(&each.iter)?.item();
        self.bind(&each.target, items)?;
        if let Some(condition) = &each.filter_expr {
            self.expression(condition)?;
        }
        self.statements(&each.body)?;
        self.statements(&each.else_body)
    }

    /// Binds one or several variables to values of this kind.
    fn bind(&mut self, target: &Expr<'_>, kind: Kind) -> Result<(), LocatedError> {
        match target {
            Expr::Var(variable) => {
                if self.is_builtin(variable.id) || variable.id == "loop" {
                    return reject(
                        variable.span(),
                        format!("`{}` is reserved; choose another name", variable.id),
                    );
                }
                let known = self.variables.remove(variable.id).unwrap_or(Kind::Never);
                self.variables
                    .insert(variable.id.to_owned(), known.or(kind));
                Ok(())
            }
            Expr::List(targets) => targets
                .items
                .iter()
                .try_for_each(|target| self.bind(target, kind.item())),
            Expr::Tuple(targets) => targets
                .items
                .iter()
                .try_for_each(|target| self.bind(target, kind.item())),
            other => reject(other.span(), "only a variable can be set".into()),
        }
    }

    fn expression(&mut self, expression: &Expr<'_>) -> Result<Kind, LocatedError> {
        match expression {
            Expr::Const(constant) if constant.value.is_number() => Ok(Kind::Number),
            Expr::Const(constant)
                if constant
                    .value
                    .as_str()
                    .is_none_or(|text| text.len() <= MAX_WORD_BYTES) =>
            {
                Ok(Kind::Word)
            }
            Expr::Const(_) => Ok(Kind::Scalar),
            Expr::Var(variable) => self.variable(variable.id, variable.span()),
            Expr::GetAttr(get) => {
                let of = self.expression(&get.expr)?;
                attributes::check(&get.expr, get.name, self.configs)
                    .or_else(|reason| reject(get.span(), reason))?;
                Ok(self.item(&get.expr, Some(get.name), &of))
            }
            Expr::GetItem(get) => {
                let of = self.expression(&get.expr)?;
                let index = self.expression(&get.subscript_expr)?;
                if !index.is_scalar() && self.reports {
                    return reject(
                        get.subscript_expr.span(),
                        "an index in [ ] must be text or a number".into(),
                    );
                }
                if of == Kind::Json && get.subscript_expr.as_const().is_none() && index.is_number()
                {
                    return reject(
                        get.subscript_expr.span(),
                        "an index into a variable must be constant or text; loop over the list with {% for item in vars.NAME %}".into(),
                    );
                }
                if of == Kind::Scalar && self.reports {
                    return reject(
                        get.span(),
                        "[ ] works on a list, a map or a label, not on longer text".into(),
                    );
                }
                let name = get.subscript_expr.as_const();
                let name = name.as_ref().and_then(|name| name.as_str());
                name.map_or(Ok(()), |name| {
                    attributes::check(&get.expr, name, self.configs)
                })
                .or_else(|reason| reject(get.span(), reason))?;
                Ok(self.item(&get.expr, name, &of))
            }
            Expr::Slice(slice) => {
                for bound in [&slice.start, &slice.stop, &slice.step]
                    .into_iter()
                    .flatten()
                {
                    self.expression(bound)?;
                }
                match self.expression(&slice.expr)? {
                    Kind::List(item) => Ok(Kind::View(item)),
                    Kind::Json => Ok(Kind::view_of(Kind::Json)),
                    kind if kind.is_word() => Ok(kind.or(Kind::Word)),
                    _ if self.reports => reject(
                        slice.span(),
                        "only a list or a label can be sliced; copy a slice, a reversed list or a range() with x|list first"
                            .into(),
                    ),
                    _ => Ok(Kind::Any),
                }
            }
            Expr::UnaryOp(operation) => {
                self.expression(&operation.expr)?;
                Ok(if matches!(operation.op, UnaryOpKind::Neg) {
                    Kind::Number
                } else {
                    Kind::Word
                })
            }
            Expr::BinOp(operation) => {
                let left = self.expression(&operation.left)?;
                let right = self.expression(&operation.right)?;
                self.operation(operation.op, left, right, operation.span())
            }
            Expr::Compare(comparison) => {
                let mut left = self.expression(&comparison.expr)?;
                for CompareOp { op, expr } in &comparison.ops {
                    let right = self.expression(expr)?;
                    match op {
                        CompareOpKind::In | CompareOpKind::NotIn => {
                            self.check_containment(&left, &right, expr.span())?;
                        }
                        _ => self.check_comparison(&left, &right, expr.span())?,
                    }
                    left = right;
                }
                Ok(Kind::Word)
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
                    return reject_name(
                        test.span(),
                        format!(
                            "unknown test `{}`{}",
                            test.name,
                            did_you_mean(test.name, TESTS.iter().copied())
                        ),
                    );
                }
                let left = self.expression(&test.expr)?;
                let arguments = self.arguments(&test.args, test.span())?;
                for right in &arguments {
                    match test.name {
                        "in" => self.check_containment(&left, right, test.span())?,
                        _ => self.check_comparison(&left, right, test.span())?,
                    }
                }
                Ok(Kind::Word)
            }
            Expr::Call(call) => self.call(call, call.span()),
            Expr::List(list) => self.literal(&list.items),
            Expr::Tuple(tuple) => self.literal(&tuple.items),
            Expr::Map(map) => {
                let mut keys = Kind::Never;
                for key in &map.keys {
                    let kind = self.expression(key)?;
                    if !kind.is_word() && self.reports {
                        return reject(
                            key.span(),
                            "a map key must be short text or a number".into(),
                        );
                    }
                    keys = keys.or(kind);
                }
                // A loop over a map yields its keys.
                Ok(Kind::list_of(keys).or(self.literal(&map.values)?))
            }
        }
    }

    fn variable(&mut self, name: &str, span: Span) -> Result<Kind, LocatedError> {
        if self.configs.contains(name) {
            self.uses.configs.insert(name.to_owned());
            return Ok(Kind::Scalar);
        }
        match name {
            "base_url" => return Ok(Kind::Word),
            "subject" | "encoded" | "extrinsic" => return Ok(Kind::list_of(Kind::Word)),
            "vars" => return Ok(Kind::Json),
            "profile" | "machine" => return Ok(Kind::Any),
            "assignment" => {
                self.uses.assignment = true;
                return Ok(Kind::Any);
            }
            "loop" => return Ok(Kind::Any),
            _ => {}
        }
        match self.variables.get(name) {
            Some(kind) => Ok(kind.clone()),
            None if !self.reports => Ok(Kind::Never),
            None => {
                let known = VARIABLES
                    .iter()
                    .chain(self.configs)
                    .copied()
                    .chain(self.variables.keys().map(String::as_str));
                let hint = did_you_mean(name, known);
                let some: Vec<_> = self
                    .configs
                    .iter()
                    .copied()
                    .take(MAX_LISTED_CONFIGS)
                    .collect();
                let more = if self.configs.len() > MAX_LISTED_CONFIGS {
                    ", ..."
                } else {
                    ""
                };
                let configs = if some.is_empty() {
                    "none".to_owned()
                } else {
                    some.join(", ") + more
                };
                reject_name(
                    span,
                    format!(
                        "`{name}` is not defined{hint} (configs of this Profile: {configs}; built-in variables: {})",
                        VARIABLES.join(", ")
                    ),
                )
            }
        }
    }

    /// Returns the kind of `.name` or `[name]`.
    fn item(&mut self, of: &Expr<'_>, name: Option<&str>, kind: &Kind) -> Kind {
        let Expr::Var(variable) = of else {
            return kind.item();
        };
        match (variable.id, name) {
            ("subject" | "encoded", Some(label)) => {
                self.uses.labels.insert(label.to_owned());
                Kind::Word
            }
            ("extrinsic", Some(label)) => {
                self.uses.extrinsic.insert(label.to_owned());
                Kind::Word
            }
            ("profile" | "assignment" | "machine", Some("labels")) => Kind::list_of(Kind::Word),
            ("profile" | "assignment" | "machine", Some(_)) => Kind::Word,
            (
                "loop",
                Some("index" | "index0" | "revindex" | "revindex0" | "length" | "depth" | "depth0"),
            ) => Kind::Number,
            ("loop", Some("first" | "last")) => Kind::Word,
            _ => kind.item(),
        }
    }

    fn operation(
        &self,
        op: BinOpKind,
        left: Kind,
        right: Kind,
        span: Span,
    ) -> Result<Kind, LocatedError> {
        match op {
            BinOpKind::Add if self.reports && !(left.is_number() && right.is_number()) => {
                reject(span, "`+` adds numbers; write a ~ b to join text, or a|int + b|int to add numbers in text".into())
            }
            BinOpKind::Mul if self.reports && !(left.is_number() && right.is_number()) => {
                reject(span, "`*` multiplies numbers; write a|int * b|int to multiply numbers in text".into())
            }
            BinOpKind::Concat if self.reports && !(left.is_scalar() && right.is_scalar()) => {
                reject(span, "`~` joins text; turn a list into text with |join(' ')".into())
            }
            BinOpKind::Add | BinOpKind::Mul | BinOpKind::Sub | BinOpKind::Div | BinOpKind::FloorDiv | BinOpKind::Rem | BinOpKind::Pow => {
                Ok(Kind::Number)
            }
            BinOpKind::ScAnd | BinOpKind::ScOr => Ok(left.or(right)),
            BinOpKind::Concat => Ok(Kind::Scalar),
            BinOpKind::In => self.check_containment(&left, &right, span).map(|()| Kind::Word),
            BinOpKind::Eq | BinOpKind::Ne | BinOpKind::Lt | BinOpKind::Lte | BinOpKind::Gt | BinOpKind::Gte => {
                self.check_comparison(&left, &right, span).map(|()| Kind::Word)
            }
        }
    }

    /// Checks a comparison. It reads no more bytes than the shorter side has, which must be a word.
    fn check_comparison(&self, left: &Kind, right: &Kind, span: Span) -> Result<(), LocatedError> {
        let bounded = left.is_scalar() && right.is_scalar() && (left.is_word() || right.is_word());
        if bounded || !self.reports {
            return Ok(());
        }
        reject(
            span,
            "only text and numbers can be compared, and one side must be a label, a number or a short literal".into(),
        )
    }

    /// Checks `in`. It reads the whole text on its right, which is paid for, or compares with each
    /// item of a list.
    fn check_containment(&self, left: &Kind, right: &Kind, span: Span) -> Result<(), LocatedError> {
        let bounded = left.is_scalar()
            && (right.is_scalar() || (!matches!(right, Kind::Any) && right.item().is_word()));
        if bounded || !self.reports {
            return Ok(());
        }
        reject(span, "`in` needs text on its left, and on its right text or a list of labels, numbers and short literals".into())
    }

    fn filter(&mut self, filter: &Filter<'_>, span: Span) -> Result<Kind, LocatedError> {
        let Some((_, signature)) = FILTERS.iter().find(|(name, _)| *name == filter.name) else {
            let hint = did_you_mean(filter.name, FILTERS.iter().map(|(name, _)| *name));
            return reject_name(span, format!("unknown filter `{}`{hint}", filter.name));
        };
        let input = filter
            .expr
            .as_ref()
            .map_or(Ok(Kind::Scalar), |input| self.expression(input))?;
        let arguments = self.arguments(&filter.args, span)?;
        match signature.apply(input, arguments.into_iter()) {
            Err(reason) if self.reports => {
                reject(span, format!("filter `{}` {reason}", filter.name))
            }
            result => Ok(result.unwrap_or(Kind::Any)),
        }
    }

    fn call(&mut self, call: &Call<'_>, span: Span) -> Result<Kind, LocatedError> {
        let arguments = self.arguments(&call.args, span)?;
        match &call.expr {
            Expr::Var(function) if function.id == "range" => match items_of_range(&call.args) {
                Some(items) if items > MAX_ITEMS => reject(
                    span,
                    format!("this range() has {items} items; the limit is {MAX_ITEMS}"),
                ),
                _ => Ok(Kind::view_of(Kind::Number)),
            },
            Expr::Var(function) => reject_name(
                span,
                format!(
                    "unknown function `{}`; the only function is range(), and filters are written x|upper",
                    function.id
                ),
            ),
            Expr::GetAttr(method) => match (&method.expr, method.name) {
                (Expr::Var(object), "cycle") if object.id == "loop" => {
                    Ok(arguments.into_iter().fold(Kind::Never, Kind::or))
                }
                (Expr::Var(object), "changed") if object.id == "loop" => {
                    arguments
                        .iter()
                        .try_for_each(|argument| self.check_comparison(argument, argument, span))?;
                    Ok(Kind::Word)
                }
                (_, name) => reject(span, format!("values have no methods; write x|{name}")),
            },
            _ => reject(span, "this is not a function".into()),
        }
    }

    fn arguments(
        &mut self,
        arguments: &[CallArg<'_>],
        span: Span,
    ) -> Result<Vec<Kind>, LocatedError> {
        let one = |argument: &CallArg<'_>| match argument {
            CallArg::Pos(value) | CallArg::Kwarg(_, value) => self.expression(value),
            CallArg::PosSplat(_) | CallArg::KwargSplat(_) => {
                reject(span, "arguments can't be unpacked with *".into())
            }
        };
        arguments.iter().map(one).collect()
    }

    /// Returns the kind of a list literal. Each item must be text, a number, or a list literal.
    fn literal(&mut self, items: &[Expr<'_>]) -> Result<Kind, LocatedError> {
        let mut kind = Kind::Never;
        for item in items {
            let found = self.expression(item)?;
            let is_written_out = matches!(item, Expr::List(_) | Expr::Tuple(_) | Expr::Map(_));
            if self.reports && !is_written_out && !found.is_scalar() {
                return reject(
                    item.span(),
                    "a list can contain text, numbers and list literals, but not a variable that is a list".into(),
                );
            }
            // A list that contains itself has no finite kind: the search would not end.
            // A variable that is a list could be doubled by each of many lists.
            kind = kind.or(
                if is_written_out || found.is_scalar() && found != Kind::Json {
                    found
                } else {
                    Kind::Any
                },
            );
        }
        Ok(Kind::list_of(kind))
    }

    fn is_builtin(&self, name: &str) -> bool {
        VARIABLES.contains(&name)
            || Reach::of_variable(name).is_some()
            || self.configs.contains(name)
    }
}

/// Returns the number of items in a range with constant bounds.
fn items_of_range(arguments: &[CallArg<'_>]) -> Option<usize> {
    let number = |argument: &CallArg<'_>| match argument {
        CallArg::Pos(value) => constant(value),
        _ => None,
    };
    let (low, high, step) = match arguments.iter().map(number).collect::<Option<Vec<_>>>()?[..] {
        [high] => (0, high, 1),
        [low, high] => (low, high, 1),
        [low, high, step] => (low, high, step),
        _ => return None,
    };
    let (distance, step) = if step < 0 {
        (low - high, -step)
    } else {
        (high - low, step)
    };
    // The engine reports a step of 0.
    usize::try_from(distance.max(0).checked_add(step - 1)?.checked_div(step)?).ok()
}

fn constant(number: &Expr<'_>) -> Option<i128> {
    let number = match number {
        Expr::Const(constant) => i64::try_from(constant.value.clone()).ok()?.into(),
        Expr::UnaryOp(operation) if matches!(operation.op, UnaryOpKind::Neg) => {
            -constant(&operation.expr)?
        }
        Expr::BinOp(operation) => {
            let (left, right) = (constant(&operation.left)?, constant(&operation.right)?);
            match operation.op {
                BinOpKind::Add => left.checked_add(right)?,
                BinOpKind::Sub => left.checked_sub(right)?,
                BinOpKind::Mul => left.checked_mul(right)?,
                BinOpKind::Pow => left.checked_pow(u32::try_from(right).ok()?)?,
                _ => return None,
            }
        }
        _ => return None,
    };
    i64::try_from(number).ok().map(i128::from)
}
