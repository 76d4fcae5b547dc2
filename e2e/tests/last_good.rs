//! Valid objects that become invalid: their machines keep what they had, or wait, and never get
//! what others were assigned.

use anyhow::{Result, ensure};
use e2e::cluster::{Cluster, Kubectl, NAMESPACE};
use e2e::http;
use e2e::manifests::{Manifests, assignment, profile, says_its_name};
use e2e::roles::{FeedCertificates, Role, eventually};
use e2e::server::Server;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);

/// Finds a free port to listen on later.
fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?
        .local_addr()?
        .port())
}

/// Starts `shaper controller` on a port that replicas already know.
fn controller(cluster: &Cluster, certificates: &FeedCertificates, port: u16) -> Result<Role> {
    Role::builder("controller")
        .args([
            "--feed-listen",
            &format!("127.0.0.1:{port}"),
            "--lease-namespace",
            NAMESPACE,
        ])
        .args([
            "--kubeconfig".as_ref(),
            cluster.controller()?.kubeconfig().as_os_str(),
        ])
        .args([
            "--feed-tls-dir".as_ref(),
            certificates.controller.path().as_os_str(),
        ])
        .start_ready()
}

fn replica(certificates: &FeedCertificates, ports: &[u16], state: &Path) -> Result<Role> {
    let mut builder = Role::builder("api")
        .args(["--http-listen", "127.0.0.1:0", "--lameduck", "0"])
        .args([
            "--feed-tls-dir".as_ref(),
            certificates.api.path().as_os_str(),
        ])
        .args(["--state-dir".as_ref(), state.as_os_str()]);
    for port in ports {
        builder = builder.args(["--feed", &format!("https://localhost:{port}")]);
    }
    builder.start_ready()
}

fn accepted(kubectl: &Kubectl, object: &str, wanted: &str) -> Result<()> {
    eventually(SOON, &format!("{object} has Accepted={wanted}"), || {
        let object = kubectl.json(["get", object])?;
        let generation = object["metadata"]["generation"].clone();
        let is = |condition: &Value| {
            condition["type"] == "Accepted"
                && condition["status"] == wanted
                && condition["observedGeneration"] == generation
        };
        Ok(object["status"]["conditions"]
            .as_array()
            .is_some_and(|all| all.iter().any(is))
            .then_some(()))
    })
}

/// Repeatedly asks what a machine would get, and counts wrong answers.
struct Watchman {
    wrong: Arc<AtomicUsize>,
    asked: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Watchman {
    fn start(urls: Vec<String>) -> Self {
        let (wrong, asked, stop) = (
            Arc::<AtomicUsize>::default(),
            Arc::<AtomicUsize>::default(),
            Arc::<AtomicBool>::default(),
        );
        let (counts, asks, ends) = (wrong.clone(), asked.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                for answer in urls.iter().filter_map(|url| http::get(url).ok()) {
                    asks.fetch_add(1, Ordering::Relaxed);
                    let is_own = answer.status == 200 && answer.body.contains("BOOTED-own");
                    counts.fetch_add(
                        usize::from(!is_own && answer.status != 503),
                        Ordering::Relaxed,
                    );
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        Self {
            wrong,
            asked,
            stop,
            thread: Some(thread),
        }
    }

    fn end(mut self) -> Result<()> {
        eventually(SOON, "enough answers", || {
            Ok((self.asked.load(Ordering::Relaxed) > 3).then_some(()))
        })?;
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().map(std::thread::JoinHandle::join);
        let (wrong, asked) = (
            self.wrong.load(Ordering::Relaxed),
            self.asked.load(Ordering::Relaxed),
        );
        ensure!(
            wrong == 0,
            "{wrong} of {asked} answers were neither the machine's own nor 503"
        );
        Ok(())
    }
}

/// What one machine gets: `own`, `install`, or the status.
fn gets(answer: &http::Response) -> String {
    match answer.status {
        200 if answer.body.contains("BOOTED-own") => "own".to_owned(),
        200 if answer.body.contains("BOOTED-install") => "install".to_owned(),
        503 => {
            let retry = answer.headers.iter().any(|(name, _)| name == "retry-after");
            format!(
                "503{}: {}",
                if retry { "" } else { " without Retry-After" },
                answer
                    .body
                    .trim()
                    .trim_start_matches("503 Service Unavailable: ")
            )
        }
        status => status.to_string(),
    }
}

#[test]
fn a_replica_with_a_copy_serves_rejected_objects_and_one_without_lets_machines_wait() -> Result<()>
{
    let cluster = Cluster::start()?;
    let certificates = FeedCertificates::new()?;
    let kubectl = cluster.admin().in_namespace(&cluster.namespace()?);
    let ports = [free_port()?, free_port()?];
    kubectl.take_rules_out("assignments")?;

    let first = controller(&cluster, &certificates, ports[0])?;
    let states = [tempfile::tempdir()?, tempfile::tempdir()?];
    let old = replica(&certificates, &ports, states[0].path())?;
    let machine = |uuids: &str| {
        assignment(
            "by-assignment",
            &format!("serialNumbers: [SN-1], uuids: [{uuids}]"),
            "own",
        )
    };
    let all = [
        says_its_name("own"),
        says_its_name("install"),
        assignment("default", "", "install"),
        machine(""),
        // This Profile will become invalid; the other one that its Assignment selects reinstalls.
        profile("special", "#!ipxe\necho BOOTED-own\n")
            .replace("{profile: special}", "{tier: a, assignment/ipxe-asset: x}"),
        profile("plain", "#!ipxe\necho BOOTED-install\n").replace("{profile: plain}", "{tier: a}"),
        assignment("by-profile", "serialNumbers: [SN-2]", "a").replace("{profile: a}", "{tier: a}"),
    ];
    kubectl.apply(&all.join("---\n"))?;
    let query = [
        "/ipxe?serial=SN-1",
        "/ipxe?serial=SN-2&asset=x",
        "/ipxe?serial=SN-3",
    ];
    let all_get = |role: &Role| -> Result<[String; 3]> {
        let [a, b, c] = query;
        Ok([
            gets(&role.get(a)?),
            gets(&role.get(b)?),
            gets(&role.get(c)?),
        ])
    };
    let own = ["own", "own", "install"].map(str::to_owned);
    eventually(SOON, "all is served", || {
        Ok((all_get(&old)? == own).then_some(()))
    })?;
    let watchman = Watchman::start(vec![old.url(query[0])?, old.url(query[1])?]);

    // Both become invalid, which a restart of the controller survives.
    kubectl.apply(&machine("no uuid"))?;
    let broken = "#!ipxe\necho {{ nothing }}\n";
    kubectl.apply(
        &profile("special", broken)
            .replace("{profile: special}", "{tier: a, assignment/ipxe-asset: x}"),
    )?;
    accepted(&kubectl, "assignment/by-assignment", "False")?;
    accepted(&kubectl, "profile/special", "False")?;
    eventually(SOON, "the replica names them", || {
        let verbose = old.admin("/readyz?verbose")?.body;
        Ok(
            (verbose.contains("/by-assignment is invalid, its last valid version is served")
                && verbose.contains("/special is invalid"))
            .then_some(()),
        )
    })?;
    assert_eq!(all_get(&old)?, own);

    // No running controller has ever seen them valid.
    first.signal("KILL")?;
    let second = controller(&cluster, &certificates, ports[1])?;
    eventually(SOON, "the replica follows the second", || {
        Ok((old.metric("shaper_feed_kept_objects{partition=\"\"}")? > 1.5).then_some(()))
    })?;
    assert_eq!(all_get(&old)?, own, "the replica remembers");
    kubectl.apply(&assignment("other", "serialNumbers: [SN-9]", "own"))?;
    eventually(SOON, "changes go on", || {
        Ok((gets(&old.get("/ipxe?serial=SN-9")?) == "own").then_some(()))
    })?;

    // A replica without a state directory from before.
    let new = replica(&certificates, &ports, states[1].path())?;
    let waiting = all_get(&new)?;
    ensure!(
        waiting[0].starts_with("503: Assignment ")
            && waiting[0].contains("/by-assignment is invalid, so this machine waits"),
        "{waiting:?}"
    );
    ensure!(
        waiting[1].starts_with("503: Profile ") && waiting[1].contains("/special is invalid"),
        "{waiting:?}"
    );
    assert_eq!(waiting[2], "install");
    let why = new.admin("/explain?serial=SN-1")?.body;
    ensure!(
        why.contains("\"notAccepted\"") && why.contains("uuids[0]"),
        "{why}"
    );

    // The replica with a copy is killed and finds it again, with and without a controller.
    eventually(SOON, "a copy is written", || {
        Ok(states[0].path().join("feed.copy").is_file().then_some(()))
    })?;
    std::thread::sleep(Duration::from_secs(6));
    watchman.end()?;
    old.signal("KILL")?;
    drop(old);
    second.signal("KILL")?;
    let old = replica(&certificates, &ports, states[0].path())?;
    assert_eq!(all_get(&old)?, own, "from its copy, without any controller");
    let watchman = Watchman::start(vec![old.url(query[0])?, old.url(query[1])?]);
    let _third = controller(&cluster, &certificates, ports[0])?;
    eventually(SOON, "it follows the third", || {
        Ok((old.metric("shaper_feed_kept_objects{partition=\"\"}")? > 1.5).then_some(()))
    })?;
    assert_eq!(all_get(&old)?, own);
    watchman.end()?;

    // Once fixed, they are served like any other.
    kubectl.apply(&all.join("---\n"))?;
    for role in [&old, &new] {
        eventually(SOON, "they are fixed", || {
            Ok((all_get(role)? == own).then_some(()))
        })?;
        ensure!(
            role.metric("shaper_feed_rejected_objects{partition=\"\"}")? < 0.5,
            "nothing is wrong any more"
        );
    }
    Ok(())
}

fn standalone(manifests: &Manifests, state: &Path) -> Result<Server> {
    Server::standalone(manifests.path())
        .state(state)
        .start_ready()
}

fn script(server: &Server, serial: &str) -> Result<String> {
    Ok(gets(
        &server.get(&server.url(&format!("/ipxe?serial={serial}")))?,
    ))
}

fn verbose(server: &Server) -> Result<String> {
    Ok(server.get(&server.admin_url("/readyz?verbose"))?.body)
}

#[test]
fn standalone_keeps_the_last_good_objects_of_a_broken_file_over_kills_and_renames() -> Result<()> {
    let manifests = Manifests::of(&[
        says_its_name("install"),
        assignment("default", "", "install"),
    ])?;
    let own = [
        says_its_name("own"),
        assignment("machine", "serialNumbers: [SN-1]", "own"),
    ]
    .join("---\n");
    manifests.write("own.yaml", &own)?;
    let state = tempfile::tempdir()?;
    let server = standalone(&manifests, state.path())?;
    assert_eq!(
        [script(&server, "SN-1")?, script(&server, "SN-2")?],
        ["own", "install"]
    );
    let broken = own.replace("profileSelectors:", "profileSelector:");
    manifests.write("own.yaml", &broken)?;
    eventually(SOON, "it is named", || {
        Ok(verbose(&server)?.contains("own.yaml:").then_some(()))
    })?;
    server.signal("KILL")?;
    drop(server);

    let server = standalone(&manifests, state.path())?;
    assert_eq!(script(&server, "SN-1")?, "own");
    ensure!(
        verbose(&server)?.contains("own.yaml:"),
        "{}",
        verbose(&server)?
    );
    let watchman = Watchman::start(vec![server.url("/ipxe?serial=SN-1")]);
    fs::rename(
        manifests.path().join("own.yaml"),
        manifests.path().join("other.yaml"),
    )?;
    eventually(SOON, "the new name is named", || {
        Ok(verbose(&server)?.contains("other.yaml:").then_some(()))
    })?;
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(script(&server, "SN-1")?, "own");
    watchman.end()?;
    server.signal("KILL")?;
    drop(server);
    fs::rename(
        manifests.path().join("other.yaml"),
        manifests.path().join("third.yaml"),
    )?;
    let server = standalone(&manifests, state.path())?;
    assert_eq!(
        [script(&server, "SN-1")?, script(&server, "SN-2")?],
        ["own", "install"],
        "renamed while nobody looked"
    );
    server.stop()?;

    // Without the copy, or with a damaged one, the machine waits.
    let copy = state.path().join("folder.copy");
    let mut bytes = fs::read(&copy)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&copy, &bytes)?;
    let empty = tempfile::tempdir()?;
    for folder in [state.path(), empty.path()] {
        let server = standalone(&manifests, folder)?;
        let answer = script(&server, "SN-1")?;
        ensure!(
            answer.starts_with("503: Assignment default/machine is invalid, so this machine waits")
                && answer.contains("third.yaml"),
            "{answer}"
        );
        assert_eq!(script(&server, "SN-2")?, "install");
        ensure!(
            verbose(&server)?.contains("Assignment default/machine is invalid, its machines wait"),
            "{}",
            verbose(&server)?
        );
        manifests.write("third.yaml", &own)?;
        eventually(SOON, "it is fixed", || {
            Ok((script(&server, "SN-1")? == "own").then_some(()))
        })?;
        manifests.write("third.yaml", &broken)?;
        server.stop()?;
    }
    ensure!(
        fs::read(state.path().join("folder.copy.damaged"))? == bytes,
        "the damaged copy is left for inspection"
    );
    Ok(())
}

#[test]
fn standalone_keeps_objects_of_an_emptied_folder_until_confirmed() -> Result<()> {
    let manifests = Manifests::of(&[says_its_name("own")])?;
    for n in 0..60 {
        manifests.write(
            &format!("{n}.yaml"),
            &assignment(&format!("m{n}"), &format!("serialNumbers: [SN-{n}]"), "own"),
        )?;
    }
    let state = tempfile::tempdir()?;
    let server = standalone(&manifests, state.path())?;
    let watchman = Watchman::start(vec![server.url("/ipxe?serial=SN-7")]);
    for entry in fs::read_dir(manifests.path())? {
        fs::remove_file(entry?.path())?;
    }
    eventually(SOON, "the guard holds", || {
        Ok(verbose(&server)?
            .contains("the guard keeps 61 of 61 objects")
            .then_some(()))
    })?;
    assert_eq!(script(&server, "SN-59")?, "own");
    watchman.end()?;
    server.signal("KILL")?;
    drop(server);
    let server = standalone(&manifests, state.path())?;
    ensure!(
        verbose(&server)?.contains("the guard keeps 61 of 61 objects"),
        "{}",
        verbose(&server)?
    );
    assert_eq!(script(&server, "SN-59")?, "own");
    let metrics = server.get(&server.admin_url("/metrics"))?.body;
    ensure!(
        metrics.contains("shaper_guard_holding 1")
            && metrics.contains("shaper_guard_held_objects 61"),
        "{metrics}"
    );
    let confirmed = http::confirm(&server.admin_url("/guard/confirm"))?;
    assert_eq!(
        (confirmed.status, confirmed.body.as_str()),
        (200, "removed 61 objects\n")
    );
    eventually(SOON, "they are gone", || {
        Ok((script(&server, "SN-59")? == "404").then_some(()))
    })?;
    server.stop()?;
    let server = standalone(&manifests, state.path())?;
    assert_eq!(script(&server, "SN-59")?, "404");
    server
        .log()
        .must_say("the folder contains no *.yaml, *.yml or *.json file")?;
    Ok(())
}
