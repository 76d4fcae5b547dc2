use super::*;

const HEAD: &str = "apiVersion: shaper.amahdha.com/v1alpha1\n";

const ROOM: Room = Room {
    faults: MAX_FAULTS,
    invalid: MAX_INVALID,
};

fn read(bytes: &[u8], is_json: bool) -> Result<Contents, Vec<Fault>> {
    super::read(bytes, is_json, ROOM).map_err(|broken| broken.faults)
}

fn yaml(text: &str) -> Result<Contents, Vec<Fault>> {
    read(text.as_bytes(), false)
}

/// Returns the line and the reason of the only fault.
fn fault(result: Result<Contents, Vec<Fault>>) -> (Option<usize>, String) {
    let mut faults = result.unwrap_err();
    assert_eq!(faults.len(), 1, "{faults:?}");
    let fault = faults.remove(0);
    (fault.line(), fault.sentence())
}

fn profile(ipxe: &str) -> String {
    format!("{HEAD}kind: Profile\nmetadata:\n  name: p\nspec:\n  ipxe: |\n    #!ipxe\n    {ipxe}\n")
}

fn assignment(spec: &str) -> String {
    format!("{HEAD}kind: Assignment\nmetadata:\n  name: a\nspec:\n{spec}")
}

#[test]
fn documents_lists_and_json_hold_the_same_objects() {
    let several = format!(
        "# first\n---\n{}---\n{}---\n# nothing\n",
        profile("boot"),
        assignment("  priority: 1\n")
    );
    let read_several = yaml(&several).unwrap();
    assert_eq!(
        read_several
            .objects
            .iter()
            .map(|(spots, _)| spots.object.line)
            .collect::<Vec<_>>(),
        [3, 12]
    );
    let head = r#""apiVersion": "shaper.amahdha.com/v1alpha1", "kind""#;
    let items = [
        format!(
            r##"{{{head}: "Profile", "metadata": {{"name": "p"}}, "spec": {{"ipxe": "#!ipxe\nboot\n"}}}}"##
        ),
        format!(
            r#"{{{head}: "Assignment", "metadata": {{"name": "a"}}, "spec": {{"priority": 1}}}}"#
        ),
    ];
    let list = format!(
        "{{\n\t\"apiVersion\": \"v1\",\n\t\"kind\": \"List\",\n\t\"items\": [\n\t\t{}\n\t]}}",
        items.join(",\n\t\t")
    );
    for (text, is_json) in [(&list, true), (&list, false), (&items.join("\n"), true)] {
        let contents = read(text.as_bytes(), is_json).unwrap();
        let objects = |contents: &Contents| {
            contents
                .objects
                .iter()
                .map(|(_, object)| object.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(objects(&contents), objects(&read_several));
    }
}

#[test]
fn an_unknown_field_is_reported_with_its_line_and_a_suggestion() {
    let (line, reason) = fault(yaml(&assignment(
        "  subjectSelectors:\n    uuid:\n    - x\n",
    )));
    assert_eq!(line, Some(7));
    assert!(
        reason.starts_with(
            "spec.subjectSelectors.uuid: unknown field (did you mean `uuids`?); known fields: "
        ),
        "{reason}"
    );
    let (line, reason) = fault(yaml(&format!(
        "---\n{}",
        assignment("  priority: 1\n").replace("name: a", "name: a\n  label: {}")
    )));
    assert_eq!(line, Some(6));
    assert!(
        reason.starts_with("metadata.label: unknown field (did you mean `labels`?)"),
        "{reason}"
    );
}

#[test]
fn every_fault_of_a_file_is_reported() {
    let text = format!(
        "{}---\n{}",
        assignment("  priorty: 1\n"),
        assignment("  subjectSelectors:\n    serialNumbers: [1]\n    uuids: [x]\n")
    );
    let lines: Vec<_> = yaml(&text)
        .unwrap_err()
        .into_iter()
        .map(|fault| fault.line())
        .collect();
    assert_eq!(lines, [Some(6), Some(14)]);
}

#[test]
fn faults_beyond_the_limit_are_counted() {
    let texts: String = (0..100)
        .map(|_| format!("---\n{}", assignment("  x: 1\n")))
        .collect();
    let faults = yaml(&texts).unwrap_err();
    assert_eq!(faults.len(), MAX_FAULTS + 1);
    assert_eq!(faults[MAX_FAULTS].sentence(), "80 more errors");
}

#[test]
fn an_unknown_kind_and_a_wrong_version_are_errors() {
    let cases = [
        (
            "apiVersion: shaper.amahdha.com/v1alpha1\nkind: Asignment\n",
            2,
            "unknown kind Asignment (did you mean `Assignment`?)",
        ),
        (
            "apiVersion: shaper.amahdha.com/v1\nkind: Profile\n",
            1,
            "unknown version v1",
        ),
        (
            "kind: Profile\napiVersion: shaper.amadha.com/v1alpha1\n",
            2,
            "belongs to apiVersion shaper.amahdha.com/v1alpha1",
        ),
        ("\nkind: Profile\n", 2, "this is not a manifest"),
        ("- 1\n", 1, "this is not a manifest"),
        ("just text\n", 1, "this is not a manifest"),
    ];
    for (text, at, says) in cases {
        let (line, reason) = fault(yaml(text));
        assert_eq!(line, Some(at), "{text} {reason}");
        assert!(reason.contains(says), "{reason}");
    }
}

#[test]
fn foreign_objects_are_listed_and_skipped() {
    let contents = yaml(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata: {a: 1}\n---\napiVersion: kustomize.config.k8s.io/v1\nkind: Kustomization\n",
    );
    assert_eq!(
        contents.unwrap().foreign,
        ["ConfigMap x", "Kustomization without a name"]
    );
}

#[test]
fn a_conversion_error_has_the_line_of_its_field() {
    let cases = [
        (
            assignment("  profileSelectors:\n    a: b\n    assigment/ipxe/buildarch: aarch64\n"),
            8,
            "slash",
        ),
        (
            assignment(
                "  subjectSelectors:\n    uuids:\n    - 47c6da67-7477-4970-aa03-84e48ff4f6ad\n    - nonsense\n",
            ),
            9,
            "uuids[1]",
        ),
        (
            assignment(
                "  subjectSelectors:\n    matchExpressions:\n    - key: a\n      operator: in\n",
            ),
            9,
            "did you mean `In`?",
        ),
        (assignment("  priority: 1000001\n"), 6, "is not between"),
        (profile("kernel {{ nothing }}"), 8, "nothing"),
        (
            profile("boot") + "  additionalConfig:\n    user-data: x\n",
            10,
            "must be an identifier",
        ),
        (
            profile("boot") + "  additionalConfig:\n    ok: |\n\n      a\n      {{ nothing }}\n",
            13,
            "nothing",
        ),
        (
            profile("boot").replace("name: p", "name: Big"),
            4,
            "metadata.name",
        ),
        (
            profile("boot").replace("  name: p", "  namespace: x"),
            3,
            "needs a name",
        ),
        (
            profile("boot").replace("name: p", "name: p\n  creationTimestamp: yesterday"),
            5,
            "metadata",
        ),
    ];
    for (text, at, says) in cases {
        let (line, reason) = fault(yaml(&text));
        assert!(reason.contains(says), "{reason}");
        assert_eq!(line, Some(at), "{reason}\n{text}");
    }
}

#[test]
fn a_fault_in_a_list_or_in_json_has_its_line() {
    let list = format!(
        "apiVersion: v1\nkind: List\nitems:\n- {}",
        assignment("  x: 1\n").replace('\n', "\n  ")
    );
    assert_eq!(fault(yaml(&list)).0, Some(9));
    let json = "{\"apiVersion\": \"shaper.amahdha.com/v1alpha1\", \"kind\": \"Assignment\",\n \"metadata\": {\"name\": \"a\"},\n \"spec\": {\n  \"x\": 1}}";
    assert_eq!(fault(read(json.as_bytes(), true)).0, Some(4));
    assert_eq!(
        fault(read(
            format!("{}\n{json}", json.replace("\"x\": 1", "")).as_bytes(),
            true
        ))
        .0,
        Some(8)
    );
    assert_eq!(
        fault(read(b"{\n  \"a\": 1,\n}", true)),
        (
            Some(3),
            "not valid JSON: key must be a string at line 3 column 1".to_owned()
        )
    );
}

#[test]
fn a_mistyped_value_is_reported_with_the_expected_form() {
    let cases = [
        (
            "  subjectSelectors:\n    serialNumbers:\n    - 0012\n",
            8,
            "unquoted 0012 is a number; for text, write \"0012\"",
        ),
        (
            "  profileSelectors:\n    a: yes\n",
            7,
            "unquoted yes is the boolean true; for text, write \"yes\"",
        ),
        ("  profileSelectors:\n    a:\n", 7, "has no value"),
        ("  profileSelectors: [a]\n", 6, "must be a map"),
        ("  subjectSelectors:\n    uuids: x\n", 7, "must be a list"),
        ("  priority: \"1\"\n", 6, "without quotes"),
        ("  priority: 1.5\n", 6, "is not a whole number"),
    ];
    for (spec, at, says) in cases {
        let (line, reason) = fault(yaml(&assignment(spec)));
        assert_eq!(line, Some(at), "{reason}");
        assert!(reason.contains(says), "{reason}");
    }
}

#[test]
fn a_field_without_a_value_counts_as_absent() {
    assert!(
        yaml(
            &assignment("  subjectSelectors:\n  profileSelectors: ~\n")
                .replace("name: a", "name: a\n  creationTimestamp: null")
        )
        .is_ok()
    );
}

#[test]
fn a_missing_field_is_named() {
    let (line, reason) = fault(yaml(&format!(
        "{HEAD}kind: Profile\nmetadata: {{name: p}}\nspec:\n  additionalConfig: {{}}\n"
    )));
    assert_eq!((line, reason.as_str()), (Some(4), "spec.ipxe is missing"));
    let (line, reason) = fault(yaml(&format!(
        "{HEAD}kind: Assignment\nmetadata: {{name: a}}\n"
    )));
    assert_eq!((line, reason.as_str()), (Some(1), "spec is missing"));
}

#[test]
fn a_duplicate_object_is_reported_with_both_lines() {
    let text = format!("{}---\n{}", profile("boot"), profile("exit"));
    assert_eq!(
        fault(yaml(&text)),
        (
            Some(10),
            "Profile default/p is in this file twice, at lines 1 and 10; remove one".to_owned()
        )
    );
}

#[test]
fn invalid_yaml_is_reported_with_its_line() {
    assert_eq!(fault(yaml("a: 1\nb: c: d\n")).0, Some(2));
    assert_eq!(fault(yaml("a:\n\tb: 2\n")).0, Some(2));
    let (line, reason) = fault(yaml("a: 1\nb: 2\na: 3\n"));
    assert_eq!(
        (line, reason.as_str()),
        (
            Some(3),
            "\"a\" is in this map twice, at lines 1 and 3; remove one"
        )
    );
    assert!(fault(read(b"a: \xff", false)).1.contains("not UTF-8"));
    assert!(fault(yaml(" \n\n")).1.contains("is empty"));
    assert!(fault(yaml("a: !Ref x\n")).1.contains("!Ref"));
    assert!(yaml("# only words\n").unwrap().objects.is_empty());
    assert!(yaml(&format!("\u{feff}{}", profile("boot"))).is_ok());
    assert!(yaml(&profile("boot").replace('\n', "\r\n")).is_ok());
}

#[test]
fn a_helm_template_is_recognized() {
    for text in [
        &profile("boot").replace("name: p", "name: {{ .Values.name }}"),
        "{{- if .Values.on }}\nkind: Profile\n{{- end }}\n",
    ] {
        let (_, reason) = fault(yaml(text));
        assert!(reason.contains("helm template"), "{reason}");
    }
    assert!(
        !fault(yaml(&(profile("{{ subject.uuid }}") + "\tx\n")))
            .1
            .contains("helm")
    );
}

#[test]
fn anchors_and_merges_work_as_in_kubectl() {
    let text = assignment(
        "  subjectSelectors:\n    matchLabels: &l {product: x}\n  profileSelectors:\n    <<: *l\n    role: web\n",
    );
    let contents = yaml(&text).unwrap();
    let (_, Object::Assignment(assignment)) = &contents.objects[0] else {
        panic!("{contents:?}")
    };
    assert_eq!(assignment.profiles.len(), 2);
}

#[test]
fn a_yaml_bomb_fails_fast() {
    let level = |i: usize| {
        format!(
            "{i}: &a{i} [{}]\n",
            vec![format!("*a{}", i - 1); 10].join(", ")
        )
    };
    let bomb: String = std::iter::once("0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned())
        .chain((1..20).map(level))
        .collect();
    let started = std::time::Instant::now();
    assert!(fault(yaml(&bomb)).1.contains("aliases repeat more than"));
    let text = format!("a: &a {}\n", "x".repeat(1_000_000));
    let repeated: String = (0..20).map(|at| format!("b{at}: *a\n")).collect();
    assert_eq!(
        fault(yaml(&(text + &repeated))).1,
        "aliases repeat more than 16777216 bytes (16 MiB); write them out in several files"
    );
    assert!(
        fault(yaml(&"[".repeat(100_000)))
            .1
            .contains("not valid YAML")
    );
    assert!(
        fault(yaml(&"- ".repeat(10_000)))
            .1
            .contains("nested more than")
    );
    assert!(fault(yaml("a: &a [*a]\n")).1.contains("contains it"));
    assert!(
        started.elapsed() < std::time::Duration::from_secs(2),
        "{:?}",
        started.elapsed()
    );
}

#[test]
fn a_file_of_many_assignments_is_read_whole() {
    let one = |i: usize| {
        let labels = "  labels: {team: storage, rack: r12}\n  annotations: {note: \"written by a machine for another machine to read, nobody minds\"}\n";
        let spec = format!(
            "  subjectSelectors:\n    uuids:\n    - 47c6da67-7477-4970-aa03-{i:012}\n    serialNumbers: [SN{i}]\n  profileSelectors:\n    role: web\n"
        );
        format!(
            "---\n{}",
            assignment(&spec).replace("name: a\n", &format!("name: a{i}\n{labels}"))
        )
    };
    let text: String = (0..10_000).map(one).collect();
    assert!(text.len() > 3_500_000, "{}", text.len());
    // A release build reads ten times as many, 35 MB, in 2.5 s.
    assert_eq!(yaml(&text).unwrap().objects.len(), 10_000);
}

#[test]
fn a_broken_file_claims_each_readable_object() {
    let named = "  subjectSelectors: {serialNumbers: [12345], uuids: [no]}\n  priority: 7\n";
    let text = format!(
        "{}---\n{}---\nkind: [\n",
        profile("boot").replace("name: p", "name: p\n  labels: {os: x}"),
        assignment(named)
    );
    let partials = super::read(text.as_bytes(), false, ROOM)
        .unwrap_err()
        .partials;
    let [
        (Partial::Assignment(told), Some(fault)),
        (Partial::Profile(good), None),
    ] = &partials[..]
    else {
        panic!("{partials:?}")
    };
    assert_eq!(
        (
            told.subjects.serials.len(),
            told.subjects.uuids.len(),
            told.priority
        ),
        (1, 0, 7)
    );
    assert!(fault.starts_with("spec.subjectSelectors."), "{fault}");
    assert_eq!(
        (good.labels.get("os"), good.key.to_string().as_str()),
        (Some("x"), "default/p")
    );
}

#[test]
fn a_machine_is_read_with_variables_of_every_type() {
    let text = format!(
        "{HEAD}kind: Machine\nmetadata:\n  name: m\n  labels: {{rack: r7}}\nspec:\n  serialNumber: 7XK29Q2\n  variables:\n    \
         hostname: web-12\n    port: 8080\n    ratio: 1.5\n    on: yes\n    none: ~\n    quoted: \"7\"\n    disks: [/dev/sda, {{path: /dev/sdb}}]\n"
    );
    let contents = yaml(&text).unwrap();
    let [(spots, Object::Machine(machine))] = &contents.objects[..] else {
        panic!("one Machine: {contents:?}")
    };
    assert_eq!(
        (spots.object.line, machine.key.to_string()),
        (1, "m".to_owned())
    );
    assert_eq!(
        serde_json::to_string(&machine.variables).unwrap(),
        r#"{"disks":["/dev/sda",{"path":"/dev/sdb"}],"hostname":"web-12","none":null,"on":true,"port":8080,"quoted":"7","ratio":1.5}"#
    );
    let json = serde_json::json!({
        "apiVersion": crd::API_VERSION, "kind": "Machine", "metadata": { "name": "m", "labels": { "rack": "r7" } },
        "spec": { "serialNumber": "7XK29Q2", "variables": machine.variables },
    });
    let read_json = read(json.to_string().as_bytes(), true).unwrap();
    assert_eq!(read_json.objects[0].1, contents.objects[0].1);
}

#[test]
fn a_wrong_machine_names_its_line_and_what_to_do() {
    let machine = |spec: &str| format!("{HEAD}kind: Machine\nmetadata:\n  name: m\nspec:\n{spec}");
    for (spec, line, reason) in [
        (
            "  variables: {a: 1}\n",
            5,
            "at least one of uuid, serialNumber and macAddresses",
        ),
        (
            "  serialNumber: S1\n  variables: [a]\n",
            7,
            "spec.variables must be a map",
        ),
        (
            "  serialNumber: S1\n  variables: {a: .inf}\n",
            7,
            ".inf is not a number of JSON",
        ),
        (
            "  serialNumber: S1\n  macAddresses: ['52:54']\n",
            7,
            "is not a MAC address",
        ),
        ("  serialNumber: S1\n  hostname: x\n", 7, "hostname"),
    ] {
        let (found, sentence) = fault(yaml(&machine(spec)));
        assert!(sentence.contains(reason), "{spec}: {sentence}");
        assert_eq!(found, Some(line), "{spec}: {sentence}");
    }
}
