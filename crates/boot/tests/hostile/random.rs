//! Random templates that pass the check.

use std::time::Duration;

use proptest::prelude::*;

use super::{End, attempt, peak_memory, profile};

/// Expressions of every construct, of random depth. Most make no sense; those that pass the check
/// must be harmless.
fn expression() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        6 => prop::sample::select(&["x", "y", "z", "x", "y"][..]).prop_map(str::to_owned),
        2 => prop::sample::select(&["subject", "subject.label1", "encoded.label2", "profile.labels", "config0", "base_url"][..]).prop_map(str::to_owned),
        2 => prop::sample::select(&["1", "2.5", "'a'", "'ab' ", "true", "none", "[]", "{}", "range(900)", "loop", "loop.index"][..]).prop_map(str::to_owned),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        let filters: Vec<_> = boot::template::filters().collect();
        let operators = [
            "+", "-", "*", "/", "//", "%", "**", "~", "~", "~", "and", "or", "==", "!=", "<", "<=",
            "in", "not in",
        ];
        let tests = [
            "defined",
            "eq",
            "in",
            "sequence",
            "mapping",
            "startingwith",
            "lt",
            "string",
        ];
        let (one, two, three) = (
            inner.clone(),
            (inner.clone(), inner.clone()),
            (inner.clone(), inner.clone(), inner),
        );
        prop_oneof![
            (one.clone(), prop::sample::select(filters.clone()))
                .prop_map(|(a, f)| format!("({a})|{f}")),
            (two.clone(), prop::sample::select(filters.clone()))
                .prop_map(|((a, b), f)| format!("({a})|{f}({b})")),
            (three.clone(), prop::sample::select(filters.clone()))
                .prop_map(|((a, b, c), f)| format!("({a})|{f}({b}, {c})")),
            (two.clone(), prop::sample::select(operators.to_vec()))
                .prop_map(|((a, b), op)| format!("({a}) {op} ({b})")),
            (two.clone(), prop::sample::select(tests.to_vec()))
                .prop_map(|((a, b), t)| format!("({a}) is {t}({b})")),
            (one.clone(), prop::sample::select(tests.to_vec()))
                .prop_map(|(a, t)| format!("({a}) is {t}")),
            one.clone().prop_map(|a| format!("(not ({a}))")),
            one.clone().prop_map(|a| format!("[{a}, {a}]")),
            one.clone().prop_map(|a| format!("({a},)")),
            two.clone().prop_map(|(a, b)| format!("{{{a}: {b}}}")),
            two.clone().prop_map(|(a, b)| format!("({a})[{b}]")),
            one.prop_map(|a| format!("({a})[::-1]")),
            two.prop_map(|(a, b)| format!("({a})[{b}:]")),
            three.prop_map(|(a, b, c)| format!("({a}) if ({b}) else ({c})")),
        ]
    })
}

fn statements() -> impl Strategy<Value = Vec<String>> {
    let simple = prop_oneof![
        2 => expression().prop_map(|e| format!("{{{{ {e} }}}}")),
        4 => (prop::sample::select(&["x", "y", "z"][..]), expression()).prop_map(|(v, e)| format!("{{% set {v} = {e} %}}")),
        1 => expression().prop_map(|e| format!("{{% set x, y = {e} %}}")),
    ];
    let body = prop::collection::vec(simple, 1..5).prop_map(|parts| parts.concat());
    let block = body.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            (expression(), inner.clone())
                .prop_map(|(e, b)| format!("{{% for x in {e} %}}{b}{{% endfor %}}")),
            (expression(), inner.clone())
                .prop_map(|(e, b)| format!("{{% for y, z in {e} %}}{b}{{% endfor %}}")),
            inner
                .clone()
                .prop_map(|b| format!("{{% for z in range(900) %}}{b}{{% endfor %}}")),
            (expression(), inner.clone(), inner.clone())
                .prop_map(|(e, a, b)| format!("{{% if {e} %}}{a}{{% else %}}{b}{{% endif %}}")),
            inner
                .clone()
                .prop_map(|b| format!("{{% set y %}}{b}{{% endset %}}")),
            (expression(), inner.clone())
                .prop_map(|(e, b)| format!("{{% with z = {e} %}}{b}{{% endwith %}}")),
            (inner.clone(), inner).prop_map(|(a, b)| a + &b),
        ]
    });
    prop::collection::vec(block, 1..8)
}

/// The blocks that pass the check: once, in a loop, and repeated, so that whatever grows or nests
/// has time to do so.
fn admitted(blocks: &[String]) -> String {
    let template = |body: &str| {
        let again = body.repeat(8);
        format!(
            "{{% set x = 'a' %}}{{% set y = 1 %}}{{% set z = [1] %}}{body}{{% for i in range(40) %}}{body}{{% endfor %}}{again}"
        )
    };
    let mut body = String::new();
    for block in blocks {
        let longer = body.clone() + block;
        if profile(&template(&longer)).is_ok() {
            body = longer;
        }
    }
    template(&body)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn no_random_template_exceeds_the_budget(blocks in statements()) {
        let (end, compiling, rendering) = attempt(admitted(&blocks));
        prop_assert!(!matches!(end, End::Refused(_)), "{end:?}");
        if let End::Rendered(bytes) = end {
            prop_assert!(bytes <= boot::template::MAX_OUTPUT_BYTES);
        }
        // A hundred times the duration in a release build.
        prop_assert!(compiling + rendering < Duration::from_secs(5), "{compiling:?} and {rendering:?}");
        prop_assert!(peak_memory().is_none_or(|mib| mib < 200), "{:?} MiB", peak_memory());
    }
}

/// Few enough for a debug build to take seconds. `PROPTEST_CASES` overrides it.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(150)
}
