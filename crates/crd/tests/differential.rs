//! CEL rules and conversion agree on every text that both check.
//!
//! The CEL implementation used here is not the API server's and its `size()` counts bytes;
//! `e2e/tests/cel.rs` checks the boundaries with the real one.

use std::collections::BTreeMap;

use crd::{
    Assignment, AssignmentSpec, LabelRequirement, Machine, MachineSpec, Profile, ProfileSpec,
    SubjectSelectors,
};
use kube::core::cel::validate_cel;
use proptest::prelude::*;

/// Boundary cases: sizes in bytes and in characters, Unicode white space and control characters,
/// case folding.
const PIECES: [&str; 34] = [
    "a",
    "Z",
    "0",
    "-",
    "_",
    ".",
    "/",
    ":",
    " ",
    "\t",
    "\n",
    "\0",
    "\u{1f}",
    "\u{7f}",
    "\u{80}",
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
    "\u{17f}",
    "\u{212a}",
    "𝔸",
    "525400123456",
];

fn text() -> impl Strategy<Value = String> {
    let piece = || prop::sample::select(&PIECES[..]);
    let pieces = prop::collection::vec(piece(), 0..6).prop_map(|pieces| pieces.concat());
    let long = (
        piece(),
        prop::sample::select(
            &[
                31, 61, 62, 63, 64, 84, 126, 127, 250, 252, 253, 254, 255, 260,
            ][..],
        ),
        piece(),
    )
        .prop_map(|(first, count, last)| format!("{}{last}", first.repeat(count)));
    let label = "[a-z0-9.-]{0,4}/?[A-Za-z0-9_.-]{0,4}";
    let prefixed = (
        prop::sample::select(&[63, 64, 252, 253, 254, 255][..]),
        prop::sample::select(&[1, 62, 63, 64][..]),
    )
        .prop_map(|(prefix, name)| format!("{}/{}", "a".repeat(prefix), "b".repeat(name)));
    let identity = "[0-9A-Fa-f]{2}([:-]?[0-9A-Fa-f]{2}){0,20}";
    let uuid = "[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-fA-F]{12}";
    prop_oneof![
        pieces,
        long,
        label,
        prefixed,
        identity,
        uuid,
        any::<String>()
    ]
}

fn map_of(key: &str, value: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(key.to_owned(), value.to_owned())])
}

fn with_subject_selectors(change: impl FnOnce(&mut SubjectSelectors)) -> Assignment {
    let mut subject_selectors = SubjectSelectors::default();
    change(&mut subject_selectors);
    Assignment::new(
        "x",
        AssignmentSpec {
            subject_selectors,
            ..AssignmentSpec::default()
        },
    )
}

/// One Assignment for each field that holds a checked text.
fn assignments(text: &str) -> [(&'static str, Assignment); 9] {
    let requirement = |key: &str, value: &str| LabelRequirement {
        key: key.to_owned(),
        operator: "In".to_owned(),
        values: vec![value.to_owned()],
    };
    let with_profile_selectors = |labels| {
        Assignment::new(
            "x",
            AssignmentSpec {
                profile_selectors: labels,
                ..AssignmentSpec::default()
            },
        )
    };
    [
        (
            "uuids",
            with_subject_selectors(|all| all.uuids = vec![text.to_owned()]),
        ),
        (
            "serialNumbers",
            with_subject_selectors(|all| all.serial_numbers = vec![text.to_owned()]),
        ),
        (
            "macAddresses",
            with_subject_selectors(|all| all.mac_addresses = vec![text.to_owned()]),
        ),
        (
            "matchLabels",
            with_subject_selectors(|all| all.match_labels = map_of(text, "x")),
        ),
        (
            "matchLabels.*",
            with_subject_selectors(|all| all.match_labels = map_of("x", text)),
        ),
        (
            "matchExpressions.key",
            with_subject_selectors(|all| all.match_expressions = vec![requirement(text, "x")]),
        ),
        (
            "matchExpressions.values",
            with_subject_selectors(|all| all.match_expressions = vec![requirement("x", text)]),
        ),
        (
            "profileSelectors",
            with_profile_selectors(map_of(text, "x")),
        ),
        (
            "profileSelectors.*",
            with_profile_selectors(map_of("x", text)),
        ),
    ]
}

/// Asserts that rules and conversion agree on a text in every field.
fn check(text: &str) {
    for (field, assignment) in assignments(text) {
        let (rules, converted) = (
            validate_cel(&assignment),
            crd::convert_assignment(&assignment),
        );
        assert_eq!(
            rules.is_ok(),
            converted.is_ok(),
            "{field}: {text:?}: {rules:?}; {converted:?}"
        );
    }
    for (field, spec) in [
        (
            "uuid",
            MachineSpec {
                uuid: Some(text.to_owned()),
                ..MachineSpec::default()
            },
        ),
        (
            "serialNumber",
            MachineSpec {
                serial_number: Some(text.to_owned()),
                // A placeholder alone is left to the conversion.
                mac_addresses: vec!["52:54:00:00:00:01".to_owned()],
                ..MachineSpec::default()
            },
        ),
        (
            "macAddresses",
            MachineSpec {
                serial_number: Some("S1".to_owned()),
                mac_addresses: vec![text.to_owned()],
                ..MachineSpec::default()
            },
        ),
    ] {
        let machine = Machine::new("x", spec);
        let (rules, converted) = (validate_cel(&machine), crd::convert_machine(&machine));
        assert_eq!(
            rules.is_ok(),
            converted.is_ok(),
            "{field}: {text:?}: {rules:?}; {converted:?}"
        );
    }
    let profile = Profile::new(
        "x",
        ProfileSpec {
            ipxe: "#!ipxe".to_owned(),
            additional_config: map_of(text, ""),
            ..ProfileSpec::default()
        },
    );
    let (rules, converted) = (validate_cel(&profile), crd::convert_profile(&profile));
    assert_eq!(
        rules.is_ok(),
        converted.is_ok(),
        "additionalConfig: {text:?}: {rules:?}; {converted:?}"
    );
}

#[test]
fn rules_and_conversion_accept_the_same_boundary_texts() {
    PIECES.into_iter().for_each(check);
    for (piece, count) in [
        ("a", 62),
        ("a", 63),
        ("a", 64),
        ("a", 253),
        ("a", 254),
        ("é", 126),
        ("é", 127),
        ("𝔸", 63),
        ("𝔸", 64),
    ] {
        check(&piece.repeat(count));
    }
    for (prefix, name) in [(64, 1), (253, 63), (254, 1), (253, 64), (254, 62)] {
        check(&format!("{}/{}", "a".repeat(prefix), "b".repeat(name)));
    }
}

proptest! {
    // Each case parses the definitions several times.
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rules_and_conversion_accept_the_same_texts(text in text()) {
        check(&text);
    }
}
