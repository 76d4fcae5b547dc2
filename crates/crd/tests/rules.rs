//! The CEL rules of the definitions, as an API server would evaluate them, agree with the conversion.

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

fn asking_for(operator: &str, values: &[&str]) -> Assignment {
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

/// Whether the rules and the conversion both say so.
fn is_refused(
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
fn a_rule_knows_the_names_that_configs_can_have() {
    let refused = |name: &str| {
        let object = with_config(name);
        is_refused(
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
        assert!(!refused(name), "{name}");
    }
    let words = [
        "and", "else", "False", "if", "IN", "is", "loop", "none", "not", "or", "range", "true",
    ];
    for name in boot::config_name::VARIABLES
        .into_iter()
        .chain(words)
        .chain(["", "0x", "user-data", "a b", "é", &"x".repeat(64)])
    {
        assert!(refused(name), "{name}");
    }
}

#[test]
fn a_rule_knows_the_keys_of_labels() {
    let refused = |key: &str| {
        let object = Assignment::new(
            "x",
            AssignmentSpec {
                profile_selectors: labels(key),
                ..AssignmentSpec::default()
            },
        );
        is_refused(
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
        assert!(!refused(key), "{key}");
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
        assert!(refused(key), "{key}");
    }
}

#[test]
fn a_rule_knows_the_keys_that_machines_present() {
    let refused = |key: &str| {
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
        is_refused(
            &validate_cel(&object),
            crd::convert_assignment(&object).is_ok(),
            key,
        )
    };
    for key in ["product", "net0/mac", "Rack Number", &"a".repeat(253)] {
        assert!(!refused(key), "{key}");
    }
    for key in ["", "a/b/c", "a\nb", &"a".repeat(254)] {
        assert!(refused(key), "{key}");
    }
}

#[test]
fn a_rule_knows_which_operators_take_values() {
    let refused = |operator: &str, values: &[&str]| {
        let object = asking_for(operator, values);
        is_refused(
            &validate_cel(&object),
            crd::convert_assignment(&object).is_ok(),
            operator,
        )
    };
    assert!(
        !refused("In", &["a"])
            && !refused("NotIn", &["a", "b"])
            && !refused("Exists", &[])
            && !refused("DoesNotExist", &[])
    );
    assert!(
        refused("In", &[])
            && refused("NotIn", &[])
            && refused("Exists", &["a"])
            && refused("DoesNotExist", &["a"])
    );
}

#[test]
fn a_rule_knows_what_machines_present_and_what_profiles_are_labelled_with() {
    let value = |value: &str| BTreeMap::from([("a".to_owned(), value.to_owned())]);
    let of_subject = |text: &str| {
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
        is_refused(
            &validate_cel(&object),
            crd::convert_assignment(&object).is_ok(),
            text,
        )
    };
    let of_profile = |text: &str| {
        let object = Assignment::new(
            "x",
            AssignmentSpec {
                profile_selectors: value(text),
                ..AssignmentSpec::default()
            },
        );
        is_refused(
            &validate_cel(&object),
            crd::convert_assignment(&object).is_ok(),
            text,
        )
    };
    assert!(!of_subject("PowerEdge R640") && of_subject(""));
    assert!(
        !of_profile("")
            && !of_profile("a_b.c-D")
            && of_profile("a b")
            && of_profile("-a")
            && of_profile("é")
    );
    let in_list = asking_for("In", &["a", ""]);
    assert!(is_refused(
        &validate_cel(&in_list),
        crd::convert_assignment(&in_list).is_ok(),
        "an empty value in a list"
    ));
}

#[test]
fn a_rule_knows_identities() {
    let refused = |uuid: &[&str], serial: &[&str], mac: &[&str]| {
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
        is_refused(
            &validate_cel(&object),
            crd::convert_assignment(&object).is_ok(),
            &format!("{uuid:?} {serial:?} {mac:?}"),
        )
    };
    for uuid in [
        "47c6da67-7477-4970-aa03-84e48ff4f6ad",
        "47C6DA6774774970AA0384E48FF4F6AD",
    ] {
        assert!(!refused(&[uuid], &[], &[]), "{uuid}");
    }
    for uuid in [
        "",
        "x",
        "47c6da67-7477-4970-aa0384e48ff4f6ad",
        "47c6da67-7477-4970-aa03-84e48ff4f6ag",
        "{47c6da67-7477-4970-aa03-84e48ff4f6ad}",
    ] {
        assert!(refused(&[uuid], &[], &[]), "{uuid}");
    }
    for serial in ["7XK29Q2", " a b ", "é", "\\"] {
        assert!(!refused(&[], &[serial], &[]), "{serial}");
    }
    for serial in ["", " ", "\t\n "] {
        assert!(refused(&[], &[serial], &[]), "{serial:?}");
    }
    for mac in [
        "52:54:00:12:34:56",
        "52-54-00-AB-CD-EF",
        "525400abcdef",
        "00:11:22:33:44:55:66:77",
    ] {
        assert!(!refused(&[], &[], &[mac]), "{mac}");
    }
    for mac in [
        "",
        "52:54",
        "52:54-00:12:34:56",
        "52:54:00:12:34:5g",
        "52:54:00:12:34:56:",
    ] {
        assert!(refused(&[], &[], &[mac]), "{mac}");
    }
}
