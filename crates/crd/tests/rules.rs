//! CEL rules, evaluated as an API server does, agree with the conversion.

use std::collections::BTreeMap;

use crd::{Assignment, AssignmentSpec, LabelRequirement, Profile, ProfileSpec, SubjectSelectors};
use kube::core::cel::validate_cel;

fn with_config(name: &str) -> Profile {
    Profile::new(
        "x",
        ProfileSpec {
            ipxe: "#!ipxe".to_owned(),
            additional_config: BTreeMap::from([(name.to_owned(), String::new())]),
        },
    )
}

fn with_requirement(operator: &str, values: &[&str]) -> Assignment {
    let values = values.iter().map(|value| (*value).to_owned()).collect();
    let requirement = LabelRequirement {
        key: "product".to_owned(),
        operator: operator.to_owned(),
        values,
    };
    let subject_selectors = SubjectSelectors {
        match_expressions: vec![requirement],
        ..SubjectSelectors::default()
    };
    Assignment::new(
        "x",
        AssignmentSpec {
            subject_selectors,
            ..AssignmentSpec::default()
        },
    )
}

fn labels(key: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(key.to_owned(), "a".to_owned())])
}

/// Asserts that rules and conversion agree, and returns whether they reject the object.
fn is_rejected(
    rules: &Result<(), kube::core::cel::ValidationErrors>,
    converted: bool,
    what: &str,
) -> bool {
    assert_eq!(
        rules.is_ok(),
        converted,
        "{what:?}: the rules say {rules:?}"
    );
    rules.is_err()
}

#[test]
fn config_names_are_identifiers_that_are_not_reserved() {
    let rejected = |name: &str| {
        let object = with_config(name);
        is_rejected(
            &validate_cel(&object),
            crd::convert_profile(&object).is_ok(),
            name,
        )
    };
    for name in [
        "config0",
        "ignitionFile",
        "_x",
        "Subject",
        "inside",
        &"x".repeat(63),
    ] {
        assert!(!rejected(name), "{name}");
    }
    let words = [
        "and", "else", "False", "if", "IN", "is", "loop", "none", "not", "or", "range", "true",
    ];
    for name in boot::config_name::VARIABLES
        .into_iter()
        .chain(words)
        .chain(["", "0x", "user-data", "a b", "é", &"x".repeat(64)])
    {
        assert!(rejected(name), "{name}");
    }
}

#[test]
fn profile_selector_keys_are_label_keys() {
    let rejected = |key: &str| {
        let object = Assignment::new(
            "x",
            AssignmentSpec {
                profile_selectors: labels(key),
                ..AssignmentSpec::default()
            },
        );
        is_rejected(
            &validate_cel(&object),
            crd::convert_assignment(&object).is_ok(),
            key,
        )
    };
    for key in [
        "region",
        "assignment/ipxe-buildarch",
        "example.com/a.b_c",
        "A",
    ] {
        assert!(!rejected(key), "{key}");
    }
    for key in [
        "",
        "a/",
        "/a",
        "a/b/c",
        "Example.com/a",
        "a..b/c",
        "-a",
        "a b",
        "é",
        &"a".repeat(64),
    ] {
        assert!(rejected(key), "{key}");
    }
}

#[test]
fn match_label_keys_are_keys_that_a_machine_can_present() {
    let rejected = |key: &str| {
        let subject_selectors = SubjectSelectors {
            match_labels: labels(key),
            ..SubjectSelectors::default()
        };
        let object = Assignment::new(
            "x",
            AssignmentSpec {
                subject_selectors,
                ..AssignmentSpec::default()
            },
        );
        is_rejected(
            &validate_cel(&object),
            crd::convert_assignment(&object).is_ok(),
            key,
        )
    };
    for key in ["product", "net0/mac", "Rack Number", &"a".repeat(253)] {
        assert!(!rejected(key), "{key}");
    }
    for key in ["", "a/b/c", "a\nb", &"a".repeat(254)] {
        assert!(rejected(key), "{key}");
    }
}

#[test]
fn operators_in_and_not_in_need_values_and_the_others_take_none() {
    let rejected = |operator: &str, values: &[&str]| {
        let object = with_requirement(operator, values);
        is_rejected(
            &validate_cel(&object),
            crd::convert_assignment(&object).is_ok(),
            operator,
        )
    };
    assert!(
        !rejected("In", &["a"])
            && !rejected("NotIn", &["a", "b"])
            && !rejected("Exists", &[])
            && !rejected("DoesNotExist", &[])
    );
    assert!(
        rejected("In", &[])
            && rejected("NotIn", &[])
            && rejected("Exists", &["a"])
            && rejected("DoesNotExist", &["a"])
    );
}

#[test]
fn label_values_match_what_machines_present_and_what_profiles_carry() {
    let value = |value: &str| BTreeMap::from([("a".to_owned(), value.to_owned())]);
    let subject_rejects = |text: &str| {
        let subject_selectors = SubjectSelectors {
            match_labels: value(text),
            ..SubjectSelectors::default()
        };
        let object = Assignment::new(
            "x",
            AssignmentSpec {
                subject_selectors,
                ..AssignmentSpec::default()
            },
        );
        is_rejected(
            &validate_cel(&object),
            crd::convert_assignment(&object).is_ok(),
            text,
        )
    };
    let profile_rejects = |text: &str| {
        let object = Assignment::new(
            "x",
            AssignmentSpec {
                profile_selectors: value(text),
                ..AssignmentSpec::default()
            },
        );
        is_rejected(
            &validate_cel(&object),
            crd::convert_assignment(&object).is_ok(),
            text,
        )
    };
    assert!(!subject_rejects("PowerEdge R640") && subject_rejects(""));
    assert!(
        !profile_rejects("")
            && !profile_rejects("a_b.c-D")
            && profile_rejects("a b")
            && profile_rejects("-a")
            && profile_rejects("é")
    );
    let in_list = with_requirement("In", &["a", ""]);
    assert!(is_rejected(
        &validate_cel(&in_list),
        crd::convert_assignment(&in_list).is_ok(),
        "an empty value in a list"
    ));
}

#[test]
fn identities_are_validated_in_every_spelling() {
    let rejected = |uuid: &[&str], serial: &[&str], mac: &[&str]| {
        let list = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect();
        let subject_selectors = SubjectSelectors {
            uuids: list(uuid),
            serial_numbers: list(serial),
            mac_addresses: list(mac),
            ..SubjectSelectors::default()
        };
        let object = Assignment::new(
            "x",
            AssignmentSpec {
                subject_selectors,
                ..AssignmentSpec::default()
            },
        );
        is_rejected(
            &validate_cel(&object),
            crd::convert_assignment(&object).is_ok(),
            &format!("{uuid:?} {serial:?} {mac:?}"),
        )
    };
    for uuid in [
        "47c6da67-7477-4970-aa03-84e48ff4f6ad",
        "47C6DA6774774970AA0384E48FF4F6AD",
    ] {
        assert!(!rejected(&[uuid], &[], &[]), "{uuid}");
    }
    for uuid in [
        "",
        "x",
        "47c6da67-7477-4970-aa0384e48ff4f6ad",
        "47c6da67-7477-4970-aa03-84e48ff4f6ag",
        "{47c6da67-7477-4970-aa03-84e48ff4f6ad}",
    ] {
        assert!(rejected(&[uuid], &[], &[]), "{uuid}");
    }
    for serial in ["7XK29Q2", " a b ", "é", "\\"] {
        assert!(!rejected(&[], &[serial], &[]), "{serial}");
    }
    for serial in ["", " ", "\t\n "] {
        assert!(rejected(&[], &[serial], &[]), "{serial:?}");
    }
    for mac in [
        "52:54:00:12:34:56",
        "52-54-00-AB-CD-EF",
        "525400abcdef",
        "00:11:22:33:44:55:66:77",
    ] {
        assert!(!rejected(&[], &[], &[mac]), "{mac}");
    }
    for mac in [
        "",
        "52:54",
        "52:54-00:12:34:56",
        "52:54:00:12:34:5g",
        "52:54:00:12:34:56:",
    ] {
        assert!(rejected(&[], &[], &[mac]), "{mac}");
    }
}
