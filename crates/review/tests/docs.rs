//! Checks that the reference lists exactly the rules that exist.

use std::collections::{BTreeMap, BTreeSet};

use review::{Severity, rule};

/// Returns the name and the severity of each row of a table of rules.
fn rows(page: &str) -> BTreeMap<String, String> {
    let path = format!("{}/../../docs/reference/{page}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let rows = text
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    let rows = rows.map(|(id, rest)| {
        (
            id.to_owned(),
            rest.split(" | ").next().unwrap_or_default().to_owned(),
        )
    });
    rows.filter(|(_, severity)| severity == "error" || severity == "warning")
        .collect()
}

#[test]
fn each_rule_has_a_row_with_its_severity() {
    let (admission, linter) = (rows("admission.md"), rows("linter.md"));
    for rule in rule::all() {
        let severity = if rule.severity == Severity::Error {
            "error"
        } else {
            "warning"
        };
        let is_of_ipxe = rule.id.starts_with("ipxe-");
        for page in [Some(&admission), is_of_ipxe.then_some(&linter)]
            .into_iter()
            .flatten()
        {
            assert_eq!(
                page.get(rule.id).map(String::as_str),
                Some(severity),
                "{}",
                rule.id
            );
        }
    }
    assert_eq!(
        (admission.len(), linter.len()),
        (rule::all().count(), ipxe::rule::RULES.len()),
        "a row is about no rule"
    );
}

#[test]
fn rule_ids_are_unique_and_dashed() {
    let ids: BTreeSet<_> = rule::all().map(|rule| rule.id).collect();
    assert_eq!(ids.len(), rule::all().count());
    assert!(
        ids.iter()
            .all(|id| id.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'))
    );
    assert!(
        rule::all().all(|rule| rule.summary.ends_with('.') && rule::named(rule.id) == Some(rule))
    );
}

#[test]
fn every_rule_has_a_text_and_every_text_a_rule() {
    let rules: Vec<_> = rule::all().map(|rule| rule.id).collect();
    let texts: Vec<_> = rule::texts::all().map(|(_, text)| text.rule).collect();
    assert_eq!(rules, texts);
    for (checked_by, text) in rule::texts::all() {
        assert!(
            text.why.ends_with('.') && text.remedy.ends_with('.'),
            "{text:?}"
        );
        assert_eq!(
            text.says.is_empty(),
            checked_by == rule::texts::CheckedBy::Validate,
            "{text:?}"
        );
        assert_eq!(
            text.source.is_some(),
            text.rule.starts_with("ipxe-"),
            "{text:?}"
        );
    }
}
