//! A machine's labels never change the structure of a config.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use boot::config_format::Syntax;
use boot::render::{self, RenderError};
use boot::{ConfigFormat, ConfigName, ExtrinsicLabels, ObjectKey, Profile, Subject};
use serde_json::Value;

use super::{CONFIG_ID, check_error};

/// A config of each format that uses labels in all the ways that authors do.
const CONFIGS: [(&str, &str); 4] = [
    (
        "user_data",
        "#cloud-config
# {{ subject.product | default('p') }}
hostname: {{ subject.hostname | default('h') }}
write_files:
- content: \"{{ subject.serial | default('s') }} of '{{ subject.asset | default('a') }}'\"
- {path: {{ subject.asset | default('a') | toyaml }}, x: {{ subject.product | default('p') }}}
- [{{ subject.serial | default('s') }}, \"{{ encoded.product | default('p') }}\"]
- |
  {{ subject.serial | default('s') | tojson }} {{ subject.manufacturer | default('m') }}
- http://h/{{ encoded.serial | default('s') }}
- {{ ignition }}
labels:
{% for key, value in subject | items %}- [{{ key | toyaml }}, {{ value | toyaml }}]
{% endfor %}end: true
",
    ),
    (
        "ignition",
        "{\"ignition\": {\"version\": \"3.4.0\"}, \"files\": [\"{{ subject.hostname | default('h') }}\", {{ subject.product | default('p') | tojson }}, \"{{ encoded.serial | default('s') }}\"], \"all\": {{ subject | items | tojson }}, \"end\": true}",
    ),
    (
        "script",
        "#!/bin/sh
set -- {{ subject.hostname | default('h') }} \"{{ subject.serial | default('s') }}\" '{{ subject.asset | default('a') }}' {{ subject.product | default('p') | shquote }} {{ encoded.asset | default('a') }} {{ subject | tojson | shquote }} end
",
    ),
    (
        "ks",
        "network --hostname={{ subject.hostname | default('h') }} --x={{ subject.product | default('p') | shquote }} \"{{ subject.asset | default('a') }}\" end
",
    ),
];

static PROFILE: LazyLock<Arc<Profile>> = LazyLock::new(|| {
    let configs = CONFIGS.map(|(name, text)| (name_of(name), text.to_owned()));
    let profile = Profile::compile(
        ObjectKey::new("ns", "profile"),
        None,
        &BTreeMap::new(),
        "#!ipxe\n",
        &configs.into(),
    )
    .expect("it compiles");
    let ids = CONFIGS.map(|(name, _)| (name_of(name), CONFIG_ID.parse().expect("a UUID")));
    Arc::new(profile.with_ids(ids.into()))
});

fn name_of(name: &str) -> ConfigName {
    name.parse().expect("a name")
}

/// Input: a query.
pub(crate) fn config(bytes: &[u8]) {
    let Ok(query) = std::str::from_utf8(bytes) else {
        return;
    };
    let Ok(subject) = Subject::from_query(query, &ExtrinsicLabels::default()) else {
        return;
    };
    let labels = subject.labels().len();
    let subject = Arc::new(subject);
    for (name, _) in CONFIGS {
        let name = name_of(name);
        let text = match render::config(&PROFILE, &name, &subject, None, "http://boot.example") {
            Ok(text) => text,
            Err(error @ RenderError::Unsafe(_)) => {
                check_error(&error.to_string());
                continue;
            }
            Err(other) => panic!("{other}"),
        };
        match PROFILE.templates.config_syntax(&name) {
            Syntax::Known(ConfigFormat::Yaml) => check_yaml(&text, labels),
            Syntax::Known(ConfigFormat::Json) => check_json(&text, labels),
            Syntax::Known(ConfigFormat::Shell) => check_words(text.lines().nth(1), 9),
            Syntax::Known(ConfigFormat::Kickstart) => check_words(text.lines().next(), 5),
            other => panic!("{name} is {other}"),
        }
    }
}

fn check_yaml(text: &str, labels: usize) {
    let value: Value =
        serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let files = value["write_files"].as_array().expect("a list");
    let is_scalar = |value: &Value| !value.is_object() && !value.is_array();
    assert!(
        value.as_object().is_some_and(|map| map.len() == 4)
            && value["end"] == true
            && is_scalar(&value["hostname"])
            && files.len() == 6
            && files[0].as_object().is_some_and(|map| map.len() == 1)
            && files[1].as_object().is_some_and(|map| map.len() == 2)
            && files[2].as_array().is_some_and(|list| list.len() == 2)
            && files[3..].iter().all(is_scalar)
            && value["labels"].as_array().map_or(0, Vec::len) == labels,
        "a label changes the structure: {text}"
    );
}

fn check_json(text: &str, labels: usize) {
    let value: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert!(
        value.as_object().is_some_and(|map| map.len() == 4)
            && value["end"] == true
            && value["files"]
                .as_array()
                .is_some_and(|list| list.len() == 3)
            && value["all"]
                .as_array()
                .is_some_and(|list| list.len() == labels),
        "a label changes the structure: {text}"
    );
}

fn check_words(line: Option<&str>, count: usize) {
    let line = line.unwrap_or_default();
    let words = shlex::split(line).unwrap_or_else(|| panic!("a quotation mark is open: {line}"));
    assert!(
        words.len() == count && words.last().is_some_and(|word| word == "end"),
        "a label is more than a word: {line}"
    );
    // Words in no quotation marks must have no meaning for a shell.
    let mut rest = String::new();
    let mut is_quoted = false;
    // Between two quoted parts, a quotation mark is escaped.
    for piece in line.replace(r"'\''", "").split('\'') {
        if !is_quoted {
            rest.push_str(piece);
        }
        is_quoted = !is_quoted;
    }
    assert!(
        !rest.contains(['$', '`', ';', '&', '|', '<', '>', '(', ')', '*', '?', '#']),
        "a label is a command: {line}"
    );
}
