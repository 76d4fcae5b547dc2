//! What a review of a Profile says about its templates.

use review::{Finding, Severity};
use serde_json::{Value, json};

fn findings(spec: &Value) -> Vec<Finding> {
    let manifest = json!({
        "apiVersion": "shaper.amahdha.com/v1alpha1",
        "kind": "Profile",
        "metadata": { "namespace": "lab", "name": "debian" },
        "spec": spec,
    });
    review::profile(&serde_json::from_value(manifest).expect("a Profile")).findings
}

/// Returns the rule, the field and the line of each finding.
fn places(spec: &Value) -> Vec<(&'static str, String, Option<usize>)> {
    findings(spec)
        .into_iter()
        .map(|found| (found.rule.id, found.field.to_string(), found.line))
        .collect()
}

#[test]
fn each_broken_template_has_a_finding() {
    let found = places(&json!({
        "ipxe": "#!ipxe\nkernel {{ nobody }}\n",
        "additionalConfig": {
            "a": "#cloud-config\nruncmd: [docker inspect -f '{{.State}}' web]\n",
            "b": "#cloud-config\n",
            "c": "#cloud-config\n\nhostname: {{ profile.nmae }}\n",
        },
    }));
    assert_eq!(
        found,
        [
            ("template", "spec.ipxe".to_owned(), Some(2)),
            ("template", "spec.additionalConfig.a".to_owned(), Some(2)),
            ("template", "spec.additionalConfig.c".to_owned(), Some(3)),
        ]
    );
}

#[test]
fn a_plain_link_as_a_seed_of_nocloud_is_an_error() {
    let script = |seed: &str| {
        json!({
            "ipxe": format!("#!ipxe\nkernel http://a/vmlinuz ds=nocloud-net;s={seed}\nboot\n"),
            "additionalConfig": { "userData": "#cloud-config\n" },
        })
    };
    for seed in ["{{ userData }}", "{{ userData }}/"] {
        let found = findings(&script(seed));
        assert_eq!(found.len(), 1, "{seed}: {found:?}");
        assert_eq!(found[0].rule.id, "ipxe-nocloud-seed");
        assert_eq!(
            (found[0].line, found[0].severity()),
            (Some(2), Severity::Error)
        );
    }
    assert_eq!(findings(&script("{{ userData | nocloud }}")), []);
}

#[test]
fn a_link_at_the_end_of_a_long_command_line_is_reported() {
    let arguments: String = (0..130).map(|n| format!(" argument{n}=value")).collect();
    let found = places(&json!({
        "ipxe": format!("#!ipxe\n\nkernel http://a/vmlinuz{arguments} url={{{{ c }}}}\nboot\n"),
        "additionalConfig": { "c": "x" },
    }));
    assert_eq!(
        found,
        [("ipxe-command-line", "spec.ipxe".to_owned(), Some(3))]
    );
}

#[test]
fn a_cloud_config_below_a_statement_is_fine_and_below_a_blank_line_is_not() {
    let config = |text: &str| json!({ "ipxe": "#!ipxe\n", "additionalConfig": { "c": text } });
    let set = "{% set host = 'web' %}\n#cloud-config\nhostname: {{ host }}\n";
    assert_eq!(findings(&config(set)), []);
    let found = places(&config("\n#cloud-config\nhostname: web\n"));
    let field = "spec.additionalConfig.c".to_owned();
    assert_eq!(found, [("cloud-config", field, Some(2))]);
}

#[test]
fn an_included_text_is_reviewed_where_it_is_included() {
    let found = places(&json!({
        "ipxe": "#!ipxe\n{% include 'fetch' %}\nboot\n",
        "additionalConfig": { "fetch": "kernal http://a/vmlinuz\n" },
    }));
    assert_eq!(
        found,
        [("ipxe-unknown-command", "spec.ipxe".to_owned(), None)]
    );
}
