//! Checks that `docs/reference/admission.md` lists every rule: where it holds, and its message.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use admission::{Context, Request, validate};
use boot::Catalog;
use review::{Severity, rule};
use serde_json::{Value, json};

/// The keywords with which a schema bounds a single value.
const BOUNDS: [&str; 7] = [
    "maxLength",
    "minLength",
    "maxItems",
    "maxProperties",
    "maximum",
    "minimum",
    "enum",
];

/// Returns the rows of the page's tables: the first column, and the rest of the line.
fn rows() -> BTreeMap<String, String> {
    let path = format!(
        "{}/../../docs/reference/admission.md",
        env!("CARGO_MANIFEST_DIR")
    );
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let rows = text
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    rows.map(|(first, rest)| (first.to_owned(), rest.replace("\\|", "|")))
        .collect()
}

/// Collects the bounds that a schema sets on the values of a spec, by path: `spec.list[]` and
/// `spec.map.*` are items and values.
fn asked(schema: &Value, path: &str, all: &mut BTreeMap<String, Vec<String>>) {
    let mut says: Vec<String> = Vec::new();
    for bound in BOUNDS.iter().filter(|bound| !schema[**bound].is_null()) {
        says.extend(match &schema[*bound] {
            Value::Array(values) => values
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect::<Vec<_>>(),
            // JSON Schema writes integers as decimals.
            number => vec![format!("{}", number.as_f64().unwrap_or_default())],
        });
    }
    for rule in schema["x-kubernetes-validations"]
        .as_array()
        .into_iter()
        .flatten()
    {
        match (rule["message"].as_str(), rule["messageExpression"].as_str()) {
            (Some(message), _) => says.push(message.to_owned()),
            // A message that is an expression continues after the name of the key.
            (None, Some(expression)) => {
                let text = expression
                    .rsplit_once("+ '\" ")
                    .map_or(expression, |(_, text)| text);
                says.push(text.strip_suffix('\'').unwrap_or(text).replace("\\'", "'"));
            }
            (None, None) => panic!("a rule at {path} says nothing"),
        }
    }
    if !says.is_empty() {
        all.insert(path.to_owned(), says);
    }
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        asked(field, &format!("{path}.{name}"), all);
    }
    for (key, step) in [("items", "[]"), ("additionalProperties", ".*")] {
        if schema[key].is_object() {
            asked(&schema[key], &format!("{path}{step}"), all);
        }
    }
}

#[test]
fn each_value_that_the_schema_bounds_has_a_row_with_its_bounds_and_messages() {
    let rows = rows();
    let mut all = BTreeMap::new();
    for definition in crd::definitions() {
        let definition = serde_json::to_value(definition).unwrap();
        asked(
            &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"],
            "spec",
            &mut all,
        );
    }
    for (path, says) in &all {
        let row = rows
            .get(path)
            .unwrap_or_else(|| panic!("no row for {path}, which says {says:#?}"));
        for one in says {
            assert!(
                row.replace(',', "").contains(&one.replace(',', "")),
                "{path}: the row does not say {one:?}"
            );
        }
    }
    let stale: Vec<_> = rows
        .keys()
        .filter(|key| key.starts_with("spec") && !all.contains_key(*key))
        .collect();
    assert!(stale.is_empty(), "rows about nothing: {stale:?}");
}

#[test]
fn each_rule_has_a_row_that_says_where_it_holds() {
    let rows = rows();
    for rule in rule::all() {
        let row = rows
            .get(rule.id)
            .unwrap_or_else(|| panic!("no row for {}", rule.id));
        let columns: Vec<_> = row.split(" | ").collect();
        let severity = if rule.severity == Severity::Error {
            "refused"
        } else {
            "warning"
        };
        assert!(
            columns[1].starts_with(severity) || columns[1] == "validate only",
            "{}: {}",
            rule.id,
            columns[1]
        );
        assert!(columns.len() == 6, "{}: {columns:?}", rule.id);
    }
    let rules = rows
        .keys()
        .filter(|key| !key.starts_with("spec") && !key.starts_with("shaper_"));
    let stale: Vec<_> = rules.filter(|key| rule::named(key).is_none()).collect();
    assert!(stale.is_empty(), "rows about no rule: {stale:?}");
}

/// Returns the response to a new object as text.
fn said(kind: &str, spec: &Value, deadline: Option<Instant>) -> String {
    let object = json!({ "metadata": { "name": "a", "namespace": "n" }, "spec": spec });
    let kind = json!({ "group": "shaper.amahdha.com", "version": "v1alpha1", "kind": kind });
    let request = json!({ "uid": "u", "kind": kind, "operation": "CREATE", "object": object });
    let bytes = json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request }).to_string();
    let catalog = Catalog::with_selector_index();
    let context = Context {
        catalog: Some(&catalog),
        age: None,
        partition: "",
        deadline,
    };
    let answer = validate(&Request::read(bytes.as_bytes()).unwrap(), &context).answer;
    let causes = answer
        .causes()
        .map(|(field, message)| format!("{field}: {message}"));
    causes
        .chain(answer.warnings().iter().cloned())
        .collect::<Vec<_>>()
        .join("\n")
}

/// Covers what a real cluster can't be made to answer; `e2e/tests/admission_table.rs` compares the
/// rest with the docs.
#[test]
fn answers_unreachable_in_a_cluster_match_the_docs() {
    let late = Instant::now().checked_sub(Duration::from_secs(1));
    let cases = [
        (
            "schema",
            "does not match the schema: ",
            said("Assignment", &json!({ "priority": "high" }), None),
        ),
        (
            "conversion",
            "\"nonsense\" is not a MAC address; write six octets in hexadecimal, as in 52:54:00:12:34:56",
            said(
                "Assignment",
                &json!({ "subjectSelectors": { "macAddresses": ["nonsense"] } }),
                None,
            ),
        ),
        (
            "incomplete-check",
            "templates from here on were not checked: out of time",
            said("Profile", &json!({ "ipxe": "#!ipxe\nboot\n" }), late),
        ),
    ];
    let rows = rows();
    for (rule, quote, said) in cases {
        assert!(rows[rule].contains(quote), "{rule}: {}", rows[rule]);
        assert!(said.contains(quote), "{rule}: {said}");
    }
}
