//! The parts of the schema that attributes can't say: what the items of lists and the values of maps look like, and the CEL rules.
//!
//! The API server estimates what a CEL rule costs from the greatest sizes and refuses the definition where that is too much. So long
//! lists are checked by patterns, which cost nothing there, and CEL looks only at keys of maps, which patterns can't reach.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::{Schema, SchemaGenerator, json_schema};

/// A CEL rule on a map: its keys are identifiers.
pub(crate) const CONFIG_NAME_IS_IDENTIFIER: &str = "self.all(name, name.matches('^[A-Za-z_][A-Za-z0-9_]{0,62}$'))";
/// A CEL rule on a map: its keys mean nothing else in templates. Beside `boot::template::VARIABLES` these are words of the language.
pub(crate) const CONFIG_NAME_IS_FREE: &str = "self.all(name, !(name in ['subject', 'encoded', 'profile', 'assignment', 'base_url']) && \
    !name.matches('^(?i:and|else|false|if|in|is|loop|none|not|or|range|true)$'))";
/// A CEL rule on a map: its keys are label keys.
pub(crate) const KEYS_ARE_LABEL_KEYS: &str = "self.all(key, key.matches('^([a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?\
    [A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$') && key.size() <= 317)";
/// What is said when the rule above does not hold.
pub(crate) const LABEL_KEY_MESSAGE: &str = "a label key is a name of at most 63 letters, digits, '-', '_' and '.', which starts and ends with a \
    letter or digit; a DNS name and one '/' may stand before it";

/// A CEL rule on a map: its keys are some that a machine can present, which are more than an object in Kubernetes can have.
pub(crate) const KEYS_ARE_SUBJECT_KEYS: &str =
    "self.all(key, key.matches('^[^/[:cntrl:]]*/?[^/[:cntrl:]]*$') && key.size() > 0 && key.size() <= 253)";
/// What is said when the rule above does not hold.
pub(crate) const SUBJECT_KEY_MESSAGE: &str = "a label key is 1 to 253 long, without control characters and with at most one '/'";

const SUBJECT_KEY: &str = "^[^/[:cntrl:]]*/?[^/[:cntrl:]]*$";
const LABEL_VALUE: &str = "^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$";
const UUID: &str = "^([0-9A-Fa-f]{32}|[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})$";
const MAC: &str = "^([0-9A-Fa-f]{12}|[0-9A-Fa-f]{16}|[0-9A-Fa-f]{40}\
    |[0-9A-Fa-f]{2}((:[0-9A-Fa-f]{2}){5}|(:[0-9A-Fa-f]{2}){7}|(:[0-9A-Fa-f]{2}){19}|(-[0-9A-Fa-f]{2}){5}|(-[0-9A-Fa-f]{2}){7}|(-[0-9A-Fa-f]{2}){19}))$";

pub(crate) fn configs(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "maxProperties": 64, "additionalProperties": { "type": "string", "maxLength": 262_144 } })
}

pub(crate) fn config_ids(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "maxProperties": 64, "additionalProperties": { "type": "string", "maxLength": 36 } })
}

pub(crate) fn conditions(generator: &mut SchemaGenerator) -> Schema {
    let condition = generator.subschema_for::<Condition>();
    json_schema!({
        "type": "array", "items": condition, "maxItems": 16, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"],
    })
}

/// Labels that a Profile must have: keys and values of Kubernetes labels.
pub(crate) fn profile_labels(_: &mut SchemaGenerator) -> Schema {
    let value = json_schema!({ "type": "string", "maxLength": 63, "pattern": LABEL_VALUE });
    json_schema!({ "type": "object", "maxProperties": 64, "x-kubernetes-map-type": "atomic", "additionalProperties": value })
}

/// Labels that a subject must present: any value that it could.
pub(crate) fn subject_labels(_: &mut SchemaGenerator) -> Schema {
    let value = json_schema!({ "type": "string", "minLength": 1, "maxLength": 1024 });
    json_schema!({ "type": "object", "maxProperties": 64, "x-kubernetes-map-type": "atomic", "additionalProperties": value })
}

pub(crate) fn label_key(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "minLength": 1, "maxLength": 253, "pattern": SUBJECT_KEY })
}

pub(crate) fn operator(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": ["In", "NotIn", "Exists", "DoesNotExist"] })
}

pub(crate) fn label_values(_: &mut SchemaGenerator) -> Schema {
    list(256, &json_schema!({ "type": "string", "minLength": 1, "maxLength": 1024 }))
}

pub(crate) fn uuids(_: &mut SchemaGenerator) -> Schema {
    list(4096, &json_schema!({ "type": "string", "maxLength": 36, "pattern": UUID }))
}

pub(crate) fn serials(_: &mut SchemaGenerator) -> Schema {
    list(4096, &json_schema!({ "type": "string", "maxLength": 256, "pattern": r"\S" }))
}

pub(crate) fn macs(_: &mut SchemaGenerator) -> Schema {
    list(4096, &json_schema!({ "type": "string", "maxLength": 59, "pattern": MAC }))
}

pub(crate) fn profile_names(_: &mut SchemaGenerator) -> Schema {
    list(4096, &json_schema!({ "type": "string", "maxLength": 253 }))
}

fn list(max_items: usize, item: &Schema) -> Schema {
    json_schema!({ "type": "array", "maxItems": max_items, "x-kubernetes-list-type": "atomic", "items": item })
}
