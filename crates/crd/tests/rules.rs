//! CEL rules, evaluated as an API server does, agree with the conversion.

use std::collections::BTreeMap;

use crd::{Assignment, AssignmentSpec, LabelRequirement, Profile, ProfileSpec, SubjectSelectors};
use kube::core::cel::validate_cel;

fn profile_with_config(name: &str) -> Profile {
    Profile::new(
        "x",
        ProfileSpec {
            ipxe: "#!ipxe".to_owned(),
            additional_config: map_of(name, ""),
            ..ProfileSpec::default()
        },
    )
}

fn assignment(change: impl FnOnce(&mut AssignmentSpec)) -> Assignment {
    let mut spec = AssignmentSpec::default();
    change(&mut spec);
    Assignment::new("x", spec)
}

fn selecting(change: impl FnOnce(&mut SubjectSelectors)) -> Assignment {
    assignment(|spec| change(&mut spec.subject_selectors))
}

fn with_requirement(operator: &str, values: &[&str]) -> Assignment {
    let requirement = LabelRequirement {
        key: "product".to_owned(),
        operator: operator.to_owned(),
        values: values.iter().map(|value| (*value).to_owned()).collect(),
    };
    selecting(|selectors| selectors.match_expressions = vec![requirement])
}

fn map_of(key: &str, value: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(key.to_owned(), value.to_owned())])
}

/// Asserts that rules and conversion agree, and returns whether they reject the Assignment.
fn rejects(assignment: &Assignment) -> bool {
    let (rules, converted) = (
        validate_cel(assignment),
        crd::convert_assignment(assignment),
    );
    assert_eq!(
        rules.is_ok(),
        converted.is_ok(),
        "{assignment:?}: {rules:?}, {converted:?}"
    );
    rules.is_err()
}

/// Asserts that rules and conversion agree, and returns whether they reject the Profile.
fn rejects_profile(profile: &Profile) -> bool {
    let (rules, converted) = (validate_cel(profile), crd::convert_profile(profile));
    assert_eq!(
        rules.is_ok(),
        converted.is_ok(),
        "{profile:?}: {rules:?}, {converted:?}"
    );
    rules.is_err()
}

/// Asserts which texts are accepted and which are rejected.
fn check(rejects: impl Fn(&str) -> bool, accepted: &[&str], rejected: &[&str]) {
    for text in accepted {
        assert!(!rejects(text), "{text:?} is rejected");
    }
    for text in rejected {
        assert!(rejects(text), "{text:?} is accepted");
    }
}

#[test]
fn config_names_are_identifiers_that_are_not_reserved() {
    let rejects = |name: &str| rejects_profile(&profile_with_config(name));
    let longest = "x".repeat(63);
    check(
        rejects,
        &[
            "config0",
            "ignitionFile",
            "_x",
            "Subject",
            "inside",
            &longest,
        ],
        &["", "0x", "user-data", "a b", "é", &"x".repeat(64)],
    );
    check(rejects, &[], &boot::config_name::VARIABLES);
    let keywords = [
        "and", "else", "False", "if", "IN", "is", "loop", "none", "not", "or", "range", "true",
    ];
    check(rejects, &[], &keywords);
}

#[test]
fn formats_are_of_configs() {
    let rejects = |configs: &[&str], format: &str| {
        let mut profile = profile_with_config("unused");
        let configs = configs
            .iter()
            .map(|name| ((*name).to_owned(), String::new()));
        profile.spec.additional_config = configs.collect();
        profile.spec.config_formats = map_of(format, "yaml");
        rejects_profile(&profile)
    };
    assert!(!rejects(&["userData", "ks"], "ks"));
    assert!(rejects(&["userData"], "ks"));
    assert!(rejects(&[], "ks"));
}

#[test]
fn a_wrong_format_is_a_clear_error() {
    let error = |name: &str, format: &str| {
        let mut profile = profile_with_config("userData");
        profile.spec.config_formats = map_of(name, format);
        crd::convert_profile(&profile).unwrap_err().to_string()
    };
    assert_eq!(
        error("usrData", "yaml"),
        "spec.configFormats.usrData: config name \"usrData\" is not in spec.additionalConfig (did you mean `userData`?)"
    );
    assert_eq!(
        error("userData", "yml"),
        "spec.configFormats.userData: unknown format \"yml\" (did you mean `yaml`?); known formats: yaml, json, shell, kickstart, text"
    );
}

#[test]
fn profile_selector_keys_are_label_keys() {
    check(
        |key| {
            rejects(&assignment(|spec| {
                spec.profile_selectors = map_of(key, "a");
            }))
        },
        &[
            "region",
            "assignment/ipxe-buildarch",
            "example.com/a.b_c",
            "A",
        ],
        &[
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
        ],
    );
}

#[test]
fn match_label_keys_are_keys_that_a_machine_can_present() {
    check(
        |key| rejects(&selecting(|all| all.match_labels = map_of(key, "a"))),
        &["product", "net0/mac", "Rack Number", &"a".repeat(253)],
        &["", "a/b/c", "a\nb", &"a".repeat(254)],
    );
}

#[test]
fn operators_in_and_not_in_need_values_and_the_others_take_none() {
    for (operator, values, rejected) in [
        ("In", &["a"][..], false),
        ("NotIn", &["a", "b"], false),
        ("Exists", &[], false),
        ("DoesNotExist", &[], false),
        ("In", &[], true),
        ("NotIn", &[], true),
        ("Exists", &["a"], true),
        ("DoesNotExist", &["a"], true),
    ] {
        assert_eq!(
            rejects(&with_requirement(operator, values)),
            rejected,
            "{operator} {values:?}"
        );
    }
}

#[test]
fn label_values_match_what_machines_present_and_what_profiles_carry() {
    check(
        |value| rejects(&selecting(|all| all.match_labels = map_of("a", value))),
        &["PowerEdge R640"],
        &[""],
    );
    check(
        |value| {
            rejects(&assignment(|spec| {
                spec.profile_selectors = map_of("a", value);
            }))
        },
        &["", "a_b.c-D"],
        &["a b", "-a", "é"],
    );
    assert!(rejects(&with_requirement("In", &["a", ""])));
}

#[test]
fn identities_are_validated_in_every_spelling() {
    check(
        |uuid| rejects(&selecting(|all| all.uuids = vec![uuid.to_owned()])),
        &[
            "47c6da67-7477-4970-aa03-84e48ff4f6ad",
            "47C6DA6774774970AA0384E48FF4F6AD",
        ],
        &[
            "",
            "x",
            "47c6da67-7477-4970-aa0384e48ff4f6ad",
            "47c6da67-7477-4970-aa03-84e48ff4f6ag",
            "{47c6da67-7477-4970-aa03-84e48ff4f6ad}",
        ],
    );
    check(
        |serial| {
            rejects(&selecting(|all| {
                all.serial_numbers = vec![serial.to_owned()];
            }))
        },
        &["7XK29Q2", " a b ", "é", "\\"],
        &["", " ", "\t\n "],
    );
    check(
        |mac| rejects(&selecting(|all| all.mac_addresses = vec![mac.to_owned()])),
        &[
            "52:54:00:12:34:56",
            "52-54-00-AB-CD-EF",
            "525400abcdef",
            "00:11:22:33:44:55:66:77",
        ],
        &[
            "",
            "52:54",
            "52:54-00:12:34:56",
            "52:54:00:12:34:5g",
            "52:54:00:12:34:56:",
        ],
    );
}
