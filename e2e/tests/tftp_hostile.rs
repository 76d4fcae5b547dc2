//! Malformed packets, climbing names and floods do no harm over TFTP.

use anyhow::{Context, Result, ensure};
use e2e::process::{self, Process};
use e2e::server::binary;
use e2e::tftp::{Client, Root, Tftp, ask, pattern};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::Duration;

/// The error code of an ERROR packet; `None` for silence.
fn error(answer: Option<&[u8]>) -> Result<Option<u8>> {
    match answer {
        None => Ok(None),
        Some([0, 5, 0, code, text @ .., 0]) => {
            ensure!(
                text.len() < 60 && text.iter().all(|byte| (b' '..=b'~').contains(byte)),
                "an odd text: {text:?}"
            );
            Ok(Some(*code))
        }
        Some(other) => anyhow::bail!("neither an ERROR nor silence: {other:?}"),
    }
}

fn request(name: &[u8], rest: &[u8]) -> Vec<u8> {
    [b"\0\x01", name, b"\0", rest].concat()
}

/// Serves one file, `a`, of this many bytes.
fn serving(bytes: usize) -> Result<(Tftp, Root)> {
    let root = Root::of(&[("a", pattern(bytes))])?;
    Ok((Tftp::serving(root.path()).start()?, root))
}

#[test]
fn bad_packets_get_an_error_with_a_fixed_text_or_silence_and_are_counted() -> Result<()> {
    let root = Root::of(&[("ipxe.efi", pattern(200_000))])?;
    std::os::unix::fs::symlink("/etc/passwd", root.path().join("passwd"))?;
    let server = Tftp::serving(root.path()).start()?;
    let long = vec![b'a'; 65_400];
    let cases: Vec<(&str, Vec<u8>, Option<u8>, &str)> = vec![
        (
            "climbs",
            request(b"../../etc/passwd", b"octet\0"),
            Some(1),
            "no_such_file",
        ),
        (
            "climbs, Windows' way",
            request(b"..\\..\\etc\\passwd", b"octet\0"),
            Some(1),
            "no_such_file",
        ),
        (
            "absolute",
            request(b"/etc/passwd", b"octet\0"),
            Some(1),
            "no_such_file",
        ),
        (
            "a link that leaves",
            request(b"passwd", b"octet\0"),
            Some(1),
            "no_such_file",
        ),
        (
            "a folder",
            request(b"/", b"octet\0"),
            Some(1),
            "no_such_file",
        ),
        ("no name", request(b"", b"octet\0"), Some(1), "no_such_file"),
        (
            "not UTF-8",
            request(b"\xfe\xc3\x28", b"octet\0"),
            Some(1),
            "no_such_file",
        ),
        (
            "a long name",
            request(&long[..1_000], b"octet\0"),
            Some(1),
            "no_such_file",
        ),
        (
            "a name of 64 KiB",
            request(&long, b"octet\0"),
            Some(4),
            "oversized",
        ),
        ("64 KiB of nothing", vec![0; 65_000], None, "oversized"),
        (
            "a write",
            b"\0\x02ipxe.efi\0octet\0".to_vec(),
            Some(2),
            "write",
        ),
        ("mail", request(b"ipxe.efi", b"mail\0"), Some(4), "mode"),
        (
            "a program in netascii",
            request(b"ipxe.efi", b"netascii\0"),
            Some(4),
            "mode",
        ),
        (
            "no end of the name",
            b"\0\x01ipxe.efi".to_vec(),
            Some(4),
            "malformed",
        ),
        (
            "no end of the mode",
            b"\0\x01ipxe.efi\0octet".to_vec(),
            Some(4),
            "malformed",
        ),
        ("half an opcode", vec![0], None, "malformed"),
        ("nothing", vec![], None, "malformed"),
        ("an unknown opcode", vec![0, 9, 1, 2, 3], None, "malformed"),
        ("half an ACK", vec![0, 4, 0], None, "malformed"),
        (
            "an ACK of no transfer",
            vec![0, 4, 0, 0],
            None,
            "unknown_transfer",
        ),
        (
            "an ERROR of no transfer",
            b"\0\x05\0\x01x\0".to_vec(),
            None,
            "unknown_transfer",
        ),
        (
            "data",
            b"\0\x03\0\x01data".to_vec(),
            None,
            "not_for_servers",
        ),
        (
            "an OACK",
            b"\0\x06blksize\x00512\0".to_vec(),
            None,
            "not_for_servers",
        ),
    ];
    for (what, packet, expected, reason) in cases {
        let metric = format!("shaper_tftp_refusals_total{{reason=\"{reason}\"}}");
        let before = server.metric(&metric)?;
        let answer = ask(server.address(), &packet)?;
        ensure!(
            error(answer.as_deref()).with_context(|| what.to_owned())? == expected,
            "{what}: {answer:?}"
        );
        ensure!(
            answer.is_none_or(|answer| answer.len() <= packet.len().max(60)),
            "{what}: the answer is larger than the question"
        );
        ensure!(
            server.metric(&metric)? == before + 1,
            "{what}: not counted as {reason}"
        );
    }
    ensure!(Client::of(server.address()).fetch("ipxe.efi")?.bytes == pattern(200_000));
    Ok(())
}

#[test]
fn an_option_that_means_nothing_is_ignored_and_one_that_is_too_large_is_clamped() -> Result<()> {
    let (server, _root) = serving(50_000)?;
    for (option, granted) in [
        ("blksize\x000", None),
        ("blksize\0", None),
        ("blksize\x0065536", Some("blksize\x001468")),
        ("blksize\x0018446744073709551616", Some("blksize\x001468")),
        ("timeout\x000", None),
        ("windowsize\x000", None),
        (
            "windowsize\x0018446744073709551616",
            Some("windowsize\x0064"),
        ),
        ("tsize\0", Some("tsize\x0050000")),
        ("tsize", None),
    ] {
        let answer = ask(
            server.address(),
            &request(b"a", format!("octet\0{option}\0").as_bytes()),
        )?
        .with_context(|| format!("no answer to {option:?}"))?;
        match granted {
            Some(granted) => {
                let expected = [b"\0\x06", granted.as_bytes(), b"\0"].concat();
                ensure!(answer == expected, "{option:?}: {answer:?}");
            }
            None => ensure!(answer.starts_with(&[0, 3, 0, 1]), "{option:?}: {answer:?}"),
        }
    }
    Ok(())
}

#[test]
fn text_is_served_in_netascii() -> Result<()> {
    let root = Root::of(&[("boot.cfg", b"a\nb\r\nc".to_vec())])?;
    let server = Tftp::serving(root.path()).start()?;
    let answer = ask(server.address(), &request(b"boot.cfg", b"netascii\0"))?;
    ensure!(
        answer.as_deref() == Some(b"\0\x03\0\x01a\r\nb\r\nc"),
        "{answer:?}"
    );
    Ok(())
}

#[test]
fn packets_of_other_peers_do_not_affect_a_transfer() -> Result<()> {
    let (server, _root) = serving(50_000)?;
    let other = UdpSocket::bind("127.0.0.1:0")?;
    let fetched = Client::of(server.address()).fetch_slowly("a", |length| {
        for packet in [
            &[0, 4, 0, 1][..],
            &[0, 4, 0xff, 0xff],
            b"\0\x05\0\0stop\0",
            &[0, 4, 0, u8::try_from(length / 512).expect("a small file")],
        ] {
            other
                .send_to(packet, server.address())
                .expect("the server is there");
        }
    })?;
    ensure!(fetched.bytes == pattern(50_000));
    ensure!(server.metric("shaper_tftp_retransmits_total")? == 0);
    Ok(())
}

#[test]
fn future_acknowledgements_are_ignored_and_an_error_ends_the_transfer() -> Result<()> {
    let (server, _root) = serving(50_000)?;
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(server.address())?;
    socket.set_read_timeout(Some(Duration::from_millis(150)))?;
    let mut buffer = [0; 2_000];
    socket.send(b"\0\x01a\0octet\0")?;
    socket.recv(&mut buffer)?;
    for future in [2_u16, 50, 97, 98, 40_000, 65_535] {
        let [high, low] = future.to_be_bytes();
        socket.send(&[0, 4, high, low])?;
        ensure!(
            socket.recv(&mut buffer).is_err(),
            "an answer to an acknowledgement of block {future}"
        );
    }
    socket.send(&[0, 4, 0, 1])?;
    ensure!(socket.recv(&mut buffer)? == 516 && buffer[..4] == [0, 3, 0, 2]);
    // Firmware does so after asking for a size: no answer, no repeat, and a new request from the
    // same port starts a new transfer.
    socket.send(b"\0\x05\0\x08User aborted\0")?;
    ensure!(socket.recv(&mut buffer).is_err());
    server.wait_for_metric(
        "shaper_tftp_transfers_total{outcome=\"aborted\"}",
        |aborted| aborted == 1,
    )?;
    socket.send(b"\0\x01a\0octet\0tsize\x000\0")?;
    let length = socket.recv(&mut buffer)?;
    ensure!(&buffer[..length] == b"\0\x06tsize\x0050000\0");
    Ok(())
}

/// The number of datagrams that a socket receives within a moment, and their bytes.
fn count(socket: &UdpSocket) -> Result<(usize, usize)> {
    socket.set_read_timeout(Some(Duration::from_millis(200)))?;
    let (mut datagrams, mut bytes, mut buffer) = (0, 0, [0; 2_000]);
    while let Ok(length) = socket.recv(&mut buffer) {
        datagrams += 1;
        bytes += length;
    }
    Ok((datagrams, bytes))
}

#[test]
fn a_flood_from_one_source_gets_little_and_others_are_served() -> Result<()> {
    let root = Root::of(&[("a", pattern(100_000))])?;
    // The honest machine shares the address: on loopback all do.
    let server = Tftp::serving(root.path())
        .args(["--tftp-unproven-bytes", "4096"])
        .start()?;
    let flood = UdpSocket::bind("127.0.0.9:0")?;
    // An honest machine fetches meanwhile: a part of the flood arrives before each of its
    // acknowledgements.
    let (mut left, mut failed) = (5_000_u32, None);
    let fetched = Client::of(server.address())
        .option("tsize", 0)
        .fetch_slowly("a", |_| {
            for _ in 0..left.min(30) {
                left -= 1;
                failed = flood
                    .send_to(b"\0\x01a\0octet\0", server.address())
                    .err()
                    .or(failed.take());
            }
        })?;
    ensure!(failed.is_none() && left == 0, "{failed:?}, {left} left");
    ensure!(fetched.bytes == pattern(100_000));
    let (datagrams, bytes) = count(&flood)?;
    ensure!(
        (1..=4).contains(&datagrams),
        "{datagrams} datagrams, {bytes} bytes"
    );
    // Each from another port, which looks like many machines: then the bytes are bounded.
    let sockets: Result<Vec<_>, _> = (0..500).map(|_| UdpSocket::bind("127.0.0.9:0")).collect();
    let sockets = sockets?;
    for socket in &sockets {
        socket.send_to(b"\0\x01a\0octet\0", server.address())?;
    }
    std::thread::sleep(Duration::from_millis(300));
    let mut total = 0;
    for socket in &sockets {
        socket.set_nonblocking(true)?;
        let mut buffer = [0; 2_000];
        while let Ok(length) = socket.recv(&mut buffer) {
            total += length;
        }
    }
    ensure!(
        total <= 3 * 4_096,
        "{total} bytes to peers that proved nothing"
    );
    let limited = server.metric("shaper_tftp_refusals_total{reason=\"prefix_budget\"}")?;
    ensure!(limited > 400, "{limited}");
    ensure!(
        Client::of(server.address())
            .option("tsize", 0)
            .fetch("a")?
            .bytes
            == pattern(100_000)
    );
    Ok(())
}

#[test]
fn a_flood_from_ten_thousand_sources_takes_bounded_memory() -> Result<()> {
    let root = Root::of(&[("a", pattern(1_000_000))])?;
    let server = Tftp::serving(root.path())
        .args(["--tftp-transfers", "200"])
        .start()?;
    ensure!(
        Client::of(server.address())
            .option("blksize", 1432)
            .fetch("a")?
            .bytes
            .len()
            == 1_000_000
    );
    let before = server.memory()?;
    let address = server.address();
    let mut sources = 0_u32;
    let mut flood = || -> Result<()> {
        for _ in 0..200 {
            sources += 1;
            let [_, high, middle, low] = (sources.wrapping_mul(677) % 0x00ff_ffff).to_be_bytes();
            let socket = UdpSocket::bind((Ipv4Addr::new(127, high, middle, low.max(1)), 0))?;
            socket.send_to(
                b"\0\x01a\0octet\0blksize\x001432\0windowsize\x0064\0",
                address,
            )?;
        }
        Ok(())
    };
    let mut steps = 0;
    let mut failed = None;
    let fetched = Client::of(address)
        .option("blksize", 1432)
        .fetch_slowly("a", |_| {
            steps += 1;
            if steps % 13 == 0 && steps <= 13 * 50 {
                failed = flood().err().or(failed.take());
            }
        })?;
    if let Some(error) = failed {
        return Err(error);
    }
    ensure!(sources == 10_000, "{sources} sources");
    ensure!(fetched.bytes == pattern(1_000_000));
    ensure!(server.metric("shaper_tftp_active")? <= 200);
    let evicted = server.metric("shaper_tftp_transfers_total{outcome=\"evicted\"}")?;
    ensure!(evicted > 5_000, "{evicted} evicted");
    let grown = server.memory()?.saturating_sub(before);
    ensure!(grown < 20 * 1024, "the server grew by {grown} KiB");
    // ... and a new machine is not locked out.
    ensure!(
        Client::of(address)
            .option("blksize", 1432)
            .fetch("a")?
            .bytes
            .len()
            == 1_000_000
    );
    ensure!(
        server.log().text().lines().count() < 100,
        "a flood fills the log:\n{}",
        server.log().text()
    );
    Ok(())
}

#[test]
fn excess_transfers_of_one_peer_get_silence_until_one_ends() -> Result<()> {
    let root = Root::of(&[("a", pattern(5_000))])?;
    let server = Tftp::serving(root.path())
        .args(["--tftp-transfers-per-peer", "2"])
        .start()?;
    let request = b"\0\x01a\0octet\0tsize\x000\0";
    let sockets: Result<Vec<_>, _> = (0..3).map(|_| UdpSocket::bind("127.0.0.1:0")).collect();
    let sockets = sockets?;
    let mut buffer = [0; 600];
    for socket in &sockets {
        socket.set_read_timeout(Some(Duration::from_millis(500)))?;
    }
    // Only a peer that has acknowledged something keeps its place.
    for socket in &sockets[..2] {
        socket.send_to(request, server.address())?;
        socket.recv(&mut buffer)?;
        socket.send_to(&[0, 4, 0, 0], server.address())?;
        socket.recv(&mut buffer)?;
    }
    sockets[2].send_to(request, server.address())?;
    ensure!(
        sockets[2].recv(&mut buffer).is_err(),
        "an answer to the third"
    );
    sockets[0].send_to(b"\0\x05\0\x08\0", server.address())?;
    server.wait_for_metric("shaper_tftp_active", |active| active == 1)?;
    sockets[2].send_to(request, server.address())?;
    ensure!(sockets[2].recv(&mut buffer).is_ok());
    Ok(())
}

#[test]
fn an_unavailable_port_is_reported_with_a_remedy() -> Result<()> {
    let root = Root::of(&[("a", "a")])?;
    let server = Tftp::serving(root.path()).start()?;
    let says = |user: Option<&str>, listen: SocketAddr| -> Result<String> {
        // Another user may not be allowed to read the folder that the binary was built in.
        let folder = tempfile::tempdir()?;
        let copy = folder.path().join("shaper");
        std::fs::copy(binary()?, &copy)?;
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))?;
        let listen = listen.to_string();
        let mut args = vec![
            "tftp",
            "--tftp-listen",
            &listen,
            "--admin-listen",
            "127.0.0.1:0",
        ];
        let copy = copy.display().to_string();
        let program = if let Some(user) = user {
            args.splice(
                0..0,
                [
                    "--reuid",
                    user,
                    "--regid",
                    user,
                    "--clear-groups",
                    "--bounding-set=-all",
                    "--inh-caps=-all",
                    copy.as_str(),
                ],
            );
            "setpriv"
        } else {
            copy.as_str()
        };
        let mut process = Process::start("shaper", program.as_ref(), None, |command| {
            command
                .args(&args)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::piped());
        })?;
        ensure!(!process.wait(Duration::from_secs(10))?.success());
        let stderr = process.child().stderr.take().context("no standard error")?;
        Ok(std::io::read_to_string(stderr)?)
    };
    let text = says(None, server.address())?;
    ensure!(
        text.contains("--tftp-listen") && text.contains("is in use"),
        "{text}"
    );
    if process::is_root() {
        let text = says(Some("65534"), "127.0.0.1:69".parse()?)?;
        for part in [
            "no permission to bind port 69",
            "setcap cap_net_bind_service",
            "ip_unprivileged_port_start",
            "6969",
        ] {
            ensure!(text.contains(part), "no {part:?} in {text}");
        }
    }
    Ok(())
}
