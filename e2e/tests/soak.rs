//! Soak test: the same faults again and again, under a load of booting machines. A few times in
//! each test run; set `SHAPER_E2E_TURNS=100` for a night, or before a release.

use anyhow::{Context, Result, ensure};
use e2e::certificates::Leaf;
use e2e::load::Balancer;
use e2e::roles::{Role, eventually};
use e2e::site::{SOON, Site, linked, serial};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

const MACHINES: usize = 20;

/// The number of turns.
fn turns(otherwise: usize) -> usize {
    std::env::var("SHAPER_E2E_TURNS")
        .ok()
        .and_then(|turns| turns.parse().ok())
        .unwrap_or(otherwise)
}

/// A pseudo-random number below `below` (splitmix64): different in each turn, the same in each run.
fn scattered(turn: usize, below: u64) -> u64 {
    let mut x = (turn as u64)
        .wrapping_add(1)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (x ^ (x >> 27)) % below
}

fn ids(profile: &Value) -> Value {
    profile["status"]["additionalConfig"].clone()
}

#[test]
fn a_restored_etcd_is_followed() -> Result<()> {
    let site = Site::start(2, 2)?;
    site.fill(MACHINES)?;
    for turn in 0..turns(1) {
        site.still_follows(&format!("kept-{turn}"))?;
        let known = eventually(SOON, "the Profile has its id", || {
            let ids = ids(&site.kubectl.json(["get", "profile/first"])?);
            Ok(ids["config"].is_string().then_some(ids))
        })?;
        let load = site.load(MACHINES)?;
        let backup = site.cluster.back_up()?;
        site.cluster.wait_until_ready(SOON)?;
        site.still_follows(&format!("lost-{turn}"))?;
        // History that the restore will undo: many revisions and an object.
        for n in 0..20 {
            site.kubectl.run([
                "annotate",
                "--overwrite",
                "assignment/machine-0",
                &format!("n={n}"),
            ])?;
        }
        site.kubectl.apply(&linked("never", "NEVER"))?;
        site.cluster.restore(&backup)?;
        site.cluster.wait_until_ready(SOON)?;
        // A watch from before the restore stays silent, so the controller finds out when it checks
        // the version, once a minute.
        site.served_within(
            Duration::from_mins(3),
            &serial(0),
            &format!("BOOT-kept-{turn}"),
        )?;
        ensure!(
            ids(&site.kubectl.json(["get", "profile/first"])?) == known,
            "the ids of configs are others"
        );
        site.still_follows(&format!("on-{turn}"))?;
        let outcome = load.finish().into_result()?;
        println!(
            "turn {turn}: {} boots, {} times asked to wait",
            outcome.boots, outcome.waits
        );
    }
    Ok(())
}

#[test]
fn killed_controllers_leave_nothing_half_done() -> Result<()> {
    let mut site = Site::start(2, 2)?;
    site.fill(MACHINES)?;
    let load = site.load(MACHINES)?;
    let mut known: Option<Value> = None;
    for turn in 0..turns(5) {
        let (word, victim) = (format!("turn-{turn}"), turn % 2);
        let new = format!("new-{turn}");
        site.kubectl.apply(
            &[
                linked("first", &format!("BOOT-{word}")),
                linked(&new, "BOOT-new"),
            ]
            .join("---\n"),
        )?;
        std::thread::sleep(Duration::from_millis(scattered(turn, 400)));
        // Another process has to finish what this one began: at once, or when the Lease has
        // expired.
        site.replace_controller(victim)?;
        for profile in ["first", &new] {
            eventually(
                Duration::from_mins(1),
                &format!("{profile} has its ids and conditions"),
                || {
                    let profile = site.kubectl.json(["get", &format!("profile/{profile}")])?;
                    let generation = &profile["metadata"]["generation"];
                    let is_whole = ids(&profile)["config"].is_string()
                        && profile["status"]["observedGeneration"] == *generation
                        && profile["status"]["conditions"]
                            .as_array()
                            .is_some_and(|all| {
                                !all.is_empty()
                                    && all
                                        .iter()
                                        .all(|one| one["observedGeneration"] == *generation)
                            });
                    Ok(is_whole.then_some(()))
                },
            )?;
        }
        let now = ids(&site.kubectl.json(["get", "profile/first"])?);
        ensure!(
            known.get_or_insert_with(|| now.clone()) == &now,
            "turn {turn}: the ids of configs are others"
        );
        site.served(&serial(turn % MACHINES), &format!("BOOT-{word}"))
            .with_context(|| format!("turn {turn}"))?;
        site.kubectl
            .run(["delete", "--wait=false", &format!("profile/{new}")])?;
    }
    let outcome = load.finish().into_result()?;
    println!(
        "{} boots, {} times asked to wait",
        outcome.boots, outcome.waits
    );
    Ok(())
}

#[test]
fn certificates_are_rotated_repeatedly() -> Result<()> {
    let mut site = Site::start(1, 2)?;
    site.fill(MACHINES)?;
    let load = site.load(MACHINES)?;
    let (controller, api) = (
        Leaf::peer("shaper-controller").dns("localhost"),
        Leaf::peer("shaper-api"),
    );
    let authority = &site.certificates.authority;
    let turns = turns(5);
    for turn in 0..turns {
        site.certificates
            .controller
            .write(&authority.issue(&controller)?, &authority.pem())?;
        if turn % 2 == 0 {
            site.certificates
                .api
                .write(&authority.issue(&api)?, &authority.pem())?;
        }
        load.wait_for(10)?;
        site.still_follows(&format!("rotated-{turn}"))?;
    }
    for role in site.controllers.iter().chain(&site.replicas) {
        let metrics = role.admin("/metrics")?.body;
        let failed = metrics.lines().filter(|line| {
            line.starts_with("shaper_tls_reload_failures_total") && !line.ends_with(" 0")
        });
        ensure!(
            failed.count() == 0,
            "a certificate was refused: {}",
            role.log().text()
        );
    }
    let outcome = load.finish().into_result()?;
    println!("{turns} rotations, {} boots", outcome.boots);
    Ok(())
}

#[test]
fn a_rolling_restart_of_replicas_fails_no_boot() -> Result<()> {
    let mut site = Site::start(1, 3)?;
    site.fill(MACHINES)?;
    let balancer = Balancer::of(&site.replicas)?;
    let load = Site::load_behind(Arc::clone(&balancer), MACHINES);
    let turns = turns(3);
    for number in 0..turns {
        let replica: Role = site.replica(number + 3)?;
        balancer.add(&replica)?;
        load.wait_for(20)?;
        site.replicas.remove(0).stop()?;
        site.replicas.push(replica);
        load.wait_for(20)?;
    }
    let outcome = load.finish().into_result()?;
    println!("{turns} restarts, {} boots", outcome.boots);
    Ok(())
}
