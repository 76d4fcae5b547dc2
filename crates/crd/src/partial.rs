//! Reads what can be read of an object that can't be served: which machines or labels it is about.
//!
//! That part is read from the raw JSON field by field, since one error may prevent the whole object
//! from being deserialized. It must never be wider than what was intended, or machines that the
//! object does not concern would wait for it. So labels are part of it only if all of them can
//! be read, and only readable identities are.

use std::collections::BTreeMap;

use boot::{LabelSelector, Labels, ObjectKey, Partial, Requirement, SubjectSelectors, identity};
use jiff::Timestamp;
use serde_json::Value;

use crate::DEFAULT_NAMESPACE;
use crate::convert::{PRIORITY_RANGE, check_subject_key, convert_requirement, parse_config_ids};

/// The known fields of a spec, of its selectors and of a label requirement.
const SPEC_FIELDS: [&str; 4] = [
    "subjectSelectors",
    "profileSelectors",
    "priority",
    "variables",
];
const SELECTOR_FIELDS: [&str; 5] = [
    "uuids",
    "serialNumbers",
    "macAddresses",
    "matchLabels",
    "matchExpressions",
];
/// The fields that list identities.
pub const IDENTITY_LISTS: [&str; 3] = ["uuids", "serialNumbers", "macAddresses"];
const REQUIREMENT_FIELDS: [&str; 3] = ["key", "operator", "values"];

/// Reads the readable part of a Profile: its labels and the ids of its configs. `None` if the
/// object has no name.
pub fn partial_profile(object: &Value) -> Option<Partial> {
    let labels = string_map(&object["metadata"]["labels"]);
    let ids = parse_config_ids(string_map(&object["status"]["additionalConfig"]));
    Some(Partial::Profile(
        boot::Profile::partial(key(object)?, created(object), &labels)
            .with_ids(ids)
            .into(),
    ))
}

/// Reads the readable part of an Assignment: the machines that it names, or, if it names none, its
/// labels, provided that all of them can be read. `None` if the object has no name.
pub fn partial_assignment(object: &Value) -> Option<Partial> {
    let (key, created) = (key(object)?, created(object));
    let Some((subjects, priority)) = subjects(&object["spec"]) else {
        return Some(Partial::Unreadable { key, created });
    };
    let assignment = boot::Assignment {
        key,
        created,
        labels: Labels::default(),
        subjects,
        profiles: Labels::default(),
        priority,
        variables: boot::Variables::default(),
    };
    Some(Partial::Assignment(assignment.into()))
}

/// Reads the readable part of a Machine: its identities. `None` if the object has no name.
pub fn partial_machine(object: &Value) -> Option<Partial> {
    let spec = &object["spec"];
    let name = object["metadata"]["name"].as_str();
    let serial = spec["serialNumber"].as_str().map(str::trim);
    let machine = boot::Machine {
        key: ObjectKey::new("", name.filter(|name| !name.is_empty())?),
        created: created(object),
        labels: Labels::default(),
        uuid: spec["uuid"].as_str().and_then(identity::parse_uuid),
        serial: serial.filter(|text| !text.is_empty()).map(Into::into),
        macs: strings(&spec["macAddresses"])
            .filter_map(|mac| mac.parse().ok())
            .collect(),
        variables: boot::Variables::default(),
    };
    Some(Partial::Machine(machine.into()))
}

fn subjects(spec: &Value) -> Option<(SubjectSelectors, i32)> {
    let selectors = &spec["subjectSelectors"];
    let has_only_known_fields = has_only_fields(spec, &SPEC_FIELDS)?
        && (selectors.is_null() || has_only_fields(selectors, &SELECTOR_FIELDS)?);
    let lists_identities = IDENTITY_LISTS
        .iter()
        .any(|list| is_present(&selectors[*list]));
    let labels = requirements(selectors);
    let subjects = SubjectSelectors {
        uuids: strings(&selectors["uuids"])
            .filter_map(identity::parse_uuid)
            .collect(),
        serials: strings(&selectors["serialNumbers"])
            .map(str::trim)
            .filter(|serial| !serial.is_empty())
            .map(Into::into)
            .collect(),
        macs: strings(&selectors["macAddresses"])
            .filter_map(|mac| mac.parse().ok())
            .collect(),
        labels: LabelSelector::new(&BTreeMap::new(), labels.iter().flatten().cloned()),
    };
    let is_complete =
        has_only_known_fields && !lists_identities && labels.iter().all(Option::is_some);
    let highest = i64::from(PRIORITY_RANGE.1);
    let number = |value: &Value| value.as_i64().or_else(|| value.as_str()?.parse().ok());
    let priority = number(&spec["priority"])
        .unwrap_or(0)
        .clamp(-highest, highest);
    (subjects.names_identities() || is_complete)
        .then(|| (subjects, i32::try_from(priority).unwrap_or(0)))
}

/// The required labels; `None` for each that can't be read.
fn requirements(selectors: &Value) -> Vec<Option<Requirement>> {
    let parse_label = |(key, value): (&String, &Value)| {
        let value = value.as_str().filter(|value| !value.is_empty())?;
        check_subject_key(key).ok()?;
        Some(Requirement {
            key: key.as_str().into(),
            operator: boot::Operator::In([value.into()].into()),
        })
    };
    let parse_expression = |expression: &Value| {
        let expression = has_only_fields(expression, &REQUIREMENT_FIELDS)?.then_some(expression)?;
        convert_requirement(&serde_json::from_value(expression.clone()).ok()?).ok()
    };
    let mut all: Vec<_> = match &selectors["matchLabels"] {
        Value::Null => Vec::new(),
        Value::Object(labels) => labels.iter().map(parse_label).collect(),
        _ => vec![None],
    };
    match &selectors["matchExpressions"] {
        Value::Null => {}
        Value::Array(expressions) => all.extend(expressions.iter().map(parse_expression)),
        _ => all.push(None),
    }
    all
}

/// Whether an object has only these fields. `None` if the value is not an object.
fn has_only_fields(value: &Value, names: &[&str]) -> Option<bool> {
    Some(
        value
            .as_object()?
            .keys()
            .all(|key| names.contains(&key.as_str())),
    )
}

fn is_present(list: &Value) -> bool {
    !list.is_null()
}

fn strings(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}

fn string_map(map: &Value) -> BTreeMap<String, String> {
    let entries = map.as_object().into_iter().flatten();
    entries
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}

fn key(object: &Value) -> Option<ObjectKey> {
    let field = |name: &str| {
        object["metadata"][name]
            .as_str()
            .filter(|text| !text.is_empty())
    };
    Some(ObjectKey::new(
        field("namespace").unwrap_or(DEFAULT_NAMESPACE),
        field("name")?,
    ))
}

fn created(object: &Value) -> Option<Timestamp> {
    object["metadata"]["creationTimestamp"]
        .as_str()?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const UUID: &str = "47c6da67-7477-4970-aa03-84e48ff4f6ad";

    /// Summarizes the readable part: `nothing`, or the number of identities, the requirements and
    /// the priority.
    fn summarize(spec: &Value) -> String {
        let object = json!({ "metadata": { "name": "a", "namespace": "n" }, "spec": spec });
        match partial_assignment(&object).expect("it has a name") {
            Partial::Unreadable { .. } => "nothing".to_owned(),
            Partial::Assignment(partial) => {
                let subjects = &partial.subjects;
                let names = subjects.uuids.len() + subjects.serials.len() + subjects.macs.len();
                let labels: Vec<_> = subjects
                    .labels
                    .requirements()
                    .iter()
                    .map(ToString::to_string)
                    .collect();
                format!(
                    "{names} named, [{}], {}",
                    labels.join(", "),
                    partial.priority
                )
            }
            Partial::Profile(_) | Partial::Machine(_) => unreachable!("it is an Assignment"),
        }
    }

    #[test]
    fn a_partial_assignment_matches_only_intended_or_named_machines() {
        let rack = json!({ "rack": "7" });
        for (spec, expected) in [
            (
                json!({ "subjectSelectors": { "uuids": ["no uuid", UUID] }, "profileSelectors": 7 }),
                "1 named, [], 0",
            ),
            (
                json!({ "subjectSelectors": { "uuids": [UUID], "matchLabels": { "rack": "" } } }),
                "1 named, [], 0",
            ),
            (
                json!({ "subjectSelectors": { "uuids": ["no uuid"], "matchLabels": rack } }),
                "nothing",
            ),
            (
                json!({ "subjectSelectors": { "uuids": UUID, "matchLabels": rack } }),
                "nothing",
            ),
            (
                json!({ "subjectSelectors": { "matchLabels": rack }, "priority": 7 }),
                "0 named, [rack=7], 7",
            ),
            // Machines were meant that are not there.
            (
                json!({ "subjectSelectors": { "uuids": [], "matchLabels": rack } }),
                "nothing",
            ),
            (
                json!({ "subjectSelectors": { "matchLabels": { "rack": "7", "row/a/b": "1" } } }),
                "nothing",
            ),
            (
                json!({ "subjectSelectors": { "matchLabels": rack, "matchExpressions": [{ "key": "row", "operator": "Is" }] } }),
                "nothing",
            ),
            (
                json!({ "subjectSelectors": { "matchExpressions": [{ "key": "row", "operator": "Exists" }] } }),
                "0 named, [row], 0",
            ),
            (
                json!({ "subjectSelectors": { "matchLabels": ["rack"] } }),
                "nothing",
            ),
            // The meaning of a field of a newer version is unknown.
            (
                json!({ "subjectSelectors": { "matchExpressions": [{ "key": "row", "operator": "Exists", "not": true }] } }),
                "nothing",
            ),
            (
                json!({ "subjectSelectors": { "matchLabels": rack, "assetTags": ["X"] } }),
                "nothing",
            ),
            (
                json!({ "subjectSelectors": { "uuids": [UUID], "assetTags": ["X"] } }),
                "1 named, [], 0",
            ),
            (
                json!({ "subjectSelectors": { "matchLabels": rack }, "suspend": true }),
                "nothing",
            ),
            // A misspelled field does not make a default.
            (json!({ "subjectSelector": { "uuids": [UUID] } }), "nothing"),
            (json!({ "subjectSelectors": { "uuid": [UUID] } }), "nothing"),
            (json!({ "subjectSelectors": "a text" }), "nothing"),
            (json!("a text"), "nothing"),
            (Value::Null, "nothing"),
            (
                json!({ "profileSelectors": { "a/b/c": "d" }, "priority": 9_000_000_000_i64 }),
                "0 named, [], 1000000",
            ),
        ] {
            assert_eq!(summarize(&spec), expected, "{spec}");
        }
    }

    #[test]
    fn a_partial_profile_keeps_readable_labels_and_ids() {
        let object = json!({
            "metadata": { "name": "p", "labels": { "os": "x", "odd": 7 }, "creationTimestamp": "2026-01-02T03:04:05Z" },
            "spec": "none", "status": { "additionalConfig": { "ignition": UUID, "other": "no id" } },
        });
        let Some(Partial::Profile(partial)) = partial_profile(&object) else {
            panic!("a readable Profile")
        };
        assert_eq!(
            (
                partial.key.to_string(),
                partial.labels.len(),
                partial.ids.len()
            ),
            ("default/p".to_owned(), 1, 1)
        );
        assert_eq!(
            partial.created,
            Some("2026-01-02T03:04:05Z".parse().unwrap())
        );
        assert!(partial_profile(&json!({ "metadata": {} })).is_none());
    }
}
