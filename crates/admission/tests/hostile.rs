//! Sends reviews that no API server would send.

use admission::{Context, Outcome, Request, Unreadable, mutate, validate};
use boot::Catalog;
use proptest::prelude::*;
use serde_json::{Value, json};

fn answered(bytes: &[u8]) -> Result<(Outcome, Outcome), Unreadable> {
    let request = Request::read(bytes)?;
    let catalog = Catalog::with_selector_index();
    let verdict = validate(
        &request,
        &Context {
            catalog: Some(&catalog),
            age: None,
            partition: "",
            deadline: None,
        },
    );
    let mutated = mutate(&request);
    for answer in [&verdict.answer, &mutated] {
        let json: Value = serde_json::from_str(&answer.to_json()).unwrap();
        assert_eq!(json["response"]["uid"], request.uid.as_str());
    }
    Ok((verdict.answer.outcome(), mutated.outcome()))
}

fn review(request: &Value) -> Vec<u8> {
    json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request })
        .to_string()
        .into_bytes()
}

fn of_profile() -> Value {
    let kind = json!({ "group": "shaper.amahdha.com", "version": "v1alpha1", "kind": "Profile" });
    let object = json!({ "metadata": { "name": "p", "namespace": "n" }, "spec": { "ipxe": "#!ipxe\nboot" } });
    json!({ "uid": "u", "kind": kind, "operation": "CREATE", "object": object })
}

fn with(change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut request = of_profile();
    change(&mut request);
    review(&request)
}

#[test]
fn foreign_objects_are_allowed() {
    let kinds = [
        ("shaper.amahdha.com", "v1alpha1", "Rack"),
        ("shaper.amahdha.com", "v2", "Profile"),
        ("apps", "v1alpha1", "Profile"),
        ("", "v1", "Pod"),
    ];
    for (group, version, kind) in kinds {
        let bytes = with(|request| {
            request["kind"] = json!({ "group": group, "version": version, "kind": kind });
        });
        assert_eq!(
            answered(&bytes).unwrap(),
            (Outcome::Warned, Outcome::Allowed),
            "{kind}"
        );
    }
    for operation in ["CONNECT", "", "create", "PATCH\n"] {
        let bytes = with(|request| request["operation"] = json!(operation));
        assert_eq!(
            answered(&bytes).unwrap(),
            (Outcome::Warned, Outcome::Allowed),
            "{operation}"
        );
    }
}

#[test]
fn missing_and_mistyped_fields_are_answered() {
    assert_eq!(
        answered(&review(&of_profile())).unwrap().1,
        Outcome::Allowed,
        "nobody is the author of what nobody asks for"
    );
    for object in [
        json!(null),
        json!(7),
        json!("x"),
        json!([]),
        json!({}),
        json!({ "metadata": null }),
        json!({ "metadata": [], "spec": {} }),
    ] {
        for old in [json!(null), json!(7), json!({ "spec": [] })] {
            for operation in ["CREATE", "UPDATE", "DELETE"] {
                let bytes = with(|request| {
                    request["object"] = object.clone();
                    request["oldObject"] = old.clone();
                    request["operation"] = json!(operation);
                });
                let (validated, _) = answered(&bytes).unwrap();
                assert!(
                    operation != "DELETE" || validated != Outcome::Denied,
                    "{object} {old}"
                );
            }
        }
    }
}

#[test]
fn a_body_that_is_not_a_review_is_rejected() {
    for bytes in [
        &b""[..],
        b"{",
        b"\xff\xfe",
        b"[]",
        b"null",
        b"{}",
        b"{\"kind\":\"AdmissionReview\"}",
        &vec![b'['; 10_000],
    ] {
        assert!(Request::read(bytes).is_err());
    }
    let other = json!({ "apiVersion": "admission.k8s.io/v1beta1", "kind": "AdmissionReview", "request": of_profile() }).to_string();
    assert!(matches!(
        Request::read(other.as_bytes()),
        Err(Unreadable::OtherType(_))
    ));
    assert!(matches!(
        Request::read(&with(|request| request["uid"] = json!(""))),
        Err(Unreadable::NoRequest)
    ));
}

#[test]
fn a_duplicate_key_of_a_review_is_rejected() {
    let twice = |from: &str, to: &str| {
        String::from_utf8(review(&of_profile()))
            .unwrap()
            .replacen(from, to, 1)
            .into_bytes()
    };
    for (from, to) in [
        ("\"uid\":", "\"uid\":\"v\",\"uid\":"),
        ("\"operation\":", "\"operation\":\"DELETE\",\"operation\":"),
    ] {
        assert!(matches!(
            Request::read(&twice(from, to)),
            Err(Unreadable::Json(_))
        ));
    }
    // Within the object the last duplicate counts, as in an API server.
    let (validated, _) =
        answered(&twice("\"spec\":", "\"spec\":{\"ipxe\":\"{{\"},\"spec\":")).unwrap();
    assert_eq!(validated, Outcome::Warned);
}

#[test]
fn a_review_of_three_megabytes_is_answered() {
    let mut configs = serde_json::Map::new();
    for number in 0..12 {
        configs.insert(format!("config{number}"), json!("x ".repeat(128 * 1024)));
    }
    let bytes = with(|request| request["object"]["spec"]["additionalConfig"] = configs.into());
    assert!(bytes.len() > 3_000_000);
    assert_eq!(answered(&bytes).unwrap().0, Outcome::Warned);
    let bytes = with(|request| {
        request["object"]["metadata"]["annotations"] = json!({ "a": "\"".repeat(1_500_000) });
    });
    assert_eq!(answered(&bytes).unwrap().0, Outcome::Warned);
}

#[test]
fn a_script_full_of_mistakes_is_answered_with_some_of_them() {
    for line in [
        "goto nowhere\n",
        ":a\n",
        "chain http://a/#b||\n",
        "echo ${a b}\n",
    ] {
        let script = format!("#!ipxe\n{}", line.repeat(250_000 / line.len()));
        let bytes = with(|request| request["object"]["spec"]["ipxe"] = json!(script));
        let (validated, _) = answered(&bytes).unwrap();
        assert_ne!(validated, Outcome::Allowed);
    }
}

#[test]
fn quotes_in_answers_are_short_and_without_control_characters() {
    let long = format!("{}\u{7}\u{1b}[31m", "x".repeat(100_000));
    let bytes = with(|request| request["kind"]["kind"] = json!(long));
    let request = Request::read(&bytes).unwrap();
    let answer = validate(
        &request,
        &Context {
            catalog: None,
            age: None,
            partition: "",
            deadline: None,
        },
    )
    .answer;
    assert!(
        answer
            .warnings()
            .iter()
            .all(|warning| warning.chars().count() <= 1000 && !warning.contains(char::is_control))
    );
}

const KEYS: [&str; 11] = [
    "metadata",
    "spec",
    "ipxe",
    "additionalConfig",
    "subjectSelectors",
    "uuids",
    "matchLabels",
    "labels",
    "name",
    "priority",
    "x",
];

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[ -~]{0,12}".prop_map(Value::from),
        Just(json!("{{ subject.uuid }}")),
        Just(json!("47c6da67-7477-4970-aa03-84e48ff4f6ad")),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(prop::sample::select(&KEYS[..]), inner, 0..5).prop_map(
                |map| map
                    .into_iter()
                    .map(|(key, value)| (key.to_owned(), value))
                    .collect::<serde_json::Map<_, _>>()
                    .into()
            ),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_object_is_answered_and_no_deletion_is_refused(
        object in json_value(), old in json_value(), operation in prop::sample::select(&["CREATE", "UPDATE", "DELETE"][..]),
        kind in prop::sample::select(&["Profile", "Assignment"][..]),
    ) {
        let bytes = with(|request| {
            request["object"] = object;
            request["oldObject"] = old;
            request["operation"] = json!(operation);
            request["kind"]["kind"] = json!(kind);
        });
        let (validated, _) = answered(&bytes).unwrap();
        prop_assert!(operation != "DELETE" || validated != Outcome::Denied);
    }

    #[test]
    fn any_bytes_are_answered_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = answered(&bytes);
    }
}
