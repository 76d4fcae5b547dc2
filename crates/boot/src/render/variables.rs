//! The variables `vars` and `machine` of a template.

use std::fmt;
use std::sync::Arc;

use minijinja::Value;
use minijinja::value::{Enumerator, Object};
use serde_json::Number;

use crate::variables::{Json, Variables};

use super::scope::{LastMissing, Missing, ValueCache};

/// The value `vars`. A variable is merged when the template first uses it.
pub(super) struct VariablesValue {
    /// Those of the Profile, the Assignment and the Machine, in this order.
    pub(super) layers: [Variables; 3],
    pub(super) cache: ValueCache,
    pub(super) last_missing: LastMissing,
}

/// A map in a variable.
#[derive(Debug)]
struct VariableMap {
    /// The names that lead to it, joined by dots.
    path: Box<str>,
    /// Sorted by key.
    entries: Box<[(Arc<str>, Value)]>,
    last_missing: LastMissing,
}

impl VariablesValue {
    fn value(&self, name: &str) -> Option<Value> {
        let merged = Json::merge(self.layers.iter().filter_map(|layer| layer.get(name)))?;
        Some(self.last_missing.to_value(&merged, name))
    }
}

impl fmt::Debug for VariablesValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("vars")
    }
}

impl Object for VariablesValue {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        let value = self.cache.get_or(key, || self.value(key));
        if value.is_none() {
            self.last_missing.record(Missing::Variable(key.into()));
        }
        value
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        let merged = Variables::merged(&self.layers);
        Enumerator::Values(merged.iter().map(|(name, _)| name.into()).collect())
    }
}

impl Object for VariableMap {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        match self.entries.binary_search_by(|(own, _)| (**own).cmp(key)) {
            Ok(at) => Some(self.entries[at].1.clone()),
            Err(_) => {
                let path = format!("{}.{key}", self.path);
                self.last_missing.record(Missing::Variable(path.into()));
                None
            }
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.entries.iter().map(|(key, _)| key.into()).collect())
    }
}

fn to_number(number: &Number) -> Value {
    let integer = number.as_u64().map(Value::from);
    let integer = integer.or_else(|| number.as_i64().map(Value::from));
    integer
        .or_else(|| number.as_f64().map(Value::from))
        .unwrap_or_default()
}

impl LastMissing {
    /// Returns the engine's value of a variable. `path` leads to it.
    fn to_value(&self, json: &Json, path: &str) -> Value {
        match json {
            Json::Null => Value::from(()),
            Json::Bool(value) => Value::from(*value),
            Json::Number(number) => to_number(number),
            Json::Text(text) => Value::from(&**text),
            Json::List(items) => items
                .iter()
                .enumerate()
                .map(|(at, item)| self.to_value(item, &format!("{path}[{at}]")))
                .collect(),
            Json::Map(entries) => Value::from_object(VariableMap {
                path: path.into(),
                entries: entries
                    .iter()
                    .map(|(key, value)| {
                        (key.clone(), self.to_value(value, &format!("{path}.{key}")))
                    })
                    .collect(),
                last_missing: self.clone(),
            }),
        }
    }
}
