//! A full disk under the state directory, and truncated files in it: machines boot all the same.

use anyhow::{Context, Result, ensure};
use e2e::manifests::{Manifests, assignment, says_its_name};
use e2e::process;
use e2e::roles::{Role, eventually};
use e2e::server::Server;
use e2e::site::{SOON, Site, linked, serial};
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A full disk is retried every 30 s.
const RETRIED: Duration = Duration::from_mins(2);

/// A disk of 256 KiB.
struct Disk(tempfile::TempDir);

impl Disk {
    fn mount() -> Result<Self> {
        ensure!(
            process::is_root(),
            "a small disk needs root: run the tests as root, or leave these out with `--skip disk`"
        );
        let folder = tempfile::tempdir()?;
        process::output(
            "mount",
            [
                "-t",
                "tmpfs",
                "-o",
                "size=256k,mode=700",
                "shaper-test",
                &folder.path().display().to_string(),
            ],
        )?;
        Ok(Self(folder))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Fills the remaining space.
    fn fill(&self) -> Result<PathBuf> {
        let path = self.path().join("ballast");
        let mut file = File::create(&path)?;
        let error = std::iter::repeat_with(|| file.write_all(&[0; 4096]))
            .find_map(Result::err)
            .context("it ends")?;
        ensure!(error.kind() == std::io::ErrorKind::StorageFull, "{error}");
        Ok(path)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A program may still have files open there.
        let _ = process::output("umount", ["--lazy".as_ref(), self.path().as_os_str()]);
    }
}

fn replica(site: &Site, state: &Path) -> Result<Role> {
    Role::api(&site.controllers, site.certificates.api.path(), state)?.start_ready()
}

#[test]
fn a_replica_on_a_full_disk_keeps_its_copy_and_saves_again_once_there_is_space() -> Result<()> {
    let mut site = Site::start(1, 0)?;
    let disk = Disk::mount()?;
    let copy = disk.path().join("feed.copy");
    site.replicas.push(replica(&site, disk.path())?);
    site.fill(20)?;
    site.still_follows("whole")?;
    let whole = eventually(SOON, "the copy has the last change", || {
        let bytes = fs::read(&copy)?;
        Ok(String::from_utf8_lossy(&bytes)
            .contains("BOOT-whole")
            .then_some(bytes))
    })?;
    let load = site.load(20)?;
    let ballast = disk.fill()?;
    site.still_follows("full")?;
    let unsaved = "shaper_feed_copy_unsaved{partition=\"\"}";
    eventually(SOON, "the metric says so", || {
        Ok((site.replicas[0].metric(unsaved)? > 0.0).then_some(()))
    })?;
    site.replicas[0]
        .log()
        .must_say("can't write the feed copy")?;
    let verbose = site.replicas[0].admin("/readyz?verbose")?;
    ensure!(
        verbose.status == 200
            && verbose
                .body
                .contains("the copy in --state-dir can't be written"),
        "{verbose:?}"
    );
    ensure!(fs::read(&copy)? == whole, "the last copy is as it was");
    let left: Vec<_> = fs::read_dir(disk.path())?
        .map(|entry| Ok(entry?.file_name()))
        .collect::<Result<_>>()?;
    ensure!(
        left.len() == 3,
        "lock, copy and ballast, and nothing half-written: {left:?}"
    );
    load.wait_for(50)?;
    load.finish().without_waits()?;

    // The replica starts from its copy, without a controller and without space.
    site.controllers[0].signal("KILL")?;
    site.replicas[0].signal("KILL")?;
    site.replicas.clear();
    let started = replica(&site, disk.path())?;
    started.log().must_say("serving the copy on disk")?;
    ensure!(
        started
            .get(&format!("/ipxe?serial={}", serial(7)))?
            .body
            .contains("BOOT-whole"),
        "the last copy is served"
    );
    site.replicas.push(started);
    site.replace_controller(0)?;
    site.still_follows("with-room")?;
    fs::remove_file(ballast)?;
    eventually(RETRIED, "the metric is 0 again", || {
        Ok((site.replicas[0].metric(unsaved)? == 0.0).then_some(()))
    })?;
    eventually(SOON, "the copy has the last change", || {
        Ok(String::from_utf8_lossy(&fs::read(&copy)?)
            .contains("BOOT-with-room")
            .then_some(()))
    })?;
    site.replicas[0].log().must_say("feed copy written again")?;

    // A truncated copy is reported and not served.
    site.controllers[0].signal("KILL")?;
    site.replicas[0].signal("KILL")?;
    site.replicas.clear();
    let length = fs::metadata(&copy)?.len();
    File::options()
        .write(true)
        .open(&copy)?
        .set_len(length / 2)?;
    let started =
        Role::api(&site.controllers, site.certificates.api.path(), disk.path())?.start()?;
    started.log().must_say("ignoring the copy on disk")?;
    started.log().must_say("truncated or corrupt")?;
    let answer = started.get(&format!("/ipxe?serial={}", serial(7)))?;
    ensure!(
        answer.status == 503 && started.admin("/readyz")?.status == 503,
        "it knows nothing yet: {answer:?}"
    );
    site.replace_controller(0)?;
    site.replicas.push(started);
    site.still_follows("after")
}

#[test]
fn standalone_on_a_full_disk_keeps_serving_and_assigns_ids_once_there_is_space() -> Result<()> {
    let disk = Disk::mount()?;
    let manifests = Manifests::of(&[
        linked("first", "BOOT-old"),
        assignment("machine", "serialNumbers: [SN-0]", "first"),
    ])?;
    let server = Server::standalone(manifests.path())
        .state(disk.path())
        .start_ready()?;
    let ask =
        |server: &Server, serial: &str| server.get(&server.url(&format!("/ipxe?serial={serial}")));
    let verbose = |server: &Server| -> Result<String> {
        Ok(server.get(&server.admin_url("/readyz?verbose"))?.body)
    };
    ensure!(
        ask(&server, "SN-0")?.body.contains("BOOT-old"),
        "it is served"
    );
    let kept = eventually(SOON, "both files are written", || {
        Ok([
            fs::read(disk.path().join("folder.copy")).ok(),
            fs::read(disk.path().join("config-ids.json")).ok(),
        ]
        .into_iter()
        .collect::<Option<Vec<_>>>())
    })?;
    let ballast = disk.fill()?;
    // Profiles that need no new id are served, others wait.
    let more = [
        says_its_name("plain"),
        assignment("other", "serialNumbers: [SN-1]", "plain"),
        linked("second", "BOOT-new"),
    ];
    manifests.write("more.yaml", &more.join("---\n"))?;
    manifests.write(
        "last.yaml",
        &assignment("new", "serialNumbers: [SN-2]", "second"),
    )?;
    eventually(SOON, "the plain one is served", || {
        Ok((ask(&server, "SN-1")?.status == 200).then_some(()))
    })?;
    eventually(SOON, "the new one waits", || {
        Ok((ask(&server, "SN-2")?.status == 503).then_some(()))
    })?;
    server
        .log()
        .must_say("can't write the ids of new configs")?;
    server.log().must_say("can't write the last good objects")?;
    ensure!(
        verbose(&server)?.contains("can't write the ids of new configs"),
        "{}",
        verbose(&server)?
    );
    ensure!(
        ask(&server, "SN-0")?.body.contains("BOOT-old"),
        "what was there goes on"
    );
    let now = [
        fs::read(disk.path().join("folder.copy"))?,
        fs::read(disk.path().join("config-ids.json"))?,
    ];
    ensure!(kept == now, "the files are as they were");
    fs::remove_file(ballast)?;
    eventually(RETRIED, "the new one is served", || {
        Ok((ask(&server, "SN-2")?.status == 200).then_some(()))
    })?;
    eventually(RETRIED, "nothing is wrong any more", || {
        Ok((!verbose(&server)?.contains("can't write")).then_some(()))
    })?;
    server.stop()
}
