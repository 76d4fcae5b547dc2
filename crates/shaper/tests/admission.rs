//! `shaper validate` and admission find the same in the same objects, and say it in the same words.

use std::collections::BTreeSet;

use admission::{Beside, Request, validate};
use boot::{Catalog, Change};
use review::rule;
use serde_json::{Value, json};
use shaper::manifests::{Batch, Progress, Source};

const UUID: &str = "47c6da67-7477-4970-aa03-84e48ff4f6ad";

/// Rules on files, which no object breaks alone; and those on a change, of which a folder knows nothing.
const NOT_SHARED: [&str; 9] =
    ["file", "schema", "twice", "no-manifests", "unrendered", "claimed", "loses-profile", "moves-machines", "not-all-tried"];

fn object(kind: &str, name: &str, labels: &Value, spec: &Value) -> Value {
    let metadata = json!({ "name": name, "namespace": "n", "labels": labels });
    json!({ "apiVersion": "shaper.amahdha.com/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec })
}

fn profile(name: &str, script: &str) -> Value {
    object("Profile", name, &json!({ "os": name }), &json!({ "ipxe": script }))
}

fn assignment(name: &str, subjects: &Value, os: &str) -> Value {
    object("Assignment", name, &json!({}), &json!({ "subjectSelectors": subjects, "profileSelectors": { "os": os } }))
}

/// Scripts with something to mend.
fn scripts() -> Vec<String> {
    let lines = [
        "boot",
        "echo {{ nobody }}",
        "{% if",
        "{% for x in range(1000) %}{% for y in range(1000) %}{{ x }}{% endfor %}{% endfor %}",
        "echo é",
        "echo a\u{7}b",
        "chain http://a/|| shell",
        "boot# now",
        "chain http://a/#x",
        ":retry\nchain http://a/ || exit\ngoto retry",
        "kernel http://a/vmlinuz\ninitrd http://a/initrd.gz\nboot",
        "kernel http://a/vmlinuz initrd=x\ninitrd http://a/y\nboot",
        "kernal http://a/",
        "goto nowhere",
        ":a\n:a\ngoto a",
        "echo ${serial number}",
        "echo ${net0/mac:hexhypp}",
        "iseq ${buildarch} amd64 && boot",
        "chain \"http://a/b c\"",
        "echo a \\ \nboot",
        "set args http://a/ x y\nchain ${args}",
        "set url http://a/x y z\nkernel ${url}",
    ];
    let long = [format!("echo{}", " a".repeat(300)), format!("echo{}", " a".repeat(210)), format!("echo {}", "a".repeat(5000))];
    lines.iter().map(|line| (*line).to_owned()).chain(long).map(|lines| format!("#!ipxe\n{lines}\n")).chain(["boot\n".to_owned()]).collect()
}

/// Folders with something to mend.
fn corpus() -> Vec<Vec<Value>> {
    let linux = || profile("linux", "#!ipxe\nboot\n");
    let any = || assignment("any", &json!({}), "linux");
    let mut all: Vec<Vec<Value>> = scripts()
        .iter()
        .map(|script| vec![object("Profile", "linux", &json!({ "os": "linux" }), &json!({ "ipxe": script })), any()])
        .collect();
    let subjects = [
        json!({ "uuids": ["x"] }),
        json!({ "serialNumbers": [" "] }),
        json!({ "macAddresses": ["52:54"] }),
        json!({ "uuids": ["00000000-0000-0000-0000-000000000000"], "serialNumbers": ["To be filled by O.E.M."] }),
        json!({ "matchLabels": { "a/b/c": "x" } }),
        json!({ "matchLabels": { "serail": "x" } }),
        json!({ "matchLabels": { "buildarch": "x86-64" } }),
        json!({ "matchExpressions": [{ "key": "a", "operator": "Exists" }, { "key": "a", "operator": "DoesNotExist" }] }),
        json!({ "matchExpressions": [{ "key": "a", "operator": "In", "values": [] }] }),
    ];
    all.extend(subjects.iter().map(|subjects| vec![linux(), assignment("a", subjects, "linux"), any()]));
    let arm =
        object("Profile", "arm", &json!({ "os": "arm", "assignment/ipxe-buildarch": "aarch64" }), &json!({ "ipxe": "#!ipxe\nboot\n" }));
    let labelled = |labels: Value| object("Profile", "p", &labels, &json!({ "ipxe": "#!ipxe\nboot\n" }));
    all.extend([
        vec![linux(), assignment("a", &json!({}), "linus")],
        vec![linux(), profile("other", "#!ipxe\nboot\n"), any()],
        vec![arm.clone(), assignment("a", &json!({}), "arm"), assignment("b", &json!({ "matchLabels": { "buildarch": "x86_64" } }), "arm")],
        vec![linux(), assignment("a", &json!({ "uuids": [UUID] }), "linux"), assignment("b", &json!({ "uuids": [UUID] }), "linux")],
        vec![labelled(json!({ "os": "linux", "assigment/ipxe-buildarch": "arm64" })), any()],
        vec![labelled(json!({ "os": "linux", "assignment/ipxe-serail": "x", "assignment/extrinsic-buildarch": "arm65" })), any()],
        vec![
            object("Profile", "p", &json!({ "os": "linux" }), &json!({ "ipxe": "#!ipxe", "additionalConfig": { "user-data": "x" } })),
            any(),
        ],
        vec![
            object("Profile", "p", &json!({ "os": "linux" }), &json!({ "ipxe": "#!ipxe", "additionalConfig": { "a": "{{ b }}" } })),
            any(),
        ],
        vec![object("Assignment", "a", &json!({}), &json!({ "profileSelectors": { "a b": "c" } })), linux(), any()],
    ]);
    all
}

/// Each finding of `shaper validate`: its rule, and the sentence with what to do.
fn validated(objects: &[Value]) -> (Catalog, BTreeSet<&'static str>, BTreeSet<String>) {
    let text = objects.iter().map(|object| format!("{object:#}\n")).collect();
    let mut batch = Batch::of(vec![Source { name: "all.json".to_owned(), text }]);
    batch.survey(&Progress::silent());
    let said = |fault: &shaper::manifests::Fault| match &fault.help {
        Some(help) => format!("{} ({help})", fault.sentence()),
        None => fault.sentence(),
    };
    let shared = || batch.faults.iter().map(|(_, fault)| fault).filter(|fault| !NOT_SHARED.contains(&fault.rule.id));
    (batch.catalog.clone(), shared().map(|fault| fault.rule.id).collect(), shared().map(said).collect())
}

/// The same of admission, object by object.
fn admitted(objects: &[Value], catalog: &Catalog) -> (BTreeSet<&'static str>, BTreeSet<String>) {
    let (mut rules, mut said) = (BTreeSet::new(), BTreeSet::new());
    for object in objects {
        let (kind, name) = (object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap());
        let group = json!({ "group": "shaper.amahdha.com", "version": "v1alpha1", "kind": kind });
        let request = json!({ "uid": "u", "kind": group, "operation": "UPDATE", "namespace": "n", "name": name, "object": object });
        let bytes = json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request }).to_string();
        let verdict =
            validate(&Request::read(bytes.as_bytes()).unwrap(), &Beside { catalog: Some(catalog), age: None, partition: "", until: None });
        rules.extend(verdict.rules.iter().map(|rule| rule.id));
        let prefix = format!("{kind} {name}: ");
        said.extend(verdict.answer.warnings().iter().map(|warning| warning.strip_prefix(&prefix).unwrap().to_owned()));
        said.extend(verdict.answer.causes().map(|(field, message)| format!("{field}: {message}")));
    }
    (rules, said)
}

#[test]
fn validate_and_admission_find_the_same_and_say_it_in_the_same_words() {
    let mut seen = BTreeSet::new();
    for objects in corpus() {
        let (catalog, rules, said) = validated(&objects);
        let mut own = Catalog::with_selectors();
        for change in catalog.profiles().map(|one| Change::Profile(one.clone())) {
            own.apply(change);
        }
        for change in catalog.assignments().map(|one| Change::Assignment(one.clone())) {
            own.apply(change);
        }
        let (admitted_rules, admitted_said) = admitted(&objects, &own);
        // What is refused is held against nobody, which only who sees all at once can know.
        let is_about_refused = |rule: &&str| ["no-profile", "unreached"].contains(rule) && rules.iter().any(|id| is_error(id));
        let admitted_rules: BTreeSet<_> =
            admitted_rules.into_iter().filter(|rule| rules.contains(rule) || !is_about_refused(rule)).collect();
        assert_eq!(rules, admitted_rules, "{objects:#?}");
        let lacking: Vec<_> = said.iter().filter(|one| !admitted_said.contains(*one)).collect();
        assert!(lacking.is_empty(), "admission does not say {lacking:#?}; it says {admitted_said:#?}");
        if !rules.iter().any(|id| is_error(id)) {
            assert_eq!(said, admitted_said);
        }
        seen.extend(rules);
    }
    let all: BTreeSet<_> = rule::ALL.iter().map(|rule| rule.id).filter(|id| !NOT_SHARED.contains(id)).collect();
    assert_eq!(seen, all, "the corpus breaks each rule");
}

fn is_error(id: &str) -> bool {
    rule::named(id).is_some_and(|rule| rule.severity == review::Severity::Error)
}
