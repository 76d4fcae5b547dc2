//! Schemas of variables (JSON Schema, draft 2020-12 unless `$schema` names an older one).
//!
//! A schema comes from the author of a Profile, and is evaluated when a machine boots. So its
//! cost is bounded when it is compiled: references lead only to other parts of the schema, never in
//! a circle, and the number of subschemas with all references followed is at most
//! [`MAX_SUBSCHEMAS`]. Patterns are matched in linear time.

use std::collections::HashMap;
use std::fmt;

use jsonschema::error::ValidationErrorKind;
use jsonschema::{PatternOptions, ValidationError, Validator};
use serde_json::Value;

use super::Variables;

/// Maximum size of a schema as JSON, in bytes.
const MAX_BYTES: usize = 64 * 1024;
/// Maximum number of subschemas, each counted as often as references lead to it.
const MAX_SUBSCHEMAS: usize = 1000;
/// Maximum number of faults that are reported.
const MAX_FAULTS: usize = 16;
/// What a message says instead of a value, which may be secret.
const MASK: &str = "its value";

/// A compiled schema that the merged variables of a machine must satisfy.
pub struct VariablesSchema {
    validator: Validator,
    source: Value,
}

/// A schema can't be compiled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidSchema(String);

/// Variables that don't satisfy the schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaFault {
    /// The name of the variable, or `None` if the fault is of all of them together.
    pub variable: Option<String>,
    /// What is wrong, without the value.
    pub reason: String,
}

// === impl VariablesSchema ===

impl VariablesSchema {
    /// Compiles a schema.
    pub fn compile(source: &Value) -> Result<Self, InvalidSchema> {
        let invalid = |reason: String| Err(InvalidSchema(reason));
        if !source.is_object() {
            return invalid(
                "a schema is a JSON object, such as {type: object, required: [hostname]}".into(),
            );
        }
        let bytes = source.to_string().len();
        if bytes > MAX_BYTES {
            return invalid(format!(
                "the schema has {bytes} bytes; the limit is {MAX_BYTES}"
            ));
        }
        let mut costs = Costs {
            root: source,
            known: HashMap::new(),
        };
        costs.of(source)?;
        let options = jsonschema::options()
            .offline()
            .with_pattern_options(PatternOptions::regex())
            .should_validate_formats(true);
        match options.build(source) {
            Ok(validator) => Ok(Self {
                validator,
                source: source.clone(),
            }),
            Err(error) => invalid(format!("it is not a JSON Schema: {}", describe(&error))),
        }
    }

    /// Returns the source.
    pub fn source(&self) -> &Value {
        &self.source
    }

    /// Returns what is wrong with the merged variables of a machine; at most 16 faults.
    pub fn check(&self, variables: &Variables) -> Vec<SchemaFault> {
        let Ok(instance) = serde_json::to_value(variables) else {
            return Vec::new();
        };
        let errors = self.validator.iter_errors(&instance);
        errors
            .take(MAX_FAULTS)
            .map(|error| SchemaFault::of(&error))
            .collect()
    }
}

impl PartialEq for VariablesSchema {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for VariablesSchema {}

impl fmt::Debug for VariablesSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

// === impl SchemaFault ===

impl SchemaFault {
    fn of(error: &ValidationError<'_>) -> Self {
        let path = error.instance_path().as_str();
        let mut segments = path.split('/').skip(1).map(unescape);
        let variable = segments.next();
        if let (None, ValidationErrorKind::Required { property }) = (&variable, error.kind()) {
            return Self {
                variable: property.as_str().map(str::to_owned),
                reason: "it is required".to_owned(),
            };
        }
        let below: Vec<_> = segments.collect();
        let place = if below.is_empty() {
            String::new()
        } else {
            format!("at {}: ", below.join("."))
        };
        Self {
            variable,
            reason: format!("{place}{}", error.masked_with(MASK)),
        }
    }
}

/// Writes `variable NAME: REASON`.
impl fmt::Display for SchemaFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.variable {
            Some(name) => write!(f, "variable {name:?}: {}", self.reason),
            None => write!(f, "the variables: {}", self.reason),
        }
    }
}

/// Counts the subschemas below each reference.
struct Costs<'s> {
    root: &'s Value,
    /// By reference. `None` while it is being counted.
    known: HashMap<&'s str, Option<usize>>,
}

impl<'s> Costs<'s> {
    /// Returns the number of subschemas in a part of the schema, with all references followed.
    fn of(&mut self, part: &'s Value) -> Result<usize, InvalidSchema> {
        let mut cost = 1;
        match part {
            Value::Array(items) => {
                for item in items {
                    cost += self.of(item)?;
                }
            }
            Value::Object(fields) => {
                for (name, value) in fields {
                    cost += match (name.as_str(), value) {
                        ("$ref" | "$dynamicRef" | "$recursiveRef", Value::String(target)) => {
                            self.of_reference(target)?
                        }
                        // A definition counts where it is used.
                        ("$defs" | "definitions", _) => 0,
                        (
                            "enum" | "const" | "default" | "examples" | "description" | "title",
                            _,
                        ) => 0,
                        _ => self.of(value)?,
                    };
                }
            }
            _ => return Ok(0),
        }
        if cost > MAX_SUBSCHEMAS {
            return Err(InvalidSchema(format!(
                "it has more than {MAX_SUBSCHEMAS} subschemas, each counted as often as a $ref leads to it"
            )));
        }
        Ok(cost)
    }

    fn of_reference(&mut self, target: &'s str) -> Result<usize, InvalidSchema> {
        let Some(pointer) = target.strip_prefix('#') else {
            return Err(InvalidSchema(format!(
                "it refers to {target:?}, and nothing is fetched; copy that schema to $defs, and refer to it by \"#/$defs/NAME\""
            )));
        };
        match self.known.get(target) {
            Some(Some(cost)) => return Ok(*cost),
            Some(None) => {
                return Err(InvalidSchema(format!(
                    "{target:?} refers to itself; a schema of variables can't be recursive"
                )));
            }
            None => {}
        }
        let Some(part) = self.root.pointer(pointer) else {
            return Err(InvalidSchema(format!(
                "nothing is at {target:?}; write \"#/$defs/NAME\""
            )));
        };
        self.known.insert(target, None);
        let cost = self.of(part)?;
        self.known.insert(target, Some(cost));
        Ok(cost)
    }
}

fn describe(error: &ValidationError<'_>) -> String {
    let path = error.instance_path().as_str();
    if path.is_empty() {
        error.to_string()
    } else {
        format!("{error} at {path}")
    }
}

/// Decodes a segment of a JSON pointer (RFC 6901).
fn unescape(segment: &str) -> String {
    segment.replace("~1", "/").replace("~0", "~")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn variables(json: Value) -> Variables {
        let Value::Object(map) = json else {
            panic!("a map")
        };
        Variables::from_json(map).unwrap()
    }

    fn faults(schema: &Value, variables_of: Value) -> Vec<String> {
        let schema = VariablesSchema::compile(schema).unwrap();
        let faults = schema.check(&variables(variables_of));
        faults.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_fault_names_the_variable_and_hides_its_value() {
        let schema = json!({
            "type": "object",
            "required": ["ip"],
            "properties": { "ip": { "type": "string", "pattern": "^[0-9.]+$" }, "net": { "properties": { "mtu": { "type": "integer" } } } },
            "additionalProperties": false,
        });
        assert_eq!(faults(&schema, json!({ "ip": "192.0.2.1" })), [""; 0]);
        assert_eq!(
            faults(&schema, json!({})),
            ["variable \"ip\": it is required"]
        );
        let found = faults(
            &schema,
            json!({ "ip": "s3cret", "net": { "mtu": "s3cret" } }),
        )
        .join("\n");
        assert!(
            found.contains("variable \"ip\": its value does not match"),
            "{found}"
        );
        assert!(
            found.contains("variable \"net\": at mtu: its value is not of type \"integer\""),
            "{found}"
        );
        assert!(!found.contains("s3cret"), "{found}");
        assert!(faults(&schema, json!({ "ip": "1", "odd": 1 }))[0].contains("odd"));
    }

    #[test]
    fn schemas_of_unbounded_cost_are_rejected() {
        let doubling = |levels: usize| {
            let mut defs = serde_json::Map::new();
            for level in 0..levels {
                let next = json!({ "$ref": format!("#/$defs/d{}", level + 1) });
                defs.insert(format!("d{level}"), json!({ "allOf": [next, next] }));
            }
            defs.insert(format!("d{levels}"), json!({ "type": "object" }));
            json!({ "$ref": "#/$defs/d0", "$defs": defs })
        };
        assert!(VariablesSchema::compile(&doubling(4)).is_ok());
        for (schema, message) in [
            (json!("text"), "a schema is a JSON object"),
            (json!({ "type": "nonsense" }), "it is not a JSON Schema"),
            (
                json!({ "properties": { "a": { "pattern": "(" } } }),
                "it is not a JSON Schema",
            ),
            (json!({ "$ref": "#" }), "refers to itself"),
            (
                json!({ "$ref": "#/$defs/a", "$defs": { "a": { "items": { "$ref": "#/$defs/a" } } } }),
                "refers to itself",
            ),
            (json!({ "$ref": "#/$defs/none" }), "nothing is at"),
            (
                json!({ "properties": { "a": { "$ref": "https://schemas.example/a.json" } } }),
                "nothing is fetched",
            ),
            (doubling(30), "subschemas"),
            (json!({ "description": "x".repeat(MAX_BYTES) }), "bytes"),
        ] {
            let error = VariablesSchema::compile(&schema)
                .expect_err(message)
                .to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}
