//! Parts of the schema that attributes can't express: list items, map values and CEL rules.
//!
//! Spelling is checked by CEL rules rather than by patterns. The API server shows a violated
//! pattern as it is, and a regular expression does not explain what a UUID looks like. The API
//! server estimates the cost of a rule from the maximum sizes and rejects a definition that may
//! cost too much, so every text and every list has a bound.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::core::{Message, Rule};
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use crate::convert::{MAX_ENTRIES, MAX_IDENTITIES, MAX_MACHINE_MACS, MAX_VALUES};

/// A CEL rule on a map: its keys are identifiers.
pub(crate) fn config_names_are_identifiers() -> Rule {
    rule_on_keys(
        "name",
        "name.matches('^[A-Za-z_][A-Za-z0-9_]{0,62}$')",
        "is not a valid config name: it must be an identifier (letters, digits and _, \
        not starting with a digit, at most 63 characters), so that {{ NAME }} is a variable",
    )
}

/// A CEL rule on a map: its keys have no other meaning in templates. In addition to
/// `boot::config_name::VARIABLES`, keywords of the template language are reserved.
pub(crate) fn config_names_are_not_reserved() -> Rule {
    let is_not_reserved = "!(name in ['subject', 'encoded', 'extrinsic', 'machine', 'vars', 'profile', 'assignment', 'base_url', 'assets', 'certificate']) && \
        !name.matches('^(?i:and|else|false|if|in|is|loop|none|not|or|range|true)$')";
    rule_on_keys(
        "name",
        is_not_reserved,
        "is not a valid config name: it is reserved in templates; choose another",
    )
}

/// A CEL rule on the spec of a Profile: each format is that of a config.
pub(crate) fn formats_are_of_configs() -> Rule {
    let is_config = "has(self.additionalConfig) && name in self.additionalConfig";
    let message = format!(
        "'config name \"' + self.configFormats.filter(name, !({is_config}))[0] + '\" in configFormats is not in additionalConfig'"
    );
    Rule::new(format!(
        "!has(self.configFormats) || self.configFormats.all(name, {is_config})"
    ))
    .message(Message::Expression(message))
}

/// A CEL rule on a map: its keys are label keys.
pub(crate) fn keys_are_label_keys() -> Rule {
    let is_label_key = "key.matches('^([a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?\
        [A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$') && !key.matches('^[^/]{254}') && key.size() <= 317";
    rule_on_keys(
        "key",
        is_label_key,
        "is not a label key: use at most 63 letters, digits, '-', '_' and '.', starting and ending with a \
        letter or digit, optionally after a DNS name and one '/'",
    )
}

/// A CEL rule on a map: its keys are label keys that a machine can present, which include more than
/// Kubernetes label keys.
pub(crate) fn keys_are_subject_keys() -> Rule {
    let is_subject_key = format!(
        "key.matches('{SUBJECT_KEY}') && key.size() > 0 && {}",
        at_most_253_bytes("key")
    );
    rule_on_keys("key", &is_subject_key, SUBJECT_KEY_MESSAGE)
}

/// A rule on all keys of a map. Its message quotes the first key that violates it, followed by
/// `explanation`. Quoting all of them would cost too much, as the length of a key has no bound.
fn rule_on_keys(variable: &str, rule: &str, explanation: &str) -> Rule {
    let violations = format!("self.filter({variable}, !({rule}))");
    // The quoted key may be of any length, but the API server would show it anyway.
    let explanation = explanation.replace('\'', "\\'");
    let message = format!("'\"' + {violations}[0] + '\" {explanation}'");
    Rule::new(format!("self.all({variable}, {rule})")).message(Message::Expression(message))
}

/// A string with a CEL rule.
fn string_with_rule(max_length: usize, rule: &str, message: &str) -> Schema {
    json_schema!({ "type": "string", "maxLength": max_length, "x-kubernetes-validations": [{ "rule": rule, "message": message }] })
}

/// A string that matches a regular expression, which must not contain quotation marks.
fn string_matching(max_length: usize, pattern: &str, message: &str) -> Schema {
    string_with_rule(max_length, &format!("self.matches('{pattern}')"), message)
}

/// A CEL expression that limits the bytes of a string; `size()` of a string counts characters.
fn at_most_253_bytes(text: &str) -> String {
    format!("bytes({text}).size() <= 253")
}

const SUBJECT_KEY_MESSAGE: &str =
    "is not a label key: use 1 to 253 bytes, without control characters and with at most one '/'";
/// Unicode has more control characters than ASCII, from U+0080 on.
const SUBJECT_KEY: &str = "^[^/[:cntrl:]\\u0080-\\u009f]*/?[^/[:cntrl:]\\u0080-\\u009f]*$";
/// At least one character that is not white space; `[:space:]` covers only ASCII.
const NOT_BLANK: &str =
    "[^[:space:]\\u0085\\u00a0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]";
const LABEL_VALUE: &str = "^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$";
const UUID: &str = "^([0-9A-Fa-f]{32}|[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})$";
const MAC: &str = "^([0-9A-Fa-f]{12}|[0-9A-Fa-f]{16}|[0-9A-Fa-f]{40}\
    |[0-9A-Fa-f]{2}((:[0-9A-Fa-f]{2}){5}|(:[0-9A-Fa-f]{2}){7}|(:[0-9A-Fa-f]{2}){19}|(-[0-9A-Fa-f]{2}){5}|(-[0-9A-Fa-f]{2}){7}|(-[0-9A-Fa-f]{2}){19}))$";

pub(crate) fn configs(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "maxProperties": MAX_ENTRIES, "additionalProperties": { "type": "string", "maxLength": 1_048_576 } })
}

pub(crate) fn config_formats(_: &mut SchemaGenerator) -> Schema {
    let names = boot::ConfigFormat::ALL.map(boot::ConfigFormat::name);
    json_schema!({ "type": "object", "maxProperties": MAX_ENTRIES, "additionalProperties": { "type": "string", "enum": names } })
}

pub(crate) fn config_ids(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "maxProperties": MAX_ENTRIES, "additionalProperties": { "type": "string", "maxLength": 36 } })
}

/// The status that the API server shows for an object that no controller has looked at. Tools that
/// wait for objects take one without conditions for ready (kstatus).
pub(crate) fn pending_status() -> Value {
    let condition = |kind: &str, status: &str| {
        json!({
            "type": kind,
            "status": status,
            "reason": "Pending",
            "message": "waiting for a controller",
            "lastTransitionTime": "1970-01-01T00:00:00Z",
        })
    };
    json!({ "conditions": [condition("Ready", "Unknown"), condition("Reconciling", "True")] })
}

pub(crate) fn conditions(generator: &mut SchemaGenerator) -> Schema {
    let condition = generator.subschema_for::<Condition>();
    json_schema!({
        "type": "array", "items": condition, "maxItems": 16, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"],
    })
}

/// Labels that a Profile must have: Kubernetes label keys and values.
pub(crate) fn profile_labels(_: &mut SchemaGenerator) -> Schema {
    let value = string_matching(
        63,
        LABEL_VALUE,
        "is not a label value: use at most 63 letters, digits, '-', '_' and '.', starting and ending with a letter or digit",
    );
    json_schema!({ "type": "object", "maxProperties": MAX_ENTRIES, "x-kubernetes-map-type": "atomic", "additionalProperties": value })
}

/// Labels that a machine must present, with any value that it can present.
pub(crate) fn subject_labels(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object", "maxProperties": MAX_ENTRIES, "x-kubernetes-map-type": "atomic", "additionalProperties": presented_value(),
    })
}

pub(crate) fn label_key(_: &mut SchemaGenerator) -> Schema {
    string_with_rule(
        253,
        &format!(
            "self.matches('{SUBJECT_KEY}') && self.size() > 0 && {}",
            at_most_253_bytes("self")
        ),
        SUBJECT_KEY_MESSAGE,
    )
}

pub(crate) fn operator(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": ["In", "NotIn", "Exists", "DoesNotExist"] })
}

pub(crate) fn label_values(_: &mut SchemaGenerator) -> Schema {
    atomic_list(MAX_VALUES, &presented_value())
}

fn presented_value() -> Schema {
    string_with_rule(
        1024,
        "self.size() > 0",
        "machines never present an empty value; operator DoesNotExist selects machines without the label",
    )
}

pub(crate) fn uuid(_: &mut SchemaGenerator) -> Schema {
    string_matching(
        36,
        UUID,
        "is not a UUID: write 32 hexadecimal digits, with dashes as in 47c6da67-7477-4970-aa03-84e48ff4f6ad or without any",
    )
}

pub(crate) fn uuids(generator: &mut SchemaGenerator) -> Schema {
    atomic_list(MAX_IDENTITIES, &uuid(generator))
}

pub(crate) fn serial(_: &mut SchemaGenerator) -> Schema {
    string_matching(
        256,
        NOT_BLANK,
        "is not a serial number: it is blank; remove it, or write what the machine presents as its serial",
    )
}

pub(crate) fn serials(generator: &mut SchemaGenerator) -> Schema {
    atomic_list(MAX_IDENTITIES, &serial(generator))
}

fn mac() -> Schema {
    string_matching(
        59,
        MAC,
        "is not a MAC address: write 6 octets (8 or 20 for InfiniBand) in hexadecimal, separated by ':' or '-' or not at all",
    )
}

pub(crate) fn macs(_: &mut SchemaGenerator) -> Schema {
    atomic_list(MAX_IDENTITIES, &mac())
}

pub(crate) fn machine_macs(_: &mut SchemaGenerator) -> Schema {
    atomic_list(MAX_MACHINE_MACS, &mac())
}

/// Values of any type by name. Their total size is checked by the conversion only.
pub(crate) fn variables(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}

/// A JSON Schema, which is checked by the conversion only.
pub(crate) fn variables_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}

pub(crate) fn profile_names(_: &mut SchemaGenerator) -> Schema {
    atomic_list(4096, &json_schema!({ "type": "string", "maxLength": 253 }))
}

fn atomic_list(max_items: usize, item: &Schema) -> Schema {
    json_schema!({ "type": "array", "maxItems": max_items, "x-kubernetes-list-type": "atomic", "items": item })
}
