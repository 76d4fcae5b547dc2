//! Arbitrary admission reviews.

use std::sync::LazyLock;

use admission::{Answer, Context, Operation, Request, mutate, validate};
use boot::{Catalog, Change};
use serde_json::{Map, Value};

use super::{CONFIG_ID, check_error};

/// An existing Profile, an Assignment that names a machine, and a default.
static CATALOG: LazyLock<Catalog> = LazyLock::new(|| {
    let mut catalog = Catalog::with_selector_index();
    let profile: crd::Profile = read(
        r##"{"apiVersion": "a", "kind": "b", "metadata": {"name": "linux", "namespace": "n", "labels": {"os": "linux"}}, "spec": {"ipxe": "#!ipxe\nboot\n"}}"##,
    );
    catalog.apply(Change::Profile(
        crd::convert_profile(&profile).expect("a Profile").into(),
    ));
    for (name, spec) in [
        (
            "web",
            r#"{"subjectSelectors": {"serialNumbers": ["S1"]}, "profileSelectors": {"os": "linux"}}"#,
        ),
        ("default", "{}"),
    ] {
        let text = format!(
            r#"{{"apiVersion": "a", "kind": "b", "metadata": {{"name": "{name}", "namespace": "n"}}, "spec": {spec}}}"#
        );
        let assignment: crd::Assignment = read(&text);
        catalog.apply(Change::Assignment(
            crd::convert_assignment(&assignment)
                .expect("an Assignment")
                .into(),
        ));
    }
    catalog
});

fn read<T: serde::de::DeserializeOwned>(text: &str) -> T {
    serde_json::from_str(text).expect("JSON of its type")
}

/// Input: the body of a request to `/validate` or `/mutate`.
pub(crate) fn reviews(bytes: &[u8]) {
    let request = match Request::read(bytes) {
        Ok(request) => request,
        // It may quote what the sender sent.
        Err(error) => return check_error(&error.to_string().replace(CONFIG_ID, "")),
    };
    for catalog in [None, Some(&*CATALOG)] {
        let context = Context {
            catalog,
            age: None,
            partition: "",
            deadline: None,
        };
        let verdict = validate(&request, &context);
        check_answer(&request, &verdict.answer);
        assert_eq!(
            verdict.answer,
            validate(&request, &context).answer,
            "asked again, it answers otherwise"
        );
        let is_written = matches!(request.operation, Operation::Create | Operation::Update)
            && request.kind.is_ok()
            && request.subresource.is_empty();
        assert!(
            is_written || verdict.answer.is_allowed(),
            "only what is written, and ours, may be refused: {request:?}"
        );
        // An admitted object can be indexed.
        let is_new = is_written
            && request.operation == Operation::Create
            && !is_being_deleted(&request)
            && request.object.is_some();
        if is_new && verdict.answer.is_allowed() {
            let change = verdict.change.expect("what is admitted is known");
            Catalog::with_selector_index().apply(change);
        }
    }
    let mutated = mutate(&request);
    check_answer(&request, &mutated);
    check_mutation(bytes, &mutated);
}

/// Checks that an API server can read the answer.
fn check_answer(request: &Request<'_>, answer: &Answer) {
    let json: Value = serde_json::from_str(&answer.to_json()).expect("an answer is JSON");
    assert_eq!(
        (&json["apiVersion"], &json["kind"]),
        (&"admission.k8s.io/v1".into(), &"AdmissionReview".into())
    );
    let response = &json["response"];
    assert_eq!(
        (response["uid"].as_str(), response["allowed"].as_bool()),
        (Some(request.uid.as_str()), Some(answer.is_allowed()))
    );
    assert_eq!(answer.is_allowed(), response["status"].is_null());
    let warnings: Vec<&str> = response["warnings"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let is_fit = |text: &&str| {
        (1..=1000).contains(&text.chars().count()) && !text.contains(char::is_control)
    };
    assert!(
        warnings.len() <= 13 && warnings.iter().all(is_fit),
        "{warnings:?}"
    );
    if !answer.is_allowed() {
        let causes = response["status"]["details"]["causes"]
            .as_array()
            .map_or(0, Vec::len);
        assert!(
            (1..=50).contains(&causes) && response["status"]["code"] == 422,
            "{response}"
        );
        assert!(
            response["status"]["message"]
                .as_str()
                .is_some_and(|message| !message.is_empty())
        );
    }
}

/// Checks that only metadata changes, and that a second mutation changes nothing.
fn check_mutation(bytes: &[u8], answer: &Answer) {
    let Ok(mut review) = serde_json::from_slice::<Value>(bytes) else {
        return;
    };
    let before = review["request"]["object"].clone();
    let mut after = before.clone();
    for step in answer.operations() {
        let (above, key) = step["path"]
            .as_str()
            .and_then(|path| path.rsplit_once('/'))
            .expect("a path");
        assert!(above.starts_with("/metadata"), "{step}");
        let map = after
            .pointer_mut(above)
            .and_then(Value::as_object_mut)
            .expect("what it is put into is there");
        let key = key.replace("~1", "/").replace("~0", "~");
        match step["op"].as_str() {
            Some("add") => drop(map.insert(key, step["value"].clone())),
            _ => drop(map.remove(&key).expect("what is removed is there")),
        }
    }
    let without_metadata = |object: &Value| {
        object.as_object().map(|fields| {
            fields
                .iter()
                .filter(|(key, _)| *key != "metadata")
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect::<Map<_, _>>()
        })
    };
    assert_eq!(without_metadata(&before), without_metadata(&after));
    if answer.operations().is_empty() {
        return;
    }
    review["request"]["object"] = after;
    let again = review.to_string();
    assert_eq!(
        mutate(&Request::read(again.as_bytes()).expect("it was read before")).operations(),
        [Value::Null; 0]
    );
}

fn is_being_deleted(request: &Request<'_>) -> bool {
    let object = request
        .object
        .and_then(|object| serde_json::from_str::<Value>(object.get()).ok());
    object.is_some_and(|object| !object["metadata"]["deletionTimestamp"].is_null())
}
