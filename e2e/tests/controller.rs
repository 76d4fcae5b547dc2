//! `shaper controller` on a real API server: status, conditions and events.

use anyhow::{Context, Result, ensure};
use e2e::cluster::{Cluster, Kubectl, NAMESPACE};
use e2e::control_plane::ControlPlane;
use e2e::roles::{FeedCertificates, Role, eventually};
use serde_json::Value;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);

const PROFILE: &str = "
apiVersion: shaper.amahdha.com/v1alpha1
kind: Profile
metadata: {name: debian, labels: {os: debian}}
spec:
  ipxe: |
    #!ipxe
    kernel http://assets/vmlinuz ignition.config.url={{ ignition }}
  additionalConfig: {ignition: '{}', other: x}
";

fn assignment(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: shaper.amahdha.com/v1alpha1\nkind: Assignment\nmetadata: {{name: {name}}}\nspec: {spec}\n"
    )
}

struct Rig {
    cluster: Cluster,
    kubectl: Kubectl,
    certificates: FeedCertificates,
    controller: Role,
}

impl Rig {
    fn start() -> Result<Self> {
        let plane = ControlPlane::start()?;
        let controller = plane.start_controller()?;
        let ControlPlane {
            cluster,
            kubectl,
            certificates,
        } = plane;
        Ok(Self {
            cluster,
            kubectl,
            certificates,
            controller,
        })
    }

    /// Waits until a condition has a status, and returns it.
    fn condition(&self, object: &str, kind: &str, status: &str) -> Result<Value> {
        eventually(SOON, &format!("{kind}={status} of {object}"), || {
            let object = self.kubectl.json(["get", object])?;
            let conditions = object["status"]["conditions"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            let found = conditions
                .into_iter()
                .find(|condition| condition["type"] == kind && condition["status"] == status);
            Ok(found.filter(|condition| {
                condition["observedGeneration"] == object["metadata"]["generation"]
            }))
        })
    }

    fn events(&self, object: &str) -> Result<Vec<(String, String, String)>> {
        let events = self.kubectl.json(["get", "events.events.k8s.io"])?;
        let of = events["items"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|event| event["regarding"]["name"] == object);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Ok(of
            .map(|event| {
                (
                    text(&event["type"]),
                    text(&event["reason"]),
                    text(&event["note"]),
                )
            })
            .collect())
    }

    fn version(&self, object: &str) -> Result<String> {
        self.kubectl
            .run(["get", object, "-o", "jsonpath={.metadata.resourceVersion}"])
    }
}

#[test]
fn a_config_keeps_its_id_while_it_exists() -> Result<()> {
    let rig = Rig::start()?;
    rig.kubectl.apply(PROFILE)?;
    let accepted = rig.condition("profile/debian", "Accepted", "True")?;
    assert_eq!(accepted["reason"], "Accepted");
    rig.condition("profile/debian", "Resolved", "True")?;
    let ids = |rig: &Rig| -> Result<Value> {
        Ok(rig.kubectl.json(["get", "profile/debian"])?["status"]["additionalConfig"].clone())
    };
    let first = ids(&rig)?;
    ensure!(
        first["ignition"].as_str().is_some_and(|id| id.len() == 36)
            && first["ignition"] != first["other"],
        "{first}"
    );

    rig.kubectl
        .apply(&PROFILE.replace("other: x", "third: z"))?;
    let second = eventually(SOON, "the third has an id", || {
        Ok(Some(ids(&rig)?).filter(|ids| ids["third"].is_string()))
    })?;
    assert_eq!(second["ignition"], first["ignition"]);
    assert_eq!(second["other"], Value::Null);
    Ok(())
}

#[test]
fn an_unchanged_status_is_not_written_again_by_any_controller() -> Result<()> {
    let rig = Rig::start()?;
    rig.kubectl.apply(PROFILE)?;
    rig.kubectl.apply(&assignment(
        "web",
        "{subjectSelectors: {serialNumbers: [S1]}, profileSelectors: {os: debian}}",
    ))?;
    rig.condition("assignment/web", "ProfileFound", "True")?;
    rig.condition("profile/debian", "Accepted", "True")?;
    let before = (
        rig.version("profile/debian")?,
        rig.version("assignment/web")?,
    );
    let Rig { controller, .. } = &rig;
    let second =
        Role::controller(&rig.cluster, rig.certificates.controller.path())?.start_ready()?;
    controller.signal("TERM")?;
    eventually(SOON, "the second holds the Lease", || {
        Ok((second.metric("shaper_lease_held")? > 0.0).then_some(()))
    })?;
    // Once nothing is pending, it has looked at all objects.
    eventually(SOON, "nothing waits", || {
        Ok((second.metric("shaper_status_queue_length")? == 0.0).then_some(()))
    })?;
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(
        (
            rig.version("profile/debian")?,
            rig.version("assignment/web")?
        ),
        before
    );
    let metrics = second.admin("/metrics")?.body;
    ensure!(
        !metrics.contains("shaper_status_writes_total{"),
        "{metrics}"
    );
    Ok(())
}

#[test]
fn an_assignments_status_shows_its_subjects_and_profiles() -> Result<()> {
    let rig = Rig::start()?;
    rig.kubectl.apply(&assignment(
        "web",
        "{subjectSelectors: {serialNumbers: [S1]}, profileSelectors: {os: debian}}",
    ))?;
    let none = rig.condition("assignment/web", "ProfileFound", "False")?;
    assert_eq!(none["reason"], "NoProfile");
    ensure!(
        none["message"]
            .as_str()
            .is_some_and(|text| text.contains("os=debian")),
        "{none}"
    );
    rig.kubectl.apply(PROFILE)?;
    rig.condition("assignment/web", "ProfileFound", "True")?;
    let table = rig.kubectl.run(["get", "assignments"])?;
    let words: Vec<_> = table
        .lines()
        .nth(1)
        .context("a row")?
        .split_whitespace()
        .collect();
    ensure!(
        table.contains("serial number S1") && words.iter().any(|word| word.contains("debian")),
        "{table}"
    );
    rig.kubectl.run(["delete", "profile/debian"])?;
    rig.condition("assignment/web", "ProfileFound", "False")?;
    // Not found at first, found, and not found again, which is not told a second time so soon.
    let skipped = || rig.controller.metric("shaper_events_skipped_total");
    eventually(SOON, "an event is skipped", || {
        Ok((skipped()? >= 1.0).then_some(()))
    })?;
    let events = rig.events("web")?;
    let mut reasons: Vec<_> = events
        .iter()
        .map(|(kind, reason, _)| (kind.as_str(), reason.as_str()))
        .collect();
    reasons.sort_unstable();
    assert_eq!(
        reasons,
        [("Normal", "ProfileFound"), ("Warning", "NoProfile")],
        "{events:?}"
    );
    Ok(())
}

#[test]
fn a_conflict_is_reported_and_cleared_on_both_assignments() -> Result<()> {
    let rig = Rig::start()?;
    rig.kubectl.apply(PROFILE)?;
    let uuid = "47c6da67-7477-4970-aa03-84e48ff4f6ad";
    rig.kubectl.apply(&assignment(
        "one",
        &format!("{{subjectSelectors: {{uuids: [{uuid}]}}}}"),
    ))?;
    rig.condition("assignment/one", "Conflicted", "False")?;
    rig.kubectl.apply(&assignment(
        "two",
        &format!("{{subjectSelectors: {{uuids: [{}]}}}}", uuid.to_uppercase()),
    ))?;
    for (object, other) in [("assignment/one", "two"), ("assignment/two", "one")] {
        let conflict = rig.condition(object, "Conflicted", "True")?;
        assert_eq!(conflict["reason"], "TieBrokenByAge");
        ensure!(
            conflict["message"]
                .as_str()
                .is_some_and(|text| text.contains(&format!("/{other}"))),
            "{conflict}"
        );
    }
    rig.kubectl.run(["delete", "assignment/two"])?;
    rig.condition("assignment/one", "Conflicted", "False")?;
    let events = eventually(SOON, "two events", || {
        Ok(Some(rig.events("one")?).filter(|events| events.len() >= 2))
    })?;
    assert_eq!(events.len(), 2, "{events:?}");
    Ok(())
}

#[test]
fn a_rejected_object_says_why_and_affects_no_other() -> Result<()> {
    let rig = Rig::start()?;
    // It passes the schema: only the conversion parses templates.
    rig.kubectl.apply(
        &PROFILE
            .replace("{{ ignition }}", "{{ ignitoin }}")
            .replace("name: debian", "name: broken"),
    )?;
    rig.kubectl.apply(PROFILE)?;
    let refused = rig.condition("profile/broken", "Accepted", "False")?;
    assert_eq!(refused["reason"], "InvalidTemplate");
    ensure!(
        refused["message"]
            .as_str()
            .is_some_and(|text| text.contains("did you mean `ignition`?")),
        "{refused}"
    );
    rig.condition("profile/debian", "Accepted", "True")?;
    let events = eventually(SOON, "an event", || {
        Ok(rig.events("broken")?.into_iter().next())
    })?;
    assert_eq!(
        (events.0.as_str(), events.1.as_str()),
        ("Warning", "InvalidTemplate")
    );
    rig.kubectl
        .apply(&PROFILE.replace("name: debian", "name: broken"))?;
    rig.condition("profile/broken", "Accepted", "True")?;
    Ok(())
}

#[test]
fn kubectl_shows_unknown_conditions_of_a_rejected_object() -> Result<()> {
    let rig = Rig::start()?;
    // CRDs without CEL rules let everything with the right types through.
    for kind in ["assignments", "profiles"] {
        rig.kubectl.take_rules_out(kind)?;
    }
    let odd = assignment(
        "odd",
        "{subjectSelectors: {macAddresses: [nonsense]}, profileSelectors: {os: debian}}",
    );
    eventually(SOON, "the API server lets it through", || {
        Ok(rig.kubectl.apply(&odd).ok())
    })?;
    rig.kubectl
        .apply(&PROFILE.replace("{{ ignition }}", "{{ ignitoin }}"))?;
    let refused = rig.condition("assignment/odd", "Accepted", "False")?;
    assert_eq!(refused["reason"], "InvalidField");
    ensure!(
        refused["message"]
            .as_str()
            .is_some_and(|text| text.contains("\"nonsense\" is not a MAC address")),
        "{refused}"
    );
    for (object, kind) in [
        ("assignment/odd", "ProfileFound"),
        ("assignment/odd", "Conflicted"),
        ("profile/debian", "Resolved"),
    ] {
        assert_eq!(
            rig.condition(object, kind, "Unknown")?["reason"],
            "NotAccepted",
            "{kind} of {object}"
        );
    }
    let row = |kind| -> Result<String> {
        let table = rig.kubectl.run(["get", kind, "-o", "wide"])?;
        Ok(table
            .lines()
            .nth(1)
            .context("a row")?
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" "))
    };
    ensure!(
        row("assignments")?.starts_with("odd 0 False False Unknown the Assignment is invalid"),
        "{}",
        row("assignments")?
    );
    ensure!(
        row("profiles")?.starts_with("debian False False InvalidTemplate "),
        "{}",
        row("profiles")?
    );
    let events = eventually(SOON, "an event", || {
        Ok(Some(rig.events("odd")?).filter(|events| !events.is_empty()))
    })?;
    let reasons: Vec<_> = events
        .iter()
        .map(|(kind, reason, _)| (kind.as_str(), reason.as_str()))
        .collect();
    assert_eq!(reasons, [("Warning", "InvalidField")]);

    rig.kubectl
        .apply(&odd.replace("nonsense", "52:54:00:12:34:56"))?;
    rig.kubectl.apply(PROFILE)?;
    rig.condition("assignment/odd", "Accepted", "True")?;
    rig.condition("assignment/odd", "ProfileFound", "True")?;
    ensure!(
        row("assignments")?.starts_with("odd mac 52:54:00:12:34:56 debian 0 True True False "),
        "{}",
        row("assignments")?
    );
    Ok(())
}

#[test]
fn another_controller_takes_over_and_a_paused_one_writes_nothing_more() -> Result<()> {
    let rig = Rig::start()?;
    let second =
        Role::controller(&rig.cluster, rig.certificates.controller.path())?.start_ready()?;
    eventually(SOON, "the first holds the Lease", || {
        Ok((rig.controller.metric("shaper_lease_held")? > 0.0).then_some(()))
    })?;
    rig.controller.signal("STOP")?;
    rig.kubectl.apply(PROFILE)?;
    // The Lease expires after fifteen seconds.
    eventually(
        Duration::from_secs(40),
        "the second holds the Lease",
        || Ok((second.metric("shaper_lease_held")? > 0.0).then_some(())),
    )?;
    rig.condition("profile/debian", "Accepted", "True")?;
    let ids = rig.kubectl.json(["get", "profile/debian"])?["status"]["additionalConfig"].clone();
    rig.controller.signal("CONT")?;
    eventually(SOON, "the first knows that it holds nothing", || {
        Ok((rig.controller.metric("shaper_lease_held")? == 0.0).then_some(()))
    })?;
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(
        rig.kubectl.json(["get", "profile/debian"])?["status"]["additionalConfig"],
        ids
    );
    let lease = rig
        .cluster
        .admin()
        .in_namespace(NAMESPACE)
        .json(["get", "lease/shaper-controller"])?;
    assert_eq!(lease["spec"]["leaseTransitions"], 2, "{lease}");
    second.signal("KILL")?;
    eventually(Duration::from_secs(40), "the first holds it again", || {
        Ok((rig.controller.metric("shaper_lease_held")? > 0.0).then_some(()))
    })?;
    Ok(())
}

#[test]
fn a_deleted_definition_takes_nothing_away_and_a_deletion_of_many_objects_is_believed() -> Result<()>
{
    const COUNT: u32 = 120;
    let rig = Rig::start()?;
    let all: String = (0..COUNT)
        .map(|number| {
            let spec = format!("{{subjectSelectors: {{serialNumbers: [s{number}]}}}}");
            format!("---\n{}", assignment(&format!("a{number}"), &spec))
        })
        .collect();
    let objects = || rig.controller.metric("shaper_objects{kind=\"Assignment\"}");
    let is = |count: u32| {
        eventually(Duration::from_mins(1), &format!("{count} objects"), || {
            Ok(((objects()? - f64::from(count)).abs() < 0.5).then_some(()))
        })
    };
    rig.kubectl.apply(&all)?;
    is(COUNT)?;
    rig.kubectl.run(["delete", "assignments", "--all"])?;
    is(0)?;

    rig.kubectl.apply(&all)?;
    is(COUNT)?;
    rig.cluster
        .admin()
        .run(["delete", "crd", "assignments.shaper.amahdha.com"])?;
    eventually(
        Duration::from_secs(30),
        "the guard holds the objects",
        || Ok((rig.controller.metric("shaper_guard_holding")? > 0.0).then_some(())),
    )?;
    std::thread::sleep(Duration::from_secs(10));
    let kept = objects()?;
    ensure!(kept >= f64::from(COUNT / 2), "{kept} are left");
    // The objects come back with the definition.
    rig.cluster.install()?;
    eventually(SOON, "the definition is there", || {
        Ok(rig.kubectl.apply(&all).ok())
    })?;
    is(COUNT)?;
    eventually(SOON, "the guard holds nothing", || {
        Ok((rig.controller.metric("shaper_guard_holding")? < 0.5).then_some(()))
    })
}
