//! Strangers that take all places keep no machine out.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::manifests::{Manifests, assignment, says_its_name};
use e2e::server::Server;
use socket2::{Domain, Socket, Type};

/// What a machine waits for at most.
const IN_TIME: Duration = Duration::from_secs(2);
/// A limit for strangers, in case the test does not end.
const LONG: Duration = Duration::from_mins(1);
const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 66);

/// Connections of one address that say one thing and read nothing. One that is closed is opened
/// again.
struct Strangers {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Strangers {
    fn hold(address: SocketAddr, count: usize, words: &[u8]) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (is_over, words) = (is_over.clone(), words.to_vec());
            move || {
                let started = Instant::now();
                let mut held: Vec<TcpStream> = Vec::new();
                while !is_over.load(Ordering::Relaxed) && started.elapsed() < LONG {
                    held.retain_mut(is_open);
                    while held.len() < count {
                        let Ok(stream) = connect(STRANGER, address) else {
                            break;
                        };
                        let _ = stream.set_write_timeout(Some(IN_TIME));
                        let _ = (&stream).write_all(&words);
                        let _ = stream.set_nonblocking(true);
                        held.push(stream);
                    }
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
        });
        Self {
            is_over,
            thread: Some(thread),
        }
    }
}

impl Drop for Strangers {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn is_open(stream: &mut TcpStream) -> bool {
    match stream.peek(&mut [0]) {
        Ok(bytes) => bytes > 0,
        Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
    }
}

fn connect(from: Ipv4Addr, to: SocketAddr) -> Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((from, 0)).into())?;
    socket.connect_timeout(&to.into(), IN_TIME)?;
    Ok(socket.into())
}

/// Requests a path from an address. Returns the head and body of the answer.
fn get(from: Ipv4Addr, to: SocketAddr, path: &str) -> Result<String> {
    let mut stream = connect(from, to)?;
    stream.set_read_timeout(Some(IN_TIME))?;
    stream.write_all(
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes(),
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// How many of these requests are answered with 200 within the time that a machine waits.
fn answered(from: Ipv4Addr, to: SocketAddr, path: &str, count: usize) -> usize {
    (0..count)
        .filter(|_| {
            std::thread::sleep(Duration::from_millis(20));
            let started = Instant::now();
            get(from, to, path).is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
                && started.elapsed() < IN_TIME
        })
        .count()
}

#[test]
fn strangers_of_one_address_keep_no_machine_from_its_script() -> Result<()> {
    let manifests = Manifests::of(&[says_its_name("linux"), assignment("all", "", "linux")])?;
    for (what, words) in [
        ("silent", &b""[..]),
        (
            "half a head",
            b"GET /ipxe?serial=S1 HTTP/1.1\r\nHost: a\r\n",
        ),
        ("idle", b"GET /ipxe?serial=S1 HTTP/1.1\r\nHost: a\r\n\r\n"),
    ] {
        let server = Server::standalone(manifests.path())
            .args(["--http-connections", "100"])
            .start_ready()?;
        let address = server.http_address();
        let _strangers = Strangers::hold(address, 400, words);
        std::thread::sleep(Duration::from_secs(1));
        for (whose, from) in [
            ("another prefix", Ipv4Addr::new(127, 9, 0, 1)),
            ("the strangers' prefix", Ipv4Addr::LOCALHOST),
        ] {
            let served = answered(from, address, "/ipxe?serial=S2", 100);
            ensure!(
                served >= 99,
                "{what}: {served} of 100 machines of {whose} were served"
            );
        }
        let displaced: u64 = server.metric("shaper_http_connections_displaced_total")?;
        ensure!(displaced > 0, "{what}: none was displaced");
    }
    Ok(())
}

#[test]
fn strangers_whose_heads_use_up_the_memory_keep_no_machine_from_its_script() -> Result<()> {
    let manifests = Manifests::of(&[says_its_name("linux"), assignment("all", "", "linux")])?;
    let server = Server::standalone(manifests.path()).start_ready()?;
    let address = server.http_address();
    // 46 MiB, of which 32 have room.
    let mut head = b"GET /ipxe?serial=S1 HTTP/1.1\r\nHost: a\r\nX: ".to_vec();
    head.resize(31 * 1024, b'x');
    let _strangers = Strangers::hold(address, 1_500, &head);
    let displaced = || server.metric("shaper_http_connections_displaced_total");
    let started = Instant::now();
    while displaced()? == 0 {
        ensure!(started.elapsed() < LONG, "none was displaced");
        std::thread::sleep(Duration::from_millis(50));
    }
    // A request that takes room itself, and one that does not.
    let labels: String = (0..6)
        .map(|number| format!("&label{number}={}", "x".repeat(1_000)))
        .collect();
    let long = format!("/ipxe?serial=S2{labels}");
    for (what, from, path) in [
        ("of another prefix", Ipv4Addr::new(127, 9, 0, 1), &*long),
        ("of the strangers' address", STRANGER, "/ipxe?serial=S2"),
    ] {
        let served = answered(from, address, path, 100);
        ensure!(served >= 99, "{served} of 100 machines {what} were served");
    }
    Ok(())
}

#[test]
fn strangers_keep_no_probe_from_the_admin_port() -> Result<()> {
    let manifests = Manifests::of(&[says_its_name("linux"), assignment("all", "", "linux")])?;
    let server = Server::standalone(manifests.path()).start_ready()?;
    let address = server.admin_address();
    let _strangers = Strangers::hold(address, 400, b"");
    std::thread::sleep(Duration::from_secs(1));
    let served = answered(Ipv4Addr::LOCALHOST, address, "/healthz", 100);
    ensure!(served >= 99, "{served} of 100 probes were answered");
    Ok(())
}

#[test]
fn a_crowd_behind_one_address_boots() -> Result<()> {
    let manifests = Manifests::of(&[says_its_name("linux"), assignment("all", "", "linux")])?;
    let server = Server::standalone(manifests.path())
        .args(["--http-connections", "50"])
        .start_ready()?;
    let address = server.http_address();
    let machines: Vec<_> = (0..400)
        .map(|number| {
            std::thread::spawn(move || -> Result<()> {
                let started = Instant::now();
                // iPXE repeats a request that was answered with 503 and Retry-After.
                while started.elapsed() < LONG {
                    let path = format!("/ipxe?serial=S{number}");
                    let answer = get(STRANGER, address, &path).context("no answer at all")?;
                    if answer.starts_with("HTTP/1.1 200") {
                        return Ok(());
                    }
                    ensure!(
                        answer.starts_with("HTTP/1.1 503") && answer.contains("retry-after"),
                        "{answer}"
                    );
                    std::thread::sleep(Duration::from_millis(200));
                }
                anyhow::bail!("not served within {LONG:?}")
            })
        })
        .collect();
    let mut failed = Vec::new();
    for machine in machines {
        if let Err(error) = machine.join().expect("a machine does not panic") {
            failed.push(format!("{error:#}"));
        }
    }
    ensure!(
        failed.len() <= 4,
        "{} of 400 failed: {failed:?}",
        failed.len()
    );
    Ok(())
}
