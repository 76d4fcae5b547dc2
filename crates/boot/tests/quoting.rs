//! What filters write is parsed back, and what is plain text changes no structure.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;

use boot::{ConfigFormat, ConfigName, ExtrinsicLabels, ObjectKey, Profile, Subject, Templates};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use serde_json::{Value, json};

/// Renders a config for a machine whose `asset` is this value. `None` if the value is refused.
fn config(format: ConfigFormat, text: &str, value: &str) -> Option<String> {
    let name: ConfigName = "config0".parse().expect("a name");
    let configs = BTreeMap::from([(name.clone(), text.to_owned())]);
    let formats = BTreeMap::from([(name.clone(), format)]);
    let templates = Templates::compile_with_formats("#!ipxe\n", &configs, &formats);
    let profile = Profile::with_templates(
        ObjectKey::new("n", "p"),
        None,
        &BTreeMap::new(),
        Arc::new(templates.expect("it is a template")),
    );
    let mut query = String::new();
    boot::query::append(&mut query, "asset", value);
    let subject = Subject::from_query(&query, &ExtrinsicLabels::default()).expect("a query");
    boot::render::config(
        &Arc::new(profile),
        &name,
        &Arc::new(subject),
        None,
        "http://boot",
    )
    .ok()
}

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Returns a value with all texts and numbers replaced.
fn shape(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(shape).collect(),
        Value::Object(fields) => fields
            .iter()
            .map(|(key, value)| (key.clone(), shape(value)))
            .collect(),
        _ => Value::Null,
    }
}

/// Returns the words that a shell makes of each line.
fn shell_words(lines: &[String]) -> Vec<Vec<String>> {
    let mut script = String::new();
    for line in lines {
        writeln!(script, "set -- {line}; printf '%s\\0' \"$@\"; printf '\\1'").expect("a String");
    }
    let mut shell = Command::new("sh")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("there is a shell");
    let mut stdin = shell.stdin.take().expect("it is piped");
    let writer = std::thread::spawn(move || stdin.write_all(script.as_bytes()));
    let output = shell.wait_with_output().expect("it ends");
    writer.join().expect("no panic").expect("it reads all");
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let lines = text
        .strip_suffix('\u{1}')
        .expect("it ends with the mark")
        .split('\u{1}');
    lines
        .map(|words| words.split_terminator('\0').map(str::to_owned).collect())
        .collect()
}

/// Any text without control characters, and often what formats look for.
fn value() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[a-z0-9]{1,4}",
        "[ -~]{1,3}",
        prop::sample::select(vec![
            "'", "\"", "\\", ": ", " #", "- ", "{{", "}}", "$(", "`", "%", "${", "&&", "<<", "é",
            "\u{2028}", "\u{2029}", "\u{feff}", "\u{fffe}", "\u{a0}", "𝔸", "---", "...", "~", "!",
            "*", "@",
        ])
        .prop_map(str::to_owned),
        any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(piece, 1..6)
        .prop_map(|pieces| pieces.concat())
        .prop_filter("no control characters", |text| {
            !text.chars().any(char::is_control)
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn tojson_is_parsed_back(value in value()) {
        let text = config(ConfigFormat::Json, "{\"a\": {{ subject.asset | tojson }}}", &value);
        let parsed: Value = serde_json::from_str(&text.expect("it is served")).expect("JSON");
        prop_assert_eq!(parsed, json!({ "a": value }));
    }

    #[test]
    fn toyaml_is_parsed_back_wherever_a_value_can_be(value in value()) {
        let text = "first key: {{ subject.asset | toyaml }}\n\
            second key:\n- {{ subject.asset | toyaml }}\n\
            third key: [{{ subject.asset | toyaml }}, {{ subject | toyaml }}]\n\
            {{ subject.asset | toyaml }}: 1\n";
        let text = config(ConfigFormat::Yaml, text, &value).expect("it is served");
        let mut expected = json!({ "first key": value, "second key": [value], "third key": [value, { "asset": value }] });
        expected[value] = json!(1);
        prop_assert_eq!(yaml(&text), expected);
    }

    #[test]
    fn toyaml_is_json_as_well(value in value()) {
        let text = config(ConfigFormat::Json, "{{ subject | toyaml }}", &value).expect("it is served");
        prop_assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON"), json!({ "asset": value }));
    }

    /// Anaconda splits lines with Python's `shlex`, of which the crate is a port.
    #[test]
    fn shquote_is_one_word_in_kickstart(value in value()) {
        let text = config(ConfigFormat::Kickstart, "network --hostname={{ subject.asset | shquote }} --device={{ subject.asset | shquote }}", &value);
        let words = shlex::split(&text.expect("it is served")).expect("it has closed quotation marks");
        prop_assert_eq!(words, ["network".to_owned(), format!("--hostname={value}"), format!("--device={value}")]);
    }

    #[test]
    fn a_raw_value_that_is_served_changes_no_structure_of_yaml(value in value()) {
        let template = "# {{ subject.asset }}\na: {{ subject.asset }}\nb: \"{{ subject.asset }}\"\nc: '{{ subject.asset }}'\n\
            d:\n- {{ subject.asset }}\n- [x, {{ subject.asset }}]\n- {k: {{ subject.asset }}}\n- |\n  {{ subject.asset }}\n\
            - cmd {{ subject.asset }} x\ne: x\n";
        if let Some(text) = config(ConfigFormat::Yaml, template, &value) {
            let usual = config(ConfigFormat::Yaml, template, "x").expect("it is plain");
            prop_assert_eq!(shape(&yaml(&text)), shape(&yaml(&usual)), "{}", text);
            let parsed = yaml(&text);
            prop_assert_eq!(&parsed["b"], &json!(value));
            prop_assert_eq!(&parsed["c"], &json!(value));
        }
    }

    #[test]
    fn a_raw_value_that_is_served_changes_no_structure_of_json(value in value()) {
        if let Some(text) = config(ConfigFormat::Json, "{\"a\": [\"{{ subject.asset }}\", 1]}", &value) {
            prop_assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON"), json!({ "a": [value, 1] }));
        }
        // Where a template writes it without quotation marks, it is a number, or no JSON at all.
        if let Some(text) = config(ConfigFormat::Json, "{\"a\": [{{ subject.asset }}]}", &value)
            && let Ok(parsed) = serde_json::from_str::<Value>(&text)
        {
            prop_assert_eq!(shape(&parsed), json!({ "a": [null] }));
        }
    }

    #[test]
    fn a_raw_value_that_is_served_is_one_word_in_kickstart(value in value()) {
        if let Some(text) = config(ConfigFormat::Kickstart, "a {{ subject.asset }} \"{{ subject.asset }}\" '{{ subject.asset }}' b", &value) {
            let words = shlex::split(&text).expect("it has closed quotation marks");
            prop_assert_eq!(words, ["a", &value, &value, &value, "b"]);
        }
    }
}

#[test]
fn a_shell_reads_one_word_of_each_value() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let values: Vec<String> = (0..500)
        .map(|_| value().new_tree(&mut runner).expect("a value").current())
        // The marks between words.
        .filter(|value| !value.contains(['\0', '\u{1}']))
        .collect();
    let quoted: Vec<String> = values
        .iter()
        .map(|value| config(ConfigFormat::Shell, "{{ subject.asset | shquote }}", value))
        .map(|text| text.expect("it is served"))
        .collect();
    let expected: Vec<Vec<String>> = values.iter().map(|value| vec![value.clone()]).collect();
    assert_eq!(shell_words(&quoted), expected);

    let raw = "{{ subject.asset }} \"{{ subject.asset }}\" '{{ subject.asset }}'";
    let (served, texts): (Vec<_>, Vec<_>) = values
        .iter()
        .filter_map(|value| Some((value, config(ConfigFormat::Shell, raw, value)?)))
        .unzip();
    assert!(served.len() > 10, "{}", served.len());
    let expected: Vec<Vec<String>> = served
        .iter()
        .map(|value| vec![(*value).clone(); 3])
        .collect();
    assert_eq!(shell_words(&texts), expected);
}
