//! Plans: templates that need no engine, made only of text, values and conditions on them.
//!
//! Nearly all scripts are like this, and half the cost of an answer is the engine's. At load, such
//! a template is compiled to a list of steps, which [`crate::render`] executes. A step that meets
//! anything but plain text gives up, and the engine renders the template as usual, so that errors
//! and their messages are defined in one place.

use std::collections::BTreeSet;

use minijinja::machinery::ast::{BinOp, BinOpKind, CallArg, Expr, Stmt, UnaryOpKind};

use super::quoting::Quoting;
use super::reach::Reach;

/// Maximum number of steps in a plan, few enough that the engine would have the fuel for any of
/// them.
const MAX_STEPS: usize = 256;

/// What to write, in order.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) steps: Box<[Step]>,
    /// The size of its own text on the longest path, in bytes.
    pub(crate) text_bytes: usize,
}

#[derive(Debug)]
pub(crate) enum Step {
    Text(Box<str>),
    Term(Term),
    Choice { test: Test, yes: Plan, no: Plan },
}

/// An expression with a text value.
#[derive(Debug)]
pub(crate) enum Term {
    Text(Box<str>),
    /// `subject.KEY`
    Label(Box<str>, Reach),
    /// `extrinsic.KEY`
    Extrinsic(Box<str>),
    /// `encoded.KEY`
    Encoded(Box<str>),
    /// The name of a config, which stands for its URL.
    Link(Box<str>),
    BaseUrl,
    Object(Object, Part),
    /// `vars.NAME`, `vars.NAME.NAME`
    Variable(Box<[Box<str>]>),
    /// A term through a filter that escapes it.
    Quoted(Quoting, Box<Term>),
    /// The first term or, if that is absent, the second.
    Default(Box<[Term; 2]>),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Object {
    Profile,
    Assignment,
    Machine,
}

#[derive(Debug)]
pub(crate) enum Part {
    Name,
    Namespace,
    Label(Box<str>),
}

#[derive(Debug)]
pub(crate) enum Test {
    /// The term is present and not empty.
    Holds(Term),
    Equal(Box<[Term; 2]>),
    Not(Box<Test>),
    And(Box<[Test; 2]>),
    Or(Box<[Test; 2]>),
}

/// Compiles a parsed template to a plan.
struct Planner<'a> {
    configs: &'a BTreeSet<&'a str>,
    steps: usize,
}

// === impl Plan ===

impl Plan {
    /// Returns the plan of a checked template, if it needs no engine.
    pub(super) fn of(root: &Stmt<'_>, configs: &BTreeSet<&str>) -> Option<Self> {
        match root {
            Stmt::Template(template) => Planner { configs, steps: 0 }.plan(&template.children),
            _ => None,
        }
    }
}

// === impl Planner ===

impl Planner<'_> {
    fn plan(&mut self, statements: &[Stmt<'_>]) -> Option<Plan> {
        let mut steps = Vec::new();
        self.steps(statements, &mut steps)?;
        let bytes = |step: &Step| match step {
            Step::Text(text) => text.len(),
            Step::Term(_) => 0,
            Step::Choice { yes, no, .. } => yes.text_bytes.max(no.text_bytes),
        };
        Some(Plan {
            text_bytes: steps.iter().map(bytes).sum(),
            steps: steps.into(),
        })
    }

    fn steps(&mut self, statements: &[Stmt<'_>], steps: &mut Vec<Step>) -> Option<()> {
        for statement in statements {
            match statement {
                // Around an included text. A plan sets no variables that could end here.
                Stmt::WithBlock(with) if with.assignments.is_empty() => {
                    self.count()?;
                    self.steps(&with.body, steps)?;
                }
                _ => steps.push(self.step(statement)?),
            }
        }
        Some(())
    }

    fn step(&mut self, statement: &Stmt<'_>) -> Option<Step> {
        self.count()?;
        match statement {
            Stmt::EmitRaw(raw) => Some(Step::Text(raw.raw.into())),
            Stmt::EmitExpr(emit) => self.term(&emit.expr).map(Step::Term),
            Stmt::IfCond(branch) => {
                let test = self.test(&branch.expr)?;
                Some(Step::Choice {
                    test,
                    yes: self.plan(&branch.true_body)?,
                    no: self.plan(&branch.false_body)?,
                })
            }
            _ => None,
        }
    }

    /// Counts a step. `None` if there are too many.
    fn count(&mut self) -> Option<()> {
        self.steps += 1;
        (self.steps <= MAX_STEPS).then_some(())
    }

    fn term(&mut self, expression: &Expr<'_>) -> Option<Term> {
        self.count()?;
        match expression {
            Expr::Const(constant) => constant.value.as_str().map(|text| Term::Text(text.into())),
            Expr::Var(variable) if variable.id == "base_url" => Some(Term::BaseUrl),
            Expr::Var(variable) if self.configs.contains(variable.id) => {
                Some(Term::Link(variable.id.into()))
            }
            Expr::GetAttr(get) => item(&get.expr, get.name),
            Expr::GetItem(get) => item(&get.expr, get.subscript_expr.as_const()?.as_str()?),
            Expr::Filter(filter) if matches!(filter.name, "default" | "d") => {
                let [CallArg::Pos(other)] = &filter.args[..] else {
                    return None;
                };
                Some(Term::Default(Box::new([
                    self.term(filter.expr.as_ref()?)?,
                    self.term(other)?,
                ])))
            }
            Expr::Filter(filter) if filter.args.is_empty() => Some(Term::Quoted(
                Quoting::of_filter(filter.name)?,
                Box::new(self.term(filter.expr.as_ref()?)?),
            )),
            _ => None,
        }
    }

    fn test(&mut self, expression: &Expr<'_>) -> Option<Test> {
        self.count()?;
        match expression {
            Expr::UnaryOp(operation) if matches!(operation.op, UnaryOpKind::Not) => {
                Some(Test::Not(Box::new(self.test(&operation.expr)?)))
            }
            Expr::BinOp(operation) => self.operation(operation),
            other => self.term(other).map(Test::Holds),
        }
    }

    fn operation(&mut self, operation: &BinOp<'_>) -> Option<Test> {
        let BinOp { op, left, right } = operation;
        match op {
            BinOpKind::Eq => self.equal(left, right),
            BinOpKind::Ne => self
                .equal(left, right)
                .map(|equal| Test::Not(Box::new(equal))),
            BinOpKind::ScAnd => Some(Test::And(Box::new([self.test(left)?, self.test(right)?]))),
            BinOpKind::ScOr => Some(Test::Or(Box::new([self.test(left)?, self.test(right)?]))),
            _ => None,
        }
    }

    fn equal(&mut self, left: &Expr<'_>, right: &Expr<'_>) -> Option<Test> {
        Some(Test::Equal(Box::new([self.term(left)?, self.term(right)?])))
    }
}

/// Returns the term for `.name` of `subject`, `encoded`, `extrinsic`, `vars`, `profile`,
/// `assignment` or `machine`, or of the labels of the latter three.
fn item(of: &Expr<'_>, name: &str) -> Option<Term> {
    let object = |id| match id {
        "profile" => Some(Object::Profile),
        "assignment" => Some(Object::Assignment),
        "machine" => Some(Object::Machine),
        _ => None,
    };
    match of {
        Expr::Var(variable) if let Some(reach) = Reach::of_variable(variable.id) => {
            Some(Term::Label(name.into(), reach))
        }
        Expr::Var(variable) => match (variable.id, name) {
            ("extrinsic", key) => Some(Term::Extrinsic(key.into())),
            ("encoded", key) => Some(Term::Encoded(key.into())),
            ("vars", name) => Some(Term::Variable([name.into()].into())),
            ("machine", "namespace") => None,
            (id, "name") => object(id).map(|object| Term::Object(object, Part::Name)),
            (id, "namespace") => object(id).map(|object| Term::Object(object, Part::Namespace)),
            _ => None,
        },
        Expr::GetAttr(labels) if labels.name == "labels" => match &labels.expr {
            Expr::Var(variable) if variable.id == "vars" => {
                Some(Term::Variable(["labels".into(), name.into()].into()))
            }
            Expr::Var(variable) => {
                object(variable.id).map(|object| Term::Object(object, Part::Label(name.into())))
            }
            _ => None,
        },
        // A map in a variable.
        Expr::GetAttr(map) => match item(&map.expr, map.name)? {
            Term::Variable(path) => {
                let path = path.into_iter().chain([name.into()]);
                Some(Term::Variable(path.collect()))
            }
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use minijinja::machinery::parse;

    use super::super::syntax;
    use super::*;

    fn is_planned(source: &str) -> bool {
        let root = parse(source, "template", syntax()).expect("it is a template");
        Plan::of(&root, &BTreeSet::from(["ignition"])).is_some()
    }

    #[test]
    fn common_scripts_compile_to_a_plan() {
        for source in [
            "#!ipxe\nboot\n",
            "{{ ignition }} {{ base_url }} {{ subject.uuid }} {{ subject['asset-tag'] }} {{ encoded.serial }}",
            "{{ subject.hostname | default(subject.serial | d('none')) }}",
            "{{ subject.serial | tojson }} {{ subject.x | default('y') | toyaml }} {{ extrinsic.x | shquote }}",
            "{{ vars.hostname }} {{ vars['ssh-key'] }} {{ vars.net.v4.ip | default('x') }} {{ machine.name }} {{ machine.labels.rack }}",
            "{{ profile.name }} {{ profile.labels.os }} {{ assignment.namespace }} {{ assignment.labels['team'] }}",
            "a {% with %}{{ base_url }}{% with %}b{% endwith %}{% endwith %}",
            "{% if subject.buildarch == 'arm64' and not subject.asset %}a{% elif subject.x != 'y' or encoded.z %}b{% else %}c{% endif %}",
        ] {
            assert!(is_planned(source), "{source}");
        }
    }

    #[test]
    fn other_templates_are_left_to_the_engine() {
        for source in [
            "{% for key in subject %}{{ key }}{% endfor %}",
            "{% set x = 1 %}",
            "{% with x = 1 %}{% endwith %}",
            "{{ subject.serial | upper }}",
            "{{ 1 + 1 }}",
            "{{ subject | tojson }}",
            "{{ subject.serial | tojson(indent=1) }}",
            "{{ subject.asset | default('x', true) }}",
            "{% if subject.asset is defined %}x{% endif %}",
            "{% if 'a' < subject.asset %}x{% endif %}",
            "{{ profile.labels }}",
        ] {
            assert!(!is_planned(source), "{source}");
        }
        assert!(is_planned(&"{{ base_url }}".repeat(MAX_STEPS / 2)));
        assert!(!is_planned(&"{{ base_url }}".repeat(MAX_STEPS / 2 + 1)));
    }
}
