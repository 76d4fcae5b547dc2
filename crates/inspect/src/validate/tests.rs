use serde_json::Value;

use super::*;

fn report<T>(texts: &[(&str, &str)], is_strict: bool, show: impl Fn(&Report<'_>) -> T) -> T {
    let sources = texts
        .iter()
        .map(|(name, text)| Source {
            name: (*name).to_owned(),
            text: (*text).to_owned(),
        })
        .collect();
    let mut batch = Batch::of(sources);
    batch.survey(&Progress::silent());
    show(&Report {
        batch: &batch,
        is_strict,
    })
}

fn shown(text: &str) -> String {
    report(&[("a.yaml", text)], false, |report| {
        text::write(report, Style::plain())
    })
}

const HEAD: &str = "apiVersion: shaper.amahdha.com/v1alpha1\n";

fn assignment(name: &str, spec: &str) -> String {
    format!("---\n{HEAD}kind: Assignment\nmetadata:\n  name: {name}\nspec:\n{spec}")
}

fn profile(name: &str, labels: &str, ipxe: &str) -> String {
    format!(
        "---\n{HEAD}kind: Profile\nmetadata:\n  name: {name}\n  labels: {{{labels}}}\nspec:\n  ipxe: |\n    #!ipxe\n{ipxe}"
    )
}

/// Returns the only finding as shown to people, without the summary.
fn only(text: &str) -> String {
    let shown = shown(text);
    let (finding, summary) = shown
        .rsplit_once("\n\n")
        .unwrap_or_else(|| panic!("{shown}"));
    assert!(
        summary.starts_with("1 error;") || summary.starts_with("1 warning;"),
        "{shown}"
    );
    finding.to_owned()
}

#[test]
fn an_unknown_field_is_shown_with_a_suggestion() {
    assert_eq!(
        only(&assignment("a", "  subjectSelectors:\n    uuid:\n    - x\n")),
        "\
error[schema]: spec.subjectSelectors.uuid: unknown field (did you mean `uuids`?); known fields: macAddresses, matchExpressions, matchLabels, serialNumbers, uuids
 --> a.yaml:8:5
  |
8 |     uuid:
  |     ^^^^"
    );
}

#[test]
fn a_conversion_error_marks_its_value() {
    assert_eq!(
        only(&assignment("a", "  subjectSelectors:\n    macAddresses: [\"52:54:00:00:00:01\", nonsense]\n")),
        "\
error[conversion]: spec.subjectSelectors.macAddresses[1]: \"nonsense\" is not a MAC address; write six octets in hexadecimal, as in 52:54:00:12:34:56
 --> a.yaml:8:41
  |
8 |     macAddresses: [\"52:54:00:00:00:01\", nonsense]
  |                                         ^^^^^^^^"
    );
    let shown = only(&assignment(
        "a",
        "  subjectSelectors:\n    matchExpressions:\n    - {key: product, operator: in, values: [a]}\n",
    ));
    assert!(
        shown.contains(
            "unknown value \"in\" (did you mean `In`?); known values: In, NotIn, Exists, DoesNotExist"
        ),
        "{shown}"
    );
    assert!(shown.ends_with("9 |     - {key: product, operator: in, values: [a]}\n  |                                ^^"), "{shown}");
}

#[test]
fn an_undefined_template_name_is_shown_at_its_line() {
    let text = profile("p", "role: web", "    echo {{ subjet.serial }}\n")
        + &assignment("a", "  profileSelectors: {role: web}\n");
    assert_eq!(
        only(&text).lines().collect::<Vec<_>>(),
        [
            "error[template]: spec.ipxe: `subjet` is not defined (did you mean `subject`?) (configs of this Profile: none; built-in variables: subject, encoded, extrinsic, machine, vars, profile, assignment, base_url)",
            "  --> a.yaml:10:5",
            "   |",
            "10 |     echo {{ subjet.serial }}",
            "   |     ^^^^^^^^^^^^^^^^^^^^^^^^",
        ]
    );
}

#[test]
fn an_invalid_config_name_is_marked() {
    let text = profile("p", "role: web", "    boot\n") + "  additionalConfig:\n    user-data: x\n";
    let shown = only(&text);
    assert!(
        shown.starts_with("error[conversion]: spec.additionalConfig.user-data: config name \"user-data\" must be an identifier"),
        "{shown}"
    );
    assert!(
        shown.ends_with("12 |     user-data: x\n   |     ^^^^^^^^^"),
        "{shown}"
    );
}

#[test]
fn assignments_ordered_only_by_name_are_a_conflict() {
    let text = profile("p", "role: web", "    boot\n")
        + &assignment(
            "a",
            "  subjectSelectors: {serialNumbers: [SN1, SN2]}\n  profileSelectors: {role: web}\n",
        )
        + &assignment(
            "b",
            "  subjectSelectors: {serialNumbers: [SN2]}\n  profileSelectors: {role: web}\n",
        );
    assert_eq!(
        only(&text),
        "\
warning[conflict]: spec.subjectSelectors: Assignment default/a matches serial number SN2 too, and ranks first only because its namespace and name sort first
  --> a.yaml:25:3
   |
25 |   subjectSelectors: {serialNumbers: [SN2]}
   |   ^^^^^^^^^^^^^^^^
   = help: give one of them a higher priority, or remove what both match from one"
    );
}

#[test]
fn an_assignment_that_finds_no_profile_has_a_hint() {
    let text = profile("p", "role: web", "    boot\n")
        + &assignment(
            "a",
            "  subjectSelectors: {serialNumbers: [SN1]}\n  profileSelectors: {role: web}\n",
        )
        + &assignment(
            "b",
            "  subjectSelectors: {serialNumbers: [SN2]}\n  profileSelectors: {role: wbe}\n",
        );
    assert_eq!(
        only(&text),
        "\
warning[no-profile]: spec.profileSelectors: no Profile in namespace default has the labels role=wbe: its machines boot nothing
  --> a.yaml:26:3
   |
26 |   profileSelectors: {role: wbe}
   |   ^^^^^^^^^^^^^^^^
   = help: did you mean role=web?"
    );
}

#[test]
fn an_architecture_without_a_profile_is_reported() {
    let text = profile(
        "p",
        "role: web, assignment/ipxe-buildarch: x86_64",
        "    boot\n",
    ) + &profile(
        "q",
        "role: db, assignment/ipxe-buildarch: aarch64",
        "    boot\n",
    ) + &assignment(
        "a",
        "  subjectSelectors: {serialNumbers: [SN1]}\n  profileSelectors: {role: db}\n",
    ) + &assignment("b", "  profileSelectors: {role: web}\n");
    assert!(
        only(&text).starts_with(
            "warning[no-profile-for-arch]: spec.profileSelectors: machines of arm64 that it matches boot nothing: the Profiles that it selects are for x86_64\n"
        ),
        "{}",
        only(&text)
    );
    let all = text.replace(
        "  profileSelectors: {role: web}",
        "  subjectSelectors: {matchLabels: {buildarch: arm64}}\n  profileSelectors: {role: web}",
    );
    assert!(
        only(&all).starts_with("warning[no-profile]: spec.profileSelectors: machines of arm64 that it matches boot nothing: all "),
        "{all}"
    );
}

#[test]
fn an_unreachable_profile_and_a_placeholder_are_reported() {
    assert_eq!(
        only(&profile("p", "role: web", "    boot\n")),
        "\
warning[unused-profile]: metadata.labels: no Assignment in namespace default selects this Profile, so no machine boots it
 --> a.yaml:6:11
  |
6 |   labels: {role: web}
  |   ^^^^^^
  = help: add an Assignment whose profileSelectors are among its labels, or remove this Profile"
            .replace(":6:11", ":6:3")
    );
    let text = profile("p", "role: web", "    boot\n")
        + &assignment(
            "a",
            "  subjectSelectors:\n    serialNumbers: [\"To be filled by O.E.M.\"]\n  profileSelectors: {role: web}\n",
        );
    let shown = only(&text);
    assert!(
        shown.starts_with(
            "warning[placeholder]: spec.subjectSelectors.serialNumbers[0]: \"To be filled by O.E.M.\" is a placeholder that vendors leave on boards, so it matches no machine\n"
        ),
        "{shown}"
    );
}

#[test]
fn mistyped_labels_are_marked_at_their_keys() {
    let text = profile(
        "p",
        "role: web, assigment/ipxe-buildarch: x86_64",
        "    boot\n",
    ) + &assignment(
        "a",
        "  subjectSelectors: {serialNumbers: [SN1]}\n  profileSelectors: {role: web}\n",
    );
    let shown = only(&text);
    assert!(
        shown.contains("the label \"assigment/ipxe-buildarch\" means nothing to shaper (did you mean `assignment/ipxe-buildarch`?)"),
        "{shown}"
    );
    assert!(
        shown.contains("   labels: {role: web, assigment/ipxe-buildarch: x86_64}\n  |                       ^^^^^^^^^^^^^^^^^^^^^^^^\n"),
        "{shown}"
    );
    let text = profile("p", "role: web", "    boot\n")
        + &assignment("a", "  subjectSelectors: {matchLabels: {prodcut: R640}}\n");
    let shown = only(&text);
    assert!(
        shown.contains("no machine presents \"prodcut\" by itself (did you mean `product`?)"),
        "{shown}"
    );
    let text = profile(
        "p",
        "role: web, assignment/ipxe-buildarch: x86_65",
        "    boot\n",
    ) + &assignment("a", "  priority: 1\n");
    assert!(
        only(&text).contains("iPXE has no architecture \"x86_65\" (did you mean `x86_64`?)"),
        "{}",
        only(&text)
    );
}

#[test]
fn unsatisfiable_selectors_are_reported() {
    let text = profile("p", "role: web", "    boot\n")
        + &assignment(
            "a",
            "  subjectSelectors:\n    matchLabels: {rack: r1}\n    matchExpressions: [{key: rack, operator: DoesNotExist}]\n",
        );
    assert!(
        only(&text).contains("no machine matches all of rack=r1, !rack"),
        "{}",
        only(&text)
    );
}

#[test]
fn the_linter_points_into_the_template() {
    let text = profile(
        "p",
        "role: web",
        "    kernel {{ extrinsic.assets }}/vmlinuz initrd=initrd.gz quiet||\n    initrd {{ extrinsic.assets }}/initrd.gz\n    boot\n",
    ) + &assignment("a", "  priority: 1\n");
    assert_eq!(
        only(&text),
        "\
warning[ipxe-glued-operator]: spec.ipxe: || is part of the word \"quiet||\": iPXE recognizes it only as a separate word
  --> a.yaml:10:60
   |
10 |     kernel {{ extrinsic.assets }}/vmlinuz initrd=initrd.gz quiet||
   |                                                            ^^^^^^^
   = help: put spaces around ||"
    );
}

#[test]
fn a_template_over_budget_is_an_error() {
    let text = profile(
        "p",
        "role: web",
        "    {% for i in range(1000) %}{% for j in range(1000) %}x{% endfor %}{% endfor %}\n",
    ) + &assignment("a", "  priority: 1\n");
    assert!(
        only(&text).starts_with(
            "error[render]: spec.ipxe: can't be rendered for a sample machine (x86_64, efi): it exceeds the work limit of one answer; use smaller loops and less text\n  --> a.yaml:10:"
        ),
        "{}",
        only(&text)
    );
}

#[test]
fn strict_turns_warnings_into_errors() {
    let text = profile("p", "role: web", "    boot\n");
    let count = |is_strict| {
        report(&[("a.yaml", &text)], is_strict, |report| {
            (report.errors(), report.warnings())
        })
    };
    assert_eq!((count(false), count(true)), ((0, 1), (1, 0)));
}

#[test]
fn an_object_in_two_files_is_reported_with_both_positions() {
    let one = profile("p", "role: web", "    boot\n") + &assignment("a", "  priority: 1\n");
    let shown = report(
        &[
            ("a.yaml", &one),
            ("b.yaml", &assignment("a", "  priority: 2\n")),
        ],
        false,
        |report| text::write(report, Style::plain()),
    );
    assert!(
        shown.starts_with("error[duplicate-object]: Assignment default/a is already defined at a.yaml:12; remove one of them\n --> b.yaml:5:9\n"),
        "{shown}"
    );
}

#[test]
fn json_keeps_its_fields() {
    let text = assignment("a", "  subjectSelectors:\n    uuid:\n    - x\n");
    let json: Value = report(&[("a.yaml", &text)], false, |report| {
        serde_json::from_str(&json::write(report)).unwrap()
    });
    let message = "spec.subjectSelectors.uuid: unknown field (did you mean `uuids`?); known fields: macAddresses, matchExpressions, matchLabels, serialNumbers, uuids";
    assert_eq!(
        json,
        serde_json::json!({
            "version": 1, "errors": 1, "warnings": 0, "files": 1, "assignments": 0, "profiles": 0,
            "findings": [{
                "rule": "schema", "severity": "error", "message": message, "file": "a.yaml", "line": 8, "column": 5, "endColumn": 9,
                "object": {"kind": "Assignment", "namespace": "default", "name": "a"}, "field": "spec.subjectSelectors.uuid",
            }],
        })
    );
}

/// Checks what the schema of SARIF 2.1.0 requires of the parts that are written.
#[test]
fn sarif_output_matches_its_schema() {
    let text = assignment(
        "a",
        "  profileSelectors: {role: db}\n  subjectSelectors:\n    uuid:\n    - x\n",
    ) + &profile("p", "role: web", "    boot\n");
    let sarif: Value = report(&[("dir/a b.yaml", &text)], false, |report| {
        serde_json::from_str(&sarif::write(report)).unwrap()
    });
    assert_eq!(sarif["version"], "2.1.0");
    let run = &sarif["runs"][0];
    let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
    assert!(run["tool"]["driver"]["name"].is_string());
    assert_eq!(run["columnKind"], "unicodeCodePoints");
    let ids: std::collections::BTreeSet<_> = rules
        .iter()
        .map(|rule| rule["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids.len(), rules.len(), "each rule stands once");
    let results = run["results"].as_array().unwrap();
    assert_eq!(results.len(), 2);
    for result in results {
        let rule = &rules[usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap()];
        assert_eq!(rule["id"], result["ruleId"]);
        assert!(["error", "warning"].contains(&result["level"].as_str().unwrap()));
        assert!(!result["message"]["text"].as_str().unwrap().is_empty());
        let place = &result["locations"][0]["physicalLocation"];
        assert_eq!(place["artifactLocation"]["uri"], "dir/a%20b.yaml");
        let region = &place["region"];
        let number = |name: &str| region[name].as_u64().unwrap();
        assert!(
            number("startLine") >= 1
                && number("startColumn") >= 1
                && number("endColumn") > number("startColumn"),
            "{region}"
        );
        assert!(result["locations"][0]["logicalLocations"][0]["fullyQualifiedName"].is_string());
    }
}
