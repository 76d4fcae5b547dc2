//! A controller against an API server that behaves in ways that real ones rarely do.

mod machines;
mod running;
mod writes;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use controller::ResponseTimeout;
use fake_apiserver::{FakeApiServer, Fault, Verb, When};
use serde_json::{Value, json};
use tokio::time::sleep;

use running::{Running, assignment, eventually, profile, server};

#[tokio::test]
async fn a_profile_is_served_with_its_written_ids() -> Result<()> {
    let server = server(0).await;
    let running = Running::start(&server).await?.ready().await?;
    server.put(profile("p"));
    eventually("the config has an id", || running.config_id("p").is_some()).await?;
    let written = server
        .object("profiles", "default", "p")
        .context("it is there")?;
    assert_eq!(
        written["status"]["additionalConfig"]["config"],
        running.config_id("p").context("an id")?.to_string()
    );
    running.stop().await
}

#[tokio::test]
async fn an_empty_list_is_held_until_an_operator_confirms_it() -> Result<()> {
    let server = server(100).await;
    let running = Running::start(&server).await?.ready().await?;
    assert_eq!(running.assignments(), 100);
    let empty = server.inject(When::lists().of("assignments"), Fault::TruncateList(0));
    let watches = server.inject(When::watches().of("assignments"), Fault::TruncateList(0));
    server.compact();
    let gone = server.inject(When::watches().of("assignments").times(1), Fault::Gone);
    eventually("the guard holds the objects", || {
        running
            .handle
            .remarks()
            .join("\n")
            .contains("the guard keeps 100 of 100 Assignments")
    })
    .await?;
    assert_eq!(running.assignments(), 100);
    assert!(
        running.metrics().contains("guard_holding 1\n")
            && running.metrics().contains("guard_held_objects 100\n")
    );
    assert_eq!(running.handle.confirm(), 100);
    eventually("the objects are removed", || running.assignments() == 0).await?;
    drop((empty, watches, gone));
    running.stop().await
}

#[tokio::test]
async fn objects_that_go_with_their_definition_are_held_and_others_are_removed() -> Result<()> {
    let delete_all = |server: &FakeApiServer| {
        for n in 0..100 {
            server.delete("assignments", "default", &format!("a{n}"));
        }
    };
    let server = server(100).await;
    let running = Running::start(&server).await?.ready().await?;
    server.set_terminating(true);
    delete_all(&server);
    eventually("the guard holds them", || {
        let remarks = running.handle.remarks().join("\n");
        remarks.contains("the guard keeps") && remarks.contains("Assignments")
    })
    .await?;
    ensure!(running.assignments() >= 50, "{}", running.assignments());
    ensure!(running.metrics().contains("guard_holding 1\n"));
    running.handle.confirm();
    eventually("they are removed", || running.assignments() == 0).await?;

    server.set_terminating(false);
    (0..100).for_each(|n| drop(server.put(assignment(&format!("a{n}"), 0))));
    eventually("they are there again", || running.assignments() == 100).await?;
    let start = tokio::time::Instant::now();
    delete_all(&server);
    eventually("they are removed", || running.assignments() == 0).await?;
    ensure!(start.elapsed() < Duration::from_secs(15));
    running.stop().await
}

#[tokio::test]
async fn a_few_objects_missing_from_a_list_are_removed() -> Result<()> {
    let server = server(100).await;
    let running = Running::start(&server).await?.ready().await?;
    let stalled = server.inject(When::watches().of("assignments"), Fault::StallWatch);
    for n in 0..20 {
        server.delete("assignments", "default", &format!("a{n}"));
    }
    server.put(assignment("new", 7));
    server.compact();
    drop(stalled);
    let gone = server.inject(When::watches().of("assignments").times(1), Fault::Gone);
    eventually("twenty objects are removed", || {
        running.assignments() == 81 && running.priority("new") == Some(7)
    })
    .await?;
    drop(gone);
    running.stop().await
}

#[tokio::test]
async fn endless_410s_are_met_with_fewer_and_fewer_listings() -> Result<()> {
    let server = server(10).await;
    let running = Running::start(&server).await?.ready().await?;
    server.clear_calls();
    let gone = server.inject(When::watches().of("assignments"), Fault::Gone);
    sleep(Duration::from_secs(8)).await;
    let listings = server
        .calls()
        .iter()
        .filter(|call| {
            matches!(call.verb, Verb::List | Verb::Watch) && call.plural == "assignments"
        })
        .count();
    ensure!(listings < 30, "{listings} in 8 seconds");
    assert_eq!(running.assignments(), 10, "what is known stays");
    drop(gone);
    server.put(assignment("a1", 5));
    eventually("the watch recovers", || running.priority("a1") == Some(5)).await?;
    running.stop().await
}

#[tokio::test]
async fn storms_of_429_and_500_are_waited_out() -> Result<()> {
    for fault in [
        Fault::Status(429, Some(1)),
        Fault::Status(500, None),
        Fault::InvalidEvent,
        Fault::CloseConnection,
    ] {
        let server = server(10).await;
        let storm = server.inject(When::any(), fault);
        let running = Running::start(&server).await?;
        sleep(Duration::from_secs(1)).await;
        // The garbage comes after the start of the watch.
        assert!(
            !running.handle.is_ready() || matches!(fault, Fault::InvalidEvent),
            "{fault:?}"
        );
        ensure!(
            !running.handle.remarks().is_empty() || matches!(fault, Fault::Status(429, _)),
            "{fault:?} is not told"
        );
        drop(storm);
        let running = running.ready().await?;
        assert_eq!(running.assignments(), 10, "{fault:?}");
        running.stop().await?;
    }
    Ok(())
}

/// The status of each of an object's conditions.
fn conditions(server: &FakeApiServer, plural: &str, name: &str) -> BTreeMap<String, String> {
    let object = server.object(plural, "default", name).unwrap_or_default();
    let conditions = object["status"]["conditions"].as_array();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    conditions
        .into_iter()
        .flatten()
        .map(|condition| (text(&condition["type"]), text(&condition["status"])))
        .collect()
}

#[tokio::test]
async fn tools_are_told_whether_an_object_is_ready_and_whether_waiting_helps() -> Result<()> {
    let server = server(0).await;
    let running = Running::start(&server).await?.ready().await?;
    server.put(assignment("a", 0));
    let is = |kind: &str, status: Option<&str>| {
        let conditions = conditions(&server, "assignments", "a");
        conditions.get(kind).map(String::as_str) == status
    };
    let is_all = |ready, stalled| {
        is("Ready", Some(ready)) && is("Reconciling", Some("False")) && is("Stalled", stalled)
    };
    eventually("it has no Profile", || is_all("False", None)).await?;
    ensure!(is("Accepted", Some("True")) && is("ProfileFound", Some("False")));
    server.put(profile("p"));
    eventually("it is ready", || is_all("True", None)).await?;
    ensure!(is("ProfileFound", Some("True")));
    ensure!(conditions(&server, "profiles", "p")["Ready"] == "True");
    server.put(wrong("a"));
    eventually("it is stalled", || is_all("False", Some("True"))).await?;
    ensure!(is("Accepted", Some("False")));
    server.put(assignment("a", 1));
    eventually("it is ready again", || is_all("True", None)).await?;
    running.stop().await
}

#[tokio::test]
async fn a_server_without_streaming_lists_is_listed_in_pages() -> Result<()> {
    let server = server(1200).await;
    server.set_watch_list(false);
    let running = Running::start(&server).await?.ready().await?;
    assert_eq!(running.assignments(), 1200);
    ensure!(server.count(Verb::List, "assignments") >= 3, "pages of 500");
    running.stop().await
}

#[tokio::test]
async fn a_server_that_stops_streaming_lists_is_listed_in_pages() -> Result<()> {
    let server = server(10).await;
    let running = Running::start(&server).await?.ready().await?;
    server.set_watch_list(false);
    let gone = server.inject(When::watches().of("assignments").times(1), Fault::Gone);
    server.put(assignment("new", 7));
    eventually("the watch recovers", || {
        running.priority("new") == Some(7) && running.handle.remarks().is_empty()
    })
    .await?;
    drop(gone);
    running.stop().await
}

/// Timeouts for a server that answers at once.
const HASTY: ResponseTimeout = ResponseTimeout {
    answer: Duration::from_secs(1),
    probe: Duration::from_millis(300),
};

#[tokio::test]
async fn a_list_that_never_starts_is_reported_and_retried() -> Result<()> {
    for streams in [true, false] {
        let server = server(10).await;
        server.set_watch_list(streams);
        let verb = if streams {
            When::watches()
        } else {
            When::lists()
        };
        let _hanging = server.inject(verb.of("assignments").times(1), Fault::Hang);
        let running = Running::start_with(&server, &[], HASTY).await?;
        let silent = "Assignments can't be watched";
        eventually("the failure is reported", || {
            let remarks = running.handle.remarks().join("\n");
            remarks.contains(silent) && remarks.contains("the API server did not start to answer")
        })
        .await?;
        let running = running.ready().await?;
        assert_eq!(running.assignments(), 10);
        eventually("no remarks are left", || {
            running.handle.remarks().is_empty()
        })
        .await?;
        running.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_watch_that_never_starts_is_reported_and_retried_without_a_list() -> Result<()> {
    let server = server(10).await;
    let response_timeout = ResponseTimeout {
        probe: Duration::from_mins(1),
        ..HASTY
    };
    let running = Running::start_with(&server, &[], response_timeout)
        .await?
        .ready()
        .await?;
    server.clear_calls();
    let _hanging = server.inject(When::watches().of("assignments").times(1), Fault::Hang);
    let _cut = server.inject(
        When::watches().of("assignments").times(1),
        Fault::CloseConnection,
    );
    eventually("the failure is reported", || {
        running
            .handle
            .remarks()
            .join("\n")
            .contains("did not start to answer")
    })
    .await?;
    server.put(assignment("a0", 7));
    eventually("the watch recovers", || {
        running.priority("a0") == Some(7) && running.handle.remarks().is_empty()
    })
    .await?;
    assert!(
        server
            .calls()
            .iter()
            .all(|call| !call.query.contains_key("sendInitialEvents"))
    );
    running.stop().await
}

#[tokio::test]
async fn a_watch_that_misses_changes_is_restarted() -> Result<()> {
    let server = server(3).await;
    let running = Running::start_with(&server, &[], HASTY)
        .await?
        .ready()
        .await?;
    let stalled = server.inject(
        When::watches().of("assignments").times(1),
        Fault::StallWatch,
    );
    server.put(assignment("a0", 7));
    eventually("the change is visible", || {
        running.priority("a0") == Some(7)
    })
    .await?;
    assert!(
        !running.metrics().contains("watch_errors_total 0\n"),
        "{}",
        running.metrics()
    );
    drop(stalled);
    running.stop().await
}

#[tokio::test]
async fn an_unreadable_object_is_reported_and_does_not_affect_others() -> Result<()> {
    let server = server(3).await;
    let mut odd = assignment("odd", 0);
    odd["spec"]["subjectSelectors"] = json!("a text");
    server.put(odd);
    let running = Running::start(&server).await?.ready().await?;
    assert_eq!(running.assignments(), 3);
    eventually("the status reports the fault", || {
        let object = server
            .object("assignments", "default", "odd")
            .unwrap_or_default();
        object["status"]["conditions"][0]["reason"] == "Unreadable"
    })
    .await?;
    // Its machines can't be determined, and the status says so.
    assert!(
        running.metrics().contains("assignments_unreadable 1"),
        "{}",
        running.metrics()
    );
    running.stop().await
}

impl Running {
    /// Returns the Assignment that a machine with this serial number gets, or why the machine
    /// waits.
    fn machine(&self, serial: &str) -> String {
        let subject = boot::Subject::from_query(
            &format!("serial={serial}"),
            &boot::ExtrinsicLabels::default(),
        )
        .expect("a query");
        match self.publisher.catalog().load().select(&subject) {
            Ok(selection) => selection.assignment.key.name.to_string(),
            Err(error) => error.to_string(),
        }
    }
}

fn default() -> Value {
    let mut default = assignment("default", 0);
    default["spec"]["subjectSelectors"] = json!({});
    default
}

/// An Assignment for the machine with serial number `name`, invalid in a way that passes a schema
/// without rules.
fn wrong(name: &str) -> Value {
    let mut wrong = assignment(name, 0);
    wrong["spec"]["subjectSelectors"]["uuids"] = json!(["no uuid"]);
    wrong
}

#[tokio::test]
async fn an_invalid_object_stays_in_use_and_holds_its_machines_after_a_restart() -> Result<()> {
    let server = server(2).await;
    server.put(default());
    server.put(profile("p"));
    let first = Running::start(&server).await?.ready().await?;
    eventually("the Assignment is served", || first.machine("a0") == "a0").await?;
    server.put(wrong("a0"));
    let refused = |running: &Running| running.metrics().contains("objects_rejected 1");
    eventually("the Assignment is rejected", || refused(&first)).await?;
    assert_eq!(
        ["a0", "a1", "other"].map(|serial| first.machine(serial)),
        ["a0", "a1", "default"]
    );
    // Run two controllers: after a failover the second one never saw the object valid.
    let second = Running::start(&server).await?.ready().await?;
    first.task.abort();
    for next in [second, Running::start(&server).await?.ready().await?] {
        assert!(refused(&next) && next.metrics().contains("assignments_unreadable 0"));
        let answer = next.machine("a0");
        assert!(
            answer.starts_with(
                "Assignment default/a0 is invalid, so this machine waits until it is fixed: "
            ),
            "{answer}"
        );
        assert_eq!(
            ["a1", "other"].map(|serial| next.machine(serial)),
            ["a1", "default"]
        );
        next.stop().await?;
    }
    let last = Running::start(&server).await?.ready().await?;
    server.put(assignment("a0", 0));
    eventually("the Assignment is fixed", || {
        last.machine("a0") == "a0" && last.metrics().contains("objects_rejected 0")
    })
    .await?;
    server.put(wrong("a1"));
    eventually("another Assignment is invalid", || {
        last.metrics().contains("objects_rejected 1")
    })
    .await?;
    server.delete("assignments", "default", "a1");
    eventually("deleted objects are removed, valid or not", || {
        last.machine("a1") == "default"
    })
    .await?;
    last.stop().await
}

#[tokio::test]
async fn an_unreadable_object_holds_the_machines_that_can_be_read() -> Result<()> {
    let server = server(1).await;
    server.put(default());
    server.put(profile("p"));
    let mut odd = assignment("odd", 0);
    odd["spec"]["subjectSelectors"]["matchLabels"] = json!("a text");
    server.put(odd);
    let mut script = profile("script");
    script["spec"] = json!({ "script": { "of": "the future" } });
    script["metadata"]["labels"] = json!({ "os": "x", "assignment/ipxe-serial": "a0" });
    server.put(script);
    let running = Running::start(&server).await?.ready().await?;
    assert!(
        running
            .machine("odd")
            .starts_with("Assignment default/odd is invalid"),
        "{}",
        running.machine("odd")
    );
    assert!(
        running
            .machine("a0")
            .starts_with("Profile default/script is invalid"),
        "{}",
        running.machine("a0")
    );
    eventually("the Assignment is served", || {
        running.machine("other") == "default"
    })
    .await?;
    running.stop().await
}

#[tokio::test]
async fn an_unknown_field_does_not_turn_an_assignment_into_a_default() -> Result<()> {
    let server = server(1).await;
    server.put(default());
    server.put(profile("p"));
    // The newest Assignment has the highest priority, so it would win.
    let mut newer = assignment("newer", 1000);
    newer["spec"]["subjectSelectors"] = json!({ "assetTags": ["X"] });
    server.put(newer);
    let mut not = assignment("not", 1000);
    let expression = json!({ "key": "asset", "operator": "Exists", "not": true });
    not["spec"]["subjectSelectors"] = json!({ "matchExpressions": [expression] });
    server.put(not);
    let mut script = profile("script");
    script["spec"]["kernel"] = json!({ "url": "http://a/b" });
    script["metadata"]["labels"] = json!({ "os": "x", "assignment/ipxe-serial": "a0" });
    server.put(script);
    let running = Running::start(&server).await?.ready().await?;
    assert_eq!(running.assignments(), 2);
    assert_eq!(running.machine("other"), "default");
    let answer = running.machine("a0");
    assert!(
        answer.contains(
            "field spec.kernel is unknown to this version of shaper; upgrade the controllers"
        ),
        "{answer}"
    );
    let told = |plural: &str, name: &str| {
        let condition =
            server.object(plural, "default", name).unwrap_or_default()["status"]["conditions"][0]
                .clone();
        let text = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
        format!(
            "{} {} {}: {}",
            text("type"),
            text("status"),
            text("reason"),
            text("message")
        )
    };
    for (plural, name, field) in [
        ("assignments", "newer", "spec.subjectSelectors.assetTags"),
        (
            "assignments",
            "not",
            "spec.subjectSelectors.matchExpressions[0].not",
        ),
        ("profiles", "script", "spec.kernel"),
    ] {
        let expected = format!(
            "Accepted False UnknownField: field {field} is unknown to this version of shaper; upgrade the controllers"
        );
        eventually(&expected, || told(plural, name).starts_with(&expected)).await?;
    }
    running.stop().await?;
    server.clear_calls();
    let next = Running::start(&server).await?.ready().await?;
    eventually("the controller holds the Lease", || {
        next.metrics().contains("lease_held 1")
    })
    .await?;
    eventually("the queue is empty", || {
        next.metrics().contains("status_queue_length 0")
    })
    .await?;
    sleep(Duration::from_millis(300)).await;
    assert_eq!(
        server.count(Verb::Patch, "assignments") + server.count(Verb::Patch, "profiles"),
        0,
        "it has been said"
    );
    next.stop().await
}

#[tokio::test]
async fn only_the_configured_namespaces_are_watched() -> Result<()> {
    let server = server(3).await;
    let mut other = assignment("other", 0);
    other["metadata"]["namespace"] = json!("lab");
    server.put(other.clone());
    other["metadata"]["namespace"] = json!("office");
    server.put(other);
    let running = Running::start_in(&server, &["lab", "office"])
        .await?
        .ready()
        .await?;
    assert_eq!(running.assignments(), 2);
    running.stop().await
}
