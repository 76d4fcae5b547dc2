//! The request for each rule and the messages that kubectl prints.

use serde_json::{Map, Value, json};

use super::{fields, rules};

/// A rule and the messages that kubectl prints, with `n` as the namespace.
pub(crate) struct Case {
    pub(crate) row: &'static str,
    pub(crate) ask: Ask,
    pub(crate) says: Vec<String>,
}

/// The request to make.
#[derive(Debug)]
pub(crate) enum Ask {
    Create(Value),
    /// kubectl with these arguments.
    Run(&'static str),
}

/// It exceeds the work limit of one answer.
pub(crate) const ENDLESS: &str =
    "{% for x in range(1000) %}{% for y in range(1000) %}{{ x }}{% endfor %}{% endfor %}";

/// What is there.
pub(crate) fn world() -> Vec<Value> {
    let for_arch = |name: &str, arch: &str| {
        object(
            "Profile",
            name,
            &json!({ "os": name, "assignment/ipxe-buildarch": arch }),
            &json!({ "ipxe": "#!ipxe\nboot\n" }),
        )
    };
    let naming = |name: &str, uuids: Vec<String>, os: &str, priority: i32| {
        let spec = json!({ "subjectSelectors": { "uuids": uuids }, "profileSelectors": { "os": os }, "priority": priority });
        object("Assignment", name, &json!({}), &spec)
    };
    let profiles = ["linux", "rescue", "rack", "few"].map(|name| {
        object(
            "Profile",
            name,
            &json!({ "os": name }),
            &json!({ "ipxe": "#!ipxe\nboot\n" }),
        )
    });
    let assignments = [
        naming("web", vec![uuid(1)], "linux", 5),
        naming("few", (10..14).map(uuid).collect(), "few", 0),
        naming("rack", (1000..1600).map(uuid).collect(), "rack", 0),
        naming("moved", vec![uuid(2)], "linux", 1),
        naming("moved-to", vec![uuid(2)], "rescue", 0),
        naming("waiting", vec![uuid(3)], "nothing", 1),
        naming("waited-for", vec![uuid(3)], "rescue", 0),
        naming("x86", vec![uuid(4)], "x86", 0),
        naming("arm", vec![uuid(5)], "arm", 0),
    ];
    profiles
        .into_iter()
        .chain([for_arch("x86", "x86_64"), for_arch("arm", "arm64")])
        .chain(assignments)
        .chain([machine_named(
            "rack7-u13",
            &json!({ "macAddresses": ["52:54:00:00:00:01"] }),
        )])
        .collect()
}

/// Each row at least once.
pub(crate) fn all() -> Vec<Case> {
    fields::of_fields()
        .into_iter()
        .chain(rules::of_rules())
        .collect()
}

pub(crate) fn case(row: &'static str, ask: Ask, says: &[&str]) -> Case {
    Case {
        row,
        ask,
        says: says.iter().map(|line| (*line).to_owned()).collect(),
    }
}

/// Something is beyond its bounds, so that the server says this and leaves out the rest.
pub(crate) fn beyond(row: &'static str, ask: Ask, says: &str) -> Case {
    let Ask::Create(object) = &ask else {
        unreachable!("only what is created has bounds")
    };
    let kind = object["kind"].as_str().unwrap_or_default();
    let first = format!(
        "The {kind} \"{}\" is invalid: ",
        object["metadata"]["name"].as_str().unwrap_or_default()
    );
    let last = "* <nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to \
                complete validation";
    case(row, ask, &[&first, &format!("* {says}"), last])
}

fn object(kind: &str, name: &str, labels: &Value, spec: &Value) -> Value {
    json!({ "apiVersion": "shaper.amahdha.com/v1alpha1", "kind": kind, "metadata": { "name": name, "labels": labels }, "spec": spec })
}

/// A Profile that an Assignment selects.
#[expect(clippy::needless_pass_by_value, reason = "they are made in place")]
pub(crate) fn profile(spec: Value) -> Ask {
    Ask::Create(object("Profile", "p", &json!({ "os": "linux" }), &spec))
}

/// The same with this script.
pub(crate) fn script(lines: &str) -> Ask {
    labelled("linux", lines)
}

pub(crate) fn labelled(os: &str, lines: &str) -> Ask {
    Ask::Create(object(
        "Profile",
        "p",
        &json!({ "os": os }),
        &json!({ "ipxe": format!("#!ipxe\n{lines}\n") }),
    ))
}

#[expect(clippy::needless_pass_by_value, reason = "they are made in place")]
pub(crate) fn assignment(spec: Value) -> Ask {
    Ask::Create(object("Assignment", "a", &json!({}), &spec))
}

fn machine_named(name: &str, spec: &Value) -> Value {
    object("Machine", name, &json!({}), spec)
}

#[expect(clippy::needless_pass_by_value, reason = "they are made in place")]
pub(crate) fn machine(spec: Value) -> Ask {
    Ask::Create(machine_named("m", &spec))
}

pub(crate) fn run(args: &'static str) -> Ask {
    Ask::Run(args)
}

pub(crate) fn uuid(number: u32) -> String {
    format!("47c6da67-7477-4970-aa03-{number:012}")
}

pub(crate) fn many(count: usize, key: impl Fn(usize) -> String) -> Map<String, Value> {
    (0..count).map(|number| (key(number), json!("x"))).collect()
}
