//! The resources on a real API server, as a kubectl user sees them.

use anyhow::{Context, Result, ensure};
use e2e::admission::SOON;
use e2e::cluster::{Cluster, Kubectl};
use e2e::manifests::examples;
use e2e::roles::eventually;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::sync::Arc;

const UNCHECKED: &str = "* <nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";

/// The shared cluster, and kubectl as its administrator in a new namespace.
fn kubectl() -> Result<(Arc<Cluster>, Kubectl)> {
    let cluster = Cluster::shared()?;
    let kubectl = cluster.admin().in_namespace(&cluster.namespace()?);
    Ok((cluster, kubectl))
}

fn assignment(spec: &str) -> String {
    format!(
        "apiVersion: shaper.amahdha.com/v1alpha1\nkind: Assignment\nmetadata: {{name: a}}\nspec: {spec}\n"
    )
}

fn profile(spec: &str) -> String {
    format!(
        "apiVersion: shaper.amahdha.com/v1alpha1\nkind: Profile\nmetadata: {{name: p}}\nspec: {spec}\n"
    )
}

fn with_uuids(count: u32) -> String {
    let mut text =
        assignment("{}").replace("spec: {}\n", "spec:\n  subjectSelectors:\n    uuids:\n");
    for number in 0..count {
        // Writing to a String never fails.
        let _ = writeln!(text, "    - 47c6da67-7477-4970-aa03-{number:012x}");
    }
    text
}

/// The lines of a table with single spaces between words.
fn rows(table: &str) -> Vec<String> {
    table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect()
}

#[test]
fn the_crds_are_structural_and_published_without_warnings() -> Result<()> {
    let cluster = Cluster::shared()?;
    let definitions = cluster.admin().json(["get", "crd"])?;
    let definitions = definitions["items"]
        .as_array()
        .context("there are definitions")?;
    assert_eq!(definitions.len(), 2);
    for definition in definitions {
        let conditions: Vec<_> = definition["status"]["conditions"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|condition| {
                (
                    condition["type"].as_str().unwrap_or_default(),
                    condition["status"].as_str().unwrap_or_default(),
                )
            })
            .collect();
        // NonStructuralSchema and Terminating would be among them, and so would a schema that can't
        // be published.
        assert_eq!(
            conditions,
            [("NamesAccepted", "True"), ("Established", "True")],
            "{definition}"
        );
    }
    let warnings = cluster.admin().answer(
        [
            "apply",
            "--server-side",
            "--dry-run=server",
            "-k",
            &format!("{}/../config/crd", env!("CARGO_MANIFEST_DIR")),
        ],
        "",
    )?;
    ensure!(
        warnings.success && warnings.stderr.is_empty(),
        "{warnings:?}"
    );
    Ok(())
}

#[test]
fn the_examples_are_accepted() -> Result<()> {
    let (_cluster, kubectl) = kubectl()?;
    for (folder, objects) in [("seed", 2), ("quickstart", 9)] {
        let folder = examples(folder);
        let said = kubectl.run(["apply".as_ref(), "-f".as_ref(), folder.as_os_str()])?;
        assert_eq!(said.matches(" created\n").count(), objects, "{said}");
        let again = kubectl.run(["apply".as_ref(), "-f".as_ref(), folder.as_os_str()])?;
        assert_eq!(again.matches(" unchanged\n").count(), objects, "{again}");
    }
    Ok(())
}

#[test]
fn an_invalid_assignment_is_refused_with_a_message_about_the_field() -> Result<()> {
    let (_cluster, kubectl) = kubectl()?;
    let subject_key = "is not a label key: use 1 to 253 bytes, without control characters and with at most one '/'";
    let uuid = "is not a UUID: write 32 hexadecimal digits, with dashes as in 47c6da67-7477-4970-aa03-84e48ff4f6ad or without any";
    let mac = "is not a MAC address: write 6 octets (8 or 20 for InfiniBand) in hexadecimal, separated by ':' or '-' or not at all";
    let empty = "machines never present an empty value; operator DoesNotExist selects machines without the label";
    let label_key = "is not a label key: use at most 63 letters, digits, '-', '_' and '.', starting and ending with a letter or digit, optionally after a DNS name and one '/'";
    let label_value = "is not a label value: use at most 63 letters, digits, '-', '_' and '.', starting and ending with a letter or digit";
    let cases = [
        ("{subjectSelectors: {uuids: [x]}}", format!("spec.subjectSelectors.uuids[0]: Invalid value: \"x\": {uuid}")),
        (
            "{subjectSelectors: {uuids: [47c6da67-7477-4970-aa03-84e48ff4f6ad, 47c6da67-7477-4970aa03-84e48ff4f6ad]}}",
            format!("spec.subjectSelectors.uuids[1]: Invalid value: \"47c6da67-7477-4970aa03-84e48ff4f6ad\": {uuid}"),
        ),
        (
            "{subjectSelectors: {uuids: [47c6da67-7477-4970-aa03-84e48ff4f6ad0]}}",
            format!("\n* spec.subjectSelectors.uuids[0]: Too long: may not be more than 36 bytes\n{UNCHECKED}"),
        ),
        (
            "{subjectSelectors: {serialNumbers: [' ']}}",
            "spec.subjectSelectors.serialNumbers[0]: Invalid value: \" \": is not a serial number: it is blank; remove it, or write what the machine presents as its serial".to_owned(),
        ),
        (
            "{subjectSelectors: {macAddresses: ['52:54']}}",
            format!("spec.subjectSelectors.macAddresses[0]: Invalid value: \"52:54\": {mac}"),
        ),
        (
            "{subjectSelectors: {macAddresses: ['52:54-00:12:34:56']}}",
            format!("spec.subjectSelectors.macAddresses[0]: Invalid value: \"52:54-00:12:34:56\": {mac}"),
        ),
        (
            "{subjectSelectors: {matchLabels: {product: x, a/b/c: x}}}",
            format!("spec.subjectSelectors.matchLabels: Invalid value: \"a/b/c\" {subject_key}"),
        ),
        (
            "{subjectSelectors: {matchLabels: {product: ''}}}",
            format!("spec.subjectSelectors.matchLabels[product]: Invalid value: \"\": {empty}"),
        ),
        (
            "{subjectSelectors: {matchExpressions: [{key: a/b/c, operator: Exists}]}}",
            format!("spec.subjectSelectors.matchExpressions[0].key: Invalid value: \"a/b/c\": {subject_key}"),
        ),
        (
            "{subjectSelectors: {matchExpressions: [{key: product, operator: in, values: [x]}]}}",
            format!(
                "\n* spec.subjectSelectors.matchExpressions[0].operator: Unsupported value: \"in\": supported values: \"In\", \"NotIn\", \
                 \"Exists\", \"DoesNotExist\"\n{UNCHECKED}"
            ),
        ),
        (
            "{subjectSelectors: {matchExpressions: [{key: product, operator: In}]}}",
            "spec.subjectSelectors.matchExpressions[0]: Invalid value: operators In and NotIn need at least one value".to_owned(),
        ),
        (
            "{subjectSelectors: {matchExpressions: [{key: product, operator: NotIn, values: []}]}}",
            "spec.subjectSelectors.matchExpressions[0]: Invalid value: operators In and NotIn need at least one value".to_owned(),
        ),
        (
            "{subjectSelectors: {matchExpressions: [{key: product, operator: Exists, values: [x]}]}}",
            "spec.subjectSelectors.matchExpressions[0]: Invalid value: operators Exists and DoesNotExist take no values".to_owned(),
        ),
        (
            "{subjectSelectors: {matchExpressions: [{key: product, operator: In, values: ['']}]}}",
            format!("spec.subjectSelectors.matchExpressions[0].values[0]: Invalid value: \"\": {empty}"),
        ),
        ("{profileSelectors: {a/b/c: x}}", format!("spec.profileSelectors: Invalid value: \"a/b/c\" {label_key}")),
        ("{profileSelectors: {Example.com/a: x}}", format!("spec.profileSelectors: Invalid value: \"Example.com/a\" {label_key}")),
        ("{profileSelectors: {a: x y}}", format!("spec.profileSelectors[a]: Invalid value: \"x y\": {label_value}")),
        (
            "{priority: 1000001}",
            "spec.priority: Invalid value: 1000001: spec.priority in body should be less than or equal to 1000000".to_owned(),
        ),
        (
            "{priority: -1000001}",
            "spec.priority: Invalid value: -1000001: spec.priority in body should be greater than or equal to -1000000".to_owned(),
        ),
        (
            "{priority: high}",
            format!("\n* spec.priority: Invalid value: \"string\": spec.priority in body must be of type integer: \"string\"\n{UNCHECKED}"),
        ),
        ("null", format!("\n* spec: Required value\n{UNCHECKED}")),
    ];
    for (spec, says) in cases {
        let said = kubectl.refused(&assignment(spec))?;
        assert_eq!(
            said.trim_end(),
            format!("The Assignment \"a\" is invalid: {says}"),
            "{spec}"
        );
    }
    Ok(())
}

#[test]
fn an_invalid_profile_is_refused_with_a_message_about_the_field() -> Result<()> {
    let (_cluster, kubectl) = kubectl()?;
    let identifier = "is not a valid config name: it must be an identifier (letters, digits and _, not starting with a digit, at most 63 characters), \
        so that {{ NAME }} is a variable";
    let taken = "is not a valid config name: it is reserved in templates; choose another";
    let mut cases = vec![
        (
            "{}".to_owned(),
            format!("\n* spec.ipxe: Required value\n{UNCHECKED}"),
        ),
        (
            "{ipxe: ''}".to_owned(),
            "spec.ipxe: Invalid value: \"\": spec.ipxe in body should be at least 1 chars long"
                .to_owned(),
        ),
        (
            "{ipxe: x, additionalConfig: {a: 5}}".to_owned(),
            format!(
                "\n* spec.additionalConfig.a: Invalid value: \"integer\": spec.additionalConfig.a in body must be of type string: \
                 \"integer\"\n{UNCHECKED}"
            ),
        ),
    ];
    for name in ["user-data", "0x", "a b", "é"] {
        cases.push((
            format!("{{ipxe: x, additionalConfig: {{{name}: x}}}}"),
            format!("spec.additionalConfig: Invalid value: \"{name}\" {identifier}"),
        ));
    }
    for name in [
        "subject",
        "encoded",
        "extrinsic",
        "profile",
        "assignment",
        "base_url",
        "and",
        "loop",
        "\"True\"",
        "\"none\"",
        "range",
    ] {
        cases.push((
            format!("{{ipxe: x, additionalConfig: {{{name}: x}}}}"),
            format!(
                "spec.additionalConfig: Invalid value: \"{}\" {taken}",
                name.trim_matches('"')
            ),
        ));
    }
    for (spec, says) in cases {
        let said = kubectl.refused(&profile(&spec))?;
        assert_eq!(
            said.trim_end(),
            format!("The Profile \"p\" is invalid: {says}"),
            "{spec}"
        );
    }
    Ok(())
}

#[test]
fn an_unknown_field_is_refused_and_named() -> Result<()> {
    let (_cluster, kubectl) = kubectl()?;
    let id = "47c6da67-7477-4970-aa03-84e48ff4f6ad";
    for (manifest, kind, field) in [
        (
            assignment(&format!("{{subjectSelector: {{uuids: [{id}]}}}}")),
            "Assignment",
            "spec.subjectSelector",
        ),
        (
            assignment(&format!("{{subjectSelectors: {{uuid: [{id}]}}}}")),
            "Assignment",
            "spec.subjectSelectors.uuid",
        ),
        (
            assignment("{profileselectors: {a: b}}"),
            "Assignment",
            "spec.profileselectors",
        ),
        (
            profile("{ipxe: x, additionalconfig: {a: x}}"),
            "Profile",
            "spec.additionalconfig",
        ),
    ] {
        let said = kubectl.refused(&manifest)?;
        let name = if kind == "Profile" {
            "Profile"
        } else {
            "Assignment"
        };
        let says = format!(
            "{name} in version \"v1alpha1\" cannot be handled as a {kind}: strict decoding error: unknown field \"{field}\""
        );
        assert!(said.trim_end().ends_with(&says), "{said}");
    }
    Ok(())
}

#[test]
fn an_assignment_names_up_to_4096_machines_of_a_kind() -> Result<()> {
    let (_cluster, kubectl) = kubectl()?;
    for count in [1_000, 4_096] {
        kubectl.apply(&with_uuids(count))?;
        let read = kubectl.json(["get", "assignment", "a"])?;
        assert_eq!(
            read["spec"]["subjectSelectors"]["uuids"]
                .as_array()
                .map(Vec::len),
            Some(count as usize)
        );
    }
    let said = kubectl.refused(&with_uuids(4_097))?;
    assert!(
        said.contains(
            "* spec.subjectSelectors.uuids: Too many: 4097: must have at most 4096 items\n"
        ),
        "{said}"
    );

    // The maximum of everything at once: the run-time cost of rules is bounded too.
    let list = |item: &dyn Fn(u32) -> String| (0..4096).map(item).collect::<Vec<_>>();
    let requirement = |number: u32| json!({ "key": format!("{number}{}", "k".repeat(200)), "operator": "In", "values": ["x".repeat(1024)] });
    let most = json!({
        "apiVersion": "shaper.amahdha.com/v1alpha1", "kind": "Assignment", "metadata": { "name": "most" },
        "spec": {
            "subjectSelectors": {
                "uuids": list(&|number| format!("47c6da67-7477-4970-aa03-{number:012x}")),
                "serialNumbers": list(&|number| format!("SERIAL-{number}")),
                "macAddresses": list(&|number| format!("52:54:00:00:{:02x}:{:02x}", number / 256, number % 256)),
                "matchExpressions": (0..64).map(requirement).collect::<Vec<_>>(),
                "matchLabels": (0..64).map(|number| (format!("key-{number}"), "x".repeat(1024))).collect::<std::collections::BTreeMap<_, _>>(),
            },
            "profileSelectors": (0..64).map(|number| (format!("example.com/key-{number}"), "x".repeat(63))).collect::<std::collections::BTreeMap<_, _>>(),
        },
    });
    kubectl.apply_server_side("test", &most.to_string())?;
    Ok(())
}

#[test]
fn a_script_and_each_config_have_a_mebibyte() -> Result<()> {
    let (_cluster, kubectl) = kubectl()?;
    let whole = |bytes: usize| format!("#!ipxe\n{}", "#".repeat(bytes - 7));
    let manifest = |ipxe: usize, config: usize| {
        let spec = json!({ "ipxe": whole(ipxe), "additionalConfig": { "a": "x".repeat(config), "b": "y".repeat(config) } });
        profile(&spec.to_string())
    };
    // etcd takes 1.5 MiB in all.
    kubectl.apply_server_side("test", &manifest(1024 * 1024, 200 * 1024))?;
    kubectl.apply_server_side("test", &manifest(7, 700 * 1024))?;
    kubectl.apply_server_side("test", &manifest(1024 * 1024, 1))?;
    assert_eq!(
        kubectl.json(["get", "profile", "p"])?["spec"]["ipxe"]
            .as_str()
            .map(str::len),
        Some(1024 * 1024)
    );
    for (ipxe, config, field) in [
        (1200 * 1024, 1, "spec.ipxe"),
        (1024 * 1024 + 1, 1, "spec.ipxe"),
        (100, 1024 * 1024 + 1, "spec.additionalConfig.a"),
    ] {
        let error = kubectl
            .apply_server_side("test", &manifest(ipxe, config))
            .err()
            .context("it was accepted")?
            .to_string();
        assert!(
            error.contains(&format!(
                "* {field}: Too long: may not be more than 1048576 bytes\n"
            )),
            "{error}"
        );
    }
    // Only `kubectl apply` without --server-side fails: it keeps a copy in an annotation.
    let said = kubectl.refused(&manifest(256 * 1024, 1).replace("name: p", "name: q"))?;
    assert!(
        said.contains("metadata.annotations: Too long: may not be more than 262144 bytes"),
        "{said}"
    );
    Ok(())
}

#[test]
fn kubectl_get_shows_what_an_operator_asks_first() -> Result<()> {
    let (_cluster, kubectl) = kubectl()?;
    kubectl.apply(&assignment(
        "{subjectSelectors: {matchLabels: {region: us-cal}}, priority: 7}",
    ))?;
    kubectl.apply(&profile("{ipxe: '#!ipxe'}"))?;
    let fresh = rows(&kubectl.run(["get", "assignments"])?);
    assert_eq!(
        fresh[0],
        "NAME SUBJECT PROFILES READY ACCEPTED CONFLICTED AGE"
    );

    let condition = |kind: &str, status: &str, reason: &str, message: &str| json!({ "type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1 });
    let conditions = [
        condition("Ready", "True", "Ready", "It does."),
        condition("Accepted", "True", "Accepted", "It counts."),
        condition("ProfileFound", "True", "Found", "p suits."),
        condition(
            "Conflicted",
            "True",
            "SameSubjects",
            "Only age decides against b.",
        ),
    ];
    let status = json!({ "status": { "observedGeneration": 1, "subject": "region=us-cal", "profiles": ["p", "q"], "profileSummary": "p, q", "conditions": conditions } });
    patch_status(&kubectl, "assignment/a", &status)?;
    let status = json!({ "status": { "conditions": [condition("Ready", "False", "TemplateBroken", ""), condition("Accepted", "False", "TemplateBroken", "line 1: unexpected end")] } });
    patch_status(&kubectl, "profile/p", &status)?;

    let without_age = |args: &[&str]| -> Result<Vec<String>> {
        Ok(rows(&kubectl.run(args)?)
            .into_iter()
            .map(|row| {
                row.rsplit_once(' ')
                    .map_or(row.clone(), |(row, _)| row.to_owned())
            })
            .collect())
    };
    assert_eq!(
        without_age(&["get", "assignments"])?,
        [
            "NAME SUBJECT PROFILES READY ACCEPTED CONFLICTED",
            "a region=us-cal p, q True True True"
        ]
    );
    assert_eq!(
        without_age(&["get", "asg", "-o", "wide"])?,
        [
            "NAME SUBJECT PROFILES PRIORITY READY ACCEPTED CONFLICTED CONFLICT",
            "a region=us-cal p, q 7 True True True Only age decides against b."
        ]
    );
    assert_eq!(
        without_age(&["get", "profiles"])?,
        ["NAME READY ACCEPTED", "p False False"]
    );
    assert_eq!(
        without_age(&["get", "prf", "-o", "wide"])?,
        [
            "NAME READY ACCEPTED REASON MESSAGE",
            "p False False TemplateBroken line 1: unexpected end"
        ]
    );
    let all = kubectl.run(["get", "shaper", "-o", "name"])?;
    assert_eq!(
        all,
        "assignment.shaper.amahdha.com/a\nprofile.shaper.amahdha.com/p\n"
    );
    Ok(())
}

#[test]
fn kubectl_explain_describes_every_field() -> Result<()> {
    let (_cluster, kubectl) = kubectl()?;
    // OpenAPI is published a little later than the kinds are served.
    eventually(SOON, "kubectl explain knows the kinds", || {
        let known = ["profile", "assignment"].map(|kind| kubectl.run(["explain", kind]));
        Ok(known.iter().all(Result::is_ok).then_some(()))
    })?;
    for (path, sentences) in [
        (
            "assignment",
            [
                "If several match a machine, the winner is decided by, in this order",
                "it never falls through to the next Assignment.",
            ]
            .as_slice(),
        ),
        (
            "assignment.spec.subjectSelectors",
            &[
                "A machine matches if it has any of the identities (UUIDs, serial numbers, MAC addresses) and satisfies all label requirements.",
                "Empty or absent: a default that matches every machine.",
                "SMBIOS UUIDs (`dmidecode -s system-uuid`), in upper or lower case, with or without dashes.",
                "in upper or lower case; 8 or 20 octets for InfiniBand. At most 4,096.",
            ],
        ),
        (
            "assignment.spec.subjectSelectors.matchExpressions",
            &["`NotIn`: it has none of them or does not exist."],
        ),
        (
            "assignment.spec.profileSelectors",
            &[
                "Labels of the Profile to boot, which must be in the same namespace and have all of them.",
            ],
        ),
        (
            "assignment.spec.priority",
            &[
                "Assignments with a higher priority take precedence over all others, regardless of their selectors. From -1000000 to 1000000; 0 if absent.",
            ],
        ),
        ("assignment.status", &["The selected machines in short"]),
        (
            "profile",
            &["a machine that presents another value for KEY never gets it."],
        ),
        (
            "profile.spec",
            &[
                "whose first line is `#!ipxe`.",
                "An unknown name is an error.",
                "At most 64 configs of 1 MiB each",
            ],
        ),
        (
            "profile.status.additionalConfig",
            &["Ids are random, don't change, and are removed together with the config."],
        ),
    ] {
        let text = kubectl
            .run(["explain", path])?
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        for sentence in sentences {
            assert!(
                text.contains(sentence),
                "{path} does not say {sentence:?}: {text}"
            );
        }
    }
    Ok(())
}

#[test]
fn identity_lists_have_one_owner_and_each_config_its_own() -> Result<()> {
    let (_cluster, kubectl) = kubectl()?;
    let (one, other) = (
        "47c6da67-7477-4970-aa03-84e48ff4f6ad",
        "47c6da67-7477-4970-aa03-84e48ff4f6ae",
    );
    let spec =
        || -> Result<Value> { Ok(kubectl.json(["get", "assignment", "a"])?["spec"].clone()) };
    kubectl.apply_server_side(
        "inventory",
        &assignment(&format!("{{subjectSelectors: {{uuids: [{one}]}}}}")),
    )?;
    // Another tool may add what the first leaves open,
    kubectl.apply_server_side(
        "operator",
        &assignment("{priority: 5, subjectSelectors: {serialNumbers: [7XK]}}"),
    )?;
    assert_eq!(
        spec()?,
        json!({ "priority": 5, "subjectSelectors": { "uuids": [one], "serialNumbers": ["7XK"] } })
    );
    // but not change a list that has an owner; the message names the owner.
    let meddling = kubectl.apply_server_side(
        "operator",
        &assignment(&format!("{{subjectSelectors: {{uuids: [{other}]}}}}")),
    );
    let error = meddling.err().context("it was accepted")?.to_string();
    assert!(
        error.contains("conflict with \"inventory\": .spec.subjectSelectors.uuids"),
        "{error}"
    );
    // The owner replaces the list as a whole.
    kubectl.apply_server_side(
        "inventory",
        &assignment(&format!("{{subjectSelectors: {{uuids: [{other}]}}}}")),
    )?;
    assert_eq!(spec()?["subjectSelectors"]["uuids"], json!([other]));

    kubectl.apply_server_side(
        "system",
        &profile("{ipxe: '#!ipxe', additionalConfig: {ignition: x}}"),
    )?;
    kubectl.apply_server_side(
        "network",
        &profile("{ipxe: '#!ipxe', additionalConfig: {netplan: z}}"),
    )?;
    assert_eq!(
        kubectl.json(["get", "profile", "p"])?["spec"]["additionalConfig"],
        json!({ "ignition": "x", "netplan": "z" })
    );
    kubectl.apply_server_side("network", &profile("{ipxe: '#!ipxe'}"))?;
    assert_eq!(
        kubectl.json(["get", "profile", "p"])?["spec"]["additionalConfig"],
        json!({ "ignition": "x" })
    );
    Ok(())
}

#[test]
fn the_status_is_a_subresource_and_conditions_merge_by_type() -> Result<()> {
    let (_cluster, kubectl) = kubectl()?;
    kubectl.apply(&format!("{}status: {{profiles: [x]}}\n", assignment("{}")))?;
    let fresh = kubectl.json(["get", "assignment", "a"])?["status"].clone();
    assert!(
        fresh["profiles"].is_null()
            && fresh["conditions"]
                .as_array()
                .is_some_and(|all| all.len() == 2),
        "a status was taken from its author: {fresh}"
    );

    let condition = |kind: &str, reason: &str| json!({ "type": kind, "status": "True", "reason": reason, "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z" });
    let apply = |manager: &str, conditions: &[Value], spec: &Value| {
        let object = json!({
            "apiVersion": "shaper.amahdha.com/v1alpha1", "kind": "Assignment", "metadata": { "name": "a" },
            "spec": spec, "status": { "conditions": conditions },
        });
        let args = [
            "apply",
            "--server-side",
            "--subresource=status",
            "--field-manager",
            manager,
            "-f",
            "-",
        ];
        kubectl.answer(args, &object.to_string())?.into_result()
    };
    apply(
        "one",
        &[condition("Accepted", "A"), condition("Conflicted", "C")],
        &json!({ "priority": 9 }),
    )?;
    apply("two", &[condition("ProfileFound", "F")], &json!({}))?;
    apply("one", &[condition("Accepted", "B")], &json!({}))?;
    let read = kubectl.json(["get", "assignment", "a"])?;
    let conditions: Vec<_> = read["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|c| (&c["type"], &c["reason"]))
        // The definition's own stay.
        .filter(|(_, reason)| *reason != "Pending")
        .collect();
    assert_eq!(
        conditions,
        [
            (&json!("Accepted"), &json!("B")),
            (&json!("ProfileFound"), &json!("F"))
        ],
        "{read}"
    );
    // Nothing else can be changed that way, and the generation stays.
    assert_eq!(
        (&read["spec"]["priority"], &read["metadata"]["generation"]),
        (&json!(0), &json!(1))
    );
    Ok(())
}

fn patch_status(kubectl: &Kubectl, object: &str, patch: &Value) -> Result<()> {
    kubectl.run([
        "patch",
        object,
        "--subresource=status",
        "--type=merge",
        "--patch",
        &patch.to_string(),
    ])?;
    Ok(())
}
