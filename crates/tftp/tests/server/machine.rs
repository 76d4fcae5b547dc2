//! A server with one file, and a client that fetches it.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use tftp::packet::{Mode, Request};
use tftp::{BindError, Config, Library, Limits, Metrics, Options, Packet, Server, Table};

const BLKSIZE: u16 = 1_000;
/// How long to wait for an answer before the request is repeated.
const RECEIVE_TIMEOUT: Duration = Duration::from_secs(1);
const MOST_REQUESTS: usize = 20;

/// Stops a server when dropped, so that a scope does not wait for it after a failed test.
pub(crate) struct Stop<'a>(pub(crate) &'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A library with one file.
pub(crate) fn library(file: &[u8]) -> Library {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("file"), file).unwrap();
    let scan = Table::scan(root.path(), &Table::default(), &files::Activity::default());
    let table = scan.unwrap().table;
    Library {
        table: Arc::new(ArcSwap::from_pointee(table)),
        bootstrap: Arc::new(|_| String::new()),
    }
}

/// Binds a server with this many threads; returns its metrics as well.
pub(crate) fn server(
    listen: SocketAddr,
    library: Library,
    threads: usize,
) -> (Result<Server, BindError>, Metrics) {
    let metrics = Metrics::default();
    let config = Config {
        listen,
        ports: None,
        limits: Limits::default(),
    };
    (
        Server::bind_with_threads(threads, &config, library, metrics.clone()),
        metrics,
    )
}

/// Bytes whose neighbours differ.
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    (0..=250).cycle().take(length).collect()
}

/// The CPUs that exist.
pub(crate) fn cpus() -> Vec<usize> {
    let allowed = sched_getaffinity(Pid::from_raw(0)).unwrap();
    (0..CpuSet::count())
        .filter(|cpu| allowed.is_set(*cpu).unwrap())
        .collect()
}

fn run_on_cpu(cpu: usize) {
    let mut only = CpuSet::new();
    only.set(cpu).unwrap();
    sched_setaffinity(Pid::from_raw(0), &only).unwrap();
}

/// Fetches the file from a new port, sending each packet from the next of these CPUs. `before` is
/// called with the received length before each acknowledgement.
pub(crate) fn fetch(
    server: SocketAddr,
    cpus: &[usize],
    windowsize: u16,
    mut before: impl FnMut(usize),
) -> Vec<u8> {
    let socket = UdpSocket::bind(if server.is_ipv4() {
        "127.0.0.1:0"
    } else {
        "[::1]:0"
    })
    .unwrap();
    socket.set_read_timeout(Some(RECEIVE_TIMEOUT)).unwrap();
    let mut turns = cpus.iter().cycle();
    let mut send = |packet: Packet<'_>| {
        let mut bytes = Vec::new();
        packet.write(&mut bytes);
        run_on_cpu(*turns.next().unwrap());
        socket.send_to(&bytes, server).unwrap();
    };
    let options = Options {
        blksize: Some(BLKSIZE),
        windowsize: Some(windowsize),
        ..Options::default()
    };
    // Requests to a socket whose thread could not be started are lost.
    let is_heard = (0..MOST_REQUESTS).any(|_| {
        send(Packet::Read(Request {
            file: b"file",
            mode: Mode::Octet,
            options,
        }));
        socket.peek_from(&mut [0]).is_ok()
    });
    assert!(is_heard, "the server never answers");
    socket
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let (mut fetched, mut last, mut buffer) = (Vec::new(), 0, [0; 2_000]);
    loop {
        let (length, from) = socket.recv_from(&mut buffer).expect("the server answers");
        assert_eq!(from, server);
        match Packet::parse(&buffer[..length]).unwrap() {
            Packet::OptionAck(_) => send(Packet::Ack(0)),
            // A repeated window, after this test was stalled, is acknowledged once, at its end.
            Packet::Data { block, .. } if block <= last => {
                if block.is_multiple_of(windowsize) {
                    send(Packet::Ack(last));
                }
            }
            Packet::Data { block, bytes } => {
                assert_eq!(block, last + 1, "nothing is lost here");
                last = block;
                fetched.extend(bytes);
                let is_last = bytes.len() < BLKSIZE.into();
                if is_last || block.is_multiple_of(windowsize) {
                    before(fetched.len());
                    send(Packet::Ack(block));
                }
                if is_last {
                    return fetched;
                }
            }
            other => panic!("{other:?}"),
        }
    }
}
