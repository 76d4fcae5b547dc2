//! Generates `resources.md`: the custom resources.

use controller::reasons::{REASONS, Reason};
use serde_json::Value;

use crate::markdown::{code, described, head, sentence, table};

/// The keywords with which a schema bounds a single value, and their wording.
const BOUNDS: [(&str, &str); 6] = [
    ("minLength", "at least {} characters"),
    ("maxLength", "at most {} characters"),
    ("maxItems", "at most {} items"),
    ("maxProperties", "at most {} keys"),
    ("minimum", "at least {}"),
    ("maximum", "at most {}"),
];

pub(crate) fn page() -> String {
    let mut page = head(
        "Resources",
        "The custom resources of the API group `shaper.amahdha.com/v1alpha1`. `[]` is an item of a list, `.*` a value of a map. The \
         API server checks types, bounds and rules itself, whether shaper runs or not. `kubectl explain` shows the same.",
    );
    for definition in crd::definitions() {
        let definition = serde_json::to_value(definition).expect("a definition is made of maps");
        page += &resource(&definition);
    }
    page
}

fn resource(definition: &Value) -> String {
    let (spec, version) = (&definition["spec"], &definition["spec"]["versions"][0]);
    let schema = &version["schema"]["openAPIV3Schema"];
    let kind = spec["names"]["kind"].as_str().unwrap_or_default();
    let short: Vec<_> = strings(&spec["names"]["shortNames"]).map(code).collect();
    let mut text = format!(
        "\n## {kind}\n\n{}\n\nNamespaced. `kubectl get {}`, in short {}.\n\n### Fields of {kind}\n\n",
        described(kind, schema["description"].as_str()),
        spec["names"]["plural"].as_str().unwrap_or_default(),
        short.join(", "),
    );
    let mut rows = Vec::new();
    for part in ["spec", "status"] {
        fields(&schema["properties"][part], part, false, &mut rows);
    }
    text += &table(["field", "type", "bounds and rules", "meaning"], rows);
    text += &format!("\n### Columns of {kind}\n\n");
    let columns = version["additionalPrinterColumns"]
        .as_array()
        .into_iter()
        .flatten();
    let columns = columns.map(|column| {
        let name = column["name"].as_str().unwrap_or_default();
        let wide = column["priority"].as_i64().unwrap_or_default() > 0;
        let path = column["jsonPath"].as_str().unwrap_or_default();
        let what = format!("the column {name} of {kind}");
        [
            name.to_owned(),
            code(path),
            if wide { "`-o wide`" } else { "always" }.to_owned(),
            described(&what, column["description"].as_str()),
        ]
    });
    text += &table(["column", "from", "shown", "meaning"], columns);
    text += &format!("\n### Conditions of {kind}\n\n");
    let reasons = REASONS
        .iter()
        .filter(|reason| reason.objects.contains(&kind));
    text + &table(
        ["condition", "status", "reason", "meaning"],
        reasons.map(condition),
    )
}

fn condition(reason: &Reason) -> [String; 4] {
    [
        code(reason.condition),
        code(reason.status),
        code(reason.reason),
        sentence(&described(reason.reason, Some(reason.meaning))),
    ]
}

/// Adds the rows of a field and of all fields below it. `is_required` comes from its parent.
fn fields(schema: &Value, path: &str, is_required: bool, rows: &mut Vec<[String; 4]>) {
    // Items of lists and values of maps are described by the list and the map.
    let is_element = path.ends_with("[]") || path.ends_with(".*");
    let meaning = match schema["description"].as_str() {
        None if is_element => String::new(),
        description => described(path, description),
    };
    let kind = schema["type"].as_str().unwrap_or_default();
    let mut rules: Vec<String> = Vec::new();
    if is_required {
        rules.push("required".to_owned());
    }
    if !schema["default"].is_null() {
        rules.push(format!("default {}", code(&schema["default"].to_string())));
    }
    rules.extend(bounds(schema));
    rules.extend(messages(schema).iter().map(|message| code(message)));
    if !(is_element && rules.is_empty()) {
        rows.push([code(path), kind.to_owned(), rules.join("; "), meaning]);
    }
    let required: Vec<_> = strings(&schema["required"]).collect();
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let is_required = required.contains(&name.as_str());
        fields(field, &format!("{path}.{name}"), is_required, rows);
    }
    for (key, step) in [("items", "[]"), ("additionalProperties", ".*")] {
        if schema[key].is_object() {
            fields(&schema[key], &format!("{path}{step}"), false, rows);
        }
    }
}

/// Returns the bounds that a schema sets on a single value.
fn bounds(schema: &Value) -> Vec<String> {
    let mut rules = Vec::new();
    let values: Vec<_> = strings(&schema["enum"]).map(code).collect();
    if !values.is_empty() {
        rules.push(format!("one of {}", values.join(", ")));
    }
    rules.extend(
        BOUNDS.iter().filter_map(|(bound, says)| {
            Some(says.replace("{}", &grouped(schema[*bound].as_f64()?)))
        }),
    );
    rules
}

/// Returns the bounded fields of specs: the field, where it is checked, and its bounds.
pub(crate) fn bounded_fields() -> Vec<[String; 3]> {
    let mut rows = Vec::new();
    for definition in crd::definitions() {
        let definition = serde_json::to_value(definition).expect("a definition is made of maps");
        let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        bounded(&schema["properties"]["spec"], "spec", &mut rows);
    }
    rows
}

fn bounded(schema: &Value, path: &str, rows: &mut Vec<[String; 3]>) {
    let bounds = bounds(schema);
    let messages: Vec<_> = messages(schema)
        .iter()
        .map(|message| code(message))
        .collect();
    let place = match (bounds.is_empty(), messages.is_empty()) {
        (false, false) => "schema, CEL",
        (false, true) => "schema",
        (true, false) => "CEL",
        (true, true) => "",
    };
    if !place.is_empty() {
        let asked: Vec<_> = bounds.into_iter().chain(messages).collect();
        rows.push([code(path), place.to_owned(), asked.join("; ")]);
    }
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        bounded(field, &format!("{path}.{name}"), rows);
    }
    for (key, step) in [("items", "[]"), ("additionalProperties", ".*")] {
        if schema[key].is_object() {
            bounded(&schema[key], &format!("{path}{step}"), rows);
        }
    }
}

/// Returns the messages of a schema's CEL rules.
fn messages(schema: &Value) -> Vec<String> {
    let rules = schema["x-kubernetes-validations"]
        .as_array()
        .into_iter()
        .flatten();
    let says = |rule: &Value| match (rule["message"].as_str(), rule["messageExpression"].as_str()) {
        (Some(message), _) => message.to_owned(),
        // A message that is an expression continues after the name of the key.
        (None, Some(expression)) => {
            let text = expression
                .rsplit_once("+ '\" ")
                .map_or(expression, |(_, text)| text);
            text.strip_suffix('\'').unwrap_or(text).replace("\\'", "'")
        }
        (None, None) => panic!("a rule says nothing: {rule}"),
    };
    rules.map(says).collect()
}

/// Formats a number with a comma for each thousand. JSON Schema writes integers as decimals.
fn grouped(number: f64) -> String {
    let digits = format!("{:.0}", number.abs());
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    if number < 0.0 {
        format!("-{text}")
    } else {
        text
    }
}

fn strings(value: &Value) -> impl Iterator<Item = &str> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    #[should_panic(expected = "spec.name has no description")]
    fn a_field_without_description_is_refused() {
        let schema = json!({"type": "object", "description": "All.", "properties": {"name": {"type": "string"}}});
        fields(&schema, "spec", false, &mut Vec::new());
    }

    #[test]
    fn numbers_have_commas() {
        assert_eq!(
            [1.0, 1024.0, 262_144.0, -1_000_000.0].map(grouped),
            ["1", "1,024", "262,144", "-1,000,000"]
        );
    }
}
