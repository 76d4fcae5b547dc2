//! Machines: followed where the API server permits it, with a status, and with the variables that
//! Profiles need.

use anyhow::{Context, Result, ensure};
use fake_apiserver::{FakeApiServer, Fault, InjectedFault, Verb, When};
use serde_json::{Value, json};

use crate::running::{Running, assignment, eventually, profile, server};

fn machine(name: &str, serial: &str) -> Value {
    json!({
        "apiVersion": "shaper.amahdha.com/v1alpha1", "kind": "Machine",
        "metadata": { "name": name },
        "spec": { "serialNumber": serial },
    })
}

/// A Profile whose script needs the variable `hostname`.
fn variable_profile(name: &str) -> Value {
    let mut profile = profile(name);
    profile["spec"] = json!({ "ipxe": "#!ipxe\necho {{ vars.hostname }}\n" });
    profile
}

/// Makes the API server refuse to list and watch Machines.
fn refuse(server: &FakeApiServer, status: u16) -> InjectedFault {
    server.inject(
        When::verbs([Verb::List, Verb::Watch]).of("machines"),
        Fault::Status(status, None),
    )
}

fn status(server: &FakeApiServer, name: &str) -> Value {
    server.object("machines", "", name).unwrap_or_default()["status"].clone()
}

/// A condition of a status as `True Reason: message`; empty if it is absent.
fn condition(status: &Value, kind: &str) -> String {
    let conditions = status["conditions"].as_array();
    let mut found = conditions.into_iter().flatten();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    found
        .find(|condition| condition["type"] == kind)
        .map(|it| {
            let [status, reason, message] =
                ["status", "reason", "message"].map(|field| text(&it[field]));
            format!("{status} {reason}: {message}")
        })
        .unwrap_or_default()
}

/// The condition `VariablesComplete` of an Assignment.
fn variables(server: &FakeApiServer, assignment: &str) -> String {
    let object = server.object("assignments", "default", assignment);
    condition(&object.unwrap_or_default()["status"], "VariablesComplete")
}

impl Running {
    fn machines(&self) -> usize {
        self.publisher.catalog().load().machine_count()
    }
}

#[tokio::test]
async fn machines_are_published_and_counted() -> Result<()> {
    let server = server(0).await;
    server.put(machine("m1", "s1"));
    let running = Running::start(&server).await?.ready().await?;
    assert_eq!(running.machines(), 1);
    server.put(machine("m2", "s2"));
    eventually("the new one is published", || running.machines() == 2).await?;
    let metrics = running.metrics();
    ensure!(
        metrics.contains("objects{kind=\"Machine\"} 2\n")
            && metrics.contains("machines_followed 1\n"),
        "{metrics}"
    );
    server.delete("machines", "", "m1");
    eventually("the deleted one is removed", || running.machines() == 1).await?;
    running.stop().await
}

#[tokio::test]
async fn without_the_right_to_list_machines_all_else_works_and_they_are_followed_once_it_is_given()
-> Result<()> {
    for streams in [true, false] {
        let server = server(3).await;
        server.set_watch_list(streams);
        server.put(machine("m1", "s1"));
        server.put(profile("p"));
        let refusal = refuse(&server, 403);
        let running = Running::start(&server).await?.ready().await?;
        assert_eq!((running.assignments(), running.machines()), (3, 0));
        eventually("the config has an id", || running.config_id("p").is_some()).await?;
        let remarks = running.handle.remarks();
        let [remark] = &*remarks else {
            anyhow::bail!("one remark is expected: {remarks:?}");
        };
        ensure!(
            remark.starts_with("Machines are not followed: "),
            "{remark}"
        );
        ensure!(
            remark.contains(
                "the rule {apiGroups: [shaper.amahdha.com], resources: [machines], verbs: [get, list, watch]}"
            ),
            "{remark}"
        );
        let metrics = running.metrics();
        ensure!(
            metrics.contains("machines_followed 0\n") && metrics.contains("api_connected 1\n"),
            "{metrics}"
        );
        drop(refusal);
        eventually("the Machine is published", || running.machines() == 1).await?;
        eventually("no remark is left", || running.handle.remarks().is_empty()).await?;
        ensure!(running.metrics().contains("machines_followed 1\n"));
        running.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_controller_starts_without_the_definition_of_machines() -> Result<()> {
    let server = server(1).await;
    let missing = refuse(&server, 404);
    let running = Running::start(&server).await?.ready().await?;
    let remarks = running.handle.remarks().join("\n");
    ensure!(
        remarks
            == "Machines are not followed: the API server does not know the resource; apply config/crd first",
        "{remarks}"
    );
    drop(missing);
    server.put(machine("m1", "s1"));
    eventually("the Machine is published", || running.machines() == 1).await?;
    running.stop().await
}

#[tokio::test]
async fn a_refusal_from_a_starting_server_does_not_start_the_controller_without_machines()
-> Result<()> {
    let server = server(3).await;
    server.put(machine("m1", "s1"));
    // It refuses everything until its roles are loaded.
    let starting = server.inject(
        When::verbs([Verb::List, Verb::Watch]),
        Fault::Status(403, None),
    );
    let running = Running::start(&server).await?;
    eventually("both refusals are told", || {
        let remarks = running.handle.remarks().join("\n");
        remarks.contains("Assignments can't be watched") && remarks.contains("not followed")
    })
    .await?;
    drop(starting);
    let running = running.ready().await?;
    assert_eq!((running.assignments(), running.machines()), (3, 1));
    running.stop().await
}

#[tokio::test]
async fn known_machines_stay_when_the_right_to_list_them_is_lost() -> Result<()> {
    let server = server(1).await;
    server.put(machine("m1", "s1"));
    let running = Running::start(&server).await?.ready().await?;
    let refusal = refuse(&server, 403);
    server.compact();
    let gone = server.inject(When::watches().of("machines").times(1), Fault::Gone);
    eventually("the refusal is told", || {
        running
            .handle
            .remarks()
            .join("\n")
            .contains("Machines are not followed")
    })
    .await?;
    assert_eq!(running.machines(), 1);
    server.put(assignment("a0", 7));
    eventually("Assignments are followed", || {
        running.priority("a0") == Some(7)
    })
    .await?;
    drop((gone, refusal));
    server.put(machine("m2", "s2"));
    eventually("Machines are followed again", || running.machines() == 2).await?;
    running.stop().await
}

#[tokio::test]
async fn a_mass_deletion_of_machines_is_held_until_an_operator_confirms_it() -> Result<()> {
    let server = server(0).await;
    (0..100).for_each(|n| drop(server.put(machine(&format!("m{n}"), &format!("s{n}")))));
    let running = Running::start(&server).await?.ready().await?;
    assert_eq!(running.machines(), 100);
    let empty = server.inject(When::watches().of("machines"), Fault::TruncateList(0));
    server.compact();
    let gone = server.inject(When::watches().of("machines").times(1), Fault::Gone);
    eventually("the guard holds the Machines", || {
        let remarks = running.handle.remarks().join("\n");
        remarks.contains("the guard keeps 100 of 100 Machines")
    })
    .await?;
    assert_eq!(running.machines(), 100);
    assert_eq!(running.handle.confirm(), 100);
    eventually("they are removed", || running.machines() == 0).await?;
    drop((empty, gone));
    running.stop().await
}

#[tokio::test]
async fn machines_that_go_with_their_definition_are_held() -> Result<()> {
    let server = server(0).await;
    (0..100).for_each(|n| drop(server.put(machine(&format!("m{n}"), &format!("s{n}")))));
    let running = Running::start(&server).await?.ready().await?;
    server.set_terminating(true);
    for n in 0..100 {
        server.delete("machines", "", &format!("m{n}"));
    }
    eventually("the guard holds them", || {
        let remarks = running.handle.remarks().join("\n");
        remarks.contains("the guard keeps") && remarks.contains("Machines")
    })
    .await?;
    ensure!(running.machines() >= 50, "{}", running.machines());
    running.stop().await
}

#[tokio::test]
async fn the_status_of_a_machine_names_what_it_gets() -> Result<()> {
    let server = server(0).await;
    let running = Running::start(&server).await?.ready().await?;
    let mut rack = machine("m1", "7xk29q2");
    rack["spec"]["uuid"] = json!("47C6DA67-7477-4970-AA03-84E48FF4F6AD");
    rack["spec"]["macAddresses"] = json!(["52:54:00:00:00:01", "52:54:00:00:00:02"]);
    server.put(rack.clone());
    eventually("it is ready without an Assignment", || {
        condition(&status(&server, "m1"), "Ready").starts_with("True Ready: ")
    })
    .await?;
    let written = status(&server, "m1");
    assert_eq!(
        written["identities"],
        "uuid 47c6da67-7477-4970-aa03-84e48ff4f6ad, serial 7xk29q2, 2 MAC addresses"
    );
    ensure!(written["observedGeneration"] == 1, "{written}");
    ensure!(
        written["assignment"].is_null() && written["profile"].is_null(),
        "{written}"
    );
    for (kind, expected) in [
        ("Accepted", "True Accepted: "),
        ("Conflicted", "False NoConflict: "),
        ("Reconciling", "False Reconciled: "),
        ("Stalled", ""),
    ] {
        let said = condition(&written, kind);
        ensure!(
            said.starts_with(expected) && said.is_empty() == expected.is_empty(),
            "{kind}: {said}"
        );
    }
    server.put(assignment("7xk29q2", 0));
    server.put(profile("p"));
    eventually("Assignment and Profile are named", || {
        let now = status(&server, "m1");
        now["assignment"] == "default/7xk29q2" && now["profile"] == "default/p"
    })
    .await?;
    rack["spec"]["uuid"] = json!("no uuid");
    server.put(rack);
    eventually("an invalid Machine is stalled", || {
        let now = status(&server, "m1");
        condition(&now, "Accepted").starts_with("False InvalidField: ")
            && condition(&now, "Stalled").starts_with("True InvalidField: ")
            && now["observedGeneration"] == 2
    })
    .await?;
    running.stop().await
}

#[tokio::test]
async fn a_machine_whose_label_changes_gets_another_assignment_in_its_status() -> Result<()> {
    let server = server(0).await;
    server.put(profile("p"));
    for rack in ["r1", "r2"] {
        let mut by_rack = assignment(rack, 0);
        by_rack["spec"]["subjectSelectors"] = json!({ "matchLabels": { "rack": rack } });
        server.put(by_rack);
    }
    let running = Running::start(&server).await?.ready().await?;
    for rack in ["r1", "r2"] {
        let mut moved = machine("m1", "s1");
        moved["metadata"]["labels"] = json!({ "rack": rack });
        server.put(moved);
        eventually("the status follows the label", || {
            status(&server, "m1")["assignment"] == format!("default/{rack}")
        })
        .await?;
    }
    server.delete("assignments", "default", "r2");
    eventually("nothing is left for it", || {
        status(&server, "m1")["assignment"].is_null()
    })
    .await?;
    running.stop().await
}

#[tokio::test]
async fn two_machines_that_claim_one_identity_are_told_of_each_other() -> Result<()> {
    let server = server(0).await;
    let running = Running::start(&server).await?.ready().await?;
    server.put(machine("m1", "s1"));
    server.put(machine("m2", "s1"));
    let conflicted = |name: &str| condition(&status(&server, name), "Conflicted");
    eventually("both are conflicted", || {
        conflicted("m1").starts_with("True DuplicateIdentity: Machine m2 ")
            && conflicted("m2").starts_with("True DuplicateIdentity: Machine m1 ")
    })
    .await?;
    // Events about cluster-scoped objects are in the namespace `default`.
    let is_told = |name: &str| {
        server.objects("events").iter().any(|event| {
            event["metadata"]["namespace"] == "default"
                && event["reason"] == "DuplicateIdentity"
                && event["regarding"]["kind"] == "Machine"
                && event["regarding"]["name"] == name
                && event["regarding"]["namespace"].is_null()
        })
    };
    eventually("both have an event", || is_told("m1") && is_told("m2")).await?;
    server.put(machine("m2", "s2"));
    eventually("neither is conflicted", || {
        ["m1", "m2"]
            .into_iter()
            .all(|name| conflicted(name).starts_with("False NoConflict: "))
    })
    .await?;
    running.stop().await
}

#[tokio::test]
async fn an_assignment_says_which_machine_lacks_a_variable() -> Result<()> {
    let server = server(0).await;
    server.put(variable_profile("p"));
    server.put(assignment("s1", 0));
    let mut m1 = machine("m1", "s1");
    m1["spec"]["variables"] = json!({ "hostname": "web-1" });
    server.put(m1.clone());
    let running = Running::start(&server).await?.ready().await?;
    let is = |expected: &str| variables(&server, "s1").starts_with(expected);
    eventually("it is complete", || is("True Complete: ")).await?;
    server.put(machine("m1", "s1"));
    eventually("the variable is missing", || {
        is("False MissingVariables: Profile default/p with Assignment default/s1 and Machine m1: variable \"hostname\": line 2 of spec.ipxe ")
    })
    .await?;
    let object = server.object("assignments", "default", "s1");
    let ready = condition(&object.context("it is there")?["status"], "Ready");
    ensure!(
        ready.starts_with("True "),
        "Ready does not depend on it: {ready}"
    );
    eventually("there is an event", || {
        let events = server.objects("events");
        events
            .iter()
            .any(|event| event["reason"] == "MissingVariables")
    })
    .await?;
    server.put(m1);
    eventually("it is complete again", || is("True Complete: ")).await?;
    let mut with_schema = variable_profile("p");
    let schema = json!({ "properties": { "hostname": { "type": "string", "maxLength": 3 } } });
    with_schema["spec"]["variablesSchema"] = schema;
    server.put(with_schema);
    eventually("the schema refuses the value", || {
        is("False InvalidVariables: ")
    })
    .await?;
    server.put(profile("p"));
    eventually("the condition goes with the need", || {
        variables(&server, "s1").is_empty()
    })
    .await?;
    running.stop().await
}

#[tokio::test]
async fn an_assignment_without_machines_is_checked_for_a_machine_that_none_describes() -> Result<()>
{
    let server = server(0).await;
    server.put(variable_profile("p"));
    let mut default = assignment("default", 0);
    default["spec"]["subjectSelectors"] = json!({});
    server.put(default);
    server.put(assignment("s1", 0));
    let mut given = assignment("s2", 0);
    given["spec"]["variables"] = json!({ "hostname": "web-2" });
    server.put(given);
    let running = Running::start(&server).await?.ready().await?;
    let lacks = |name: &str| {
        let expected = format!(
            "False MissingVariables: Profile default/p with Assignment default/{name} and no Machine: "
        );
        variables(&server, name).starts_with(&expected)
    };
    let is_complete = |name: &str| variables(&server, name).starts_with("True Complete: ");
    eventually("two lack the variable", || {
        lacks("default") && lacks("s1") && is_complete("s2")
    })
    .await?;
    // The identity of s1 belongs to a Machine now, and another Machine gets the default.
    for (name, serial) in [("m1", "s1"), ("m2", "s9")] {
        let mut described = machine(name, serial);
        described["spec"]["variables"] = json!({ "hostname": name });
        server.put(described);
    }
    eventually("all are complete", || {
        ["default", "s1", "s2"].into_iter().all(is_complete)
    })
    .await?;
    server.delete("machines", "", "m1");
    eventually("the identity belongs to none again", || lacks("s1")).await?;
    ensure!(is_complete("default"));
    running.stop().await
}

#[tokio::test]
async fn many_machines_without_a_variable_are_counted() -> Result<()> {
    let server = server(0).await;
    server.put(variable_profile("p"));
    let mut default = assignment("default", 0);
    default["spec"]["subjectSelectors"] = json!({});
    server.put(default);
    for number in 0..200 {
        server.put(machine(&format!("m{number:03}"), &format!("s{number}")));
    }
    let running = Running::start(&server).await?.ready().await?;
    eventually("three are named, and the others counted", || {
        let said = variables(&server, "default");
        ["m000", "m001", "m002"]
            .iter()
            .all(|name| said.contains(&format!("Machine {name}: ")))
            && said.ends_with("; and 197 more Machines")
    })
    .await?;
    running.stop().await?;
    server.clear_calls();
    let next = Running::start(&server).await?.ready().await?;
    eventually("the controller holds the Lease", || {
        next.metrics().contains("lease_held 1")
    })
    .await?;
    server.put(machine("m003", "other"));
    eventually("the changed Machine has a status", || {
        status(&server, "m003")["identities"] == "serial other"
    })
    .await?;
    let writes = server.calls();
    let mut writes = writes.iter().filter(|call| call.verb == Verb::Patch);
    ensure!(
        writes.all(|call| call.plural == "machines"),
        "the Assignment's status was written again: {:?}",
        variables(&server, "default")
    );
    next.stop().await
}

#[tokio::test]
async fn a_controller_of_one_namespace_works_without_machines() -> Result<()> {
    let server = server(2).await;
    server.put(machine("m1", "s1"));
    let _refusal = refuse(&server, 403);
    let running = Running::start_in(&server, &["default"])
        .await?
        .ready()
        .await?;
    assert_eq!((running.assignments(), running.machines()), (2, 0));
    eventually("Assignments have a status", || {
        server
            .objects("assignments")
            .iter()
            .all(|object| object["status"]["conditions"].is_array())
    })
    .await?;
    running.stop().await
}
