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

fn machine(yaml: &str) -> Result<boot::Machine, crd::Invalid> {
    crd::convert_machine(&serde_saphyr::from_str(yaml).unwrap())
}

#[test]
fn a_machine_has_its_identities_labels_and_variables() {
    let yaml = "{apiVersion: shaper.amahdha.com/v1alpha1, kind: Machine, metadata: {name: rack7-u12, labels: {rack: r7, empty: ''}}, \
        spec: {uuid: 47C6DA67-7477-4970-AA03-84E48FF4F6AD, serialNumber: ' 7XK29Q2 ', macAddresses: ['52-54-00-12-34-56'], \
        variables: {hostname: web-12, disks: [/dev/nvme0n1], net: {mtu: 9000}}}}";
    let machine = machine(yaml).unwrap();
    assert_eq!(machine.key.to_string(), "rack7-u12");
    assert_eq!(machine.serial.as_deref(), Some("7XK29Q2"));
    assert_eq!(machine.macs[0].to_string(), "52:54:00:12:34:56");
    let labels: Vec<_> = machine.labels.iter().collect();
    assert_eq!(
        labels,
        [("rack", "r7")],
        "an empty value is no label of a subject"
    );
    assert_eq!(
        serde_json::to_string(&machine.variables).unwrap(),
        r#"{"disks":["/dev/nvme0n1"],"hostname":"web-12","net":{"mtu":9000}}"#
    );
}

#[test]
fn an_invalid_machine_names_its_field() {
    let of = |metadata: &str, spec: &str| {
        format!(
            "{{apiVersion: shaper.amahdha.com/v1alpha1, kind: Machine, metadata: {metadata}, spec: {spec}}}"
        )
    };
    let big = format!(
        "{{serialNumber: S1, variables: {{x: {}}}}}",
        "a".repeat(70_000)
    );
    for (metadata, spec, field, message) in [
        (
            "{name: m}",
            "{}",
            "spec",
            "at least one of uuid, serialNumber and macAddresses",
        ),
        ("{name: m}", "{macAddresses: []}", "spec", "at least one of"),
        ("{name: m}", "{uuid: x}", "spec.uuid", "is not a UUID"),
        (
            "{name: m}",
            "{serialNumber: ' '}",
            "spec.serialNumber",
            "empty serial number",
        ),
        (
            "{name: m}",
            "{macAddresses: ['52:54']}",
            "spec.macAddresses[0]",
            "is not a MAC address",
        ),
        (
            "{name: m}",
            "{serialNumber: 'To be filled by O.E.M.'}",
            "spec",
            "placeholders that many machines share",
        ),
        (
            "{name: m, labels: {buildarch: arm64}}",
            "{serialNumber: S1}",
            "metadata.labels.buildarch",
            "machines present \"buildarch\" themselves",
        ),
        (
            "{name: m, labels: {machine: x}}",
            "{serialNumber: S1}",
            "metadata.labels.machine",
            "always the name of the Machine",
        ),
        (
            "{name: m}",
            &big,
            "spec.variables",
            "the limit of one object is 65536",
        ),
        (
            "{name: M_1}",
            "{serialNumber: S1}",
            "metadata.name",
            "not a valid Kubernetes name",
        ),
    ] {
        let error = machine(&of(metadata, spec)).expect_err(spec);
        assert_eq!(error.field().to_string(), field, "{spec:.80}: {error}");
        assert!(error.to_string().contains(message), "{error}");
    }
}

#[test]
fn a_schema_of_variables_is_compiled_with_its_profile() {
    let with_schema = |schema: &str| {
        profile(&with_spec(&format!(
            "{{ipxe: '#!ipxe', variables: {{a: 1}}, variablesSchema: {schema}}}"
        )))
    };
    let valid = with_schema("{required: [hostname]}").unwrap();
    assert_eq!(valid.variables.iter().count(), 1);
    assert!(valid.variables_schema.is_some());
    for (schema, message) in [
        ("{type: nonsense}", "it is not a JSON Schema"),
        (
            "{properties: {a: {$ref: 'https://schemas.example/a.json'}}}",
            "nothing is fetched",
        ),
    ] {
        let error = with_schema(schema).expect_err(schema);
        assert_eq!(error.field().to_string(), "spec.variablesSchema");
        assert!(error.to_string().contains(message), "{error}");
    }
}

#[test]
fn the_readable_part_of_an_invalid_machine_is_its_identities() {
    let object = serde_json::json!({
        "metadata": { "name": "m", "labels": { "rack": "r7" } },
        "spec": { "uuid": "x", "serialNumber": " S1 ", "macAddresses": ["x", "52:54:00:00:00:01"], "variables": 7 },
    });
    let Some(boot::Partial::Machine(partial)) = crd::partial_machine(&object) else {
        panic!("a Machine")
    };
    assert_eq!(
        (partial.uuid, partial.serial.as_deref(), partial.macs.len()),
        (None, Some("S1"), 1)
    );
    assert!(partial.labels.is_empty() && partial.variables.is_empty());
}
