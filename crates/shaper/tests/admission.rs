//! Checks that `shaper validate` and admission report the same findings in the same words.

use std::collections::BTreeSet;

use admission::{Context, Request, validate};
use boot::{Catalog, Change};
use manifests::{Batch, Fault, Progress, Source};
use review::rule;
use serde_json::{Value, json};

const UUID: &str = "47c6da67-7477-4970-aa03-84e48ff4f6ad";

/// Rules that only one of the two checks: rules on files, which a single object can't break, and
/// rules on changes, which a folder does not have.
const NOT_SHARED: [&str; 8] = [
    "file",
    "schema",
    "duplicate-object",
    "no-manifests",
    "unrendered",
    "loses-profile",
    "moves-machines",
    "incomplete-check",
];

fn object(kind: &str, name: &str, labels: &Value, spec: &Value) -> Value {
    let metadata = json!({ "name": name, "namespace": "n", "labels": labels });
    json!({ "apiVersion": "shaper.amahdha.com/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec })
}

fn profile(name: &str, script: &str) -> Value {
    object(
        "Profile",
        name,
        &json!({ "os": name }),
        &json!({ "ipxe": script }),
    )
}

fn machine(name: &str) -> Value {
    let spec = json!({ "macAddresses": ["52:54:00:00:00:01"] });
    object("Machine", name, &json!({}), &spec)
}

fn assignment(name: &str, subjects: &Value, os: &str) -> Value {
    object(
        "Assignment",
        name,
        &json!({}),
        &json!({ "subjectSelectors": subjects, "profileSelectors": { "os": os } }),
    )
}

/// Returns scripts with findings.
fn scripts() -> Vec<String> {
    let long = format!("kernel http://a/vmlinuz {}", "quiet ".repeat(400));
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
        "kernel http://a/vmlinuz ds=nocloud-net;s=http://a/seed",
        "kernel http://a/vmlinuz ds=nocloud;s=http://a/seed/",
        &long,
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
    let long = [
        format!("echo{}", " a".repeat(300)),
        format!("echo{}", " a".repeat(210)),
        format!("echo {}", "a".repeat(5000)),
    ];
    lines
        .iter()
        .map(|line| (*line).to_owned())
        .chain(long)
        .map(|lines| format!("#!ipxe\n{lines}\n"))
        .chain(["boot\n".to_owned()])
        .collect()
}

/// Returns folders with findings.
fn corpus() -> Vec<Vec<Value>> {
    let linux = || profile("linux", "#!ipxe\nboot\n");
    let any = || assignment("any", &json!({}), "linux");
    let mut all: Vec<Vec<Value>> = scripts()
        .iter()
        .map(|script| {
            vec![
                object(
                    "Profile",
                    "linux",
                    &json!({ "os": "linux" }),
                    &json!({ "ipxe": script }),
                ),
                any(),
            ]
        })
        .collect();
    let subjects = [
        json!({ "uuids": ["x"] }),
        json!({ "serialNumbers": [" "] }),
        json!({ "macAddresses": ["52:54"] }),
        json!({ "uuids": ["00000000-0000-0000-0000-000000000000"], "serialNumbers": ["To be filled by O.E.M."] }),
        json!({ "matchLabels": { "a/b/c": "x" } }),
        json!({ "matchLabels": { "serail": "x" } }),
        json!({ "matchLabels": { "buildarch": "arm65" } }),
        json!({ "matchExpressions": [{ "key": "a", "operator": "Exists" }, { "key": "a", "operator": "DoesNotExist" }] }),
        json!({ "matchExpressions": [{ "key": "a", "operator": "In", "values": [] }] }),
    ];
    all.extend(
        subjects
            .iter()
            .map(|subjects| vec![linux(), assignment("a", subjects, "linux"), any()]),
    );
    let arm = object(
        "Profile",
        "arm",
        &json!({ "os": "arm", "assignment/ipxe-buildarch": "aarch64" }),
        &json!({ "ipxe": "#!ipxe\nboot\n" }),
    );
    let two = |a: &Value, b: &Value, priority: i32| {
        let mut second = assignment("b", b, "linux");
        second["spec"]["priority"] = json!(priority);
        vec![linux(), assignment("a", a, "linux"), second]
    };
    let (swapped, row) = (
        "67dac647-7774-7049-aa03-84e48ff4f6ad",
        json!({ "uuids": [UUID], "matchLabels": { "row": "1" } }),
    );
    all.extend([
        two(
            &json!({ "uuids": [UUID] }),
            &json!({ "uuids": [UUID], "serialNumbers": ["S1"] }),
            5,
        ),
        two(
            &json!({ "macAddresses": ["52:54:00:00:00:01"] }),
            &json!({ "macAddresses": ["525400000001"], "serialNumbers": ["S1"] }),
            -5,
        ),
        two(&json!({ "uuids": [UUID] }), &row, 0),
        two(
            &row,
            &json!({ "uuids": [UUID], "matchLabels": { "row": "2" } }),
            5,
        ),
        two(
            &json!({ "uuids": [UUID] }),
            &json!({ "uuids": [swapped] }),
            0,
        ),
        (0..6)
            .map(|n| {
                assignment(
                    &format!("a{n}"),
                    &json!({ "serialNumbers": ["S1"] }),
                    "linux",
                )
            })
            .chain([linux()])
            .collect(),
    ]);
    let labelled = |labels: Value| {
        object(
            "Profile",
            "p",
            &labels,
            &json!({ "ipxe": "#!ipxe\nboot\n" }),
        )
    };
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
        vec![
            object("Profile", "p", &json!({ "os": "linux" }), &json!({ "ipxe": "#!ipxe", "additionalConfig": { "a": "#cloud-config\n- x: y\n" } })),
            any(),
        ],
        vec![
            object("Profile", "p", &json!({ "os": "linux" }), &json!({ "ipxe": "#!ipxe", "additionalConfig": { "a": "#cloud-config\nhostname: {{ subject.hostname }}\n" } })),
            any(),
        ],
        vec![
            object("Profile", "p", &json!({ "os": "linux" }), &json!({ "ipxe": "#!ipxe\nchain {{ subject.assets }}/boot.ipxe\n" })),
            any(),
        ],
        vec![object("Assignment", "a", &json!({}), &json!({ "profileSelectors": { "a b": "c" } })), linux(), any()],
        vec![
            object(
                "Profile",
                "p",
                &json!({ "os": "linux" }),
                &json!({ "ipxe": "#!ipxe\nboot\n", "additionalConfig": { "a": "#".repeat(900_000), "b": "#".repeat(900_000) } }),
            ),
            any(),
        ],
        vec![linux(), any(), machine("m"), machine("other")],
    ]);
    all
}

/// Findings: the object, and the sentence including what to do.
type Said = BTreeSet<(String, String)>;

/// Returns the catalog, the rules and the findings of `shaper validate`.
fn validated(objects: &[Value]) -> (Catalog, BTreeSet<&'static str>, Said) {
    let text = objects
        .iter()
        .map(|object| format!("{object:#}\n"))
        .collect();
    let mut batch = Batch::of(vec![Source {
        name: "all.json".to_owned(),
        text,
    }]);
    batch.survey(&Progress::silent());
    let of = |fault: &Fault| fault.object.as_ref().unwrap().key().name.to_string();
    let said = |fault: &Fault| match &fault.help {
        Some(help) => (of(fault), format!("{} ({help})", fault.sentence())),
        None => (of(fault), fault.sentence()),
    };
    let shared = || {
        batch
            .faults
            .iter()
            .map(|(_, fault)| fault)
            .filter(|fault| !NOT_SHARED.contains(&fault.rule.id))
    };
    (
        batch.catalog.clone(),
        shared().map(|fault| fault.rule.id).collect(),
        shared().map(said).collect(),
    )
}

/// Reviews each object and returns the same as [`validated`]. Returns separately the warnings about
/// Assignments that lose to the object, which only the author of the winning object gets.
fn admitted(
    objects: &[Value],
    catalog: &Catalog,
    told: &Said,
) -> (BTreeSet<&'static str>, Said, Said) {
    let (mut rules, mut said, mut first) = (BTreeSet::new(), Said::new(), Said::new());
    for object in objects {
        let (kind, name) = (
            object["kind"].as_str().unwrap(),
            object["metadata"]["name"].as_str().unwrap(),
        );
        let group = json!({ "group": "shaper.amahdha.com", "version": "v1alpha1", "kind": kind });
        let request = json!({ "uid": "u", "kind": group, "operation": "UPDATE", "namespace": "n", "name": name, "object": object });
        let bytes = json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request }).to_string();
        let verdict = validate(
            &Request::read(bytes.as_bytes()).unwrap(),
            &Context {
                catalog: Some(catalog),
                age: None,
                partition: "",
                deadline: None,
            },
        );
        let prefix = format!("{kind} {name}: ");
        let warnings = verdict
            .answer
            .warnings()
            .iter()
            .map(|warning| warning.strip_prefix(&prefix).unwrap());
        // If the winner depends on the machine's byte order, only one of the two loses.
        let is_first = |warning: &&str| {
            let depends = warning.contains("; which of them ranks first depends")
                && told.iter().all(|(of, _)| of != name);
            warning.contains("; this one ranks first") || depends
        };
        let (goes_first, rest): (Vec<_>, Vec<_>) = warnings.partition(is_first);
        let is_second = rest.iter().any(|warning| warning.contains(" names "));
        rules.extend(
            verdict
                .rules
                .iter()
                .map(|rule| rule.id)
                .filter(|id| *id != rule::SHARED_IDENTITY.id || is_second),
        );
        said.extend(
            rest.into_iter()
                .map(|warning| (name.to_owned(), warning.to_owned())),
        );
        said.extend(
            verdict
                .answer
                .causes()
                .map(|(field, message)| (name.to_owned(), format!("{field}: {message}"))),
        );
        let other = |warning: &str| {
            warning
                .split_once("Assignment n/")
                .unwrap()
                .1
                .split_once(" names ")
                .unwrap()
                .0
                .to_owned()
        };
        first.extend(
            goes_first
                .into_iter()
                .map(|warning| (name.to_owned(), other(warning))),
        );
    }
    (rules, said, first)
}

#[test]
fn validate_and_admission_report_the_same_findings() {
    let mut seen = BTreeSet::new();
    let mut went_first = 0;
    for objects in corpus() {
        let (catalog, rules, said) = validated(&objects);
        let mut own = Catalog::with_selector_index();
        for change in catalog.profiles().map(|one| Change::Profile(one.clone())) {
            own.apply(change);
        }
        for change in catalog
            .assignments()
            .map(|one| Change::Assignment(one.clone()))
        {
            own.apply(change);
        }
        for change in catalog.machines().map(|one| Change::Machine(one.clone())) {
            own.apply(change);
        }
        let (admitted_rules, admitted_said, first) = admitted(&objects, &own, &said);
        // Only a check of all objects at once knows that the other object is rejected.
        let is_about_refused = |rule: &&str| {
            ["no-profile", "unused-profile"].contains(rule) && rules.iter().any(|id| is_error(id))
        };
        let admitted_rules: BTreeSet<_> = admitted_rules
            .into_iter()
            .filter(|rule| rules.contains(rule) || !is_about_refused(rule))
            .collect();
        assert_eq!(rules, admitted_rules, "{objects:#?}");
        let lacking: Vec<_> = said
            .iter()
            .filter(|one| !admitted_said.contains(*one))
            .collect();
        assert!(
            lacking.is_empty(),
            "admission does not say {lacking:#?}; it says {admitted_said:#?}"
        );
        if !rules.iter().any(|id| is_error(id)) {
            assert_eq!(said, admitted_said);
        }
        // `validate` reports the same pair for the other object.
        for (who, other) in &first {
            let is_told = |(of, sentence): &(String, String)| {
                of == other && (sentence.contains(" names ") || sentence.contains(" matches "))
            };
            assert!(
                said.iter().any(is_told),
                "of {other}, before which {who} goes, nothing is said: {said:#?}"
            );
        }
        went_first += first.len();
        seen.extend(rules);
    }
    let all: BTreeSet<_> = rule::all()
        .map(|rule| rule.id)
        .filter(|id| !NOT_SHARED.contains(id))
        .collect();
    assert_eq!(seen, all, "the corpus breaks each rule");
    assert!(went_first >= 10, "{went_first}");
}

fn is_error(id: &str) -> bool {
    rule::named(id).is_some_and(|rule| rule.severity == review::Severity::Error)
}
