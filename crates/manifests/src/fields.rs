//! Checks an object against the schema of its kind: each field must be known and have an allowed
//! value.
//!
//! The schema is that of the `CustomResourceDefinition`s, so a folder and a cluster agree. What
//! only patterns and CEL rules express is left to the conversion, which has better messages.

use std::sync::LazyLock;

use boot::nearest::did_you_mean;
use crd::FieldPath;
use review::rule;
use serde_json::{Map, Value as Json, json};

use super::fault::Fault;
use super::kind::Kind;
use super::spot::Spot;
use super::tree::{Entry, Meaning, Node, Value, meaning};

static PROFILE: LazyLock<Json> = LazyLock::new(|| schema(0));
static ASSIGNMENT: LazyLock<Json> = LazyLock::new(|| schema(1));
static MACHINE: LazyLock<Json> = LazyLock::new(|| schema(2));

/// Returns the schema of the kind at this index of [`crd::definitions`], with the object metadata
/// that an API server implies.
fn schema(at: usize) -> Json {
    let definition =
        serde_json::to_value(&crd::definitions()[at]).expect("definitions serialize to JSON");
    let mut schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone();
    let (text, texts) = (
        json!({ "type": "string" }),
        json!({ "type": "object", "additionalProperties": { "type": "string" } }),
    );
    let any = || json!({});
    schema["properties"]["apiVersion"] = text.clone();
    schema["properties"]["kind"] = text.clone();
    // Only a controller may write the status, so it is ignored here.
    schema["properties"]["status"] = any();
    schema["properties"]["metadata"] = json!({ "type": "object", "properties": {
        "name": text, "namespace": text, "labels": texts, "annotations": texts, "creationTimestamp": text, "generateName": any(), "uid": any(),
        "resourceVersion": any(), "generation": any(), "managedFields": any(), "ownerReferences": any(), "finalizers": any(),
        "selfLink": any(), "deletionTimestamp": any(), "deletionGracePeriodSeconds": any(),
    } });
    schema
}

/// Returns the object as JSON, without ignored fields, or all faults of its fields.
pub(super) fn check(kind: Kind, object: &Node<'_>) -> Result<Json, Vec<Fault>> {
    let schema = match kind {
        Kind::Profile => &PROFILE,
        Kind::Assignment => &ASSIGNMENT,
        Kind::Machine => &MACHINE,
    };
    let mut check = Check { faults: Vec::new() };
    let value = check.value(object, object.spot, schema, Place::Object);
    if check.faults.is_empty() {
        Ok(value)
    } else {
        Err(check.faults)
    }
}

/// The path to a value. Copies nothing unless there is a fault.
#[derive(Clone, Copy)]
enum Place<'p> {
    Object,
    Entry(&'p Place<'p>, &'p str),
    Item(&'p Place<'p>, usize),
}

impl Place<'_> {
    fn field(&self) -> FieldPath {
        match self {
            Self::Object => FieldPath::default(),
            Self::Entry(above, key) => above.field().key(*key),
            Self::Item(above, index) => above.field().index(*index),
        }
    }
}

struct Check {
    faults: Vec<Fault>,
}

impl Check {
    fn fault(&mut self, spot: Spot, path: Place<'_>, reason: &str) -> Json {
        self.faults.push(Fault {
            field: path.field(),
            ..Fault::new(&rule::SCHEMA, Some(spot), reason)
        });
        Json::Null
    }

    /// Checks a value. It, or its key, is at `spot`.
    fn value(&mut self, node: &Node<'_>, spot: Spot, schema: &Json, path: Place<'_>) -> Json {
        if schema["x-kubernetes-preserve-unknown-fields"] == true {
            return self.any_map(node, spot, path);
        }
        match schema["type"].as_str() {
            Some("string") => self.text(node, spot, schema, path),
            Some("integer") => self.integer(node, spot, schema, path),
            Some("array") => self.list(node, spot, schema, path),
            Some("object") => self.object(node, spot, schema, path),
            // Nothing in shaper reads it.
            _ => Json::Null,
        }
    }

    /// Reads a map of values of any type.
    fn any_map(&mut self, node: &Node<'_>, spot: Spot, path: Place<'_>) -> Json {
        match &node.value {
            Value::Map(_) => match node.to_json() {
                Ok(json) => json,
                Err(reason) => self.fault(node.spot_or(spot), path, &reason),
            },
            Value::Plain(text) if meaning(text) == Meaning::Null => Json::Object(Map::new()),
            _ => self.fault(node.spot_or(spot), path, " must be a map"),
        }
    }

    fn text(&mut self, node: &Node<'_>, spot: Spot, schema: &Json, path: Place<'_>) -> Json {
        let spot = node.spot_or(spot);
        let text = match &node.value {
            Value::Text { text, .. } => text,
            Value::Plain(text) => match meaning(text) {
                Meaning::Text => text,
                Meaning::Null => {
                    return self.fault(spot, path, " has no value; for empty text, write \"\"");
                }
                Meaning::Boolean(is) => {
                    return self.fault(
                        spot,
                        path,
                        &format!(
                            ": unquoted {text} is the boolean {is}; for text, write \"{text}\""
                        ),
                    );
                }
                Meaning::Integer(_) | Meaning::Number => {
                    return self.fault(
                        spot,
                        path,
                        &format!(": unquoted {text} is a number; for text, write \"{text}\""),
                    );
                }
            },
            Value::List(_) => return self.fault(spot, path, " must be text, not a list"),
            Value::Map(_) => return self.fault(spot, path, " must be text, not a map"),
        };
        let limit = |name: &str| {
            schema[name]
                .as_u64()
                .map(|limit| usize::try_from(limit).unwrap_or(usize::MAX))
        };
        // A character has at least one byte, so most texts need not be counted.
        if limit("maxLength").is_some_and(|most| text.len() > most && text.chars().count() > most) {
            return self.fault(
                spot,
                path,
                &format!(
                    " is longer than {} characters",
                    limit("maxLength").unwrap_or_default()
                ),
            );
        }
        if limit("minLength").is_some_and(|least| text.len() < least) {
            return self.fault(spot, path, " is empty");
        }
        let choices: Vec<&str> = schema["enum"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Json::as_str)
            .collect();
        if !choices.is_empty() && !choices.contains(&text.as_ref()) {
            let hint = did_you_mean(text, choices.iter().copied());
            return self.fault(
                spot,
                path,
                &format!(
                    ": unknown value {text:?}{hint}; known values: {}",
                    choices.join(", ")
                ),
            );
        }
        Json::from(text.as_ref())
    }

    fn integer(&mut self, node: &Node<'_>, spot: Spot, schema: &Json, path: Place<'_>) -> Json {
        let spot = node.spot_or(spot);
        let Value::Plain(text) = &node.value else {
            return self.fault(spot, path, " must be a whole number, without quotes");
        };
        let Meaning::Integer(integer) = meaning(text) else {
            return self.fault(spot, path, &format!(": {text:?} is not a whole number"));
        };
        // The bounds in the schema are integers, too.
        #[allow(
            clippy::cast_possible_truncation,
            reason = "they are whole numbers of at most seven digits"
        )]
        let bound = |name: &str| schema[name].as_f64().map(|bound| bound as i64);
        match (bound("minimum"), bound("maximum")) {
            (Some(least), Some(most)) if !(least..=most).contains(&integer) => self.fault(
                spot,
                path,
                &format!(": {integer} is not between {least} and {most}"),
            ),
            _ => Json::from(integer),
        }
    }

    fn list(&mut self, node: &Node<'_>, spot: Spot, schema: &Json, path: Place<'_>) -> Json {
        let Value::List(items) = &node.value else {
            return self.fault(spot, path, " must be a list; start each item with `- `");
        };
        let most = schema["maxItems"].as_u64().map_or(usize::MAX, |most| {
            usize::try_from(most).unwrap_or(usize::MAX)
        });
        if items.len() > most {
            return self.fault(
                spot,
                path,
                &format!(" has {} items; at most {most} are allowed", items.len()),
            );
        }
        let item = |(i, item): (usize, &Node<'_>)| {
            self.value(item, item.spot, &schema["items"], Place::Item(&path, i))
        };
        items.iter().enumerate().map(item).collect()
    }

    fn object(&mut self, node: &Node<'_>, spot: Spot, schema: &Json, path: Place<'_>) -> Json {
        let Value::Map(entries) = &node.value else {
            return self.fault(spot, path, " must be a map of keys and values");
        };
        let most = schema["maxProperties"].as_u64().map_or(usize::MAX, |most| {
            usize::try_from(most).unwrap_or(usize::MAX)
        });
        if entries.len() > most {
            return self.fault(
                spot,
                path,
                &format!(" has {} entries; at most {most} are allowed", entries.len()),
            );
        }
        let mut object = Map::new();
        for entry in entries {
            let value = match schema["properties"].as_object() {
                Some(known) => self.field(entry, known, path),
                None => Some(self.value(
                    &entry.node,
                    entry.spot,
                    &schema["additionalProperties"],
                    Place::Entry(&path, &entry.key),
                )),
            };
            object.extend(value.map(|value| (entry.key.clone().into_owned(), value)));
        }
        for required in schema["required"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Json::as_str)
        {
            if !object.contains_key(required) {
                self.fault(spot, Place::Entry(&path, required), " is missing");
            }
        }
        Json::Object(object)
    }

    /// Checks a field of an object. A field without a value counts as absent, as in an API server,
    /// apart from lists of identities: an Assignment whose list has become empty would match every
    /// machine.
    fn field(
        &mut self,
        entry: &Entry<'_>,
        known: &Map<String, Json>,
        path: Place<'_>,
    ) -> Option<Json> {
        let path = Place::Entry(&path, &entry.key);
        let Some(schema) = known.get(&*entry.key) else {
            let hint = did_you_mean(&entry.key, known.keys().map(String::as_str));
            let names: Vec<_> = known.keys().map(String::as_str).collect();
            self.fault(
                entry.spot,
                path,
                &format!(": unknown field{hint}; known fields: {}", names.join(", ")),
            );
            return None;
        };
        if entry.node.is_null() && crd::IDENTITY_LISTS.contains(&&*entry.key) {
            return Some(Json::Array(Vec::new()));
        }
        if entry.node.is_null() || schema["type"].is_null() {
            return None;
        }
        Some(self.value(&entry.node, entry.spot, schema, path))
    }
}
