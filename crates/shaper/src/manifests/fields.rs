//! Fields that nothing reads: most are typing errors, and all of them mean something other than what happens.

use boot::nearest::did_you_mean;
use crd::FieldPath;
use serde_json::{Map, Value};

/// The fields of a kind, as its schema has them.
enum Shape {
    Fields(&'static [(&'static str, Shape)]),
    List(&'static Shape),
    /// Anything goes: values, and maps with keys of the author's own.
    Open,
}

const METADATA: Shape = Shape::Open;

const PROFILE: Shape = Shape::Fields(&[
    ("apiVersion", Shape::Open),
    ("kind", Shape::Open),
    ("metadata", METADATA),
    ("spec", Shape::Fields(&[("ipxe", Shape::Open), ("additionalConfig", Shape::Open)])),
    ("status", Shape::Open),
]);

const ASSIGNMENT: Shape = Shape::Fields(&[
    ("apiVersion", Shape::Open),
    ("kind", Shape::Open),
    ("metadata", METADATA),
    (
        "spec",
        Shape::Fields(&[
            (
                "subjectSelectors",
                Shape::Fields(&[
                    ("uuids", Shape::Open),
                    ("serialNumbers", Shape::Open),
                    ("macAddresses", Shape::Open),
                    ("matchLabels", Shape::Open),
                    (
                        "matchExpressions",
                        Shape::List(&Shape::Fields(&[("key", Shape::Open), ("operator", Shape::Open), ("values", Shape::Open)])),
                    ),
                ]),
            ),
            ("profileSelectors", Shape::Open),
            ("priority", Shape::Open),
        ]),
    ),
    ("status", Shape::Open),
]);

/// The path of the first field that the kind does not have, and what is to be said of it.
pub(super) fn unknown(kind: &str, object: &Value) -> Option<(FieldPath, String)> {
    let shape = if kind == "Profile" { &PROFILE } else { &ASSIGNMENT };
    shape.unknown(object, &FieldPath::default())
}

impl Shape {
    fn unknown(&self, value: &Value, path: &FieldPath) -> Option<(FieldPath, String)> {
        match (self, value) {
            (Self::Fields(fields), Value::Object(object)) => Self::unknown_of(fields, object, path),
            (Self::List(item), Value::Array(items)) => {
                items.iter().enumerate().find_map(|(at, value)| item.unknown(value, &path.index(at)))
            }
            _ => None,
        }
    }

    fn unknown_of(fields: &[(&str, Self)], object: &Map<String, Value>, path: &FieldPath) -> Option<(FieldPath, String)> {
        object.iter().find_map(|(name, value)| {
            let path = path.key(name);
            match fields.iter().find(|(known, _)| known == name) {
                Some((_, shape)) => shape.unknown(value, &path),
                None => {
                    let names: Vec<_> = fields.iter().map(|(known, _)| *known).collect();
                    let hint = did_you_mean(name, names.iter().copied());
                    let reason = format!("unknown field {path}{hint}; there are {}", names.join(", "));
                    Some((path, reason))
                }
            }
        })
    }
}
