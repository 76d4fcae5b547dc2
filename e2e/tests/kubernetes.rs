//! The whole system: machines boot what kubectl applied, and keep booting whatever happens to
//! Kubernetes.

use anyhow::{Context, Result, ensure};
use e2e::certificates::{Authority, Leaf};
use e2e::cluster::Part;
use e2e::load::Balancer;
use e2e::machine::Machine;
use e2e::manifests::{assignment, says_its_name};
use e2e::roles::{Role, eventually};
use e2e::site::{SOON, Site, linked};
use std::time::{Duration, Instant};

#[test]
fn a_machine_boots_what_kubectl_applied_and_a_change_is_served_soon() -> Result<()> {
    let site = Site::start(1, 1)?;
    let replica = &site.replicas[0];
    let mut machine = Machine::on_user_network(&format!(
        "http://10.0.2.2:{}/boot.ipxe",
        replica.address("http_listen")?.port()
    ))
    .serial("SN-QEMU")
    .boot()?;
    // The machine waits until something is assigned to it.
    machine
        .wait_for("no Assignment", Duration::from_secs(90))
        .or_else(|_| machine.wait_for("404", Duration::from_secs(30)))?;
    site.kubectl.apply(
        &[
            says_its_name("real"),
            assignment("vm", "serialNumbers: [SN-QEMU]", "real"),
        ]
        .join("---\n"),
    )?;
    machine.wait_for("BOOTED-real SN-QEMU", Duration::from_mins(2))?;

    site.fill(1)?;
    let start = Instant::now();
    site.still_follows("changed")?;
    println!(
        "a change was served {} ms after kubectl began",
        start.elapsed().as_millis()
    );
    let why = replica.admin("/explain?serial=SN-0")?.body;
    ensure!(
        why.contains("machine-0") && why.contains("\"won\""),
        "{why}"
    );
    Ok(())
}

#[test]
fn machines_boot_while_the_api_server_and_etcd_are_paused_killed_and_compacted() -> Result<()> {
    let site = Site::start(2, 2)?;
    site.fill(20)?;
    let load = site.load(20)?;
    site.cluster.pause(Part::ApiServer)?;
    load.wait_for(200)?;
    site.tells_its_age()?;
    site.cluster.resume(Part::ApiServer)?;
    site.cluster.wait_until_ready(SOON)?;
    site.still_follows("resumed")?;

    site.cluster.kill(Part::ApiServer);
    load.wait_for(200)?;
    site.cluster.run(Part::ApiServer)?;
    site.cluster.wait_until_ready(SOON)?;
    site.still_follows("started")?;

    site.cluster.pause(Part::Etcd)?;
    load.wait_for(200)?;
    site.cluster.resume(Part::Etcd)?;
    site.cluster.wait_until_ready(SOON)?;
    site.still_follows("etcd-resumed")?;

    site.cluster.kill(Part::Etcd);
    load.wait_for(200)?;
    site.cluster.run(Part::Etcd)?;
    site.cluster.wait_until_ready(SOON)?;
    site.still_follows("etcd-started")?;

    // History is compacted while the controllers are paused: they get 410 and list again.
    site.controllers
        .iter()
        .try_for_each(|controller| controller.signal("STOP"))?;
    for n in 0..20 {
        site.kubectl.run([
            "annotate",
            "--overwrite",
            "assignment/machine-0",
            &format!("n={n}"),
        ])?;
    }
    site.cluster.compact()?;
    site.cluster.restart(Part::ApiServer)?;
    site.cluster.wait_until_ready(SOON)?;
    site.controllers
        .iter()
        .try_for_each(|controller| controller.signal("CONT"))?;
    load.wait_for(100)?;
    site.still_follows("compacted")?;
    let outcome = load.finish().without_waits()?;
    println!("{} boots", outcome.boots);
    Ok(())
}

#[test]
fn machines_boot_while_controllers_are_killed_and_replicas_restarted() -> Result<()> {
    let mut site = Site::start(2, 2)?;
    site.fill(20)?;
    let balancer = Balancer::of(&site.replicas)?;
    let load = site.load(20)?;
    site.controllers[0].signal("KILL")?;
    load.wait_for(100)?;
    site.still_follows("killed")?;
    site.controllers[1].signal("KILL")?;
    load.wait_for(200)?;
    drop(load.finish().without_waits()?);

    // No controller serves the feed: a replica starts from its copy.
    let replica = site.replicas.pop().context("there are two")?;
    replica.stop()?;
    let started = site.replica(1)?;
    started.log().must_say("serving the copy on disk")?;
    let answer = started.get("/ipxe?serial=SN-7")?;
    ensure!(
        answer.status == 200 && answer.body.contains("BOOT-killed"),
        "{answer:?}"
    );
    drop(balancer);
    Ok(())
}

#[test]
fn certificates_and_their_authority_are_rotated_while_machines_boot() -> Result<()> {
    let mut site = Site::start(1, 2)?;
    site.fill(20)?;
    let load = site.load(20)?;
    let next = Authority::new("shaper feed 2")?;
    let both = site.certificates.authority.pem() + &next.pem();
    let controller = Leaf::peer("shaper-controller").dns("localhost");
    let api = Leaf::peer("shaper-api");
    for _ in 0..3 {
        site.certificates.controller.write(
            &site.certificates.authority.issue(&controller)?,
            &site.certificates.authority.pem(),
        )?;
        load.wait_for(20)?;
    }
    // First all trust both authorities, then all certificates are signed by the new one, then the
    // old one is removed.
    let old = &site.certificates.authority;
    let (controller_leaf, api_leaf) = (old.issue(&controller)?, old.issue(&api)?);
    site.certificates
        .controller
        .write(&controller_leaf, &both)?;
    site.certificates.api.write(&api_leaf, &both)?;
    load.wait_for(50)?;
    site.certificates
        .controller
        .write(&next.issue(&controller)?, &both)?;
    site.certificates.api.write(&next.issue(&api)?, &both)?;
    load.wait_for(50)?;
    std::thread::sleep(Duration::from_secs(1));
    site.certificates
        .controller
        .write(&next.issue(&controller)?, &next.pem())?;
    site.certificates
        .api
        .write(&next.issue(&api)?, &next.pem())?;
    load.wait_for(50)?;
    site.still_follows("rotated")?;

    // Unusable files change nothing but the log.
    site.certificates.controller.write_files(&[
        ("tls.crt", "half a certif"),
        ("tls.key", "x"),
        ("ca.crt", &next.pem()),
    ])?;
    eventually(SOON, "the controller says so", || {
        Ok(site.controllers[0]
            .admin("/readyz?verbose")?
            .body
            .contains("certificate")
            .then_some(()))
    })?;
    site.still_follows("half-written")?;
    load.finish().without_waits()?;
    Ok(())
}

#[test]
fn two_clusters_form_one_catalog_and_one_may_be_away() -> Result<()> {
    let (east, west) = (Site::start(1, 0)?, Site::start(1, 0)?);
    let state = tempfile::tempdir()?;
    // Both trust the first authority: a replica has one identity.
    let leaf = east
        .certificates
        .authority
        .issue(&Leaf::peer("shaper-controller").dns("localhost"))?;
    let mut west = west;
    west.certificates
        .controller
        .write(&leaf, &east.certificates.authority.pem())?;
    let replica = Role::builder("api")
        .args(["--http-listen", "127.0.0.1:0", "--feed-tls-dir"])
        .args([east.certificates.api.path()])
        .args(["--state-dir".as_ref(), state.path().as_os_str()])
        .args([
            "--feed",
            &format!("east={}", east.controllers[0].feed_url()?),
        ])
        .args([
            "--feed",
            &format!("west={}", west.controllers[0].feed_url()?),
        ])
        .start_ready()?;
    for (site, word) in [(&east, "EAST"), (&west, "WEST")] {
        // The same names in both clusters: a Profile is found in the Assignment's own cluster.
        let subject = format!("serialNumbers: [{word}]");
        site.kubectl
            .apply(&[linked("same", word), assignment("same", &subject, "same")].join("---\n"))?;
        eventually(SOON, word, || {
            Ok(replica
                .get(&format!("/ipxe?serial={word}"))?
                .body
                .contains(&format!("echo {word}"))
                .then_some(()))
        })?;
    }
    west.controllers[0].signal("KILL")?;
    eventually(SOON, "west is named", || {
        Ok(replica
            .admin("/readyz?verbose")?
            .body
            .contains("west")
            .then_some(()))
    })?;
    let answer = replica.get("/ipxe?serial=WEST")?;
    ensure!(
        answer.status == 200 && answer.body.contains("echo WEST"),
        "{answer:?}"
    );
    let why = replica.admin("/explain?serial=WEST")?.body;
    ensure!(why.contains("west"), "{why}");
    Ok(())
}
