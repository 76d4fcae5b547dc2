//! The docs tell each rule, and no other.

use std::collections::{BTreeMap, BTreeSet};

use review::{Severity, rule};

/// The name and the severity of each row of a table of rules.
fn rows(page: &str) -> BTreeMap<String, String> {
    let path = format!("{}/../../docs/{page}", env!("CARGO_MANIFEST_DIR"));
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
    let (validate, linter) = (rows("validate.md"), rows("ipxe-linter.md"));
    for rule in rule::ALL {
        let page = if rule.id.starts_with("ipxe-") {
            &linter
        } else {
            &validate
        };
        let severity = if rule.severity == Severity::Error {
            "error"
        } else {
            "warning"
        };
        assert_eq!(
            page.get(rule.id).map(String::as_str),
            Some(severity),
            "{}",
            rule.id
        );
    }
    assert_eq!(
        validate.len() + linter.len(),
        rule::ALL.len(),
        "a row is about no rule"
    );
}

#[test]
fn names_of_rules_are_words_with_dashes_and_stand_once() {
    let ids: BTreeSet<_> = rule::ALL.iter().map(|rule| rule.id).collect();
    assert_eq!(ids.len(), rule::ALL.len());
    assert!(
        ids.iter()
            .all(|id| id.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'))
    );
    assert!(
        rule::ALL
            .iter()
            .all(|rule| rule.summary.ends_with('.') && rule::named(rule.id) == Some(*rule))
    );
}
