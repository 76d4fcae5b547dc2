//! The API server's schema and CEL rules accept exactly what `shaper validate` accepts.

use anyhow::{Context, Result};
use e2e::cluster::Cluster;
use e2e::manifests::Manifests;
use e2e::server::binary;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

/// Edge cases: white space and control characters of all of Unicode, case, sizes in bytes and in
/// characters.
fn texts() -> Vec<String> {
    let short = [
        "",
        "a",
        "Z",
        "-",
        "_",
        ".",
        "/",
        "a/b",
        "a/b/c",
        "/a",
        "a/",
        "a.b/c",
        "a..b/c",
        "A.b/c",
        " ",
        "a b",
        " a",
        "\t",
        "a\nb",
        "a\r",
        "\u{b}",
        "\0",
        "\u{1f}",
        "\u{7f}",
        "a\u{80}",
        "\u{85}",
        "\u{9f}",
        "\u{a0}",
        "\u{1680}",
        "\u{180e}",
        "\u{2000}",
        "\u{200a}",
        "\u{200b}",
        "\u{2028}",
        "\u{2029}",
        "\u{202f}",
        "\u{205f}",
        "\u{3000}",
        "\u{feff}",
        "é",
        "\u{17f}ubject",
        "i\u{17f}",
        "\u{212a}",
        "𝔸",
        "true",
        "True",
        "subject",
        "525400123456",
        "52:54:00:12:34:56",
        "52:54-00:12:34:56",
        "5254:0012:3456",
        "47c6da6774774970aa0384e48ff4f6ad",
        "47c6da67-7477-4970-aa03-84e48ff4f6ad",
        "47c6da67-74774970-aa03-84e48ff4f6ad",
    ];
    let long = [
        ("a", 62),
        ("a", 63),
        ("a", 64),
        ("a", 253),
        ("a", 254),
        ("a", 256),
        ("a", 257),
        ("é", 126),
        ("é", 127),
        ("é", 253),
        ("é", 254),
    ];
    let longer = [
        ("é", 256),
        ("é", 257),
        ("𝔸", 63),
        ("𝔸", 64),
        ("a", 1024),
        ("a", 1025),
        ("é", 1024),
        ("é", 1025),
        ("00", 6),
        ("00", 8),
        ("00", 20),
    ];
    let prefixed = [(64, 1), (253, 63), (254, 1), (253, 64)]
        .map(|(prefix, name)| format!("{}/{}", "a".repeat(prefix), "b".repeat(name)));
    let repeated = long
        .into_iter()
        .chain(longer)
        .map(|(text, count)| text.repeat(count));
    short
        .into_iter()
        .map(str::to_owned)
        .chain(repeated)
        .chain(prefixed)
        .collect()
}

/// The text in each field that validates it.
fn specs(text: &str) -> Vec<(&'static str, Value)> {
    let selecting = |selectors: Value| json!({ "subjectSelectors": selectors });
    let asking = |key: &str, value: &str| {
        selecting(
            json!({ "matchExpressions": [{ "key": key, "operator": "In", "values": [value] }] }),
        )
    };
    vec![
        ("Assignment", selecting(json!({ "uuids": [text] }))),
        ("Assignment", selecting(json!({ "serialNumbers": [text] }))),
        ("Assignment", selecting(json!({ "macAddresses": [text] }))),
        (
            "Assignment",
            selecting(json!({ "matchLabels": { text: "x" } })),
        ),
        (
            "Assignment",
            selecting(json!({ "matchLabels": { "x": text } })),
        ),
        ("Assignment", asking(text, "x")),
        ("Assignment", asking("x", text)),
        ("Assignment", json!({ "profileSelectors": { text: "x" } })),
        ("Assignment", json!({ "profileSelectors": { "x": text } })),
        (
            "Profile",
            json!({ "ipxe": "#!ipxe\nboot\n", "additionalConfig": { text: "x" } }),
        ),
    ]
}

/// Escapes everything beyond ASCII: `shaper validate` reads JSON as YAML, which takes some
/// characters only escaped.
fn escaped(object: &Value) -> String {
    let escape = |c: char| match c {
        ' '..='~' => c.to_string(),
        _ => c
            .encode_utf16(&mut [0; 2])
            .iter()
            .map(|unit| format!("\\u{unit:04x}"))
            .collect(),
    };
    object.to_string().chars().map(escape).collect()
}

#[test]
fn the_api_server_accepts_exactly_what_validate_accepts() -> Result<()> {
    let objects: Vec<Value> = texts().iter().flat_map(|text| specs(text)).enumerate().map(|(at, (kind, spec))| {
        json!({ "apiVersion": "shaper.amahdha.com/v1alpha1", "kind": kind, "metadata": { "name": format!("o-{at}") }, "spec": spec })
    }).collect();
    let folder = Manifests::new()?;
    for object in &objects {
        folder.write(
            &format!(
                "{}.json",
                object["metadata"]["name"].as_str().unwrap_or_default()
            ),
            &escaped(object),
        )?;
    }
    let cluster = Cluster::shared()?;
    let kubectl = cluster.admin().in_namespace(&cluster.namespace()?);
    // kubectl continues after a refused object and prints the names of accepted ones.
    let create = ["create", "--dry-run=server", "-o", "name", "-f"]
        .map(OsString::from)
        .into_iter()
        .chain([folder.path().into()]);
    let answer = kubectl.answer(create, "")?;
    let taken: BTreeSet<&str> = answer
        .stdout
        .lines()
        .filter_map(|line| line.rsplit('/').next())
        .collect();

    let out = Command::new(binary()?)
        .args(["validate", "-o", "json"])
        .arg(folder.path())
        .output()?;
    let report: Value = serde_json::from_slice(&out.stdout).context("validate prints no JSON")?;
    let errors = report["findings"]
        .as_array()
        .context("there are findings")?
        .iter()
        .filter(|finding| finding["severity"] == "error");
    // By file, since an object that can't be read has no name.
    let stem = |finding: &Value| {
        Some(
            Path::new(finding["file"].as_str()?)
                .file_stem()?
                .to_str()?
                .to_owned(),
        )
    };
    let wrong: BTreeSet<String> = errors.filter_map(stem).collect();
    let differ: Vec<String> = objects
        .iter()
        .filter_map(|object| {
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            let (server, validate) = (!taken.contains(name), wrong.contains(name));
            let say = |is_refused: bool| if is_refused { "refuses" } else { "takes" };
            (server != validate).then(|| {
                format!(
                    "the API server {}, validate {}: {}",
                    say(server),
                    say(validate),
                    object["spec"]
                )
            })
        })
        .collect();
    assert!(differ.is_empty(), "{differ:#?}");
    assert!(
        taken.len() > 100 && objects.len() - taken.len() > 300,
        "{} of {} are taken",
        taken.len(),
        objects.len()
    );
    Ok(())
}
