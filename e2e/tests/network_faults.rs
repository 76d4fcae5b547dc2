//! Networks that lose data: machines keep booting, and changes arrive again soon after.

use anyhow::{Result, ensure};
use e2e::cluster::NAMESPACE;
use e2e::roles::{Role, eventually};
use e2e::site::{SOON, Site, linked, serial};
use e2e::wire::{Fault, Wire};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const MACHINES: usize = 20;
const FAULTS: [Fault; 4] = [
    Fault::BlackHole,
    Fault::NothingThere,
    Fault::NothingBack,
    Fault::Cut,
];

/// Two controllers, and a replica that reaches them through proxies.
fn site() -> Result<(Site, Vec<Wire>, tempfile::TempDir)> {
    let mut site = Site::start(2, 0)?;
    let state = tempfile::tempdir()?;
    let mut builder = Role::api([], site.certificates.api.path(), state.path())?;
    let mut wires = Vec::new();
    for controller in &site.controllers {
        let wire = Wire::to(controller.address("feed_listen")?)?;
        builder = builder.args([
            "--feed",
            &format!("https://localhost:{}", wire.address().port()),
        ]);
        wires.push(wire);
    }
    site.replicas.push(builder.start_ready()?);
    site.fill(MACHINES)?;
    Ok((site, wires, state))
}

#[test]
fn a_replica_cut_off_from_controllers_keeps_serving_and_reconnects_soon() -> Result<()> {
    let (site, wires, _state) = site()?;
    let load = site.load(MACHINES)?;
    for fault in FAULTS {
        wires.iter().for_each(|wire| wire.set(fault));
        // If only one direction is lost, the other still delivers until the replica has hung up.
        eventually(SOON, "the replica says that it is cut off", || {
            let connected = site.replicas[0].metric("shaper_feed_connected{partition=\"\"}")?;
            let verbose = site.replicas[0].admin("/readyz?verbose")?;
            Ok((connected == 0.0
                && verbose.status == 200
                && verbose.body.contains("disconnected for"))
            .then_some(()))
        })?;
        site.kubectl
            .apply(&linked("first", &format!("BOOT-{fault:?}")))?;
        site.tells_its_age()?;
        load.wait_for(100)?;
        let old = site.replicas[0].get(&format!("/ipxe?serial={}", serial(0)))?;
        ensure!(
            old.status == 200 && !old.body.contains(&format!("BOOT-{fault:?}")),
            "the change came over a network that is cut: {old:?}"
        );
        // At any point of the replica's reconnect cycle.
        load.wait_for(100)?;
        let healed = Instant::now();
        wires.iter().for_each(|wire| wire.set(Fault::None));
        site.served(&serial(0), &format!("BOOT-{fault:?}"))?;
        println!(
            "{fault:?}: {} ms after the network was whole again, the replica follows",
            healed.elapsed().as_millis()
        );
    }
    let outcome = load.finish().without_waits()?;
    println!("{} boots", outcome.boots);
    Ok(())
}

#[test]
fn a_replica_that_loses_one_controller_follows_the_other() -> Result<()> {
    let (site, wires, _state) = site()?;
    let load = site.load(MACHINES)?;
    for (turn, fault) in FAULTS.into_iter().enumerate() {
        // Each proxy fails in turn, so that the followed one does too.
        let lost = &wires[turn % 2];
        lost.set(fault);
        site.still_follows(&format!("{fault:?}"))?;
        lost.set(Fault::None);
    }
    load.finish().without_waits()?;
    Ok(())
}

#[test]
fn a_controller_cut_off_from_its_api_server_is_still_followed_and_reconnects() -> Result<()> {
    let mut site = Site::start(0, 0)?;
    let server: SocketAddr = site
        .cluster
        .server()
        .trim_start_matches("https://")
        .parse()?;
    let wire = Wire::to(server)?;
    let user = site.cluster.controller()?;
    let kubeconfig = std::fs::read_to_string(user.kubeconfig())?;
    let faulty = tempfile::NamedTempFile::new()?;
    std::fs::write(
        faulty.path(),
        kubeconfig.replace(
            &site.cluster.server(),
            &format!("https://{}", wire.address()),
        ),
    )?;
    let controller = Role::builder("controller")
        .args([
            "--feed-listen",
            "127.0.0.1:0",
            "--lease-namespace",
            NAMESPACE,
        ])
        .args(["--kubeconfig".as_ref(), faulty.path().as_os_str()])
        .args([
            "--feed-tls-dir".as_ref(),
            site.certificates.controller.path().as_os_str(),
        ])
        .start_ready()?;
    let state = tempfile::tempdir()?;
    site.replicas
        .push(Role::api([&controller], site.certificates.api.path(), state.path())?.start_ready()?);
    site.fill(MACHINES)?;
    let load = site.load(MACHINES)?;
    for fault in FAULTS {
        wire.set(fault);
        // What the API server sends unasked may still arrive.
        site.kubectl
            .apply(&linked("first", &format!("BOOT-{fault:?}")))?;
        // Before the controller notices, replicas report the age of their data.
        site.tells_its_age()?;
        load.wait_for(200)?;
        let healed = Instant::now();
        wire.set(Fault::None);
        site.served_within(
            Duration::from_mins(3),
            &serial(0),
            &format!("BOOT-{fault:?}"),
        )?;
        println!(
            "{fault:?}: {} ms after the network was whole again, the controller follows",
            healed.elapsed().as_millis()
        );
        eventually(SOON, "the Lease is held", || {
            Ok((controller.metric("shaper_lease_held")? > 0.0).then_some(()))
        })?;
    }
    load.finish().without_waits()?;
    Ok(())
}
