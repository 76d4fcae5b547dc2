//! A controller with many objects on a real API server.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::cluster::{Cluster, Kubectl, NAMESPACE};
use e2e::control_plane::{ControlPlane, DEBIAN};
use e2e::roles::{Role, eventually};

/// Gives the controller's user one seat, without a queue. The other level takes nearly all of the
/// server's seats, and nobody uses it.
const ONE_SEAT: &str = "
apiVersion: flowcontrol.apiserver.k8s.io/v1
kind: PriorityLevelConfiguration
metadata: {name: one-seat}
spec:
  type: Limited
  limited: {nominalConcurrencyShares: 1, lendablePercent: 0, borrowingLimitPercent: 0, limitResponse: {type: Reject}}
---
apiVersion: flowcontrol.apiserver.k8s.io/v1
kind: PriorityLevelConfiguration
metadata: {name: nearly-all}
spec:
  type: Limited
  limited: {nominalConcurrencyShares: 100000, lendablePercent: 0, limitResponse: {type: Reject}}
---
apiVersion: flowcontrol.apiserver.k8s.io/v1
kind: FlowSchema
metadata: {name: one-seat}
spec:
  matchingPrecedence: 100
  priorityLevelConfiguration: {name: one-seat}
  rules:
    - subjects: [{kind: ServiceAccount, serviceAccount: {namespace: NAMESPACE, name: shaper-controller}}]
      resourceRules: [{apiGroups: [shaper.amahdha.com], resources: ['*'], verbs: [patch], namespaces: ['*']}]
";

fn assignments(numbers: std::ops::Range<usize>) -> String {
    let assignment = |number| {
        format!(
            "---\napiVersion: shaper.amahdha.com/v1alpha1\nkind: Assignment\nmetadata: {{name: a{number}}}\n\
             spec: {{subjectSelectors: {{serialNumbers: [s{number}]}}, profileSelectors: {{os: debian}}}}\n"
        )
    };
    numbers.map(assignment).collect()
}

/// Creates `count` Assignments with some kubectls at a time.
fn create(kubectl: &Kubectl, count: usize) -> Result<()> {
    const KUBECTLS: usize = 4;
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..KUBECTLS)
            .map(|at| {
                let some = assignments(at * count / KUBECTLS..(at + 1) * count / KUBECTLS);
                scope.spawn(move || kubectl.apply(&some))
            })
            .collect();
        for kubectl in running {
            kubectl.join().expect("kubectl runs")?;
        }
        Ok(())
    })
}

/// Returns how many status writes to Assignments the API server has answered, by status code.
fn writes(cluster: &Cluster) -> Result<BTreeMap<String, usize>> {
    let mut writes = BTreeMap::new();
    for line in cluster.kubectl(["get", "--raw", "/metrics"])?.lines() {
        let is_write = line.starts_with("apiserver_request_total{")
            && line.contains("resource=\"assignments\"")
            && line.contains("subresource=\"status\"");
        if !is_write {
            continue;
        }
        let (_, rest) = line.split_once("code=\"").context("a code")?;
        let (code, _) = rest.split_once('"').context("the end of a code")?;
        let (_, count) = line.rsplit_once(' ').context("a count")?;
        *writes.entry(code.to_owned()).or_default() += count.parse::<usize>()?;
    }
    Ok(writes)
}

fn wait_until_written(controller: &Role, count: usize) -> Result<()> {
    let done = "shaper_status_writes_total{outcome=\"done\"}";
    let all = format!("{count} statuses are written");
    eventually(Duration::from_mins(3), &all, || {
        Ok((controller.metric(done).unwrap_or(0.0) >= count as f64).then_some(()))
    })?;
    // Time for more writes, if there are any.
    std::thread::sleep(Duration::from_secs(4));
    Ok(())
}

#[test]
fn two_thousand_assignments_cause_one_write_each_and_no_event() -> Result<()> {
    const COUNT: usize = 2_000;
    let plane = ControlPlane::start()?;
    let kubectl = &plane.kubectl;
    let controller = plane.start_controller()?;
    kubectl.apply(DEBIAN)?;
    create(kubectl, COUNT)?;
    wait_until_written(&controller, COUNT + 1)?;
    assert_eq!(
        writes(&plane.cluster)?,
        BTreeMap::from([("200".to_owned(), COUNT)])
    );
    let events = kubectl.json(["get", "events.events.k8s.io"])?;
    assert_eq!(
        events["items"].as_array().map(Vec::len),
        Some(0),
        "{events}"
    );
    Ok(())
}

#[test]
fn a_controller_with_one_seat_writes_everything_once() -> Result<()> {
    const COUNT: usize = 400;
    let plane = ControlPlane::start()?;
    let ControlPlane {
        cluster, kubectl, ..
    } = &plane;
    cluster
        .admin()
        .apply(&ONE_SEAT.replace("NAMESPACE", NAMESPACE))?;
    kubectl.apply(DEBIAN)?;
    create(kubectl, COUNT)?;
    let controller = plane.start_controller()?;
    wait_until_written(&controller, COUNT + 1)?;
    let writes = writes(cluster)?;
    println!("answers of the API server: {writes:?}");
    assert_eq!(writes["200"], COUNT);
    ensure!(!writes.contains_key("409"), "{writes:?}");
    ensure!(
        writes.contains_key("429"),
        "no write was rejected: {writes:?}"
    );
    Ok(())
}

#[test]
fn a_namespace_that_does_not_terminate_affects_no_other() -> Result<()> {
    const COUNT: usize = 60;
    let plane = ControlPlane::start()?;
    let cluster = &plane.cluster;
    let controller = plane.start_controller()?;
    let (going, other) = (cluster.namespace()?, cluster.namespace()?);
    let (in_going, in_other) = (
        cluster.admin().in_namespace(&going),
        cluster.admin().in_namespace(&other),
    );
    in_going.apply(DEBIAN)?;
    in_going.apply(&assignments(0..COUNT))?;
    wait_until_written(&controller, COUNT + 1)?;
    // Somebody's finalizer keeps the Assignments. The Profile goes, which their status would tell,
    // and no event can be recorded in a namespace that is terminating.
    let finalizer = r#"{"metadata": {"finalizers": ["example.org/keep"]}}"#;
    let all = in_going.run(["get", "assignments", "-o", "name"])?;
    for name in all.lines() {
        in_going.run(["patch", name, "--type=merge", "-p", finalizer])?;
    }
    cluster.kubectl(["delete", "namespace", &going, "--wait=false"])?;
    // What the namespace controller does, which the cluster for tests lacks.
    in_going.run(["delete", "profiles,assignments", "--all", "--wait=false"])?;
    in_other.apply(DEBIAN)?;
    in_other.apply(&assignments(COUNT..COUNT + 1))?;
    in_other.run([
        "wait",
        "assignment/a60",
        "--for=condition=Ready",
        "--timeout=30s",
    ])?;
    eventually(
        Duration::from_mins(1),
        "the Assignments say that they have no Profile",
        || {
            let without = in_going.run([
            "get",
            "assignments",
            "-o",
            "jsonpath={range .items[*]}{.status.conditions[?(@.type==\"ProfileFound\")].status}{\"\\n\"}{end}",
        ])?;
            Ok(
                (without.lines().filter(|status| *status == "False").count() == COUNT)
                    .then_some(()),
            )
        },
    )?;
    std::thread::sleep(Duration::from_secs(2));
    let log = controller.log().text();
    let told = log.matches("event not recorded").count();
    ensure!(told == 1, "{told} lines about events");
    for name in all.lines() {
        in_going.run([
            "patch",
            name,
            "--type=merge",
            "-p",
            r#"{"metadata": {"finalizers": null}}"#,
        ])?;
    }
    eventually(
        Duration::from_mins(1),
        "the controller forgets them",
        || {
            let objects = controller.metric("shaper_objects{kind=\"Assignment\"}")?;
            Ok((objects < 1.5).then_some(()))
        },
    )
}
