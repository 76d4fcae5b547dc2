//! What tools that wait for objects see: kstatus, and `kubectl wait`.

use anyhow::{Result, ensure};
use e2e::cluster::Kubectl;
use e2e::control_plane::{ControlPlane, DEBIAN};
use e2e::kstatus::Kstatus;
use e2e::roles::eventually;
use serde_json::{Value, json};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);

const ASSIGNMENT: &str = "
apiVersion: shaper.amahdha.com/v1alpha1
kind: Assignment
metadata: {name: rack}
spec: {subjectSelectors: {matchLabels: {rack: a}}, profileSelectors: {os: debian}}
";

/// Waits until kstatus says this of the Assignment and, if given, of the Profile.
fn is(kstatus: &Kstatus, kubectl: &Kubectl, assignment: &str, profile: Option<&str>) -> Result<()> {
    let what = format!("the Assignment is {assignment} and the Profile {profile:?}");
    eventually(SOON, &what, || {
        let of = kstatus.of(kubectl)?;
        let is = of.get("Assignment rack").map(String::as_str) == Some(assignment)
            && of.get("Profile debian").map(String::as_str) == profile;
        Ok(is.then_some(()))
    })
}

fn conditions(kubectl: &Kubectl, object: &str) -> Result<Vec<(String, String)>> {
    let object = kubectl.json(["get", object])?;
    let conditions = object["status"]["conditions"].as_array();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut all: Vec<_> = conditions
        .into_iter()
        .flatten()
        .map(|condition| (text(&condition["type"]), text(&condition["status"])))
        .collect();
    all.sort();
    Ok(all)
}

#[test]
fn tools_wait_until_an_object_is_ready_and_no_longer_for_one_that_is_invalid() -> Result<()> {
    let kstatus = Kstatus::find()?;
    let plane = ControlPlane::start()?;
    let kubectl = &plane.kubectl;
    kubectl.apply(ASSIGNMENT)?;
    is(&kstatus, kubectl, "InProgress", None)?;
    let pending = ["Ready", "Reconciling"].map(|kind| {
        let status = if kind == "Ready" { "Unknown" } else { "True" };
        (kind.to_owned(), status.to_owned())
    });
    ensure!(conditions(kubectl, "assignment/rack")? == pending);

    let controller = plane.start_controller()?;
    eventually(SOON, "no Profile is found", || {
        let all = conditions(kubectl, "assignment/rack")?;
        Ok(all
            .contains(&("ProfileFound".to_owned(), "False".to_owned()))
            .then_some(()))
    })?;
    is(&kstatus, kubectl, "InProgress", None)?;
    kubectl.apply(DEBIAN)?;
    for object in ["assignment/rack", "profile/debian"] {
        kubectl.run(["wait", "--for=condition=Ready", "--timeout=20s", object])?;
    }
    is(&kstatus, kubectl, "Current", Some("Current"))?;

    // Another controller's condition stays.
    let foreign = json!({
        "type": "Audited", "status": "True", "reason": "Seen", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    });
    let patch = json!([{ "op": "add", "path": "/status/conditions/-", "value": foreign }]);
    kubectl.run([
        "patch",
        "profile/debian",
        "--subresource=status",
        "--type=json",
        "-p",
        &patch.to_string(),
    ])?;
    kubectl.apply(&DEBIAN.replace("{{ config }}", "{{ confg }}"))?;
    is(&kstatus, kubectl, "Current", Some("Failed"))?;
    ensure!(
        conditions(kubectl, "profile/debian")?.contains(&("Audited".to_owned(), "True".to_owned()))
    );

    // What changed while no controller runs is not described by its status.
    kubectl.apply(DEBIAN)?;
    is(&kstatus, kubectl, "Current", Some("Current"))?;
    controller.stop()?;
    kubectl.apply(&DEBIAN.replace("config: x", "config: z"))?;
    is(&kstatus, kubectl, "Current", Some("InProgress"))
}
