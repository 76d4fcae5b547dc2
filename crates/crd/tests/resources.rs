//! Resources as users write them, and the files generated from the types.

use std::path::Path;

fn profile(yaml: &str) -> Result<boot::Profile, crd::Invalid> {
    crd::convert_profile(&serde_saphyr::from_str(yaml).unwrap())
}

fn assignment(yaml: &str) -> Result<boot::Assignment, crd::Invalid> {
    crd::convert_assignment(&serde_saphyr::from_str(yaml).unwrap())
}

fn with_spec(spec: &str) -> String {
    format!(
        "{{apiVersion: shaper.amahdha.com/v1alpha1, kind: X, metadata: {{name: x}}, spec: {spec}}}"
    )
}

#[test]
fn the_committed_crds_match_the_code() {
    for (name, text) in crd::manifests() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../config/crd")
            .join(&name);
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == text,
            "config/crd/{name} is stale: run `cargo xtask generate`"
        );
    }
}

#[test]
fn the_corrected_seed_samples_are_accepted() {
    let profile = profile(include_str!("../../../examples/seed/profile.yaml")).unwrap();
    let assignment = assignment(include_str!("../../../examples/seed/assignment.yaml")).unwrap();
    assert!(profile.is_selected_by(&assignment.profiles));
    assert_eq!(
        assignment.subjects.uuids.len() + assignment.subjects.serials.len(),
        2
    );
}

#[test]
fn spellings_of_one_identity_are_equal() {
    let spec = "{subjectSelectors: {uuids: [47C6DA67-7477-4970-AA03-84E48FF4F6AD, 47c6da6774774970aa0384e48ff4f6ad], macAddresses: ['52:54:00:AB:CD:EF', 52-54-00-ab-cd-ef, '525400abcdef'], serialNumbers: [' a ', a]}}";
    let subjects = assignment(&with_spec(spec)).unwrap().subjects;
    assert_eq!(
        (
            subjects.uuids.len(),
            subjects.macs.len(),
            subjects.serials.len()
        ),
        (1, 1, 1)
    );
}

#[test]
fn a_conversion_error_names_its_field() {
    let cases = [
        (
            "{subjectSelectors: {uuids: [47c6da67-7477-4970-aa03-84e48ff4f6ad, x]}}",
            "spec.subjectSelectors.uuids[1]",
            "is not a UUID",
        ),
        (
            "{subjectSelectors: {macAddresses: ['52:54']}}",
            "spec.subjectSelectors.macAddresses[0]",
            "is not a MAC address",
        ),
        (
            "{subjectSelectors: {serialNumbers: [' ']}}",
            "spec.subjectSelectors.serialNumbers[0]",
            "empty serial number",
        ),
        (
            "{profileSelectors: {a/b/c: d}}",
            "spec.profileSelectors[a/b/c]",
            "has 2 slashes",
        ),
        (
            "{subjectSelectors: {matchExpressions: [{key: a, operator: in, values: [b]}]}}",
            "spec.subjectSelectors.matchExpressions[0].operator",
            "did you mean `In`?",
        ),
        (
            "{subjectSelectors: {matchExpressions: [{key: a, operator: In}]}}",
            "spec.subjectSelectors.matchExpressions[0].values",
            "needs values",
        ),
        (
            "{subjectSelectors: {matchExpressions: [{key: a, operator: Exists, values: [b]}]}}",
            "spec.subjectSelectors.matchExpressions[0].values",
            "takes no values",
        ),
    ];
    for (spec, field, message) in cases {
        let error = assignment(&with_spec(spec)).unwrap_err();
        assert_eq!(error.field().to_string(), field);
        assert!(error.to_string().contains(message), "{error}");
    }
    let cases = [
        (
            "{ipxe: x, additionalConfig: {user-data: x}}",
            "spec.additionalConfig.user-data",
            "must be an identifier",
        ),
        (
            "{ipxe: x, additionalConfig: {subject: x}}",
            "spec.additionalConfig.subject",
            "is reserved in templates",
        ),
        (
            "{ipxe: '{{ ignitoin }}', additionalConfig: {ignition: x}}",
            "spec.ipxe",
            "did you mean `ignition`?",
        ),
        (
            "{ipxe: x, additionalConfig: {a: '{% if %}'}}",
            "spec.additionalConfig.a",
            "line 1",
        ),
    ];
    for (spec, field, message) in cases {
        let error = profile(&with_spec(spec)).unwrap_err();
        assert_eq!(error.field().to_string(), field);
        assert!(error.to_string().contains(message), "{error}");
    }
}

#[test]
fn config_ids_come_from_the_status() {
    let yaml = "{apiVersion: a, kind: b, metadata: {name: x}, spec: {ipxe: x, additionalConfig: {a: x, b: x}}, status: {additionalConfig: {a: 89952e35-2a85-4f03-a6b2-7f9526bfafc0, b: nonsense}}}";
    let profile = profile(yaml).unwrap();
    assert_eq!(profile.ids.len(), 1);
    assert_eq!(profile.config_without_id().unwrap().as_str(), "b");
}

#[test]
fn an_empty_spec_matches_every_machine_in_namespace_default() {
    let assignment = assignment(&with_spec("{}")).unwrap();
    assert!(!assignment.subjects.names_identities() && assignment.subjects.labels.is_empty());
    assert_eq!(assignment.key.to_string(), "default/x");
}

/// Converts an object with this many entries in one field.
type Convert<'a> = &'a dyn Fn(usize) -> Result<(), crd::Invalid>;

#[test]
fn an_object_that_no_api_server_has_checked_has_few_entries() {
    let entries = |count: usize, entry: &str| -> String {
        let entry = |number: usize| entry.replace('#', &number.to_string());
        (0..count).map(entry).collect::<Vec<_>>().join(", ")
    };
    let spec = |spec: String| assignment(&with_spec(&spec)).map(drop);
    let configs = |count: usize| {
        let configs = entries(count, "c#: x");
        profile(&with_spec(&format!(
            "{{ipxe: '#!ipxe', additionalConfig: {{{configs}}}}}"
        )))
        .map(drop)
    };
    let labels = |count: usize| {
        let labels = entries(count, "l#: x");
        let text = with_spec("{ipxe: '#!ipxe'}");
        profile(&text.replace(
            "metadata: {",
            &format!("metadata: {{labels: {{{labels}}}, "),
        ))
        .map(drop)
    };
    let selectors =
        |field: &str, list: String| spec(format!("{{subjectSelectors: {{{field}: {list}}}}}"));
    let match_labels = |count| selectors("matchLabels", format!("{{{}}}", entries(count, "l#: x")));
    let expressions = |count| {
        let list = entries(count, "{key: l#, operator: Exists}");
        selectors("matchExpressions", format!("[{list}]"))
    };
    let values = |count| {
        let list = entries(count, "v#");
        selectors(
            "matchExpressions",
            format!("[{{key: product, operator: In, values: [{list}]}}]"),
        )
    };
    let serials = |count| selectors("serialNumbers", format!("[{}]", entries(count, "s#")));
    let profiles = |count| {
        spec(format!(
            "{{profileSelectors: {{{}}}}}",
            entries(count, "l#: x")
        ))
    };
    let table: [(&str, usize, Convert<'_>); 7] = [
        ("spec.additionalConfig", 64, &configs),
        ("metadata.labels", 1024, &labels),
        ("spec.subjectSelectors.matchLabels", 64, &match_labels),
        ("spec.subjectSelectors.matchExpressions", 64, &expressions),
        (
            "spec.subjectSelectors.matchExpressions[0].values",
            256,
            &values,
        ),
        ("spec.subjectSelectors.serialNumbers", 4096, &serials),
        ("spec.profileSelectors", 64, &profiles),
    ];
    for (field, most, convert) in table {
        assert_eq!(convert(most), Ok(()), "{field}");
        let error = convert(most + 1).expect_err(field).to_string();
        let count = most + 1;
        assert_eq!(
            error,
            format!("{field}: it has {count} entries; at most {most} are allowed")
        );
    }
}

#[test]
fn an_assignment_whose_lists_of_identities_are_empty_does_not_match_every_machine() {
    for (selectors, is_valid) in [
        ("{}", true),
        ("{serialNumbers: []}", false),
        (
            "{uuids: [], macAddresses: [], matchLabels: {product: R640}}",
            false,
        ),
        ("{serialNumbers: [a], macAddresses: []}", true),
    ] {
        let converted = assignment(&with_spec(&format!("{{subjectSelectors: {selectors}}}")));
        assert_eq!(converted.is_ok(), is_valid, "{selectors}: {converted:?}");
        if let Err(error) = converted {
            assert!(
                error
                    .to_string()
                    .starts_with("spec.subjectSelectors: lists of identities are there"),
                "{error}"
            );
        }
    }
    let object = serde_json::json!({
        "metadata": {"name": "a"}, "spec": {"subjectSelectors": {"serialNumbers": []}},
    });
    assert!(matches!(
        crd::partial_assignment(&object),
        Some(boot::Partial::Unreadable { .. })
    ));
}
