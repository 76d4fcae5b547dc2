use super::*;

fn catalog(text: &str) -> Catalog {
    let batch = Batch::of(vec![Source {
        name: "a.yaml".into(),
        text: text.into(),
    }]);
    let errors: Vec<_> = batch
        .faults
        .iter()
        .filter(|(_, fault)| fault.rule.severity == review::Severity::Error)
        .collect();
    assert!(errors.is_empty(), "{errors:?}");
    batch.catalog
}

const PROFILE: &str = "---
apiVersion: shaper.amahdha.com/v1alpha1
kind: Profile
metadata:
  name: NAME
  labels: {role: NAME}
spec:
  ipxe: |
    #!ipxe
    echo {{ subject.serial }} {{ userData }}
  additionalConfig:
    userData: |
      hello
";

const ASSIGNMENT: &str = "---
apiVersion: shaper.amahdha.com/v1alpha1
kind: Assignment
metadata:
  name: mNAME
spec:
  subjectSelectors: {serialNumbers: [SNAME]}
  profileSelectors: {role: ROLE}
";

fn named(name: &str) -> String {
    PROFILE.replace("NAME", name)
}

fn machine(name: &str, role: &str) -> String {
    ASSIGNMENT.replace("NAME", name).replace("ROLE", role)
}

fn between(old: &str, new: &str) -> Diff {
    Diff::between(&catalog(old), &catalog(new), None)
}

#[test]
fn ten_thousand_machines_with_the_same_change_are_one_line() {
    let machines = |role: &str| {
        (0..10_000)
            .map(|n| machine(&n.to_string(), role))
            .collect::<String>()
    };
    let profiles = named("a") + &named("b");
    let diff = between(
        &(profiles.clone() + &machines("a")),
        &(profiles + &machines("b")),
    );
    assert_eq!(
        text::write(&diff, Style::plain()),
        "\
10000 serial numbers: default/a -> default/b
  differs     Profile
  Assignment  default/m0, default/m1, default/m10 and 9997 more
  such as     serial=S0
              serial=S1
              serial=S10

1 kind of change, for 10000 identities that selectors name
"
    );
}

#[test]
fn a_changed_config_is_named_and_a_comment_is_not_a_change() {
    let old = named("a") + &machine("1", "a");
    assert!(between(&old, &format!("# a comment\n{old}")).is_empty());
    let diff = between(&old, &old.replace("hello", "good bye"));
    assert_eq!(
        text::write(&diff, Style::plain()),
        "\
1 serial number: boots default/a, changed
  differs     config userData
  Assignment  default/m1
  such as     serial=S1

1 kind of change, for 1 identity that a selector names
"
    );
    assert_eq!(
        markdown::write(&diff),
        "\
**1 kind of change, for 1 identity that a selector names.**

| machines | before | after | differs |
|---|---|---|---|
| 1 serial number | `default/a` | `default/a` | config userData |

<details><summary>Assignments and example machines</summary>

- 1 serial number: `default/a` to `default/a`
  - Assignment default/m1
  - `serial=S1`

</details>
"
    );
}

#[test]
fn a_default_that_overrides_named_machines_lists_them() {
    let old = named("a") + &named("b") + &machine("1", "a");
    let default = "---\napiVersion: shaper.amahdha.com/v1alpha1\nkind: Assignment\nmetadata: {name: all}\nspec:\n  priority: 1\n  profileSelectors: {role: b}\n";
    let shown = text::write(&between(&old, &(old.clone() + default)), Style::plain());
    assert!(
        shown.contains("1 serial number: default/a -> default/b\n"),
        "{shown}"
    );
    assert!(
        shown.contains("1 sort of machines selected by labels alone: nothing -> default/b\n"),
        "{shown}"
    );
}

#[test]
fn an_existing_object_keeps_its_creation_time() {
    let old = machine("1", "a").replace(
        "  name: m1",
        "  name: m1\n  creationTimestamp: 2026-01-01T00:00:00Z",
    );
    let new = aged(
        &catalog(&(machine("1", "a") + &machine("2", "a"))),
        &catalog(&old),
    );
    let created = |name: &str| {
        new.assignment(&boot::ObjectKey::new("default", name))
            .unwrap()
            .created
    };
    assert_eq!(created("m1").unwrap().to_string(), "2026-01-01T00:00:00Z");
    assert_eq!(created("m2"), None);
}

#[test]
fn equal_names_in_another_namespace_are_noted() {
    let old = named("a") + &machine("1", "a");
    let new = old.replace("  name:", "  namespace: prod\n  name:");
    assert!(moved(&catalog(&old), &catalog(&old)).is_none());
    let said = moved(&catalog(&old), &catalog(&new)).unwrap();
    assert!(said.starts_with("2 objects of OLD are in NEW under the same name in another namespace (from default to prod)"), "{said}");
}
