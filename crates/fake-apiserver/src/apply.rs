//! Merge patches (RFC 7386) and as much of server-side apply as status writers rely on.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// The fields that each manager applied last, for one target of apply requests.
#[derive(Clone, Debug, Default)]
pub(crate) struct AppliedFields(BTreeMap<String, Value>);

/// A field that another manager has applied with a different value.
#[derive(Debug)]
pub(crate) struct Conflict {
    pub(crate) manager: String,
    pub(crate) field: String,
}

/// Applies a merge patch: null removes a field, maps are merged, everything else is replaced.
pub(crate) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let target = target.as_object_mut().expect("it is an object");
    for (name, value) in fields {
        if value.is_null() {
            target.remove(name);
        } else {
            merge(target.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

// === impl AppliedFields ===

impl AppliedFields {
    /// Applies the fields of a manager. Fields that it applied before and that no manager applies
    /// now are removed. Lists are replaced as a whole, except `conditions`, whose items are
    /// identified by their `type`.
    pub(crate) fn apply(
        &mut self,
        manager: &str,
        wanted: &Value,
        force: bool,
        target: &mut Value,
    ) -> Result<(), Conflict> {
        let wanted_leaves = leaves(wanted);
        for (other, value) in self
            .0
            .iter()
            .filter(|(other, _)| *other != manager && !force)
        {
            let theirs = leaves(value);
            let clash = wanted_leaves
                .iter()
                .find(|(path, value)| theirs.get(*path).is_some_and(|their| their != *value));
            if let Some((path, _)) = clash {
                return Err(Conflict {
                    manager: other.clone(),
                    field: format!(".{}", path.join(".")),
                });
            }
        }
        // A forced apply takes fields over from other managers.
        for value in self
            .0
            .iter_mut()
            .filter(|(other, _)| *other != manager)
            .map(|(_, value)| value)
        {
            let theirs = leaves(value);
            for (path, _) in wanted_leaves
                .iter()
                .filter(|(path, value)| theirs.get(*path).is_some_and(|their| their != *value))
            {
                remove(value, path);
            }
        }
        let before = self
            .0
            .insert(manager.to_owned(), wanted.clone())
            .map(|before| leaves(&before))
            .unwrap_or_default();
        let kept: Vec<_> = self.0.values().map(leaves).collect();
        for path in before
            .keys()
            .filter(|path| !kept.iter().any(|leaves| leaves.contains_key(*path)))
        {
            remove(target, path);
        }
        for (path, value) in wanted_leaves {
            set(target, &path, value);
        }
        Ok(())
    }
}

/// The values that are not maps, by path. In `conditions`, the path segment of an item is its type.
fn leaves(value: &Value) -> BTreeMap<Vec<String>, Value> {
    fn walk(value: &Value, path: &mut Vec<String>, found: &mut BTreeMap<Vec<String>, Value>) {
        let children: Vec<(String, &Value)> = match value {
            Value::Object(fields) if !fields.is_empty() => fields
                .iter()
                .map(|(name, value)| (name.clone(), value))
                .collect(),
            Value::Array(items) if path.last().is_some_and(|name| name == "conditions") => items
                .iter()
                .map(|item| (item["type"].as_str().unwrap_or_default().to_owned(), item))
                .collect(),
            _ => {
                found.insert(path.clone(), value.clone());
                return;
            }
        };
        for (name, value) in children {
            path.push(name);
            walk(value, path, found);
            path.pop();
        }
    }
    let mut found = BTreeMap::new();
    walk(value, &mut Vec::new(), &mut found);
    found
}

fn set(target: &mut Value, path: &[String], value: Value) {
    match path {
        [] => *target = value,
        [list, kind, rest @ ..] if list == "conditions" => {
            if !target[list].is_array() {
                target[list] = Value::Array(Vec::new());
            }
            let items = target[list].as_array_mut().expect("it is a list");
            let at = items
                .iter()
                .position(|item| item["type"] == **kind)
                .unwrap_or_else(|| {
                    items.push(serde_json::json!({ "type": kind }));
                    items.len() - 1
                });
            set(&mut items[at], rest, value);
        }
        [name, rest @ ..] => {
            if !target.is_object() {
                *target = Value::Object(Map::new());
            }
            set(&mut target[name], rest, value);
        }
    }
}

fn remove(target: &mut Value, path: &[String]) {
    match path {
        [list, kind, rest @ ..] if list == "conditions" => {
            let Some(items) = target[list].as_array_mut() else {
                return;
            };
            if let Some(at) = items.iter().position(|item| item["type"] == **kind) {
                // A condition without a type is removed.
                if rest == ["type"] || rest.is_empty() {
                    items.remove(at);
                } else {
                    remove(&mut items[at], rest);
                }
            }
        }
        [name] => {
            target.as_object_mut().map(|fields| fields.remove(name));
        }
        [name, rest @ ..] => {
            if let Some(inner) = target.get_mut(name) {
                remove(inner, rest);
            }
        }
        [] => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_merge_patch_removes_null_fields() {
        let mut target = json!({ "a": { "b": 1, "c": 2 }, "d": [1] });
        merge(
            &mut target,
            &json!({ "a": { "b": null, "e": 3 }, "d": [2, 3] }),
        );
        assert_eq!(target, json!({ "a": { "c": 2, "e": 3 }, "d": [2, 3] }));
    }

    #[test]
    fn a_field_dropped_by_its_manager_is_removed_unless_another_manager_applied_it() {
        let (mut applied, mut target) = (AppliedFields::default(), json!({ "mine": 1 }));
        let mut apply = |manager: &str, wanted: &Value| {
            applied
                .apply(manager, wanted, true, &mut target)
                .map(|()| target.clone())
                .unwrap()
        };
        apply(
            "one",
            &json!({ "ids": { "a": "1", "b": "2" }, "conditions": [{ "type": "X", "status": "True" }] }),
        );
        apply(
            "two",
            &json!({ "ids": { "b": "2" }, "conditions": [{ "type": "Y", "status": "True" }] }),
        );
        let after = apply("one", &json!({ "ids": { "c": "3" } }));
        assert_eq!(
            after,
            json!({ "mine": 1, "ids": { "b": "2", "c": "3" }, "conditions": [{ "type": "Y", "status": "True" }] })
        );
    }

    #[test]
    fn different_values_from_two_managers_conflict_unless_forced() {
        let (mut applied, mut target) = (AppliedFields::default(), json!({}));
        applied
            .apply("one", &json!({ "a": { "b": 1 } }), false, &mut target)
            .unwrap();
        let conflict = applied
            .apply("two", &json!({ "a": { "b": 2 } }), false, &mut target)
            .unwrap_err();
        assert_eq!(
            (conflict.manager.as_str(), conflict.field.as_str()),
            ("one", ".a.b")
        );
        applied
            .apply("two", &json!({ "a": { "b": 2 } }), true, &mut target)
            .unwrap();
        assert_eq!(target, json!({ "a": { "b": 2 } }));
    }
}
