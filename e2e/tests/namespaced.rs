//! A controller that may read only some namespaces, with the roles of `examples/namespaced`.

use anyhow::{Context, Result, ensure};
use e2e::cluster::{Cluster, Kubectl, NAMESPACE};
use e2e::manifests::{assignment, examples, says_its_name};
use e2e::roles::{FeedCertificates, Role, eventually};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);

/// A cluster with shaper's CRDs and these namespaces, and the example's roles in the first of them.
fn cluster(namespaces: &[&str], granted: usize) -> Result<Cluster> {
    let cluster = Cluster::bare()?;
    cluster.kubectl([
        "apply",
        "--server-side",
        "-k",
        concat!(env!("CARGO_MANIFEST_DIR"), "/../config/crd"),
    ])?;
    cluster.kubectl([
        "wait",
        "--for=condition=Established",
        "--timeout=60s",
        "crd",
        "--all",
    ])?;
    let roles = std::fs::read_to_string(examples("namespaced").join("rbac.yaml"))?;
    for (number, namespace) in namespaces.iter().enumerate() {
        cluster.kubectl(["create", "namespace", namespace])?;
        if number < granted {
            cluster
                .admin()
                .apply(&roles.replace("namespace: racks", &format!("namespace: {namespace}")))?;
        }
    }
    Ok(cluster)
}

fn is_accepted(kubectl: &Kubectl, object: &str) -> Result<bool> {
    let object = kubectl.json(["get", object])?;
    let conditions = object["status"]["conditions"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    Ok(conditions
        .iter()
        .any(|condition| condition["type"] == "Accepted" && condition["status"] == "True"))
}

#[test]
fn a_namespaced_controller_needs_no_cluster_role_and_serves_no_other_namespace() -> Result<()> {
    let namespaces = ["racks", "lab", "elsewhere"];
    let cluster = cluster(&namespaces, 2)?;
    let roles = cluster.kubectl(["get", "clusterroles,clusterrolebindings", "-o", "name"])?;
    ensure!(!roles.contains("shaper"), "{roles}");
    let certificates = FeedCertificates::new()?;
    let builder = Role::controller(&cluster, certificates.controller.path())?;
    let controller = builder
        .clone()
        .args(["--namespace", "racks", "--namespace", "lab"])
        .start_ready()?;
    let state = tempfile::tempdir()?;
    let replica = Role::api([&controller], certificates.api.path(), state.path())?.start_ready()?;
    for namespace in namespaces {
        let own = [
            says_its_name(namespace),
            assignment(
                "machine",
                &format!("serialNumbers: [{namespace}]"),
                namespace,
            ),
        ];
        cluster
            .admin()
            .in_namespace(namespace)
            .apply(&own.join("---\n"))?;
    }
    for namespace in &namespaces[..2] {
        eventually(
            SOON,
            &format!("what is in {namespace} is served and has its conditions"),
            || {
                let answer = replica.get(&format!("/ipxe?serial={namespace}"))?;
                let kubectl = cluster.admin().in_namespace(namespace);
                let is_served =
                    answer.status == 200 && answer.body.contains(&format!("BOOTED-{namespace}"));
                Ok((is_served
                    && is_accepted(&kubectl, "assignment/machine")?
                    && is_accepted(&kubectl, &format!("profile/{namespace}"))?)
                .then_some(()))
            },
        )?;
    }
    // An event is written into the namespace of its object.
    cluster
        .admin()
        .in_namespace("lab")
        .run(["delete", "profile/lab"])?;
    eventually(SOON, "an event tells that the Profile is gone", || {
        Ok(cluster
            .admin()
            .in_namespace("lab")
            .run(["get", "events"])?
            .contains("NoProfile")
            .then_some(()))
    })?;
    ensure!(
        controller.metric("shaper_lease_held")? > 0.0,
        "it holds the Lease"
    );

    let other = cluster
        .admin()
        .in_namespace("elsewhere")
        .json(["get", "assignment/machine"])?;
    ensure!(other["status"]["observedGeneration"].is_null(), "{other}");
    assert_eq!(replica.get("/ipxe?serial=elsewhere")?.status, 404);
    let catalog = replica.admin("/catalog")?.body;
    ensure!(
        catalog.contains("racks") && !catalog.contains("elsewhere"),
        "{catalog}"
    );
    Ok(())
}

#[test]
fn a_controller_without_permission_names_it_and_is_not_ready() -> Result<()> {
    let cluster = cluster(&["racks", "elsewhere"], 1)?;
    let certificates = FeedCertificates::new()?;
    for (namespaces, which) in [
        (&[][..], "at the cluster scope"),
        (
            &["--namespace", "racks,elsewhere"],
            "in the namespace \"elsewhere\"",
        ),
    ] {
        let controller = Role::controller(&cluster, certificates.controller.path())?
            .args(namespaces.iter().copied())
            .start()?;
        let said = eventually(SOON, "it says what it may not", || {
            let answer = controller.admin("/readyz?verbose")?;
            Ok(
                (answer.status == 503 && answer.body.contains("is forbidden"))
                    .then_some(answer.body),
            )
        })?;
        let user = format!("system:serviceaccount:{NAMESPACE}:shaper-controller");
        let line = said
            .lines()
            .find(|line| line.contains("is forbidden") && line.contains(which))
            .with_context(|| said.clone())?;
        ensure!(
            line.contains(&user) && line.contains("bind the role"),
            "{said}"
        );
    }
    Ok(())
}
