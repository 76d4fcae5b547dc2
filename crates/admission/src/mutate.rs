//! Adds metadata to objects: who wrote them, and labels to filter by.
//!
//! The metadata is informational and never affects what a machine boots. It depends only on the
//! request and the object, so mutation is idempotent and re-applying an object changes nothing.

use boot::identity;
use serde_json::{Map, Value, json};

use crate::answer::Answer;
use crate::request::{Kind, Operation, Request, parse_json};

/// Annotation with the user who created the object.
pub const AUTHOR: &str = "shaper.amahdha.com/author";
/// Annotation with the user who last changed the spec or the labels.
pub const LAST_EDITOR: &str = "shaper.amahdha.com/last-editor";
/// Label with the scope of an Assignment: `machine`, `group` or `default`.
pub const SCOPE: &str = "shaper.amahdha.com/scope";
/// Label with the number of identities that an Assignment names.
pub const IDENTITIES: &str = "shaper.amahdha.com/identities";

/// Longest user name that is stored, in characters.
const MAX_USER_CHARACTERS: usize = 256;

/// Returns the patch for the object of a request. Empty for other kinds, and for requests that do
/// not write the object itself.
pub fn mutate(request: &Request<'_>) -> Answer {
    let answer = Answer::allow(request);
    let is_write = matches!(request.operation, Operation::Create | Operation::Update)
        && request.subresource.is_empty();
    let (Ok(kind), true) = (&request.kind, is_write) else {
        return answer;
    };
    let Some(object) = parse_json(request.object).filter(Value::is_object) else {
        return answer;
    };
    if !object["metadata"].is_object() || !object["metadata"]["deletionTimestamp"].is_null() {
        return answer;
    }
    let old = parse_json(request.old_object).unwrap_or_default();
    let mut operations = Vec::new();
    patch_map(
        &object,
        "annotations",
        &annotations(request, &object, &old),
        &mut operations,
    );
    if *kind == Kind::Assignment {
        patch_map(&object, "labels", &labels(&object), &mut operations);
    }
    answer.patch(operations)
}

/// Keys and the values they must have; `None` removes the key.
type Wanted = Vec<(&'static str, Option<String>)>;

fn annotations(request: &Request<'_>, object: &Value, old: &Value) -> Wanted {
    let user = request.user.as_deref().map(sanitised);
    let known = |key: &str| {
        old["metadata"]["annotations"][key]
            .as_str()
            .map(str::to_owned)
    };
    if request.operation == Operation::Create {
        // Without a user, the client could have put anything there.
        return vec![(AUTHOR, user), (LAST_EDITOR, None)];
    }
    let is_edit = object["spec"] != old["spec"]
        || other_labels(&object["metadata"]["labels"]) != other_labels(&old["metadata"]["labels"]);
    let editor = if is_edit {
        user.or_else(|| known(LAST_EDITOR))
    } else {
        known(LAST_EDITOR)
    };
    vec![(AUTHOR, known(AUTHOR)), (LAST_EDITOR, editor)]
}

/// All labels except those that are set here.
fn other_labels(labels: &Value) -> Map<String, Value> {
    let all = labels
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, _)| ![SCOPE, IDENTITIES].contains(&key.as_str()));
    all.map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

fn labels(object: &Value) -> Wanted {
    let selectors = &object["spec"]["subjectSelectors"];
    let texts = |field: &str| {
        selectors[field]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect::<Vec<_>>()
    };
    let count = |mut all: Vec<String>| {
        all.sort_unstable();
        all.dedup();
        all.len()
    };
    // Validation rejects unreadable identities.
    let uuids = texts("uuids")
        .into_iter()
        .filter_map(identity::parse_uuid)
        .map(|uuid| uuid.to_string())
        .collect();
    let macs = texts("macAddresses")
        .into_iter()
        .filter_map(|mac| mac.parse::<boot::Mac>().ok())
        .map(|mac| mac.to_string())
        .collect();
    let serials = texts("serialNumbers")
        .into_iter()
        .map(|serial| serial.trim().to_owned())
        .collect();
    let identities = count(uuids) + count(macs) + count(serials);
    let is_empty = |field: &str| match &selectors[field] {
        Value::Object(all) => all.is_empty(),
        Value::Array(all) => all.is_empty(),
        _ => true,
    };
    let scope = match (
        identities,
        is_empty("matchLabels") && is_empty("matchExpressions"),
    ) {
        (0, true) => "default",
        (0, false) => "group",
        _ => "machine",
    };
    vec![
        (SCOPE, Some(scope.to_owned())),
        (IDENTITIES, Some(identities.to_string())),
    ]
}

/// Appends the operations that give a map of the metadata the wanted entries.
fn patch_map(object: &Value, map: &str, wanted: &Wanted, operations: &mut Vec<Value>) {
    let current = &object["metadata"][map];
    let differs = |(key, value): &&(&str, Option<String>)| {
        current.get(*key).and_then(Value::as_str) != value.as_deref()
    };
    let changes: Vec<_> = wanted.iter().filter(differs).collect();
    if changes.iter().any(|(_, value)| value.is_some()) && !current.is_object() {
        operations.push(json!({ "op": "add", "path": format!("/metadata/{map}"), "value": {} }));
    }
    for (key, value) in changes {
        let path = format!(
            "/metadata/{map}/{}",
            key.replace('~', "~0").replace('/', "~1")
        );
        match value {
            Some(value) => operations.push(json!({ "op": "add", "path": path, "value": value })),
            None if current.get(*key).is_some() => {
                operations.push(json!({ "op": "remove", "path": path }));
            }
            None => {}
        }
    }
}

fn sanitised(user: &str) -> String {
    user.chars()
        .filter(|c| !c.is_control())
        .take(MAX_USER_CHARACTERS)
        .collect()
}
