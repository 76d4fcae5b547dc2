//! Folders and signals of somebody who means no good, or of an operator who errs.

use anyhow::{Context, Result, ensure};
use e2e::http;
use e2e::manifests::{Manifests, assignment, profile};
use e2e::server::Server;
use e2e::tftp::{Client, Root, address_of};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

/// Far longer than anything here takes.
const LONG: Duration = Duration::from_secs(90);

/// A Profile and an Assignment of the machines with this serial number.
fn machine(serial: &str) -> String {
    let script = format!("#!ipxe\necho script of {serial}\n");
    let name = serial.to_lowercase();
    let selector = format!("serialNumbers: [{serial}]");
    format!(
        "{}---\n{}",
        profile(&name, &script),
        assignment(&name, &selector, &name)
    )
}

fn boots(server: &Server, serial: &str) -> Result<()> {
    let wanted = format!("script of {serial}");
    let url = server.url(&format!("/ipxe?serial={serial}"));
    http::wait_until(&url, LONG, |answer| answer.body.contains(&wanted))?;
    Ok(())
}

/// Twelve directories, each with symlinks to all others: more paths than any walk could follow.
fn link_maze(root: &Path) -> Result<()> {
    let names: Vec<_> = (0..12).map(|n| format!("d{n}")).collect();
    for name in &names {
        fs::create_dir(root.join(name))?;
        for other in names.iter().filter(|other| *other != name) {
            symlink(
                format!("../{other}"),
                root.join(name).join(format!("to-{other}")),
            )?;
        }
    }
    Ok(())
}

#[test]
fn folders_that_link_to_each_other_are_followed_all_the_same() -> Result<()> {
    let manifests = Manifests::of(&[machine("SN-1")])?;
    let root = Root::of(&[("a", "first")])?;
    link_maze(manifests.path())?;
    link_maze(root.path())?;
    let server = Server::standalone(manifests.path())
        .args(["--tftp-listen", "127.0.0.1:0", "--tftp-root"])
        .args([root.path()])
        .start_ready()?;
    fs::write(manifests.path().join("d7/new.yaml"), machine("SN-2"))?;
    boots(&server, "SN-2")?;
    fs::write(root.path().join("d7/b"), b"second")?;
    let tftp = address_of(&server)?;
    let started = std::time::Instant::now();
    loop {
        let fetched = Client::of(tftp).fetch("d3/to-d7/b");
        if fetched.as_ref().is_ok_and(|file| file.bytes == b"second") {
            break;
        }
        ensure!(started.elapsed() < LONG, "{fetched:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
    server.stop()
}

#[test]
fn a_file_that_can_not_be_read_is_reported_and_keeps_its_machines() -> Result<()> {
    let elsewhere = tempfile::tempdir()?;
    let volume = elsewhere.path().join("volume");
    fs::create_dir(&volume)?;
    fs::write(volume.join("a.yaml"), machine("SN-1"))?;
    let manifests = Manifests::of(&[machine("SN-2")])?;
    symlink(volume.join("a.yaml"), manifests.path().join("a.yaml"))?;
    let server = Server::standalone(manifests.path()).start_ready()?;
    boots(&server, "SN-1")?;
    fs::rename(&volume, elsewhere.path().join("unmounted"))?;
    symlink("/proc/kmsg", manifests.path().join("endless.yaml"))?;
    let pipe = manifests.path().join("pipe.yaml");
    ensure!(
        std::process::Command::new("mkfifo")
            .arg(pipe)
            .status()?
            .success()
    );
    for part in ["a.yaml", "endless.yaml", "pipe.yaml"] {
        http::wait_until(&server.admin_url("/readyz?verbose"), LONG, |answer| {
            answer.status == 200 && answer.body.contains(part)
        })?;
    }
    boots(&server, "SN-1")?;
    manifests.write("new.yaml", &machine("SN-3"))?;
    boots(&server, "SN-3")?;
    ensure!(server.metric("shaper_manifest_problems")? == 3);
    server.stop()
}

#[test]
fn a_hangup_reads_the_folder_again_and_repeated_terms_cut_off_no_answer() -> Result<()> {
    let manifests = Manifests::of(&[machine("SN-1")])?;
    let mut server = Server::standalone(manifests.path())
        .args(["--lameduck", "1"])
        .start_ready()?;
    let loads = server.metric("shaper_loads_total")?;
    server.signal("HUP")?;
    server.log().must_say("reading files again")?;
    http::wait_until(&server.admin_url("/metrics"), LONG, |metrics| {
        let total = metrics.body.lines().find_map(|line| {
            line.strip_prefix("shaper_loads_total ")?
                .parse::<u64>()
                .ok()
        });
        total.is_some_and(|total| total > loads)
    })?;
    let mut client = TcpStream::connect(server.http_address())?;
    client.set_read_timeout(Some(LONG))?;
    client.write_all(b"GET /ipxe?serial=SN-1 HTTP/1.1\r\n")?;
    for _ in 0..4 {
        server.signal("TERM")?;
        std::thread::sleep(Duration::from_millis(300));
    }
    server.signal("HUP")?;
    client.write_all(b"Host: shaper\r\n\r\n")?;
    let mut answer = String::new();
    client.read_to_string(&mut answer).context("no answer")?;
    ensure!(answer.contains("script of SN-1"), "{answer}");
    ensure!(server.process().wait(LONG)?.success());
    Ok(())
}

#[test]
fn a_flood_of_refused_requests_is_counted_and_does_not_fill_the_log() -> Result<()> {
    const FLOOD: usize = 2_000;
    let manifests = Manifests::of(&[machine("SN-1")])?;
    let server = Server::standalone(manifests.path()).start_ready()?;
    let mut client = TcpStream::connect(server.http_address())?;
    client.set_read_timeout(Some(LONG))?;
    let mut reader = client.try_clone()?;
    let reading = std::thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
    for _ in 0..FLOOD {
        client
            .write_all(b"GET /ipxe?serial=%c2%9b%7f%e2%80%ae HTTP/1.1\r\nHost: shaper\r\n\r\n")?;
    }
    server
        .log()
        .wait_for(LONG, |line| line.contains("more requests were refused"))
        .context("the log does not tell of lines that were left out")?;
    drop(client);
    let lines = server.log().text();
    let refused = lines.matches("\"message\":\"refused\"").count() as u64;
    let left_out = server.metric("shaper_http_log_lines_left_out_total")?;
    ensure!(refused < FLOOD as u64 / 2, "{refused} lines");
    ensure!(
        refused + left_out == FLOOD as u64,
        "{refused} and {left_out}"
    );
    ensure!(
        lines.contains("\\u009b\\u007f\\u202e"),
        "the serial number is logged escaped"
    );
    ensure!(!lines.contains(['\u{9b}', '\u{7f}', '\u{202e}']));
    server.stop()?;
    drop(reading);
    Ok(())
}
