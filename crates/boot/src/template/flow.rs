//! Finds how far a machine's labels [reach](Reach) into the text of a template.
//!
//! A label is *escaped* if every path from its lookup to the output goes through a filter of the
//! config's format, or if no path reaches the output: the label is only compared. All other lookups
//! are *raw*; they are *altered* if a step on a path changes the value. The analysis walks
//! backwards from the output, and learns in the same way how each variable is used. It may
//! overestimate how far a label reaches, and never underestimates it.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use minijinja::machinery::Span;
use minijinja::machinery::ast::{BinOpKind, Call, CallArg, Expr, Filter, ForLoop, Stmt};

use crate::config_format::{ConfigFormat, Syntax};

use super::LabelUse;
use super::position::Position;
use super::quoting::Quoting;
use super::reach::Reach;
use super::script_line::{Expansions, ScriptLine};

/// Maximum number of walks to find how variables are used. With more, all of them count as altered.
const MAX_WALKS: usize = 8;

/// How a template uses the machine's labels.
#[derive(Debug, Default)]
pub(super) struct Flow {
    /// Source positions of `subject` whose reach is not [`Reach::Raw`].
    pub(super) places: Vec<(Range<usize>, Reach)>,
    /// Labels that reach a config unescaped, without duplicates.
    pub(super) raw: Vec<LabelUse>,
}

struct Walker {
    syntax: Syntax,
    /// The current line of an iPXE script.
    line: ScriptLine,
    expansions: Expansions,
    /// The position in the text of a config.
    position: Position,
    /// Number of loops around the current statement.
    loops: usize,
    /// Whether the format reads quotation marks at each value, in the order of the source.
    reads_quotes: Vec<bool>,
    /// Number of values so far.
    values: usize,
    /// How each variable is used. All loops share `loop`.
    variables: BTreeMap<String, Reach>,
    /// How each is used if `variables` did not become final.
    at_least: Reach,
    /// The labels in `flow.raw`.
    reported: HashSet<Option<String>>,
    flow: Flow,
}

// === impl Flow ===

impl Flow {
    /// Analyses a checked template with this source. In a format without a syntax to break, there
    /// is nothing to find.
    pub(super) fn of(root: &Stmt<'_>, source: &str, syntax: Syntax) -> Self {
        if syntax == Syntax::Known(ConfigFormat::Text) {
            return Self::default();
        }
        let text = if syntax.divides_words() {
            Reach::Word
        } else {
            Reach::Raw
        };
        // Only a script has lines to follow.
        let expansions = match syntax {
            Syntax::Ipxe => Expansions::of(root),
            _ => Expansions::default(),
        };
        let has_quoting = Quoting::FILTERS.iter().any(|it| source.contains(it));
        let start = if has_quoting {
            Position::start(syntax, root, source)
        } else {
            Position::untracked()
        };
        let mut walker = Walker {
            syntax,
            position: start,
            loops: 0,
            reads_quotes: Vec::new(),
            values: 0,
            line: ScriptLine::default(),
            expansions,
            variables: BTreeMap::new(),
            at_least: Reach::Escaped,
            reported: HashSet::new(),
            flow: Self::default(),
        };
        for walk in 0.. {
            let before = walker.variables.clone();
            walker.flow = Self::default();
            walker.reported.clear();
            walker.line = ScriptLine::default();
            walker.values = 0;
            walker.statement(root, text);
            // Positions are the same in each walk.
            walker.position = Position::untracked();
            if walker.variables == before || walker.at_least == Reach::AlteredWord {
                break;
            }
            if walk == MAX_WALKS {
                walker.at_least = Reach::AlteredWord;
            }
        }
        walker.flow
    }
}

// === impl Walker ===

impl Walker {
    /// Walks a statement whose text is used like this.
    fn statement(&mut self, statement: &Stmt<'_>, text: Reach) {
        match statement {
            Stmt::Template(template) => self.statements(&template.children, text),
            Stmt::EmitRaw(raw) if self.syntax == Syntax::Ipxe => self.line.push(raw.raw),
            Stmt::EmitRaw(raw) => self.position.push(raw.raw),
            Stmt::EmitExpr(emit) => {
                let reach = self.written(text);
                self.expression(&emit.expr, reach);
                match &emit.expr {
                    Expr::Const(constant) if let Some(text) = constant.value.as_str() => {
                        self.line.push(text);
                    }
                    _ => self.line.push_unknown(),
                }
                self.position.push_value(&emit.expr);
            }
            Stmt::ForLoop(each) => self.for_loop(each, text),
            Stmt::IfCond(branch) => {
                self.expression(&branch.expr, Reach::Escaped);
                let before = (self.line.clone(), self.position.clone());
                self.statements(&branch.true_body, text);
                let yes = std::mem::replace(&mut self.line, before.0.clone());
                let position = std::mem::replace(&mut self.position, before.1);
                self.statements(&branch.false_body, text);
                self.line = ScriptLine::after_branches(&before.0, &yes, &self.line);
                self.position.merge(position);
            }
            Stmt::WithBlock(with) => {
                for (target, value) in &with.assignments {
                    let reach = self.target(target);
                    self.expression(value, reach);
                }
                self.statements(&with.body, text);
            }
            Stmt::Set(set) => {
                let reach = self.target(&set.target);
                self.expression(&set.expr, reach);
            }
            Stmt::SetBlock(set) => {
                let mut reach = self.target(&set.target);
                let mut filter = set.filter.as_ref();
                while let Some(Expr::Filter(last)) = filter {
                    reach = self.filter(last, reach);
                    filter = last.expr.as_ref();
                }
                // Where the variable is written is known of the variable.
                let line = std::mem::replace(&mut self.line, ScriptLine::unknown());
                let start = self.position.start_again();
                let position = std::mem::replace(&mut self.position, start);
                let is_value_first = matches!(set.body.first(), Some(Stmt::EmitExpr(_)));
                let (first, rest) = set.body.split_at(usize::from(is_value_first));
                self.statements(first, reach);
                self.position.lose_indentation();
                self.statements(rest, reach);
                (self.line, self.position) = (line, position);
            }
            // Here the next round begins, or the text after the loop, in the middle of a line.
            Stmt::Continue(_) | Stmt::Break(_) => {
                self.line = ScriptLine::unknown();
                self.position.forget();
            }
            // The check rejects the others.
            _ => {}
        }
    }

    fn statements(&mut self, statements: &[Stmt<'_>], text: Reach) {
        for statement in statements {
            self.statement(statement, text);
        }
    }

    /// Returns the reach of a value that is written now, in a text that is used like this.
    fn written(&mut self, text: Reach) -> Reach {
        if self.values == self.reads_quotes.len() {
            self.reads_quotes.push(self.position.reads_quotes());
        }
        let reads_quotes = self.reads_quotes[self.values];
        self.values += 1;
        if !reads_quotes {
            text.unquoted()
        } else if text != Reach::Escaped
            && self.syntax == Syntax::Ipxe
            && !self.line.is_text(&self.expansions)
        {
            text.max(Reach::Word)
        } else {
            text
        }
    }

    fn for_loop(&mut self, each: &ForLoop<'_>, text: Reach) {
        let before = (self.line.clone(), self.position.clone());
        self.line = if has_jump(&each.body) {
            ScriptLine::unknown()
        } else {
            before.0.in_loop(&each.body)
        };
        self.position = before.1.in_loop(&each.body, self.loops);
        self.loops += 1;
        self.statements(&each.body, text);
        self.loops -= 1;
        let line = std::mem::replace(&mut self.line, before.0.clone());
        let position = std::mem::replace(&mut self.position, before.1);
        self.statements(&each.else_body, text);
        self.line = ScriptLine::after_branches(&before.0, &line, &self.line);
        self.position.merge(position);
        if let Some(condition) = &each.filter_expr {
            self.expression(condition, Reach::Escaped);
        }
        // The items of a text are its characters.
        let reach = self.target(&each.target).max(self.reach_of("loop"));
        self.expression(&each.iter, reach.altered());
    }

    /// Returns how the variables are used that a statement sets.
    fn target(&self, target: &Expr<'_>) -> Reach {
        let of_items = |items: &[Expr<'_>]| {
            let reaches = items.iter().map(|item| self.target(item));
            reaches.max().unwrap_or(Reach::Escaped).altered()
        };
        match target {
            Expr::Var(variable) => self.reach_of(variable.id),
            Expr::List(targets) => of_items(&targets.items),
            Expr::Tuple(targets) => of_items(&targets.items),
            _ => Reach::AlteredWord,
        }
    }

    fn reach_of(&self, variable: &str) -> Reach {
        let known = self.variables.get(variable).copied();
        known.unwrap_or(Reach::Escaped).max(self.at_least)
    }

    fn expressions<'e>(&mut self, all: impl IntoIterator<Item = &'e Expr<'e>>, reach: Reach) {
        for expression in all {
            self.expression(expression, reach);
        }
    }

    /// Walks an expression whose value is used like this.
    fn expression(&mut self, expression: &Expr<'_>, reach: Reach) {
        match expression {
            Expr::Const(_) => {}
            Expr::Var(variable) if variable.id == "subject" => {
                self.label(None, variable.span(), reach);
            }
            Expr::Var(variable) => {
                let known = self.reach_of(variable.id).max(reach);
                self.variables.insert(variable.id.to_owned(), known);
            }
            Expr::GetAttr(get) => match &get.expr {
                Expr::Var(variable) if variable.id == "subject" => {
                    self.label(Some(get.name), variable.span(), reach);
                }
                Expr::Var(variable)
                    if variable.id == "loop" && !matches!(get.name, "previtem" | "nextitem") => {}
                other => self.expression(other, reach),
            },
            Expr::GetItem(get) => {
                // An index selects, and does not reach the text itself.
                self.expression(&get.subscript_expr, Reach::Escaped);
                match &get.expr {
                    Expr::Var(variable) if variable.id == "subject" => {
                        let name = get.subscript_expr.as_const();
                        let name = name.as_ref().and_then(|name| name.as_str());
                        self.label(name, variable.span(), reach);
                    }
                    other => self.expression(other, reach.altered()),
                }
            }
            Expr::Slice(slice) => {
                self.expression(&slice.expr, reach.altered());
                let bounds = [&slice.start, &slice.stop, &slice.step];
                self.expressions(bounds.into_iter().flatten(), Reach::Escaped);
            }
            Expr::UnaryOp(operation) => self.expression(&operation.expr, Reach::Escaped),
            Expr::BinOp(operation) => {
                let reach = match operation.op {
                    // A quoted value would have text beside it.
                    BinOpKind::Concat if self.syntax != Syntax::Ipxe => reach.unquoted(),
                    BinOpKind::Concat | BinOpKind::ScAnd | BinOpKind::ScOr => reach,
                    // The result is a number or a truth value.
                    _ => Reach::Escaped,
                };
                self.expressions([&operation.left, &operation.right], reach);
            }
            Expr::Compare(comparison) => {
                self.expression(&comparison.expr, Reach::Escaped);
                let others = comparison.ops.iter().map(|other| &other.expr);
                self.expressions(others, Reach::Escaped);
            }
            Expr::IfExpr(choice) => {
                self.expression(&choice.test_expr, Reach::Escaped);
                self.expression(&choice.true_expr, reach);
                self.expressions(&choice.false_expr, reach);
            }
            Expr::Filter(filter) => {
                let input = self.filter(filter, reach);
                self.expressions(&filter.expr, input);
            }
            Expr::Test(test) => {
                self.expression(&test.expr, Reach::Escaped);
                self.arguments(&test.args, Reach::Escaped);
            }
            Expr::Call(call) => self.call(call, reach),
            Expr::List(list) => self.expressions(&list.items, reach),
            Expr::Tuple(tuple) => self.expressions(&tuple.items, reach),
            Expr::Map(map) => self.expressions(map.keys.iter().chain(&map.values), reach),
        }
    }

    /// Walks the arguments of a filter whose result is used like this. Returns how its input is
    /// used.
    fn filter(&mut self, filter: &Filter<'_>, reach: Reach) -> Reach {
        let (input, arguments) = match filter.name {
            // Numbers, or the argument.
            "int" | "float" | "length" | "count" | "abs" | "round" => (Reach::Escaped, reach),
            // What these return is plain text everywhere.
            "b64encode" | "urlencode" if reach < Reach::Altered => (Reach::Escaped, Reach::Escaped),
            name if reach < Reach::Unquoted && self.syntax.is_escaped_by(name) => {
                (Reach::Escaped, Reach::Escaped)
            }
            // Plain text stays plain text in quotation marks. What another filter has put in
            // quotation marks does not.
            name if Quoting::of_filter(name).is_some() => (reach.unquoted(), reach.unquoted()),
            // These take a text apart into its characters, and would put something between them.
            "join" | "list" if !matches!(filter.expr, Some(Expr::List(_))) => {
                (reach.altered(), reach)
            }
            "join" | "list" | "items" => (reach, reach),
            "default" | "d" | "indent" | "string" => (reach, reach),
            // Plain text stays plain text.
            "upper" | "lower" | "title" | "capitalize" => (reach, reach),
            "trim" if filter.args.is_empty() => (reach, reach),
            "replace" if is_joining(&filter.args) => (reach.altered().min(Reach::Altered), reach),
            _ => (reach.altered(), reach.altered()),
        };
        self.arguments(&filter.args, arguments);
        input
    }

    fn call(&mut self, call: &Call<'_>, reach: Reach) {
        let is_cycle = matches!(&call.expr, Expr::GetAttr(method) if method.name == "cycle");
        self.arguments(&call.args, if is_cycle { reach } else { Reach::Escaped });
    }

    fn arguments(&mut self, arguments: &[CallArg<'_>], reach: Reach) {
        self.expressions(arguments.iter().map(value_of), reach);
    }

    /// Records a lookup of a label; `None` if its key is not a literal.
    fn label(&mut self, label: Option<&str>, subject: Span, reach: Reach) {
        if reach != Reach::Raw {
            let place = subject.start_offset as usize..subject.end_offset as usize;
            self.flow.places.push((place, reach));
        }
        if reach != Reach::Escaped
            && self.syntax != Syntax::Ipxe
            && self.reported.insert(label.map(str::to_owned))
        {
            self.flow.raw.push(LabelUse {
                label: label.map(str::to_owned),
                line: usize::from(subject.start_line),
            });
        }
    }
}

/// Returns the value of an argument, however it is passed.
pub(super) fn value_of<'e, 's>(argument: &'e CallArg<'s>) -> &'e Expr<'s> {
    match argument {
        CallArg::Pos(value)
        | CallArg::Kwarg(_, value)
        | CallArg::PosSplat(value)
        | CallArg::KwargSplat(value) => value,
    }
}

/// Returns whether a loop's body leaves a round before its end.
fn has_jump(body: &[Stmt<'_>]) -> bool {
    body.iter().any(|statement| match statement {
        Stmt::Continue(_) | Stmt::Break(_) => true,
        Stmt::IfCond(branch) => has_jump(&branch.true_body) || has_jump(&branch.false_body),
        Stmt::WithBlock(with) => has_jump(&with.body),
        _ => false,
    })
}

/// Returns whether `replace` with these arguments replaces all spaces by something else:
/// afterwards, there is nothing that divides a word.
fn is_joining(arguments: &[CallArg<'_>]) -> bool {
    let text = |argument: &CallArg<'_>| match argument {
        CallArg::Pos(value) => value.as_const()?.as_str().map(str::to_owned),
        _ => None,
    };
    match arguments {
        [from, to] => {
            text(from).is_some_and(|from| from == " ")
                && text(to).is_some_and(|to| !to.contains(char::is_whitespace))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use minijinja::machinery::parse;

    use super::super::syntax;
    use super::*;

    /// Returns the number of escaped uses of `subject`, and the labels used raw.
    fn flow(source: &str, format: ConfigFormat) -> (usize, Vec<String>) {
        let root = parse(source, "template", syntax()).expect("it is a template");
        let flow = Flow::of(&root, source, Syntax::Known(format));
        for (place, _) in &flow.places {
            assert_eq!(&source[place.clone()], "subject");
        }
        let raw = flow.raw.into_iter();
        let escaped = flow.places.iter();
        (
            escaped
                .filter(|(_, reach)| *reach == Reach::Escaped)
                .count(),
            raw.map(|used| used.label.unwrap_or_default()).collect(),
        )
    }

    #[test]
    fn a_label_through_a_filter_of_the_format_is_escaped() {
        for source in [
            "{{ subject.x | tojson }}",
            "{{ subject.x | default('none') | toyaml }}",
            "{{ ('a' ~ subject.x) | toyaml }}",
            "a: {{ [subject.x, 1] | tojson }}\nb: {{ {'a': subject.y} | tojson }}",
            "{{ subject | tojson }}",
            "{{ subject.x | b64encode }}{{ subject.x | urlencode | upper }}",
            "{{ subject.x | int }}{{ subject.x | length }}",
            "{{ subject.x | tojson | indent(2) }}",
            "{% if subject.x == 'a' and subject.y is defined %}b{% endif %}",
            "{{ 'a' if subject.x else 'b' }}",
            "{{ profile.labels[subject.x] }}",
            "{% set h = subject.x %}{{ h | tojson }}",
            "{% set h = g %}{% set g = subject.x %}{{ h | tojson }}",
            "{% set h %}host: {{ subject.x }}{% endset %}{{ h | toyaml }}",
            "{% set h | toyaml %}host: {{ subject.x }}{% endset %}{{ h }}",
            "{% with h = subject.x %}{{ h | toyaml }}{% endwith %}",
            "{% for key in subject %}{{ key | toyaml }}: {{ subject[key] | toyaml }}\n{% endfor %}",
            "[{% for key, value in subject | items if value %}{{ value | tojson }}, {% endfor %}]",
            "{% if subject.x %}a: {% else %}b: {% endif %}{{ subject.y | toyaml }}",
            "{% set h = subject.x | toyaml %}a: {{ h }}",
            "{% set h %}b: c\nd:\n{% endset %}{{ h }}  a: {{ subject.x | toyaml }}",
            "{% set h %}{{ subject.x | toyaml }}{% endset %}a: {{ h }}",
        ] {
            let (escaped, raw) = flow(source, ConfigFormat::Yaml);
            assert!(escaped > 0 && raw.is_empty(), "{source}: {escaped} {raw:?}");
        }
    }

    #[test]
    fn a_label_that_could_reach_the_text_unescaped_is_raw() {
        for source in [
            "{{ subject.x }}",
            "{{ subject['x'] | upper }}",
            "{{ 'a' ~ (subject.x | tojson) }}",
            "{{ subject.x | tojson | replace('\"', '') }}",
            "{{ (subject.x | tojson)[1:] }}",
            "{{ subject.x | tojson | trim('\"') }}",
            "{{ '%s' | format(subject.x) }}",
            "{{ 'a' | replace('a', subject.x) }}",
            "{{ subject.y | tojson if subject.y else subject.x }}",
            "{{ subject.y | default(subject.x) }}",
            "{{ 'a' | int(subject.x) }}",
            "{{ subject.y and subject.x }}",
            "{% set h = subject.x %}{{ h }}{{ h | tojson }}",
            "{% set g = h %}{{ g }}{% set h = subject.x %}",
            "{% set h = subject.x | tojson %}{{ h[1:] }}",
            "{% for c in subject.x | tojson %}{{ c }}{% endfor %}",
            "{% for c in subject.x %}{{ loop.previtem }}{% endfor %}",
            "{% for n in range(2) %}{{ loop.cycle(subject.x, 'b') }}{% endfor %}",
            "{{ [subject.x] | join }}",
            "{{ subject.x | tojson | join(' ') }}",
            "{{ subject.x | tojson | list | join(' ') }}",
            "{{ {'a': subject.x}.a }}",
            "a: b {{ subject.x | toyaml }}",
            "a: \"{{ subject.x | toyaml }}\"",
            "a: |\n  {{ subject.x | toyaml }}",
            "{% set h = subject.x | toyaml %}a: '{{ h }}'",
            "{% set h %}{{ subject.x | toyaml }}{% endset %}a: '{{ h }}'",
            "{% if b %}a: |\n{% endif %}  {{ subject.x | toyaml }}",
            "{% for key in range(2) %}{{ subject.x | toyaml }} {% endfor %}",
            "{% set h %}      Host: {{ subject.x | toyaml }}{% endset %}a: |\n{{ h }}",
            "{% set h %}{{ b }}\n  c: {{ subject.x | toyaml }}{% endset %}a: |\n  {{ h }}",
            "{% set h = '|' %}a: {{ h }}\n  {{ subject.x | toyaml }}",
            "a: |\r  b\r  {{ subject.x | toyaml }}",
            "a: |\u{85}  {{ subject.x | toyaml }}",
        ] {
            let (_, raw) = flow(source, ConfigFormat::Yaml);
            assert!(raw.contains(&"x".to_owned()), "{source}: {raw:?}");
        }
        let (_, raw) = flow(
            "{% for k in subject %}{{ k }}{% endfor %}",
            ConfigFormat::Yaml,
        );
        assert_eq!(raw, [""]);
    }

    #[test]
    fn a_filter_of_another_format_does_not_escape() {
        use ConfigFormat::{Json, Kickstart, Shell, Text, Yaml};
        for (filter, formats) in [
            ("tojson", &[Yaml, Json][..]),
            ("toyaml", &[Yaml, Json]),
            ("shquote", &[Shell, Kickstart]),
            ("upper", &[]),
        ] {
            for format in [Yaml, Json, Shell, Kickstart] {
                let (_, raw) = flow(&format!("{{{{ subject.x | {filter} }}}}"), format);
                assert_eq!(
                    raw.is_empty(),
                    formats.contains(&format),
                    "{filter} {format}"
                );
            }
        }
        let nested = "{{ subject | tojson | shquote }}";
        assert_eq!(flow(nested, Shell), (1, Vec::new()));
        assert_eq!(flow("{{ subject.x }}", Text), (0, Vec::new()));
    }

    #[test]
    fn a_chain_of_many_variables_counts_as_raw() {
        let mut source = String::from("{{ v0 }}");
        for at in 0..50 {
            source = format!("{{% set v{at} = v{} %}}{source}", at + 1);
        }
        // In source order, each walk resolves one more variable.
        let (_, raw) = flow(
            &format!("{{% set v50 = subject.x %}}{source}"),
            ConfigFormat::Yaml,
        );
        assert_eq!(raw, ["x"]);
    }
}
