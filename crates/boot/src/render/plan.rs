//! Renders a [`Plan`] without the template engine.

use crate::assignment::Assignment;
use crate::name::ObjectKey;
use crate::profile::Profile;
use crate::query;
use crate::sorted::Labels;
use crate::subject::Subject;
use crate::template::plan::{Object, Part, Plan, Step, Term, Test};
use crate::template::reach::Reach;
use crate::variables::Json;

use super::safety::Place;
use super::scope::append_config_url;

/// Maximum size of all values in the output. For more, only the engine knows whether the fuel
/// suffices; it does for the plan's own text.
const MAX_VALUE_BYTES: usize = 256 * 1024;
/// Capacity for values, in addition to the plan's own text: a link with the labels of a typical
/// machine, and a little more. (glibc's allocator is several times as fast up to 1,032 bytes, which
/// typical scripts stay below.)
const TYPICAL_VALUE_BYTES: usize = 512;

/// The values that a plan can refer to.
pub(super) struct PlanRenderer<'a> {
    pub(super) subject: &'a Subject,
    pub(super) profile: &'a Profile,
    pub(super) assignment: Option<&'a Assignment>,
    pub(super) base_url: &'a str,
    pub(super) place: Place<'a>,
}

/// The engine must render this template: it may be an error, and only the engine knows its message.
struct NeedsEngine;

impl PlanRenderer<'_> {
    /// Renders a plan. `None` if the engine must render the template.
    pub(super) fn render(&self, plan: &Plan) -> Option<String> {
        let mut out = String::with_capacity(plan.text_bytes + TYPICAL_VALUE_BYTES);
        let text_bytes = self.execute(plan, &mut out).ok()?;
        (out.len() - text_bytes <= MAX_VALUE_BYTES).then_some(out)
    }

    /// Executes a plan. Returns how many bytes of the output are its own text.
    fn execute(&self, plan: &Plan, out: &mut String) -> Result<usize, NeedsEngine> {
        let mut text_bytes = 0;
        for step in &plan.steps {
            match step {
                Step::Text(text) => {
                    out.push_str(text);
                    text_bytes += text.len();
                }
                Step::Term(term) if self.write(term, out)? => {}
                Step::Term(_) => return Err(NeedsEngine),
                Step::Choice { test, yes, no } => {
                    let branch = if self.holds(test)? { yes } else { no };
                    text_bytes += self.execute(branch, out)?;
                }
            }
        }
        Ok(text_bytes)
    }

    /// Writes the value of a term. Returns false if it is absent.
    fn write(&self, term: &Term, out: &mut String) -> Result<bool, NeedsEngine> {
        let text = match term {
            Term::Text(text) => Some(&**text),
            Term::BaseUrl => Some(self.base_url),
            Term::Label(key, reach) => self.label(key, *reach)?,
            Term::Extrinsic(key) => self.subject.extrinsic(key),
            Term::Encoded(key) => match self.subject.label(key) {
                Some(value) => {
                    query::encode_word_into(out, value);
                    return Ok(true);
                }
                None => None,
            },
            Term::Link(name) => return self.link(name, out).map(|()| true),
            Term::Variable(path) => return self.variable(path, out),
            Term::Object(object, part) => {
                let (key, labels) = self.object(*object)?;
                match part {
                    Part::Name => Some(&*key.name),
                    Part::Namespace => Some(&*key.namespace),
                    Part::Label(key) => labels.get(key),
                }
            }
            Term::Quoted(quoting, term) => {
                let mut text = String::new();
                if !self.write(term, &mut text)? {
                    return Err(NeedsEngine);
                }
                quoting.write(&text, out).map_err(|_| NeedsEngine)?;
                return Ok(true);
            }
            Term::Default(terms) => {
                let [term, other] = &**terms;
                if !self.write(term, out)? {
                    return self.write(other, out);
                }
                // The engine evaluates both.
                let end = out.len();
                self.write(other, out)?;
                out.truncate(end);
                return Ok(true);
            }
        };
        text.into_iter().for_each(|text| out.push_str(text));
        Ok(text.is_some())
    }

    fn holds(&self, test: &Test) -> Result<bool, NeedsEngine> {
        let mut text = String::new();
        match test {
            Test::Holds(term) => Ok(self.write(term, &mut text)? && !text.is_empty()),
            Test::Equal(terms) => {
                let [left, right] = &**terms;
                let mut other = String::new();
                let are_present = self.write(left, &mut text)? && self.write(right, &mut other)?;
                if are_present {
                    Ok(text == other)
                } else {
                    Err(NeedsEngine)
                }
            }
            Test::Not(test) => self.holds(test).map(|holds| !holds),
            Test::And(tests) => Ok(self.holds(&tests[0])? && self.holds(&tests[1])?),
            Test::Or(tests) => Ok(self.holds(&tests[0])? || self.holds(&tests[1])?),
        }
    }

    fn label(&self, key: &str, reach: Reach) -> Result<Option<&str>, NeedsEngine> {
        let Some(value) = self.subject.label(key) else {
            return Ok(None);
        };
        self.place
            .check(self.subject, key, value, reach)
            .map(|()| Some(value))
            .map_err(|_| NeedsEngine)
    }

    fn object(&self, object: Object) -> Result<(&ObjectKey, &Labels), NeedsEngine> {
        match object {
            Object::Profile => Ok((&self.profile.key, &self.profile.labels)),
            Object::Assignment => self
                .assignment
                .map(|assignment| (&assignment.key, &assignment.labels))
                .ok_or(NeedsEngine),
            Object::Machine => {
                let machine = self.subject.machine().ok_or(NeedsEngine)?;
                Ok((&machine.key, &machine.labels))
            }
        }
    }

    /// Writes a variable that is text. Returns false if it is absent.
    fn variable(&self, path: &[Box<str>], out: &mut String) -> Result<bool, NeedsEngine> {
        let layers = [
            self.subject.machine().map(|machine| &machine.variables),
            self.assignment.map(|assignment| &assignment.variables),
            Some(&self.profile.variables),
        ];
        for layer in layers.into_iter().flatten() {
            match layer.find(path) {
                Some(Json::Text(text)) => {
                    out.push_str(text);
                    return Ok(true);
                }
                // It is no text, or it removes the value of another layer.
                Some(_) => return Err(NeedsEngine),
                None => {}
            }
        }
        Ok(false)
    }

    fn link(&self, name: &str, out: &mut String) -> Result<(), NeedsEngine> {
        let id = self.profile.ids.get(name).ok_or(NeedsEngine)?;
        // Not cached: most scripts have one link, and most of it is copied.
        append_config_url(out, self.base_url, *id, self.subject);
        Ok(())
    }
}
