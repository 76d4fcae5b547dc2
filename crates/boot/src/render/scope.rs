//! The variables of a template.

use std::error::Error as _;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use minijinja::value::{Enumerator, Object};
use minijinja::{Error, ErrorKind, Value};
use smallvec::SmallVec;
use uuid::Uuid;

use crate::assignment::Assignment;
use crate::config_format::Syntax;
use crate::config_name::ConfigName;
use crate::name::ObjectKey;
use crate::profile::Profile;
use crate::query;
use crate::subject::Subject;
use crate::template::reach::Reach;
use crate::variables::Variables;

use super::RenderError;
use super::safety::Place;
use super::variables::VariablesValue;

/// All variables of one render. A value is computed when the template first uses it, and then
/// cached, so that a loop pays only for the lookup.
#[derive(Debug)]
pub(super) struct Scope {
    subject: Arc<Subject>,
    profile: Arc<Profile>,
    assignment: Option<Arc<Assignment>>,
    base_url: Box<str>,
    /// `None` for the script.
    config: Option<(ConfigName, Syntax)>,
    cache: ValueCache,
    last_missing: LastMissing,
}

/// The last label that the template looked up and that is absent. When the engine reports an
/// undefined value, it is this one.
#[derive(Clone, Debug, Default)]
pub(super) struct LastMissing(Arc<Mutex<Option<Missing>>>);

/// An absent label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    Subject(Box<str>),
    Operator(Box<str>),
    Object {
        variable: &'static str,
        key: Box<str>,
    },
    /// The path of a variable.
    Variable(Box<str>),
    /// There is no Machine.
    Machine,
}

/// Values that were looked up before, by name. There are a few, and at most 64 and the config
/// names.
#[derive(Debug, Default)]
pub(super) struct ValueCache(Mutex<SmallVec<[CachedValue; 4]>>);

/// A name and its value.
type CachedValue = (Box<str>, Value);

/// The variables `subject`, `encoded` and `extrinsic`. Values of `subject` that are unsafe where
/// the template writes them are errors.
#[derive(Debug)]
struct Labels {
    subject: Arc<Subject>,
    form: Form,
    /// `None` for the script.
    config: Option<(ConfigName, Syntax)>,
    cache: ValueCache,
    last_missing: LastMissing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// `subject`
    Plain(Reach),
    /// `encoded`
    Encoded,
    /// `extrinsic`
    Extrinsic,
}

/// The variables `profile`, `assignment` and `machine`.
struct ObjectVariable<T> {
    object: Arc<T>,
    variable: &'static str,
    key: fn(&T) -> &ObjectKey,
    labels: fn(&T) -> &crate::Labels,
    cache: ValueCache,
    last_missing: LastMissing,
}

/// The values `profile.labels`, `assignment.labels` and `machine.labels`. They must not refer to their
/// [`ObjectVariable`], which caches them: that would be a reference cycle.
struct ObjectLabels<T> {
    object: Arc<T>,
    variable: &'static str,
    labels: fn(&T) -> &crate::Labels,
    last_missing: LastMissing,
}

/// Carries a [`RenderError`] through the engine.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct CarriedError(RenderError);

impl Scope {
    pub(super) fn new(
        config: Option<(ConfigName, Syntax)>,
        subject: Arc<Subject>,
        profile: Arc<Profile>,
        assignment: Option<Arc<Assignment>>,
        base_url: &str,
    ) -> Self {
        let (cache, last_missing) = (ValueCache::default(), LastMissing::default());
        Self {
            subject,
            profile,
            assignment,
            base_url: base_url.into(),
            config,
            cache,
            last_missing,
        }
    }

    /// Returns the record of absent labels, to be read after the render.
    pub(super) fn last_missing(&self) -> LastMissing {
        self.last_missing.clone()
    }

    pub(super) fn into_value(self) -> Value {
        Value::from_object(self)
    }

    fn labels(&self, form: Form) -> Value {
        Value::from_object(Labels {
            subject: self.subject.clone(),
            form,
            config: self.config.clone(),
            cache: ValueCache::default(),
            last_missing: self.last_missing.clone(),
        })
    }

    /// Returns the absolute URL of a config, with the subject's own labels as the query: the config
    /// is rendered for them.
    fn config_url(&self, name: &str) -> Option<Value> {
        let name = self.profile.templates.config_named(name)?;
        let Some(id) = self.profile.ids.get(name) else {
            return Some(error_value(RenderError::NotReady(name.clone())));
        };
        let mut url = String::new();
        append_config_url(&mut url, &self.base_url, *id, &self.subject);
        Some(url.into())
    }
}

impl ValueCache {
    pub(super) fn get_or(&self, name: &str, make: impl FnOnce() -> Option<Value>) -> Option<Value> {
        let mut cache = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, value)) = cache.iter().find(|(known, _)| **known == *name) {
            return Some(value.clone());
        }
        let value = make()?;
        cache.push((name.into(), value.clone()));
        Some(value)
    }
}

impl Scope {
    /// Returns the variables of Profile, Assignment and Machine.
    fn layers(&self) -> [Variables; 3] {
        let assignment = self.assignment.as_deref();
        let machine = self.subject.machine();
        [
            self.profile.variables.clone(),
            assignment.map_or_else(Variables::default, |it| it.variables.clone()),
            machine.map_or_else(Variables::default, |it| it.variables.clone()),
        ]
    }

    fn variable(&self, name: &str) -> Option<Value> {
        match name {
            "encoded" => Some(self.labels(Form::Encoded)),
            "extrinsic" => Some(self.labels(Form::Extrinsic)),
            "base_url" => Some((&*self.base_url).into()),
            "profile" => Some(Value::from_object(ObjectVariable {
                object: self.profile.clone(),
                variable: "profile",
                key: |profile| &profile.key,
                labels: |profile| &profile.labels,
                cache: ValueCache::default(),
                last_missing: self.last_missing.clone(),
            })),
            "assignment" => self.assignment.as_ref().map(|assignment| {
                Value::from_object(ObjectVariable {
                    object: assignment.clone(),
                    variable: "assignment",
                    key: |assignment| &assignment.key,
                    labels: |assignment| &assignment.labels,
                    cache: ValueCache::default(),
                    last_missing: self.last_missing.clone(),
                })
            }),
            "vars" => Some(Value::from_object(VariablesValue {
                layers: self.layers(),
                cache: ValueCache::default(),
                last_missing: self.last_missing.clone(),
            })),
            "machine" => {
                let Some(machine) = self.subject.machine() else {
                    self.last_missing.record(Missing::Machine);
                    return None;
                };
                Some(Value::from_object(ObjectVariable {
                    object: machine.clone(),
                    variable: "machine",
                    key: |machine| &machine.key,
                    labels: |machine| &machine.labels,
                    cache: ValueCache::default(),
                    last_missing: self.last_missing.clone(),
                }))
            }
            name => match Reach::of_variable(name) {
                Some(reach) => Some(self.labels(Form::Plain(reach))),
                None => self.config_url(name),
            },
        }
    }
}

impl Object for Scope {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        self.cache.get_or(key, || self.variable(key))
    }
}

impl Labels {
    fn place(&self) -> Place<'_> {
        Place::of(self.config.as_ref())
    }

    fn value(&self, key: &str) -> Option<Value> {
        let value = match self.form {
            Form::Extrinsic => self.subject.extrinsic(key),
            _ => self.subject.label(key),
        };
        let Some(value) = value else {
            self.last_missing.record(match self.form {
                Form::Extrinsic => Missing::Operator(key.into()),
                _ => Missing::Subject(key.into()),
            });
            return None;
        };
        match self.form {
            Form::Extrinsic => Some(value.into()),
            Form::Encoded => {
                let mut encoded = String::with_capacity(value.len());
                query::encode_word_into(&mut encoded, value);
                Some(encoded.into())
            }
            Form::Plain(reach) => {
                let checked = self.place().check(&self.subject, key, value, reach);
                Some(checked.map_or_else(
                    |reason| error_value(RenderError::Unsafe(reason)),
                    |()| value.into(),
                ))
            }
        }
    }

    /// Returns a key for iteration. The machine chose it, so it is checked like a value.
    fn key(&self, key: &str) -> Value {
        let reach = match self.form {
            Form::Plain(reach) => reach,
            // A key is not encoded.
            Form::Encoded | Form::Extrinsic => Reach::AlteredWord,
        };
        self.place()
            .check_key(&self.subject, key, reach)
            .map_or_else(
                |reason| error_value(RenderError::Unsafe(reason)),
                |()| key.into(),
            )
    }
}

impl Object for Labels {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        self.cache.get_or(key, || self.value(key))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        let is_extrinsic = self.form == Form::Extrinsic;
        Enumerator::Values(
            self.subject
                .labels()
                .filter(|(key, _)| !is_extrinsic || self.subject.extrinsic(key).is_some())
                .map(|(key, _)| self.key(key))
                .collect(),
        )
    }
}

impl<T> fmt::Debug for ObjectVariable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.variable, (self.key)(&self.object))
    }
}

impl<T: Send + Sync + 'static> Object for ObjectVariable<T> {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        match key.as_str()? {
            "name" => Some(Value::from(&*(self.key)(&self.object).name)),
            "namespace" if !(self.key)(&self.object).namespace.is_empty() => {
                Some(Value::from(&*(self.key)(&self.object).namespace))
            }
            "labels" => self.cache.get_or("labels", || {
                let (object, last_missing) = (self.object.clone(), self.last_missing.clone());
                Some(Value::from_object(ObjectLabels {
                    object,
                    variable: self.variable,
                    labels: self.labels,
                    last_missing,
                }))
            }),
            _ => None,
        }
    }
}

impl<T> fmt::Debug for ObjectLabels<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "labels of the {}", self.variable)
    }
}

impl<T: Send + Sync + 'static> Object for ObjectLabels<T> {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let key = key.as_str()?;
        let value = (self.labels)(&self.object).get(key);
        if value.is_none() {
            self.last_missing.record(Missing::Object {
                variable: self.variable,
                key: key.into(),
            });
        }
        value.map(Value::from)
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(
            (self.labels)(&self.object)
                .iter()
                .map(|(key, _)| key.into())
                .collect(),
        )
    }
}

impl LastMissing {
    pub(super) fn record(&self, missing: Missing) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(missing);
    }

    pub(super) fn take(&self) -> Option<Missing> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

fn error_value(reason: RenderError) -> Value {
    Error::new(ErrorKind::InvalidOperation, "refused")
        .with_source(CarriedError(reason))
        .into()
}

/// Returns the [`RenderError`] that an engine error carries, if any.
pub(super) fn carried_error(error: &Error) -> Option<RenderError> {
    let mut source: Option<&(dyn std::error::Error + 'static)> = error.source();
    while let Some(error) = source {
        if let Some(CarriedError(reason)) = error.downcast_ref() {
            return Some(reason.clone());
        }
        source = error.source();
    }
    None
}

/// Appends the URL of a config.
pub(super) fn append_config_url(out: &mut String, base_url: &str, id: Uuid, subject: &Subject) {
    out.push_str(base_url);
    out.push_str("/config/");
    out.push_str(id.hyphenated().encode_lower(&mut Uuid::encode_buffer()));
    out.push('?');
    let start = out.len();
    subject.query_into(out);
    if out.len() == start {
        out.pop();
    } else {
        query::escape_colon_at_end(out, start);
    }
}
