//! The variables of a template.

use std::error::Error as _;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use minijinja::value::{Enumerator, Object};
use minijinja::{Error, ErrorKind, Value};
use smallvec::SmallVec;
use uuid::Uuid;

use crate::assignment::Assignment;
use crate::bytes;
use crate::name::ObjectKey;
use crate::profile::Profile;
use crate::query;
use crate::subject::Subject;

use super::RenderError;

/// Why the name of a label is unsafe in a script.
const UNSAFE_KEY: &str = "has a name that iPXE would not read as plain text";

/// A label that the machine sent can't be used in a script, because iPXE would not read it as plain
/// text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "label {label:?} of this machine {why}, so it can't be used in an iPXE script; write {{{{ encoded.{label} }}}} in the template instead"
)]
pub struct Unsafe {
    /// The label's key.
    pub label: String,
    /// What is unsafe about its value.
    pub why: &'static str,
}

/// All variables of one render. A value is computed when the template first uses it, and then
/// cached, so that a loop pays only for the lookup.
#[derive(Debug)]
pub(super) struct Scope {
    subject: Arc<Subject>,
    profile: Arc<Profile>,
    assignment: Option<Arc<Assignment>>,
    base_url: Box<str>,
    is_script: bool,
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
    OfSubject(Box<str>),
    OfObject {
        variable: &'static str,
        key: Box<str>,
    },
}

/// Values that were looked up before, by name. There are a few, and at most 64 and the config
/// names.
#[derive(Debug, Default)]
struct ValueCache(Mutex<SmallVec<[CachedValue; 4]>>);

/// A name and its value.
type CachedValue = (Box<str>, Value);

/// The variables `subject` and `encoded`. In a script, `subject` has only the labels that are safe
/// there.
#[derive(Debug)]
struct Labels {
    subject: Arc<Subject>,
    form: Form,
    cache: ValueCache,
    last_missing: LastMissing,
}

#[derive(Clone, Copy, Debug)]
enum Form {
    Plain,
    InScript,
    Encoded,
}

/// The variables `profile` and `assignment`.
struct ObjectVariable<T> {
    object: Arc<T>,
    variable: &'static str,
    key: fn(&T) -> &ObjectKey,
    labels: fn(&T) -> &crate::Labels,
    cache: ValueCache,
    last_missing: LastMissing,
}

/// The values `profile.labels` and `assignment.labels`. They must not refer to their
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
        is_script: bool,
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
            is_script,
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
    fn get_or(&self, name: &str, make: impl FnOnce() -> Option<Value>) -> Option<Value> {
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
    fn variable(&self, name: &str) -> Option<Value> {
        match name {
            "subject" => Some(self.labels(if self.is_script {
                Form::InScript
            } else {
                Form::Plain
            })),
            "encoded" => Some(self.labels(Form::Encoded)),
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
            name => self.config_url(name),
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
    fn value(&self, key: &str) -> Option<Value> {
        let Some(value) = self.subject.label(key) else {
            self.last_missing.record(Missing::OfSubject(key.into()));
            return None;
        };
        match self.form {
            Form::Plain => Some(value.into()),
            Form::Encoded => {
                let mut encoded = String::with_capacity(value.len());
                query::encode_into(&mut encoded, value);
                Some(encoded.into())
            }
            Form::InScript => Some(match script_unsafe_reason(&self.subject, key, value) {
                Some(why) => error_value(RenderError::Unsafe(Unsafe {
                    label: key.to_owned(),
                    why,
                })),
                None => value.into(),
            }),
        }
    }

    /// Returns a key for iteration. The machine chose it, so it is checked like a value.
    fn key(&self, key: &str) -> Value {
        match (self.form, unsafe_reason(key)) {
            (Form::InScript | Form::Encoded, Some(_)) => error_value(RenderError::Unsafe(Unsafe {
                label: key.to_owned(),
                why: UNSAFE_KEY,
            })),
            _ => key.into(),
        }
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
        Enumerator::Values(
            self.subject
                .labels()
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
            "namespace" => Some(Value::from(&*(self.key)(&self.object).namespace)),
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
            self.last_missing.record(Missing::OfObject {
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
    fn record(&self, missing: Missing) {
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
    }
}

/// Returns why a label's value is unsafe in a script. The operator's labels are trusted like the
/// operator's templates.
pub(super) fn script_unsafe_reason(
    subject: &Subject,
    key: &str,
    value: &str,
) -> Option<&'static str> {
    unsafe_reason(value).filter(|_| subject.extrinsic(key).is_none())
}

/// Marks the bytes that are plain text to iPXE in any context. Values are short, so a table is
/// faster than comparisons.
static IS_SAFE: [bool; 256] = {
    let mut is_safe = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        let at = byte as usize;
        is_safe[at] =
            byte.is_ascii_alphanumeric() || matches!(byte, b' ' | b'.' | b':' | b'-' | b'_' | b'/');
        byte += 1;
    }
    is_safe
};

/// Returns why iPXE would not read this value as plain text (`ipxe:src/core/exec.c`). iPXE splits a
/// line at white space, then looks for words that end or join commands, then repeatedly expands
/// `${...}`.
fn unsafe_reason(value: &str) -> Option<&'static str> {
    // Fast path: nearly all values.
    if bytes::all(value.as_bytes(), |byte| IS_SAFE[usize::from(byte)]) {
        return None;
    }
    if value.chars().any(char::is_control) {
        return Some("contains control characters");
    }
    // A trailing `$` or a leading `{` could form one with adjacent text.
    if value.contains("${") || value.ends_with('$') || value.starts_with('{') {
        return Some("contains ${ or a part of it, which iPXE would expand");
    }
    // Inside a value, an operator must be a whole word ("Smith & Co" is fine); at its ends, it may
    // be part of one.
    let may_be_operator =
        |word: &str| !word.is_empty() && word.bytes().all(|b| b"|&;".contains(&b));
    let (first, last) = (
        value.split(char::is_whitespace).next(),
        value.rsplit(char::is_whitespace).next(),
    );
    if value
        .split_whitespace()
        .any(|word| matches!(word, "||" | "&&" | ";"))
        || [first, last].into_iter().flatten().any(may_be_operator)
    {
        return Some("contains a word that iPXE would read as the end of a command (||, && or ;)");
    }
    if value.split_whitespace().any(|word| word.starts_with('#')) {
        return Some(
            "contains a word that starts with #, after which iPXE ignores the rest of the line",
        );
    }
    value
        .ends_with('\\')
        .then_some("ends with \\, which would join the next line")
}
