//! TFTP with usual clients, and with one that follows the RFCs to the letter.

use anyhow::{Context, Result, ensure};
use e2e::assets::{Package, ensure_packages};
use e2e::process;
use e2e::tftp::{Client, Faults, Proxy, Root, Tftp, pattern};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// Names and contents.
type Files = Vec<(&'static str, Vec<u8>)>;

/// Awkward lengths: around one block, and around the 32 MiB at which block numbers of 512-byte
/// blocks wrap.
fn files() -> Result<(Root, Files)> {
    let files = [
        ("empty", 0),
        ("511", 511),
        ("512", 512),
        ("513", 513),
        ("efi/ipxe.efi", 1_050_000),
        ("large", (32 << 20) + 1_000_000),
    ];
    let files: Vec<_> = files.map(|(name, length)| (name, pattern(length))).into();
    Ok((Root::of(&files)?, files))
}

/// A program that fetches `name` into the file `into`.
type Fetch<'a> = &'a dyn Fn(SocketAddr, &str, &Path) -> Result<()>;

fn fetches_all(server: SocketAddr, files: &[(&str, Vec<u8>)], fetch: Fetch<'_>) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let into = folder.path().join("fetched");
    for (name, bytes) in files {
        fetch(server, name, &into).with_context(|| format!("{name} ({} bytes)", bytes.len()))?;
        let fetched = std::fs::read(&into)?;
        ensure!(
            fetched == *bytes,
            "{name}: {} other bytes instead of {}",
            fetched.len(),
            bytes.len()
        );
        std::fs::remove_file(&into)?;
    }
    Ok(())
}

/// tftp-hpa fetches in the given mode and requests no options.
fn tftp_hpa(server: SocketAddr, name: &str, into: &Path) -> Result<()> {
    let (host, port) = (server.ip().to_string(), server.port().to_string());
    let into = into.display().to_string();
    let out = process::output(
        "tftp",
        [&host, &port, "-m", "binary", "-c", "get", name, &into],
    )?;
    ensure!(!out.contains("Error"), "tftp says {out}");
    Ok(())
}

fn atftp(options: &[&str]) -> impl Fn(SocketAddr, &str, &Path) -> Result<()> {
    move |server, name, into| {
        let port = server.port().to_string();
        // tftp-hpa does not create an empty file, but keeps one that exists.
        std::fs::write(into, "")?;
        let into = into.display().to_string();
        let mut args = Vec::new();
        for option in options {
            args.extend(["--option", option]);
        }
        let host = server.ip().to_string();
        args.extend([
            "--get",
            "--remote-file",
            name,
            "--local-file",
            &into,
            &host,
            &port,
        ]);
        process::output("atftp", args).map(drop)
    }
}

fn curl(options: &[&str]) -> impl Fn(SocketAddr, &str, &Path) -> Result<()> {
    move |server, name, into| {
        let (url, into) = (
            format!("tftp://{server}/{name}"),
            into.display().to_string(),
        );
        process::output(
            "curl",
            ["-sS", "-o", &into, "--max-time", "60"]
                .iter()
                .chain(options)
                .chain(&[url.as_str()]),
        )
        .map(drop)
    }
}

#[test]
fn curl_fetches_files_of_every_length_with_and_without_options() -> Result<()> {
    ensure_packages(&[Package::Curl])?;
    let (root, files) = files()?;
    let server = Tftp::serving(root.path()).start()?;
    fetches_all(server.address(), &files, &curl(&[]))?;
    fetches_all(server.address(), &files, &curl(&["--tftp-no-options"]))?;
    fetches_all(server.address(), &files, &curl(&["--tftp-blksize", "1432"]))?;
    fetches_all(
        server.address(),
        &files[..5],
        &curl(&["--tftp-blksize", "8"]),
    )?;
    Ok(())
}

#[test]
fn tftp_hpa_fetches_files_of_every_length() -> Result<()> {
    ensure_packages(&[Package::TftpHpa])?;
    let (root, files) = files()?;
    let server = Tftp::serving(root.path()).start()?;
    fetches_all(server.address(), &files, &tftp_hpa)
}

#[test]
fn atftp_fetches_files_of_every_length_with_each_option() -> Result<()> {
    ensure_packages(&[Package::Atftp])?;
    let (root, files) = files()?;
    let server = Tftp::serving(root.path()).start()?;
    for options in [
        &[][..],
        &["blksize 1432", "tsize 0"],
        &["timeout 3"],
        &["windowsize 8"],
        &["blksize 1024", "windowsize 16", "tsize 0"],
    ] {
        fetches_all(server.address(), &files[..5], &atftp(options))
            .with_context(|| format!("{options:?}"))?;
    }
    fetches_all(
        server.address(),
        &files[5..],
        &atftp(&["blksize 1432", "windowsize 16"]),
    )?;
    // Block numbers wrap.
    fetches_all(server.address(), &files[5..], &atftp(&[]))
}

#[test]
fn each_option_is_granted_as_its_rfc_says() -> Result<()> {
    let (root, files) = files()?;
    let server = Tftp::serving(root.path()).start()?;
    let (name, bytes) = &files[4];
    let fetched = Client::of(server.address())
        .option("blksize", 65_464)
        .option("TSIZE", 0)
        .option("timeout", 2)
        .option("windowsize", 1_000)
        .option("unknown", "x")
        .fetch(name)?;
    ensure!(fetched.bytes == *bytes);
    let granted: Vec<_> = fetched
        .options
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    ensure!(
        granted
            == [
                "blksize=1468",
                "timeout=2",
                "tsize=1050000",
                "windowsize=64"
            ],
        "{granted:?}"
    );
    let line = server.wait_for_line(&["completed", "efi/ipxe.efi", "1468"])?;
    for part in [
        "\"bytes\":1050000",
        "\"windowsize\":64",
        "\"peer\":\"127.0.0.1:",
        "took_ms",
    ] {
        ensure!(line.contains(part), "no {part} in {line}");
    }
    let fetched = Client::of(server.address()).fetch(name)?;
    ensure!(fetched.bytes == *bytes && fetched.options.is_empty());
    let jumbo = Tftp::serving(root.path())
        .args(["--tftp-mtu", "9000"])
        .start()?;
    let fetched = Client::of(jumbo.address())
        .option("blksize", 65_464)
        .fetch(name)?;
    ensure!(fetched.bytes == *bytes && fetched.options["blksize"] == "8968");
    Ok(())
}

#[test]
fn ipv6_and_ipv4_are_answered_from_the_address_that_was_asked() -> Result<()> {
    let (root, files) = files()?;
    let (name, bytes) = &files[4];
    let server = Tftp::serving(root.path()).listen("[::]:0").start()?;
    // The client checks that the answer comes from the address that it asked.
    for host in ["127.0.0.1", "127.0.0.2", "127.99.0.7", "::1"] {
        let address = SocketAddr::new(host.parse()?, server.address().port());
        for windowsize in [1, 16] {
            let fetched = Client::of(address)
                .option("windowsize", windowsize)
                .fetch(name)
                .with_context(|| host.to_owned())?;
            ensure!(fetched.bytes == *bytes && fetched.from == address);
        }
        let script = String::from_utf8(Client::of(address).fetch("pxe/autoexec.ipxe")?.bytes)?;
        let url = SocketAddr::new(host.parse()?, 8080);
        ensure!(
            script.contains(&format!("set shaper-url http://{url}\n")),
            "{script}"
        );
    }
    let v4 = Tftp::serving(root.path()).listen("0.0.0.0:0").start()?;
    let address = SocketAddr::new("127.0.0.3".parse()?, v4.address().port());
    ensure!(
        Client::of(address)
            .option("windowsize", 8)
            .fetch(name)?
            .from
            == address
    );
    Ok(())
}

#[test]
fn with_a_port_range_answers_come_from_it() -> Result<()> {
    let (root, files) = files()?;
    let (name, bytes) = &files[4];
    let server = Tftp::serving(root.path())
        .args(["--tftp-ports", "47069-47072"])
        .start()?;
    let mut ports = std::collections::BTreeSet::new();
    for windowsize in [1, 2, 4, 8] {
        let fetched = Client::of(server.address())
            .option("windowsize", windowsize)
            .fetch(name)?;
        ensure!(fetched.bytes == *bytes);
        ports.insert(fetched.from.port());
    }
    ensure!(ports.iter().copied().eq(47_069..=47_072), "{ports:?}");
    Ok(())
}

#[test]
fn files_arrive_whole_over_a_network_that_loses_duplicates_and_reorders() -> Result<()> {
    ensure_packages(&[Package::Atftp, Package::Curl, Package::TftpHpa])?;
    let bytes = pattern(300_000);
    let small = pattern(20_000);
    let root = Root::of(&[("ipxe.efi", &bytes), ("small", &small)])?;
    let server = Tftp::serving(root.path()).start()?;
    let faults = Faults {
        lost: 10,
        copied: 10,
        overtaken: 10,
    };
    let mut clients = Vec::new();
    for (seed, windowsize) in [1_u64, 1, 4, 16].into_iter().enumerate() {
        let (proxy, bytes) = (
            Proxy::to(server.address(), faults, 7 + seed as u64)?,
            bytes.clone(),
        );
        clients.push(std::thread::spawn(move || -> Result<()> {
            let mut client = Client::of(proxy.address())
                .option("blksize", 1432)
                .option("tsize", 0);
            if windowsize > 1 {
                client = client.option("windowsize", windowsize);
            }
            ensure!(
                client.fetch("ipxe.efi")?.bytes == bytes,
                "other bytes with window {windowsize}"
            );
            ensure!(
                proxy.counts().iter().all(|count| *count > 5),
                "there were hardly any faults: {:?}",
                proxy.counts()
            );
            Ok(())
        }));
    }
    // tftp-hpa uses small blocks, and each loss costs it a second or more: a smaller file is
    // enough.
    let (files, few) = ([("ipxe.efi", bytes)], [("small", small)]);
    let programs: [(&str, &[_], Fetch<'_>); 3] = [
        ("atftp", &files, &atftp(&["blksize 1432"])),
        ("curl", &few, &curl(&["--tftp-blksize", "1432"])),
        ("tftp-hpa", &few, &tftp_hpa),
    ];
    for (seed, (program, files, fetch)) in (3..).zip(programs) {
        let proxy = Proxy::to(server.address(), faults, seed)?;
        fetches_all(proxy.address(), files, fetch).context(program)?;
    }
    for client in clients {
        client
            .join()
            .map_err(|_| anyhow::anyhow!("a client failed"))??;
    }
    Ok(())
}

#[test]
fn added_changed_and_removed_files_are_picked_up() -> Result<()> {
    let root = Root::of(&[("a", "one")])?;
    let server = Tftp::serving(root.path()).start()?;
    let client = Client::of(server.address());
    ensure!(client.fetch("a")?.bytes == b"one");
    root.write("a", b"another")?;
    root.write("b/c", b"new")?;
    std::os::unix::fs::symlink("/etc/passwd", root.path().join("passwd"))?;
    server.wait_for_metric("shaper_tftp_files", |files| files == 2)?;
    server.wait_for_metric("shaper_tftp_skipped_files", |problems| problems == 1)?;
    ensure!(client.fetch("a")?.bytes == b"another");
    ensure!(client.fetch("B\\C")?.bytes == b"new");
    ensure!(client.fetch("passwd").is_err());
    ensure!(
        server
            .admin("/readyz?verbose")?
            .body
            .contains("passwd: symlinks out of the served directory")
    );
    std::fs::remove_file(root.path().join("a"))?;
    server.wait_for_metric("shaper_tftp_files", |files| files == 1)?;
    let error = client.fetch("a").unwrap_err().to_string();
    ensure!(error == "error 1: File not found", "{error}");
    Ok(())
}

#[test]
fn a_running_transfer_completes_before_the_server_stops() -> Result<()> {
    let bytes = pattern(100_000);
    let root = Root::of(&[("a", &bytes)])?;
    let mut server = Tftp::serving(root.path()).start()?;
    let address = server.address();
    let mut asked = false;
    let fetched = Client::of(address).fetch_slowly("a", |length| {
        if length > 20_000 && !std::mem::replace(&mut asked, true) {
            server.ask_to_stop().expect("the server runs");
            std::thread::sleep(Duration::from_millis(400));
            assert_eq!(
                e2e::tftp::ask(address, b"\0\x01a\0octet\0").expect("the socket is there"),
                None,
                "a new transfer began"
            );
        }
    })?;
    ensure!(fetched.bytes == bytes);
    ensure!(server.wait(Duration::from_secs(10))?.success());
    server.wait_for_line(&["completed", "100000"])?;
    Ok(())
}
