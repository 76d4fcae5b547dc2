//! The server with its sockets and threads, and machines whose packets come in on one processor or the other.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use tftp::packet::{Mode, Request};
use tftp::{BindError, Config, Library, Limits, Metrics, Options, Outcome, Packet, Server, Table};

const BLKSIZE: u16 = 1_000;

/// A server of one file, and what it counts.
fn server(listen: SocketAddr, file: &[u8]) -> (Result<Server, BindError>, Metrics) {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("file"), file).unwrap();
    let (table, _) = Table::of_files_below(root.path(), &Table::default()).unwrap();
    let library = Library { table: Arc::new(ArcSwap::from_pointee(table)), bootstrap: Arc::new(|_| String::new()) };
    let metrics = Metrics::default();
    let config = Config { listen, ports: None, limits: Limits::default() };
    (Server::bind(&config, library, metrics.clone()), metrics)
}

fn cpus() -> Vec<usize> {
    let allowed = sched_getaffinity(Pid::from_raw(0)).unwrap();
    (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap()).collect()
}

fn move_to(cpu: usize) {
    let mut only = CpuSet::new();
    only.set(cpu).unwrap();
    sched_setaffinity(Pid::from_raw(0), &only).unwrap();
}

/// Fetches the file from a new port, each packet from the next of these processors.
fn fetch(server: SocketAddr, cpus: &[usize]) -> Vec<u8> {
    let socket = UdpSocket::bind(if server.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" }).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut turns = cpus.iter().cycle();
    let mut say = |packet: Packet<'_>| {
        let mut bytes = Vec::new();
        packet.write(&mut bytes);
        move_to(*turns.next().unwrap());
        socket.send_to(&bytes, server).unwrap();
    };
    let options = Options { blksize: Some(BLKSIZE), ..Options::default() };
    say(Packet::Read(Request { file: b"file", mode: Mode::Octet, options }));
    let (mut fetched, mut last, mut buffer) = (Vec::new(), 0, [0; 2_000]);
    loop {
        let (length, from) = socket.recv_from(&mut buffer).expect("the server answers");
        assert_eq!(from, server);
        match Packet::parse(&buffer[..length]).unwrap() {
            Packet::OptionAck(_) => say(Packet::Ack(0)),
            Packet::Data { block, bytes } => {
                // A repeat, where this test had to wait for long.
                if block == last + 1 {
                    last = block;
                    fetched.extend(bytes);
                    say(Packet::Ack(block));
                    if bytes.len() < BLKSIZE.into() {
                        return fetched;
                    }
                }
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn machines_get_their_files_whole_whichever_processors_their_packets_come_in_on() {
    let file: Vec<u8> = (0..100_500_u32).map(|number| (number % 251) as u8).collect();
    let (server, metrics) = server((Ipv6Addr::UNSPECIFIED, 0).into(), &file);
    let server = server.unwrap();
    let port = server.local_addr().unwrap().port();
    let stop = AtomicBool::new(false);
    let cpus = cpus();
    // One on each processor, and one that wanders.
    let places: Vec<_> = cpus.chunks(1).chain([&*cpus]).collect();
    thread::scope(|scope| {
        let serving = scope.spawn(|| server.run(&stop));
        let fetches: Vec<_> = places
            .iter()
            .flat_map(|place| [SocketAddr::from((Ipv4Addr::LOCALHOST, port)), (Ipv6Addr::LOCALHOST, port).into()].map(|to| (to, place)))
            .map(|(to, place)| scope.spawn(move || fetch(to, place)))
            .collect();
        let count = fetches.len() as u64;
        for fetched in fetches {
            assert!(fetched.join().unwrap() == file);
        }
        stop.store(true, Ordering::Relaxed);
        serving.join().unwrap();
        assert_eq!(metrics.ended(Outcome::Completed), count);
    });
}

#[test]
fn a_port_is_not_shared_with_another_server_though_it_is_among_threads() {
    let (first, _) = server((Ipv4Addr::LOCALHOST, 0).into(), b"");
    let first = first.unwrap();
    let address = first.local_addr().unwrap();
    let (second, _) = server(address, b"");
    assert!(matches!(second, Err(BindError::InUse(_))), "{:?}", second.err());
    drop(first);
    assert!(server(address, b"").0.is_ok());
}
