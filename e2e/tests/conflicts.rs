//! Many names for machines in one Assignment, and several Assignments for one machine, in two
//! namespaces or two clusters.

use anyhow::{Context, Result, ensure};
use e2e::certificates::Leaf;
use e2e::cluster::Kubectl;
use e2e::http::Response;
use e2e::manifests::{assignment, profile, says_its_name};
use e2e::roles::{Role, eventually};
use e2e::site::{SOON, Site};
use serde_json::{Value, json};
use std::time::Duration;
use tempfile::TempDir;

const UUID: &str = "47c6da67-7477-4970-aa03-84e48ff4f6ad";

/// What a machine gets: the name of the Profile, or the status.
fn gets(answer: &Response) -> String {
    let name = answer
        .body
        .split("BOOTED-")
        .nth(1)
        .and_then(|rest| rest.split_whitespace().next());
    name.filter(|_| answer.status == 200)
        .map_or_else(|| answer.status.to_string(), str::to_owned)
}

fn boots(replica: &Role, query: &str, what: &str) -> Result<()> {
    eventually(SOON, &format!("{query} gets {what}"), || {
        Ok((gets(&replica.get(&format!("/ipxe?{query}"))?) == what).then_some(()))
    })
}

/// Waits until the condition `Conflicted` has a status, and returns its message.
fn conflicted(kubectl: &Kubectl, name: &str, status: &str) -> Result<String> {
    eventually(SOON, &format!("Conflicted={status} of {name}"), || {
        let object = kubectl.json(["get", &format!("assignment/{name}")])?;
        let conditions = object["status"]["conditions"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let found = conditions
            .iter()
            .find(|condition| condition["type"] == "Conflicted" && condition["status"] == status);
        Ok(found.map(|condition| condition["message"].as_str().unwrap_or_default().to_owned()))
    })
}

fn explained(replica: &Role) -> Result<Value> {
    Ok(serde_json::from_str(
        &replica.admin(&format!("/explain?uuid={UUID}"))?.body,
    )?)
}

/// Creates an Assignment of a machine, late enough to be younger than the one before.
fn claim(kubectl: &Kubectl, name: &str, profile: &str) -> Result<()> {
    std::thread::sleep(Duration::from_millis(1100));
    kubectl.apply(
        &[
            says_its_name(profile),
            assignment(name, &format!("uuids: [{UUID}]"), profile),
        ]
        .join("---\n"),
    )?;
    Ok(())
}

#[test]
fn each_of_a_thousand_machines_of_one_assignment_gets_its_profile() -> Result<()> {
    let site = Site::start(1, 1)?;
    let uuid = |number: u32| format!("47c6da67-7477-4970-aa03-{number:012x}");
    let all = (0..1000).map(uuid).collect::<Vec<_>>().join(", ");
    let manifests = [
        says_its_name("many"),
        assignment("many", &format!("uuids: [{all}]"), "many"),
    ];
    site.kubectl.apply(&manifests.join("---\n"))?;
    for number in [0, 1, 500, 998, 999] {
        boots(&site.replicas[0], &format!("uuid={}", uuid(number)), "many")?;
    }
    assert_eq!(
        site.replicas[0]
            .get(&format!("/ipxe?uuid={}", uuid(1000)))?
            .status,
        404
    );
    let table = site.kubectl.run(["get", "assignment", "many"])?;
    ensure!(
        table.lines().all(|line| line.len() < 200),
        "kubectl get stays readable: {table}"
    );
    // One of them gets its own Assignment, and the rest stays.
    site.kubectl.apply(&assignment(
        "many",
        &format!("uuids: [{}]", all.replace(&uuid(500), &uuid(1000))),
        "many",
    ))?;
    boots(&site.replicas[0], &format!("uuid={}", uuid(1000)), "many")?;
    boots(&site.replicas[0], &format!("uuid={}", uuid(500)), "404")?;
    boots(&site.replicas[0], &format!("uuid={}", uuid(501)), "many")
}

#[test]
fn the_older_of_two_assignments_in_two_namespaces_wins_and_both_report_it() -> Result<()> {
    let site = Site::start(1, 1)?;
    let replica = &site.replicas[0];
    for namespace in ["alpha", "beta"] {
        site.cluster.kubectl(["create", "namespace", namespace])?;
    }
    // By name, the younger one would go first.
    let [alpha, beta] =
        ["alpha", "beta"].map(|namespace| site.cluster.admin().in_namespace(namespace));
    claim(&beta, "mine", "older")?;
    boots(replica, &format!("uuid={UUID}"), "older")?;
    claim(&alpha, "mine", "younger")?;
    for (kubectl, other) in [(&alpha, "beta/mine"), (&beta, "alpha/mine")] {
        let sentence = conflicted(kubectl, "mine", "True")?;
        ensure!(
            sentence.contains(other) && sentence.contains("only age or name decides"),
            "{sentence}"
        );
    }
    boots(replica, &format!("uuid={UUID}"), "older")?;
    let why = explained(replica)?;
    let [alphas, betas] =
        ["alpha", "beta"].map(|namespace| json!({ "namespace": namespace, "name": "mine" }));
    assert_eq!(
        (&why["outcome"]["assignment"], &why["outcome"]["conflict"]),
        (&betas, &json!(true)),
        "{why}"
    );
    let lost = why["candidates"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|one| one["assignment"] == alphas)
        .context("it is listed")?;
    assert_eq!(lost["verdict"], "lost", "{why}");
    // A Profile of the other namespace is never served.
    beta.run(["delete", "profile/older"])?;
    boots(replica, &format!("uuid={UUID}"), "404")?;
    beta.run(["delete", "assignment/mine"])?;
    boots(replica, &format!("uuid={UUID}"), "younger")?;
    conflicted(&alpha, "mine", "False")?;
    Ok(())
}

/// Two clusters, a replica that follows both, and its state directory.
fn two_clusters() -> Result<(Site, Site, Role, TempDir)> {
    let (mut east, west) = (Site::start(1, 0)?, Site::start(1, 0)?);
    // Both trust the authority of the west: a replica has one identity.
    let leaf = west
        .certificates
        .authority
        .issue(&Leaf::peer("shaper-controller").dns("localhost"))?;
    east.certificates
        .controller
        .write(&leaf, &west.certificates.authority.pem())?;
    let state = tempfile::tempdir()?;
    let replica = Role::api([], west.certificates.api.path(), state.path())?
        .args([
            "--feed",
            &format!("east={}", east.controllers[0].feed_url()?),
        ])
        .args([
            "--feed",
            &format!("west={}", west.controllers[0].feed_url()?),
        ])
        .start_ready()?;
    Ok((east, west, replica, state))
}

#[test]
fn the_older_of_two_assignments_in_two_clusters_wins_and_the_replica_reports_it() -> Result<()> {
    let (east, west, replica, _state) = two_clusters()?;
    for site in [&east, &west] {
        site.cluster.kubectl(["create", "namespace", "racks"])?;
    }
    let [eastern, western] = [&east, &west].map(|site| site.cluster.admin().in_namespace("racks"));
    // By the name of the cluster, the younger one would go first.
    claim(&western, "mine", "western")?;
    boots(&replica, &format!("uuid={UUID}"), "western")?;
    ensure!(
        replica.metric("shaper_partition_conflicts")? < 0.5,
        "nothing is contested yet"
    );
    claim(&eastern, "mine", "eastern")?;
    eventually(SOON, "the replica counts both", || {
        Ok((replica.metric("shaper_partition_conflicts")? > 1.5).then_some(()))
    })?;
    boots(&replica, &format!("uuid={UUID}"), "western")?;
    let why = explained(&replica)?;
    let westerns = json!({ "partition": "west", "namespace": "racks", "name": "mine" });
    assert_eq!(
        (&why["outcome"]["assignment"], &why["outcome"]["conflict"]),
        (&westerns, &json!(true)),
        "{why}"
    );
    let verbose = replica.admin("/readyz?verbose")?;
    ensure!(verbose.status == 200, "{verbose:?}");
    let line = verbose
        .body
        .lines()
        .find(|line| line.contains("only age or name decides"))
        .context("a line of /readyz?verbose")?;
    ensure!(
        line.contains("east:racks/mine") && line.contains("west:racks/mine"),
        "{line}"
    );
    replica
        .log()
        .must_say("Assignments of different partitions match the same machines")?;
    // Neither controller knows of the other, so no condition reports it.
    for kubectl in [&eastern, &western] {
        conflicted(kubectl, "mine", "False")?;
    }
    // The winner's cluster is away, and it still wins.
    west.controllers[0].signal("KILL")?;
    boots(&replica, &format!("uuid={UUID}"), "western")?;
    eastern.run(["delete", "assignment/mine"])?;
    eventually(SOON, "nothing is contested any more", || {
        Ok((replica.metric("shaper_partition_conflicts")? < 0.5).then_some(()))
    })?;
    boots(&replica, &format!("uuid={UUID}"), "western")?;
    Ok(())
}

/// A Profile with one config, whose script links to it, and the Assignment of a machine.
fn links_to(name: &str, uuid: &str) -> String {
    let profile = profile(name, "#!ipxe\necho {{ config }}\n")
        + &format!("  additionalConfig: {{config: text of {name}}}\n");
    [profile, assignment(name, &format!("uuids: [{uuid}]"), name)].join("---\n")
}

/// Waits until the config of a Profile has an id that `is` holds for.
fn config_id(kubectl: &Kubectl, name: &str, is: impl Fn(&str) -> bool) -> Result<String> {
    eventually(
        SOON,
        &format!("the config of {name} has another id"),
        || {
            let object = kubectl.json(["get", &format!("profile/{name}")])?;
            let id = object["status"]["additionalConfig"]["config"].as_str();
            Ok(id.filter(|id| is(id)).map(str::to_owned))
        },
    )
}

/// Copies a config's id into the status of another Profile, with the field manager that a backup of
/// the status has.
fn copy_id(kubectl: &Kubectl, name: &str, id: &str) -> Result<()> {
    let patch = json!({ "status": { "additionalConfig": { "config": id } } }).to_string();
    kubectl.run([
        "patch",
        "profile",
        name,
        "--subresource=status",
        "--field-manager=shaper-controller",
        "--type=merge",
        "-p",
        &patch,
    ])?;
    Ok(())
}

#[test]
fn a_copied_config_id_never_serves_the_text_of_another_profile() -> Result<()> {
    let (east, west, replica, _state) = two_clusters()?;
    // The copy is in a Profile that is older than the owner.
    let western = &west.kubectl;
    western.apply(&links_to("older", "00000000-0000-4000-8000-000000000001"))?;
    config_id(western, "older", |_| true)?;
    std::thread::sleep(Duration::from_millis(1100));
    western.apply(&links_to("owner", UUID))?;
    let id = config_id(western, "owner", |_| true)?;
    let target = format!("/config/{id}?uuid={UUID}");
    let serves = |text: &str| {
        eventually(SOON, &format!("the link leads to {text}"), || {
            let answer = replica.get(&target)?;
            ensure!(!answer.body.contains("text of older"), "{answer:?}");
            ensure!(!answer.body.contains("text of eastern"), "{answer:?}");
            Ok(answer.body.contains(text).then_some(()))
        })
    };
    serves("text of owner")?;
    copy_id(western, "older", &id)?;
    config_id(western, "older", |now| now != id)?;
    serves("text of owner")?;
    assert_eq!(config_id(western, "owner", |_| true)?, id);
    eventually(SOON, "an event tells of the copy", || {
        let events = western.run(["get", "events", "-o", "wide"])?;
        Ok(
            (events.contains("DuplicateConfigId") && events.contains("config of Profile"))
                .then_some(()),
        )
    })?;
    ensure!(west.controllers[0].metric("shaper_config_ids_replaced_total")? > 0.5);

    // No controller sees the copy in the other cluster.
    let eastern = &east.kubectl;
    eastern.apply(&links_to("eastern", "00000000-0000-4000-8000-000000000002"))?;
    config_id(eastern, "eastern", |_| true)?;
    copy_id(eastern, "eastern", &id)?;
    serves("have the same id, so machines wait")?;
    for target in [&target, &format!("/ipxe?uuid={UUID}")] {
        let answer = replica.get(target)?;
        ensure!(answer.status == 503, "{answer:?}");
    }
    ensure!(replica.metric("shaper_duplicate_config_ids")? > 0.5);
    let verbose = replica.admin("/readyz?verbose")?.body;
    ensure!(
        verbose.contains("config config of Profile west:"),
        "{verbose}"
    );
    ensure!(!replica.log().text().contains(&id), "a whole id was logged");
    // As the runbook says.
    let profile = eastern.run(["get", "profile", "eastern", "-o", "yaml"])?;
    eastern
        .answer(["replace", "--force", "-f", "-"], &profile)?
        .into_result()?;
    config_id(eastern, "eastern", |now| now != id)?;
    serves("text of owner")
}
