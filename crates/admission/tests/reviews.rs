//! Answers reviews as an API server sends them.

use std::time::{Duration, Instant};

use admission::{Answer, Context, Outcome, Recent, Request, Verdict, mutate, validate};
use boot::{Catalog, Change};
use serde_json::{Value, json};

const UUID: &str = "47c6da67-7477-4970-aa03-84e48ff4f6ad";

fn profile(name: &str, ipxe: &str) -> Value {
    let metadata = json!({ "name": name, "namespace": "n", "labels": { "os": name } });
    json!({ "apiVersion": "shaper.amahdha.com/v1alpha1", "kind": "Profile", "metadata": metadata, "spec": { "ipxe": ipxe } })
}

fn assignment(name: &str, spec: &Value) -> Value {
    let metadata = json!({ "name": name, "namespace": "n" });
    json!({ "apiVersion": "shaper.amahdha.com/v1alpha1", "kind": "Assignment", "metadata": metadata, "spec": spec })
}

fn review(operation: &str, object: &Value, old: &Value, user: &str) -> Vec<u8> {
    let shown = if object.is_null() { old } else { object };
    let kind =
        json!({ "group": "shaper.amahdha.com", "version": "v1alpha1", "kind": shown["kind"] });
    json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "u-1", "kind": kind, "operation": operation, "namespace": "n", "name": shown["metadata"]["name"].as_str().unwrap_or("x"),
        "userInfo": { "username": user }, "object": object, "oldObject": old,
    } })
    .to_string()
    .into_bytes()
}

fn judge(operation: &str, object: &Value, old: &Value, catalog: Option<&Catalog>) -> Verdict {
    let bytes = review(operation, object, old, "alice");
    let verdict = validate(
        &Request::read(&bytes).unwrap(),
        &Context {
            catalog,
            age: None,
            partition: "",
            deadline: None,
        },
    );
    let json: Value = serde_json::from_str(&verdict.answer.to_json()).unwrap();
    assert_eq!(json["response"]["uid"], "u-1");
    assert_eq!(json["response"]["allowed"], verdict.answer.is_allowed());
    verdict
}

fn create(object: &Value, catalog: &Catalog) -> Verdict {
    judge("CREATE", object, &Value::Null, Some(catalog))
}

/// Builds a catalog of those objects that are valid.
fn catalog(objects: &[Value]) -> Catalog {
    let mut catalog = Catalog::with_selector_index();
    for object in objects {
        catalog.apply(
            create(object, &Catalog::with_selector_index())
                .change
                .unwrap(),
        );
    }
    catalog
}

fn causes(answer: &Answer) -> Vec<(String, String)> {
    answer
        .causes()
        .map(|(field, message)| (field.to_owned(), message.to_owned()))
        .collect()
}

#[test]
fn a_valid_object_is_allowed_without_warnings() {
    let all = catalog(&[
        profile("linux", "#!ipxe\nboot\n"),
        assignment("a", &json!({ "profileSelectors": { "os": "linux" } })),
    ]);
    let web =
        json!({ "subjectSelectors": { "uuids": [UUID] }, "profileSelectors": { "os": "linux" } });
    let verdict = create(&assignment("web", &web), &all);
    assert_eq!(
        (verdict.answer.outcome(), verdict.answer.warnings()),
        (Outcome::Allowed, &[][..])
    );
    assert!(matches!(verdict.change, Some(Change::Assignment(_))));
}

#[test]
fn an_invalid_object_is_denied_as_by_the_schema() {
    let all = Catalog::with_selector_index();
    let answer = create(&profile("p", "#!ipxe\necho {{ nobody }}\n"), &all).answer;
    assert_eq!(answer.outcome(), Outcome::Denied);
    let causes = causes(&answer);
    assert!(
        causes[0].0 == "spec.ipxe"
            && causes[0].1.starts_with("line 2 of the text: ")
            && causes[0].1.contains("nobody"),
        "{causes:?}"
    );
    let json: Value = serde_json::from_str(&answer.to_json()).unwrap();
    let status = &json["response"]["status"];
    assert_eq!(
        (status["code"].as_u64(), status["reason"].as_str()),
        (Some(422), Some("Invalid"))
    );
    assert_eq!(
        (&status["details"]["kind"], &status["details"]["name"]),
        (&json!("Profile"), &json!("p"))
    );
    assert!(
        status["message"]
            .as_str()
            .unwrap()
            .starts_with("spec.ipxe: line 2 of the text: ")
    );

    let answer = create(&profile("p", "#!ipxe\ngoto nowhere\n"), &all).answer;
    assert!(
        answer.outcome() == Outcome::Denied && answer.to_json().contains("nowhere"),
        "{}",
        answer.to_json()
    );
}

#[test]
fn a_doubtful_object_is_allowed_with_warnings() {
    let all = catalog(&[profile("linux", "#!ipxe\nboot\n")]);
    let answer = create(
        &assignment("a", &json!({ "profileSelectors": { "os": "linus" } })),
        &all,
    )
    .answer;
    let says = "Assignment a: spec.profileSelectors: no Profile in namespace n has the labels os=linus: its machines boot nothing (did you mean os=linux?)";
    assert_eq!(
        (answer.outcome(), answer.warnings()),
        (Outcome::Warned, &[says.to_owned()][..])
    );
    let answer = create(&profile("other", "#!ipxe\nboot\n"), &all).answer;
    let says = "Profile other: metadata.labels: no Assignment in namespace n selects this Profile, so no machine boots it \
        (add an Assignment whose profileSelectors are among its labels, or remove this Profile)";
    assert_eq!(answer.warnings(), [says]);
}

#[test]
fn a_shared_identity_warning_names_the_winner() {
    let spec = |priority: i32| json!({ "subjectSelectors": { "uuids": [UUID] }, "profileSelectors": { "os": "linux" }, "priority": priority });
    let all = catalog(&[
        profile("linux", "#!ipxe\nboot\n"),
        assignment("b", &spec(5)),
    ]);
    let answer = create(&assignment("a", &spec(0)), &all).answer;
    let says = format!(
        "Assignment a: spec.subjectSelectors: Assignment n/b names uuid {UUID} too; that one ranks first, because its priority 5 is higher than 0 \
         (name the machine in only one of them, or give the intended one the higher priority)"
    );
    assert_eq!(answer.warnings(), [says]);
    let answer = create(&assignment("c", &spec(5)), &all).answer;
    assert!(
        answer.warnings()[0].starts_with(&format!(
            "Assignment c: spec.subjectSelectors: Assignment n/b matches uuid {UUID} too, and ranks first only because"
        ))
    );
}

#[test]
fn a_deletion_is_allowed_with_warnings() {
    let web = assignment(
        "web",
        &json!({ "subjectSelectors": { "uuids": [UUID] }, "profileSelectors": { "os": "linux" } }),
    );
    let linux = profile("linux", "#!ipxe\nboot\n");
    let all = catalog(&[linux.clone(), web.clone()]);
    // A Profile does not name the machine.
    for (gone, name, who) in [
        (
            &web,
            "Assignment web",
            format!("the machine with uuid {UUID}"),
        ),
        (
            &linux,
            "Profile linux",
            "one machine (uuid not shown)".to_owned(),
        ),
    ] {
        let answer = judge("DELETE", &Value::Null, gone, Some(&all)).answer;
        assert!(answer.is_allowed());
        let help =
            "if this is not intended, undo it before they boot; `shaper diff` lists all of them";
        assert_eq!(
            answer.warnings(),
            [format!(
                "{name}: {who} would boot nothing instead of Profile n/linux ({help})"
            )]
        );
    }
    // Invalid, missing and undecodable objects can be deleted as well.
    for gone in [
        &profile("x", "{{"),
        &json!({ "kind": "Profile", "metadata": { "name": 7 }, "spec": [] }),
    ] {
        assert_eq!(
            judge("DELETE", &Value::Null, gone, Some(&all))
                .answer
                .outcome(),
            Outcome::Allowed
        );
    }
}

#[test]
fn an_invalid_object_can_be_updated_outside_its_spec() {
    let all = Catalog::with_selector_index();
    let wrong = profile("p", "#!ipxe\necho {{ nobody }}\n");
    let mut annotated = wrong.clone();
    annotated["metadata"]["annotations"] = json!({ "a": "b" });
    let answer = judge("UPDATE", &annotated, &wrong, Some(&all)).answer;
    assert!(
        answer.outcome() == Outcome::Warned && answer.warnings()[0].contains("nobody"),
        "{answer:?}"
    );

    let mut edited = wrong.clone();
    edited["spec"]["additionalConfig"] = json!({ "a": "b" });
    assert_eq!(
        judge("UPDATE", &edited, &wrong, Some(&all))
            .answer
            .outcome(),
        Outcome::Denied
    );

    let mut worse = wrong.clone();
    worse["metadata"]["labels"] = json!({ "a/b/c": "d" });
    assert_eq!(
        judge("UPDATE", &worse, &wrong, Some(&all)).answer.outcome(),
        Outcome::Denied
    );

    let mut leaving = edited;
    leaving["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    assert!(
        judge("UPDATE", &leaving, &wrong, Some(&all))
            .answer
            .is_allowed()
    );

    // An object that was written under an earlier schema.
    let mut old = wrong.clone();
    old["spec"] = json!({ "ipxe": 7 });
    let mut labelled = old.clone();
    labelled["metadata"]["labels"] = json!({ "a": "b" });
    assert_eq!(
        judge("UPDATE", &labelled, &old, Some(&all))
            .answer
            .outcome(),
        Outcome::Warned
    );
    assert_eq!(
        judge("UPDATE", &wrong, &old, Some(&all)).answer.outcome(),
        Outcome::Denied
    );
    assert_eq!(
        judge("UPDATE", &profile("p", "#!ipxe\nboot\n"), &old, Some(&all))
            .answer
            .outcome(),
        Outcome::Warned
    );
}

#[test]
fn a_known_fault_shown_by_another_sample_is_not_new() {
    let all = Catalog::with_selector_index();
    let wrong = profile(
        "p",
        "#!ipxe\n{% for x in range(1000) %}{% for y in range(1000) %}{{ x }}{% endfor %}{% endfor %}\n",
    );
    let mut labelled = wrong.clone();
    labelled["metadata"]["labels"]["assignment/ipxe-buildarch"] = json!("arm64");
    let answer = judge("UPDATE", &labelled, &wrong, Some(&all)).answer;
    assert!(
        answer.is_allowed()
            && answer
                .warnings()
                .iter()
                .any(|warning| warning.contains("(arm64, efi)")),
        "{answer:?}"
    );
    // The check of the old object has a separate time limit.
    let bytes = review("UPDATE", &labelled, &wrong, "alice");
    let deadline = Some(Instant::now() + Duration::from_millis(1));
    assert!(
        validate(
            &Request::read(&bytes).unwrap(),
            &Context {
                catalog: None,
                age: None,
                partition: "",
                deadline
            }
        )
        .answer
        .is_allowed()
    );
}

#[test]
fn impact_warnings_precede_script_warnings() {
    let web = assignment(
        "web",
        &json!({ "subjectSelectors": { "uuids": [UUID] }, "profileSelectors": { "os": "linux" } }),
    );
    let all = catalog(&[profile("linux", "#!ipxe\nboot\n"), web]);
    let remarks: String = (0..13).map(|n| format!("kernal{n} http://a/\n")).collect();
    let mut worse = profile("linux", &format!("#!ipxe\n{remarks}"));
    worse["metadata"]["labels"] = json!({ "os": "other" });
    let answer = judge(
        "UPDATE",
        &worse,
        &profile("linux", "#!ipxe\nboot\n"),
        Some(&all),
    )
    .answer;
    assert!(
        answer.warnings().len() > 13 && answer.warnings()[0].contains("would boot nothing"),
        "{:#?}",
        answer.warnings()
    );
    let json: Value = serde_json::from_str(&answer.to_json()).unwrap();
    let shown = json["response"]["warnings"].as_array().unwrap();
    assert_eq!(
        (shown.len(), shown[0].as_str()),
        (13, Some(answer.warnings()[0].as_str()))
    );
    let more = answer.warnings().len() - 12;
    assert_eq!(
        shown[12],
        format!("... and {more} more; `shaper validate` lists all findings")
    );
}

#[test]
fn errors_beyond_the_answer_limit_are_counted() {
    let lines: String = (0..60).map(|n| format!("goto nowhere{n}\n")).collect();
    let answer = create(
        &profile("p", &format!("#!ipxe\n{lines}")),
        &Catalog::with_selector_index(),
    )
    .answer;
    assert_eq!(answer.causes().count(), 60);
    assert!(
        answer
            .to_json()
            .contains("; ... and 10 more; `shaper validate` lists all\""),
        "{}",
        answer.to_json()
    );
}

#[test]
fn a_stale_catalog_is_reported_with_its_age() {
    let all = catalog(&[
        profile("linux", "#!ipxe\nboot\n"),
        assignment("a", &json!({ "profileSelectors": { "os": "linux" } })),
    ]);
    let bytes = review(
        "CREATE",
        &profile("linux", "#!ipxe\nboot\n"),
        &Value::Null,
        "alice",
    );
    let warnings = |seconds| {
        let age = Some(Duration::from_secs(seconds));
        let context = Context {
            catalog: Some(&all),
            age,
            partition: "",
            deadline: None,
        };
        validate(&Request::read(&bytes).unwrap(), &context)
            .answer
            .warnings()
            .to_vec()
    };
    assert!(warnings(45).is_empty());
    let told = warnings(7 * 60 + 5);
    assert!(
        told.len() == 1 && told[0].starts_with("the catalog is 7 minutes old, "),
        "{told:?}"
    );
    assert!(warnings(100_000)[0].contains(" is 27 hours old"));
}

#[test]
fn without_a_catalog_only_the_object_is_checked_and_a_warning_says_so() {
    let answer = judge(
        "CREATE",
        &profile("p", "#!ipxe\nboot\n"),
        &Value::Null,
        None,
    )
    .answer;
    assert!(
        answer.warnings().len() == 1
            && answer.warnings()[0].starts_with("other objects are not known yet"),
        "{answer:?}"
    );
    assert_eq!(
        judge("CREATE", &profile("p", "{{"), &Value::Null, None)
            .answer
            .outcome(),
        Outcome::Denied
    );
}

#[test]
fn checks_stop_at_the_deadline_with_a_warning() {
    let mut object = profile("linux", "#!ipxe\nboot\n");
    object["spec"]["additionalConfig"] =
        json!({ "a": "{% for n in range(900) %}{{ n }}{% endfor %}" });
    let bytes = review("CREATE", &object, &Value::Null, "alice");
    let deadline = Instant::now().checked_sub(Duration::from_secs(1));
    let all = Catalog::with_selector_index();
    let answer = validate(
        &Request::read(&bytes).unwrap(),
        &Context {
            catalog: Some(&all),
            age: None,
            partition: "",
            deadline,
        },
    )
    .answer;
    let says = "Profile linux: spec.ipxe: templates from here on were not checked: out of time (run `shaper validate`, which has no time limit)";
    assert_eq!(answer.warnings()[0], says);
}

#[test]
fn a_shared_identity_is_reported_across_clusters() {
    let spec =
        json!({ "subjectSelectors": { "uuids": [UUID] }, "profileSelectors": { "os": "linux" } });
    let bytes = review("CREATE", &assignment("a", &spec), &Value::Null, "alice");
    let judged = |catalog: &Catalog, partition: &str| {
        validate(
            &Request::read(&bytes).unwrap(),
            &Context {
                catalog: Some(catalog),
                age: None,
                partition,
                deadline: None,
            },
        )
    };
    let mut all = Catalog::with_selector_index();
    let ours = judged(&all, "east").change.unwrap();
    all.apply(ours);
    let warnings = judged(&all, "west").answer.warnings().to_vec();
    assert!(
        warnings
            .iter()
            .any(|warning| warning.contains("Assignment east:n/a matches uuid")),
        "{warnings:?}"
    );
    assert!(
        judged(&all, "east")
            .answer
            .warnings()
            .iter()
            .all(|warning| !warning.contains("matches"))
    );
}

#[test]
fn a_recent_admission_counts_until_the_feed_catches_up() {
    let empty = Catalog::with_selector_index();
    let mut recent = Recent::default();
    let now = Instant::now();
    let profiles = |recent: &mut Recent, catalog: &Catalog, now: Instant| {
        let mut next = catalog.clone();
        recent
            .pending(catalog, now)
            .into_iter()
            .for_each(|change| assert!(next.apply(change)));
        next.profile_count()
    };
    let linux = create(&profile("linux", "#!ipxe\nboot\n"), &empty)
        .change
        .unwrap();
    recent.record(&empty, linux.clone(), now);
    assert_eq!(profiles(&mut recent, &empty, now), 1);
    // The feed delivers the object, and later its deletion.
    let mut heard = empty.clone();
    heard.apply(linux.clone());
    assert_eq!(profiles(&mut recent, &heard, now), 1);
    assert_eq!(profiles(&mut recent, &empty, now), 0);
    recent.record(&heard, linux.name().deletion(), now);
    assert_eq!(profiles(&mut recent, &heard, now), 0);
    assert_eq!(
        profiles(&mut recent, &heard, now + Duration::from_secs(6)),
        1
    );
}

// --- what objects get ---

fn changed(operation: &str, object: &Value, old: &Value, user: &str) -> Value {
    let bytes = review(operation, object, old, user);
    let answer = mutate(&Request::read(&bytes).unwrap());
    let mut changed = object.clone();
    for step in answer.operations() {
        let path = step["path"].as_str().unwrap();
        let (above, key) = path.rsplit_once('/').unwrap();
        let key = key.replace("~1", "/").replace("~0", "~");
        let place = changed.pointer_mut(above).unwrap().as_object_mut().unwrap();
        match step["op"].as_str().unwrap() {
            "add" => drop(place.insert(key, step["value"].clone())),
            "remove" => assert!(place.remove(&key).is_some(), "{path} is not there"),
            op => panic!("{op}"),
        }
    }
    changed
}

fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object["metadata"]["annotations"][key].as_str()
}

#[test]
fn the_author_is_kept_and_the_last_editor_is_updated() {
    let made = changed("CREATE", &profile("p", "#!ipxe"), &Value::Null, "alice");
    assert_eq!(
        (
            annotation(&made, admission::AUTHOR),
            annotation(&made, admission::LAST_EDITOR)
        ),
        (Some("alice"), None)
    );
    assert!(made["metadata"]["labels"].get(admission::SCOPE).is_none());
    // Applying the same object again, or annotating it, does not make one its editor.
    assert_eq!(changed("UPDATE", &made, &made, "bob"), made);
    let mut noted = made.clone();
    noted["metadata"]["annotations"]["note"] = json!("x");
    assert_eq!(changed("UPDATE", &noted, &made, "bob"), noted);
    // Replacing the whole object, or inventing an author, does not change this.
    let mut edited = profile("p", "#!ipxe\nboot");
    edited["metadata"]["annotations"] = json!({ "shaper.amahdha.com/author": "mallory" });
    let edited = changed("UPDATE", &edited, &made, "bob");
    assert_eq!(
        (
            annotation(&edited, admission::AUTHOR),
            annotation(&edited, admission::LAST_EDITOR)
        ),
        (Some("alice"), Some("bob"))
    );
    assert_eq!(changed("UPDATE", &edited, &edited, "carol"), edited);
    let forged = changed("CREATE", &edited, &Value::Null, "");
    assert_eq!(
        (
            annotation(&forged, admission::AUTHOR),
            annotation(&forged, admission::LAST_EDITOR)
        ),
        (None, None)
    );
}

#[test]
fn an_assignment_is_labelled_with_its_identities() {
    for (selectors, scope, identities) in [
        (json!({}), "default", "0"),
        (json!({ "matchLabels": { "region": "x" } }), "group", "0"),
        (
            json!({ "uuids": [UUID, UUID.to_uppercase()], "serialNumbers": ["a", " a"], "matchLabels": { "region": "x" } }),
            "machine",
            "2",
        ),
        (
            json!({ "macAddresses": ["52:54:00:00:00:01", "52-54-00-00-00-02"] }),
            "machine",
            "2",
        ),
    ] {
        let object = assignment("a", &json!({ "subjectSelectors": selectors }));
        let made = changed("CREATE", &object, &Value::Null, "alice");
        let labels = json!({ "shaper.amahdha.com/scope": scope, "shaper.amahdha.com/identities": identities });
        assert_eq!(made["metadata"]["labels"], labels);
        assert_eq!(changed("UPDATE", &made, &made, "bob"), made);
    }
    let none = assignment("a", &Value::Null);
    assert_eq!(
        changed("CREATE", &none, &Value::Null, "alice")["metadata"]["labels"][admission::SCOPE],
        "default"
    );
}

#[test]
fn nothing_is_mutated_when_no_shaper_object_is_written() {
    let object = profile("p", "#!ipxe");
    for (operation, field, value) in [
        ("DELETE", "dryRun", json!(false)),
        ("CONNECT", "dryRun", json!(false)),
        ("UPDATE", "subResource", json!("status")),
    ] {
        let mut review: Value =
            serde_json::from_slice(&review(operation, &object, &Value::Null, "alice")).unwrap();
        review["request"][field] = value;
        let bytes = review.to_string();
        assert_eq!(
            mutate(&Request::read(bytes.as_bytes()).unwrap()).outcome(),
            Outcome::Allowed,
            "{operation}"
        );
    }
}

#[test]
fn a_made_up_review_learns_no_identity_of_other_objects() {
    let serial = "SN-SECRET";
    let web = assignment(
        "web",
        &json!({ "subjectSelectors": { "uuids": [UUID], "serialNumbers": [serial] }, "profileSelectors": { "os": "linux" } }),
    );
    let by_label = assignment(
        "by-label",
        &json!({ "subjectSelectors": { "matchLabels": { "serial": serial } }, "profileSelectors": { "os": "linux" } }),
    );
    let all = catalog(&[profile("linux", "#!ipxe\nboot\n"), web.clone(), by_label]);
    let everybody = json!({
        "subjectSelectors": { "matchExpressions": [{ "key": "uuid", "operator": "Exists" }] },
        "profileSelectors": { "os": "none" }, "priority": 1000,
    });
    let labelled = json!({
        "subjectSelectors": { "matchExpressions": [{ "key": "serial", "operator": "Exists" }] }, "profileSelectors": { "os": "linux" },
    });
    let nameless = json!({ "kind": "Assignment", "metadata": { "name": "web", "namespace": "n" } });
    let answers = [
        judge("DELETE", &Value::Null, &nameless, Some(&all)).answer,
        judge(
            "DELETE",
            &Value::Null,
            &profile("linux", "#!ipxe\n"),
            Some(&all),
        )
        .answer,
        create(&assignment("evil", &everybody), &all).answer,
        create(&assignment("evil", &labelled), &all).answer,
        judge(
            "UPDATE",
            &assignment("web", &everybody),
            &nameless,
            Some(&all),
        )
        .answer,
    ];
    for answer in answers {
        let said = answer.to_json();
        assert!(
            answer.warnings().iter().any(|warning| !warning.is_empty()),
            "{said}"
        );
        assert!(!said.contains(UUID) && !said.contains(serial), "{said}");
    }
    // The API server sends the stored object with a deletion, so its author is told.
    let said = judge("DELETE", &Value::Null, &web, Some(&all))
        .answer
        .to_json();
    assert!(said.contains(UUID), "{said}");
}
