//! Too many clients, too slow clients, too few files: machines among them boot, and memory is
//! bounded.

use anyhow::{Result, ensure};
use e2e::attack::{Crowd, HANG, Habit, boot_all, runtime, storm};
use e2e::http;
use e2e::machine::Machine;
use e2e::manifests::{Manifests, assignment};
use e2e::process;
use e2e::server::Server;
use std::time::{Duration, Instant};

const MIB: u64 = 1024;

/// A Profile for every machine, with a small config and one of a mebibyte. A virtual machine powers
/// itself off.
fn manifests() -> Result<Manifests> {
    let profile = "apiVersion: shaper.amahdha.com/v1alpha1
kind: Profile
metadata:
  name: p
  labels: {profile: p}
spec:
  ipxe: |
    #!ipxe
    echo BOOTED-{{ subject.serial }} config={{ small }} long={{ long }}
    sleep 1
    reboot
  additionalConfig:
    small: |
      for {{ subject.serial }}
    long: |
      {% for i in range(1000) %}LINE{% endfor %}
"
    .replace("LINE", &"0123456789abcdef".repeat(60));
    Manifests::of(&[profile, assignment("everybody", "", "p")])
}

/// The target of the long config.
fn long(server: &Server) -> Result<String> {
    let script = server.get(&server.url("/ipxe?serial=S1"))?.body;
    let link = script
        .split("long=http://")
        .nth(1)
        .and_then(|link| link.split_whitespace().next())
        .unwrap_or_default();
    let (host, path) = link.split_at(link.find('/').unwrap_or(0));
    Ok(format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    ))
}

#[test]
fn machines_boot_among_ten_thousand_idle_and_slow_connections_which_are_closed() -> Result<()> {
    let manifests = manifests()?;
    let mut server = Server::standalone(manifests.path()).start_ready()?;
    let runtime = runtime()?;
    let idle = Crowd::gather(&runtime, server.http_address(), 5_000, &Habit::Idle)?;
    let slow = Crowd::gather(
        &runtime,
        server.http_address(),
        5_000,
        &Habit::Dribble(b"GET /ipxe?serial=S1 HTTP/1.1\r\nHost: a\r\nX: "),
    )?;
    let boots = boot_all(&runtime, server.http_address(), 500, 20);
    let memory = server.process().memory()?;
    println!(
        "among 10,000: p50 {:?}, p99 {:?}, {memory} KiB",
        boots.percentile(50),
        boots.percentile(99)
    );
    boots.check()?;
    ensure!(boots.waits == 0, "{} machines had to wait", boots.waits);
    ensure!(memory < 1024 * MIB, "{memory} KiB");
    ensure!(idle.refused() + slow.refused() == 0, "{idle:?} {slow:?}");
    // 15 s after they connected, whatever they sent.
    idle.wait("the idle are closed", |idle| idle.closed() == 5_000)?;
    slow.wait("the slow are closed", |slow| slow.closed() == 5_000)?;
    boot_all(&runtime, server.http_address(), 100, 10).check()?;
    ensure!(
        server
            .log()
            .text()
            .lines()
            .filter(|line| !line.contains("\"served\""))
            .count()
            < 100,
        "the flood fills the log"
    );
    Ok(())
}

#[test]
fn unfinished_heads_take_bounded_memory_and_machines_boot() -> Result<()> {
    let manifests = manifests()?;
    let mut server = Server::standalone(manifests.path()).start_ready()?;
    let runtime = runtime()?;
    boot_all(&runtime, server.http_address(), 50, 10).check()?;
    let before = server.process().memory()?;
    let mut head = b"GET /ipxe?serial=S1 HTTP/1.1\r\nHost: a\r\nX: ".to_vec();
    head.resize(31 * 1024, b'x');
    let crowd = Crowd::gather(&runtime, server.http_address(), 8_000, &Habit::Begin(head))?;
    let boots = boot_all(&runtime, server.http_address(), 200, 20);
    let memory = server.process().memory()? - before;
    println!(
        "8,000 unfinished heads of 31 KiB: {memory} KiB, {} closed",
        crowd.closed()
    );
    boots.check()?;
    ensure!(boots.waits == 0, "{} machines had to wait", boots.waits);
    // They are 248 MiB, without the buffers that they are in.
    ensure!(memory < 200 * MIB, "{memory} KiB");
    let displaced: u64 = server.metric("shaper_http_connections_displaced_total")?;
    ensure!(displaced > 1_000, "{displaced} were displaced");
    server.log().must_say("unfinished requests")?;
    crowd.wait("all are closed", |crowd| crowd.closed() == 8_000)?;
    boot_all(&runtime, server.http_address(), 50, 10).check()
}

#[test]
fn ten_times_more_machines_than_places_all_boot_after_waiting() -> Result<()> {
    let manifests = manifests()?;
    let mut server = Server::standalone(manifests.path())
        .args(["--http-connections", "2000"])
        .start_ready()?;
    let runtime = runtime()?;
    let mut machine = Machine::on_user_network(&server.url_for_user_network("/boot.ipxe"))
        .serial("REAL")
        .boot()?;
    let boots = storm(
        &runtime,
        server.http_address(),
        20_000,
        Duration::from_secs(5),
        Duration::from_secs(1),
    );
    let (memory, shed) = (
        server.process().memory()?,
        server.metric("shaper_http_connections_shed_total")?,
    );
    println!(
        "20,000 machines: {} waits, {:?}, {shed} shed, p99 {:?}, {memory} KiB",
        boots.waits,
        boots.retry_after,
        boots.percentile(99)
    );
    boots.check()?;
    ensure!(boots.booted == 20_000, "{} booted", boots.booted);
    ensure!(
        shed > 1_000,
        "only {shed} were sent away: this was no overload"
    );
    ensure!(
        boots
            .retry_after
            .iter()
            .all(|seconds| (2..=10).contains(seconds))
            && boots.retry_after.len() > 3,
        "{:?}",
        boots.retry_after
    );
    ensure!(memory < 512 * MIB, "{memory} KiB");
    machine.wait_for("BOOTED-REAL", Duration::from_secs(90))?;
    Ok(())
}

#[test]
fn unread_long_answers_are_bounded_and_short_ones_are_served() -> Result<()> {
    let manifests = manifests()?;
    let mut server = Server::standalone(manifests.path()).start_ready()?;
    let runtime = runtime()?;
    let readers = Crowd::gather(
        &runtime,
        server.http_address(),
        900,
        &Habit::Ask(long(&server)?),
    )?;
    readers.wait("some are sent away", |readers| readers.shed() > 50)?;
    let boots = boot_all(&runtime, server.http_address(), 200, 10);
    let memory = server.process().memory()?;
    println!(
        "900 readers of a mebibyte: {} got 503, {memory} KiB",
        readers.shed()
    );
    boots.check()?;
    ensure!(
        boots.waits == 0,
        "{} machines had to wait for a short answer",
        boots.waits
    );
    ensure!(memory < 1024 * MIB, "{memory} KiB");
    // The closed connections free their places.
    readers.go(&runtime);
    let taker = Crowd::gather(
        &runtime,
        server.http_address(),
        1,
        &Habit::Sip(long(&server)?, 1_000),
    )?;
    taker.wait("a long answer is served again", |taker| taker.whole() == 1)
}

#[test]
fn clients_queue_while_files_run_out_and_the_log_says_so_once() -> Result<()> {
    let manifests = manifests()?;
    let mut server = Server::standalone(manifests.path()).start_ready()?;
    let runtime = runtime()?;
    boot_all(&runtime, server.http_address(), 10, 1).check()?;
    let id = server.process().id();
    let limit = |most: usize| {
        process::output(
            "prlimit",
            ["--pid", &id.to_string(), &format!("--nofile={most}:20000")],
        )
        .map(drop)
    };
    limit(std::fs::read_dir(format!("/proc/{id}/fd"))?.count() + 20)?;
    // The kernel accepts them all; the server can't.
    let crowd = Crowd::gather(&runtime, server.http_address(), 300, &Habit::Idle)?;
    let says = |line: &str| line.contains("can't accept connections");
    ensure!(
        server.log().wait_for(HANG, says).is_some(),
        "nothing in the log:\n{}",
        server.log().text()
    );
    std::thread::sleep(Duration::from_secs(2));
    limit(20_000)?;
    // Without a restart, and without a second attempt of any machine.
    boot_all(&runtime, server.http_address(), 50, 10).check()?;
    let errors = server.metric("shaper_http_accept_errors_total")?;
    ensure!(errors >= 10, "{errors} failures are counted");
    let said = server
        .log()
        .text()
        .lines()
        .filter(|line| says(line))
        .count();
    println!("{errors} failures to accept, said {said} times");
    ensure!(said == 1, "said {said} times:\n{}", server.log().text());
    crowd.go(&runtime);
    Ok(())
}

#[test]
fn a_low_file_limit_is_enough_to_shed_excess_clients() -> Result<()> {
    let manifests = manifests()?;
    let server = Server::standalone(manifests.path())
        .open_files(256)
        .start_ready()?;
    let runtime = runtime()?;
    let boots = storm(
        &runtime,
        server.http_address(),
        1_000,
        Duration::ZERO,
        Duration::from_millis(200),
    );
    println!("256 files: {} waits", boots.waits);
    boots.check()?;
    ensure!(boots.waits > 100, "{} waits", boots.waits);
    ensure!(
        server.metric("shaper_http_accept_errors_total")? == 0,
        "it ran out of files before it sent anybody away"
    );
    server.log().must_say("raise it to 32768")?;
    Ok(())
}

#[test]
fn the_admin_port_answers_probes_among_two_thousand_idle_connections() -> Result<()> {
    let manifests = manifests()?;
    let server = Server::standalone(manifests.path()).start_ready()?;
    let runtime = runtime()?;
    let crowd = Crowd::gather(&runtime, server.admin_address(), 2_000, &Habit::Idle)?;
    for path in ["/healthz", "/readyz", "/metrics"].repeat(10) {
        ensure!(http::get(&server.admin_url(path))?.status == 200, "{path}");
    }
    println!("{} of 2,000 were closed", crowd.closed());
    boot_all(&runtime, server.http_address(), 50, 10).check()
}

#[test]
fn clients_that_connected_before_sigterm_are_served() -> Result<()> {
    let manifests = manifests()?;
    let mut server = Server::standalone(manifests.path())
        .args(["--lameduck", "2"])
        .start_ready()?;
    let runtime = runtime()?;
    // A mebibyte in 64 pieces, in about three seconds.
    let readers = Crowd::gather(
        &runtime,
        server.http_address(),
        500,
        &Habit::Sip(long(&server)?, 20),
    )?;
    let handled = |server: &Server| {
        server.metric("shaper_http_requests_total{route=\"config\",outcome=\"ok\"}")
    };
    let start = Instant::now();
    while handled(&server)? < 500 {
        ensure!(
            start.elapsed() < HANG,
            "{} requests were handled",
            handled(&server)?
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    server.process().signal("TERM")?;
    http::wait_until(&server.admin_url("/readyz"), HANG, |answer| {
        answer.status == 503 && answer.body == "stopping\n"
    })?;
    // Not ready and still serving: a balancer needs a while to notice.
    boot_all(&runtime, server.http_address(), 50, 10).check()?;
    ensure!(server.process().wait(HANG)?.success());
    readers.wait("all have read", |readers| {
        readers.whole() + readers.closed() + readers.shed() == 500
    })?;
    println!("{readers:?}");
    ensure!(readers.whole() == 500, "{readers:?}");
    Ok(())
}
