//! Hostile clients over HTTPS, and during the handshake.

use anyhow::{Context, Result, ensure};
use e2e::assets::{Package, ensure_packages};
use e2e::attack::{Crowd, Habit, runtime};
use e2e::certificates::{Authority, Directory, Leaf};
use e2e::manifests::{Manifests, assignment, profile};
use e2e::process;
use e2e::server::Server;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// A `ClientHello` of TLS 1.2. The server answers with its certificate and a signature.
fn client_hello() -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.push(0);
    body.extend([0, 4, 0xc0, 0x2b, 0xc0, 0x2f, 1, 0]);
    let extensions: [&[u8]; 4] = [
        // Without server_name, as a machine that uses an address.
        &[0, 10, 0, 4, 0, 2, 0, 23],
        &[0, 11, 0, 2, 1, 0],
        &[0, 13, 0, 8, 0, 6, 4, 1, 4, 3, 8, 4],
        &[0, 23, 0, 0],
    ];
    let extensions = extensions.concat();
    body.extend(u16::try_from(extensions.len()).unwrap_or(0).to_be_bytes());
    body.extend(extensions);
    let length = u16::try_from(body.len()).unwrap_or(0);
    let mut record = vec![22, 3, 1];
    record.extend((length + 4).to_be_bytes());
    record.extend([1, 0]);
    record.extend(length.to_be_bytes());
    record.extend(body);
    record
}

/// The start of a `ClientHello` of 64 KiB.
fn long_client_hello() -> Vec<u8> {
    let mut hello = vec![1, 0, 255, 255, 3, 3];
    hello.resize(60 * 1024, 7);
    let record = |part: &[u8]| {
        let length = u16::try_from(part.len()).unwrap_or(0);
        [&[22, 3, 1][..], &length.to_be_bytes(), part].concat()
    };
    hello.chunks(16 * 1024).flat_map(record).collect()
}

#[test]
fn unfinished_handshakes_take_bounded_memory_and_machines_boot() -> Result<()> {
    const MIB: u64 = 1024;
    ensure_packages(&[Package::Curl])?;
    let manifests = Manifests::of(&[
        profile("secure", "#!ipxe\necho BOOTED-{{ subject.serial }} \n"),
        assignment("all", "", "secure"),
    ])?;
    let authority = Authority::new("a private authority")?;
    let certificates = Directory::of(
        &authority.issue(&Leaf::server("boot.lab").address([127, 0, 0, 1]))?,
        &authority,
    )?;
    let mut server = Server::standalone(manifests.path())
        .args(["--https-listen", "127.0.0.1:0"])
        .args(["--https-tls-dir".as_ref(), certificates.path().as_os_str()])
        .start_ready()?;
    let https = server.https_address()?;
    let trusted = certificates.path().join("ca.crt").display().to_string();
    let fetch = || {
        let url = format!("https://{https}/ipxe?serial=S1");
        process::output(
            "curl",
            [
                "--silent",
                "--show-error",
                "--max-time",
                "30",
                "--cacert",
                &trusted,
                &url,
            ],
        )
    };
    ensure!(fetch()?.contains("BOOTED-S1"));
    let before = server.process().memory()?;
    let runtime = runtime()?;
    // Longer than any handshake may be, and the longest that may go on.
    let long = Crowd::gather(&runtime, https, 1_000, &Habit::Begin(long_client_hello()))?;
    long.wait("all are closed", |long| long.closed() == 1_000)?;
    let unfinished = long_client_hello()[..30 * 1024].to_vec();
    let crowd = Crowd::gather(&runtime, https, 7_000, &Habit::Begin(unfinished))?;
    ensure!(fetch()?.contains("BOOTED-S1"));
    let memory = server.process().memory()? - before;
    println!(
        "7,000 unfinished handshakes of 30 KiB: {memory} KiB, {} closed",
        crowd.closed()
    );
    // They are 210 MiB, without the buffers that they are in.
    ensure!(memory < 200 * MIB, "{memory} KiB");
    let displaced: u64 = server.metric("shaper_http_connections_displaced_total")?;
    ensure!(displaced > 1_000, "{displaced} were displaced");
    crowd.wait("all are closed", |crowd| crowd.closed() == 7_000)?;
    ensure!(fetch()?.contains("BOOTED-S1"));
    Ok(())
}

#[test]
fn machines_are_served_among_idle_broken_and_endless_handshakes() -> Result<()> {
    ensure_packages(&[Package::Curl])?;
    let small = "#!ipxe\necho BOOTED-{{ subject.serial }} \n";
    let manifests = Manifests::of(&[profile("secure", small), assignment("all", "", "secure")])?;
    let authority = Authority::new("a private authority")?;
    let certificates = Directory::of(
        &authority.issue(&Leaf::server("boot.lab").address([127, 0, 0, 1]))?,
        &authority,
    )?;
    let mut server = Server::standalone(manifests.path())
        .args(["--https-listen", "127.0.0.1:0"])
        .args(["--https-tls-dir".as_ref(), certificates.path().as_os_str()])
        .start_ready()?;
    let https = server.https_address()?;
    let trusted = certificates.path().join("ca.crt").display().to_string();
    let fetch = |serial: &str| -> Result<()> {
        let url = format!("https://{https}/ipxe?serial={serial}");
        let script = process::output(
            "curl",
            [
                "--silent",
                "--show-error",
                "--max-time",
                "30",
                "--cacert",
                &trusted,
                &url,
            ],
        )?;
        ensure!(script.contains(&format!("BOOTED-{serial}")), "{script}");
        Ok(())
    };
    fetch("before")?;

    let runtime = runtime()?;
    let idle = Crowd::gather(&runtime, https, 2_000, &Habit::Idle)?;
    let slow = Crowd::gather(
        &runtime,
        https,
        1_000,
        &Habit::Dribble(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    )?;
    // Abandoned handshakes: the server signs for each.
    for _ in 0..1_000 {
        let mut stream = TcpStream::connect(https)?;
        stream.write_all(&client_hello())?;
        let mut first = [0; 6];
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        stream
            .read_exact(&mut first)
            .context("the server answers a ClientHello")?;
        ensure!(
            first[0] == 22 && first[5] == 2,
            "no ServerHello but {first:?}"
        );
    }
    for garbage in [
        &b"GET /ipxe HTTP/1.1\r\nHost: a\r\n\r\n"[..],
        &[22, 3, 1, 255, 255],
        &[0; 64],
        &[22, 3, 3, 0, 4, 0, 0, 0, 0],
        &[21, 3, 3, 0, 2, 1, 0],
    ] {
        let mut stream = TcpStream::connect(https)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        stream.write_all(garbage)?;
        let mut answer = Vec::new();
        // An alert, nothing, or a reset.
        let _ = stream.read_to_end(&mut answer);
        ensure!(
            answer.first().is_none_or(|first| *first == 21),
            "{garbage:?} gets {answer:?}"
        );
    }
    for serial in ["among-1", "among-2", "among-3"] {
        fetch(serial)?;
    }
    ensure!(server.get(&server.url("/ipxe?serial=plain"))?.status == 200);
    let memory = server.process().memory()?;
    println!("3,000 handshakes: {memory} KiB");
    ensure!(memory < 512 * 1024, "{memory} KiB");
    idle.wait("the idle are closed", |idle| idle.closed() == 2_000)?;
    slow.wait("the slow are closed", |slow| slow.closed() == 1_000)?;
    fetch("after")?;
    Ok(())
}
