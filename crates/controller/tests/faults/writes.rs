//! How status is written while the API server refuses, delays or loses writes.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fake_apiserver::{FakeApiServer, Fault, Verb, When};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::running::{Running, assignment, eventually, profile, server};

fn all_have_status(server: &FakeApiServer) -> bool {
    let has_status = |object: &Value| object["status"]["conditions"].is_array();
    let has_all = |plural| server.objects(plural).iter().all(has_status);
    has_all("assignments") && has_all("profiles")
}

/// How often a write of each Assignment's status was tried.
fn attempts(server: &FakeApiServer) -> BTreeMap<String, usize> {
    let mut attempts = BTreeMap::new();
    for call in server.calls() {
        if let (Verb::Patch, "assignments", Some(name)) = (call.verb, &*call.plural, call.name) {
            *attempts.entry(name).or_default() += 1;
        }
    }
    attempts
}

impl Running {
    /// Returns how many status writes had this outcome.
    fn writes(&self, outcome: &str) -> usize {
        let name = format!("status_writes_total{{outcome=\"{outcome}\"}} ");
        let metrics = self.metrics();
        let value = metrics.lines().find_map(|line| line.strip_prefix(&name));
        value.map_or(0, |value| value.parse().expect("a count"))
    }
}

#[tokio::test]
async fn new_assignments_cause_one_write_each_and_no_event() -> Result<()> {
    const COUNT: usize = 500;
    let server = server(0).await;
    server.put(profile("p"));
    let running = Running::start(&server).await?.ready().await?;
    for number in 0..COUNT {
        server.put(assignment(&format!("a{number}"), 0));
        if number % 20 == 0 {
            sleep(Duration::from_millis(10)).await;
        }
    }
    eventually("all are written", || running.writes("done") > COUNT).await?;
    sleep(Duration::from_secs(1)).await;
    assert!(all_have_status(&server));
    assert_eq!(server.count(Verb::Patch, "assignments"), COUNT);
    assert_eq!(server.count(Verb::Create, "events"), 0);
    assert_eq!(running.writes("done"), COUNT + 1);
    running.stop().await
}

#[tokio::test]
async fn everything_is_written_once_after_a_storm_and_on_a_slow_server() -> Result<()> {
    const COUNT: usize = 200;
    for (fault, times) in [
        (Fault::Status(429, Some(1)), 40),
        (Fault::Status(503, None), 40),
        (Fault::CloseConnection, 40),
        (Fault::Delay(Duration::from_millis(100)), usize::MAX),
    ] {
        let server = server(0).await;
        server.put(profile("p"));
        let running = Running::start(&server).await?.ready().await?;
        let _storm = server.inject(When::writes().of("assignments").times(times), fault);
        (0..COUNT).for_each(|number| drop(server.put(assignment(&format!("a{number}"), 0))));
        eventually("all objects have a status", || all_have_status(&server)).await?;
        sleep(Duration::from_millis(500)).await;
        assert_eq!(running.writes("done"), COUNT + 1, "{fault:?}");
        assert_eq!(running.writes("conflict"), 0, "{fault:?}");
        let failures = match fault {
            Fault::Delay(_) => 0,
            _ => times,
        };
        let all: usize = attempts(&server).values().sum();
        assert_eq!(all, COUNT + failures, "{fault:?}");
        assert_eq!(server.count(Verb::Create, "events"), 0, "{fault:?}");
        running.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_id_that_is_not_stored_is_not_served() -> Result<()> {
    let server = server(0).await;
    let running = Running::start(&server).await?.ready().await?;
    let discard = server.inject(
        When::writes().of("profiles").in_namespace("default"),
        Fault::Discard,
    );
    server.put(profile("p"));
    server.put(assignment("a", 0));
    eventually("the server's fault is told", || {
        let remarks = running.handle.remarks().join("\n");
        remarks.contains(
            "refuses the status of Profile default/p: it accepts this status and doesn't store it",
        )
    })
    .await?;
    eventually("others are served", || {
        server
            .object("assignments", "default", "a")
            .unwrap_or_default()["status"]["conditions"]
            .is_array()
    })
    .await?;
    sleep(Duration::from_secs(2)).await;
    let attempts = server.count(Verb::Patch, "profiles");
    ensure!((2..8).contains(&attempts), "{attempts} attempts");
    ensure!(running.config_id("p").is_none(), "an id is served");
    drop(discard);
    eventually("the id is stored and served", || {
        let stored = server
            .object("profiles", "default", "p")
            .unwrap_or_default();
        let id = running.config_id("p").map(|id| id.to_string());
        id.is_some() && stored["status"]["additionalConfig"]["config"].as_str() == id.as_deref()
    })
    .await?;
    ensure!(running.handle.remarks().is_empty());
    running.stop().await
}

#[tokio::test]
async fn an_object_that_is_recreated_during_a_write_gets_a_status_of_its_own() -> Result<()> {
    let server = server(0).await;
    let running = Running::start(&server).await?.ready().await?;
    let slow = server.inject(
        When::writes().of("profiles").times(1),
        Fault::Delay(Duration::from_millis(300)),
    );
    server.put(profile("p"));
    eventually("a write is in flight", || {
        server.count(Verb::Patch, "profiles") == 1
    })
    .await?;
    let planned = server.calls().iter().find_map(|call| {
        let id = &call.body["status"]["additionalConfig"]["config"];
        (call.plural == "profiles" && id.is_string()).then(|| id.clone())
    });
    let planned = planned.context("an id")?;
    server.delete("profiles", "default", "p");
    server.put(profile("p"));
    let id = || {
        server
            .object("profiles", "default", "p")
            .unwrap_or_default()["status"]["additionalConfig"]["config"]
            .clone()
    };
    eventually("the new object has an id", || id().is_string()).await?;
    ensure!(id() != planned, "it is the id of the object before");
    eventually("the id is served", || {
        running.config_id("p").map(|id| id.to_string()) == id().as_str().map(str::to_owned)
    })
    .await?;
    drop(slow);
    running.stop().await
}

#[tokio::test]
async fn a_profile_that_comes_and_goes_is_told_once_for_each_assignment() -> Result<()> {
    const COUNT: usize = 200;
    let server = server(0).await;
    server.put(profile("p"));
    let running = Running::start(&server).await?.ready().await?;
    (0..COUNT).for_each(|number| drop(server.put(assignment(&format!("a{number}"), 0))));
    let all_are = |status: &'static str| {
        let objects = server.objects("assignments");
        objects.iter().all(|object| {
            let conditions = object["status"]["conditions"].as_array();
            let mut found = conditions.into_iter().flatten();
            found.any(|it| it["type"] == "ProfileFound" && it["status"] == status)
        })
    };
    for _ in 0..2 {
        eventually("all have a Profile", || all_are("True")).await?;
        server.delete("profiles", "default", "p");
        eventually("none has a Profile", || all_are("False")).await?;
        server.put(profile("p"));
    }
    eventually("all have a Profile again", || all_are("True")).await?;
    sleep(Duration::from_millis(500)).await;
    // It went, and it came back.
    let events = server.objects("events");
    assert_eq!(events.len(), 2 * COUNT);
    assert_eq!(
        server.count(Verb::Patch, "events"),
        0,
        "within five minutes"
    );
    running.stop().await
}

#[tokio::test]
async fn a_status_that_another_client_keeps_changing_is_corrected_and_told() -> Result<()> {
    let server = server(0).await;
    let running = Running::start(&server).await?.ready().await?;
    server.put(profile("p"));
    eventually("the config has an id", || running.config_id("p").is_some()).await?;
    let id = running.config_id("p");
    let foreign = json!({ "type": "Reviewed", "status": "True", "reason": "ByHand", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z" });
    for round in 0..30 {
        let mut nonsense = profile("p");
        nonsense["status"] = json!({
            "additionalConfig": { "config": format!("nonsense {round}") },
            "conditions": [foreign],
            "observedGeneration": -1,
        });
        server.put(nonsense);
        sleep(Duration::from_millis(200)).await;
    }
    let attempts = server.count(Verb::Patch, "profiles");
    ensure!(
        (5..15).contains(&attempts),
        "{attempts} writes in six seconds"
    );
    let stored = || {
        server
            .object("profiles", "default", "p")
            .unwrap_or_default()["status"]
            .clone()
    };
    eventually("it is corrected in the end", || {
        stored()["additionalConfig"]["config"].as_str() == id.map(|id| id.to_string()).as_deref()
    })
    .await?;
    assert_eq!(running.config_id("p"), id, "links in use go on");
    let conditions = stored()["conditions"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    ensure!(conditions.contains(&foreign), "{conditions:?}");
    let events = server.objects("events");
    let told = events
        .iter()
        .filter(|event| event["reason"] == "StatusContested");
    assert_eq!(told.count(), 1);
    running.stop().await
}

#[tokio::test]
async fn a_namespace_that_accepts_no_events_gets_its_statuses() -> Result<()> {
    let server = server(0).await;
    let running = Running::start(&server).await?.ready().await?;
    let _terminating = server.inject(
        When::verbs([Verb::Create])
            .of("events")
            .in_namespace("default"),
        Fault::Status(403, None),
    );
    for number in 0..20 {
        // Nothing has these labels, which is told after a moment.
        server.put(assignment(&format!("a{number}"), 0));
    }
    eventually("all objects have a status", || all_have_status(&server)).await?;
    eventually("their events were tried", || {
        server.count(Verb::Create, "events") == 20
    })
    .await?;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(server.count(Verb::Create, "events"), 20);
    assert_eq!(running.writes("done"), 20);
    running.stop().await
}

#[tokio::test]
async fn a_restart_with_a_thousand_unchanged_objects_writes_nothing() -> Result<()> {
    let server = server(1000).await;
    server.put(profile("p"));
    let first = Running::start(&server).await?.ready().await?;
    eventually("all are written", || first.writes("done") > 1_000).await?;
    first.stop().await?;
    server.clear_calls();
    let second = Running::start(&server).await?.ready().await?;
    eventually("the controller holds the Lease", || {
        second.metrics().contains("lease_held 1")
    })
    .await?;
    eventually("the queue is empty", || {
        second.metrics().contains("status_queue_length 0")
    })
    .await?;
    sleep(Duration::from_millis(300)).await;
    let writes: Vec<_> = server
        .calls()
        .into_iter()
        .filter(|call| call.verb == Verb::Patch)
        .collect();
    assert!(
        writes.is_empty(),
        "{} writes, the first is {:?}",
        writes.len(),
        writes.first()
    );
    second.stop().await
}

#[tokio::test]
async fn a_status_that_is_refused_delays_no_other() -> Result<()> {
    const FROZEN: usize = 300;
    for status in [403, 413, 422] {
        let server = server(0).await;
        let policy = server.inject(
            When::writes().of("profiles").in_namespace("frozen"),
            Fault::Status(status, None),
        );
        for number in 0..FROZEN {
            let mut frozen = profile(&format!("p{number}"));
            frozen["metadata"]["namespace"] = json!("frozen");
            server.put(frozen);
        }
        let running = Running::start(&server).await?.ready().await?;
        let all_refused = format!("status_refused {FROZEN}\n");
        eventually("all are refused", || {
            running.metrics().contains(&all_refused)
        })
        .await?;
        let remarks = running.handle.remarks().join("\n");
        ensure!(
            remarks.contains("refuses the status of Profile frozen/p0, and of 299 others: 4"),
            "{remarks}"
        );
        server.clear_calls();
        server.put(profile("p"));
        eventually("another Profile has an id", || {
            let other = server
                .object("profiles", "default", "p")
                .unwrap_or_default();
            other["status"]["additionalConfig"]["config"].is_string()
        })
        .await?;
        let before = server.count(Verb::Patch, "profiles");
        ensure!(before < 64, "{before} writes went before it");
        // The pauses of each double, whatever is written to it.
        sleep(Duration::from_secs(2)).await;
        let attempts = server.count(Verb::Patch, "profiles");
        ensure!(attempts < 3 * FROZEN, "{attempts} attempts");
        drop(policy);
        eventually("no status is refused", || {
            running.metrics().contains("status_refused 0\n")
        })
        .await?;
        assert_eq!(running.handle.remarks(), Vec::<String>::new());
        running.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_conflicting_write_is_repeated_with_the_current_version() -> Result<()> {
    let server = server(0).await;
    let running = Running::start(&server).await?.ready().await?;
    let slow = server.inject(
        When::writes().of("profiles").times(1),
        Fault::Delay(Duration::from_millis(300)),
    );
    server.put(profile("p"));
    sleep(Duration::from_millis(100)).await;
    let mut changed = profile("p");
    changed["spec"]["additionalConfig"]["second"] = json!("y");
    server.put(changed);
    eventually("both Profiles have ids", || {
        let ids = server
            .object("profiles", "default", "p")
            .unwrap_or_default()["status"]["additionalConfig"]
            .clone();
        ids["config"].is_string() && ids["second"].is_string()
    })
    .await?;
    drop(slow);
    running.stop().await
}
