//! The server with its sockets and threads, and machines whose packets come in on one processor or the other.

#[path = "server/machine.rs"]
mod machine;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use tftp::{BindError, Outcome, Server};

use machine::{cpus, fetch, library, pattern, server};

const LENGTH: usize = 100_500;

fn everywhere() -> SocketAddr {
    (Ipv6Addr::UNSPECIFIED, 0).into()
}

/// Both addresses of a server that listens everywhere.
fn addresses(server: &Server) -> [SocketAddr; 2] {
    let port = server.local_addr().unwrap().port();
    [(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()]
}

/// Has machines fetch at the same time from a server for these processors: two on each that there is, and two that wander.
fn all_fetch(for_cpus: &[usize], threads: usize) {
    let file = pattern(LENGTH);
    let (server, metrics) = server(everywhere(), library(&file), for_cpus);
    let server = server.unwrap();
    assert_eq!(server.threads(), threads, "for {for_cpus:?}");
    let addresses = addresses(&server);
    let stop = AtomicBool::new(false);
    let cpus = cpus();
    let places: Vec<_> = cpus.chunks(1).chain([&*cpus]).collect();
    thread::scope(|scope| {
        let serving = scope.spawn(|| server.run(&stop));
        let one = |to, place, windowsize| scope.spawn(move || fetch(to, place, windowsize, |_| ()));
        let fetches: Vec<_> =
            places.iter().flat_map(|place| addresses.map(|to| [1, 4].map(|windowsize| one(to, *place, windowsize)))).flatten().collect();
        let count = fetches.len() as u64;
        for fetched in fetches {
            assert!(fetched.join().unwrap() == file, "for {for_cpus:?}");
        }
        stop.store(true, Ordering::Relaxed);
        serving.join().unwrap().unwrap();
        assert_eq!(metrics.ended(Outcome::Completed), count);
    });
}

#[test]
fn machines_get_their_files_whole_whichever_processors_their_packets_come_in_on() {
    let cpus = cpus();
    all_fetch(&cpus, cpus.len().min(8));
}

#[test]
fn there_is_a_socket_for_each_processor_up_to_eight_and_one_where_none_is_known() {
    // Of sockets for the same processor, the kernel takes one by the peer's address and port.
    all_fetch(&[0, 0, 0], 3);
    all_fetch(&[0; 20], 8);
    all_fetch(&[], 1);
}

#[test]
fn a_processor_that_is_not_there_any_more_stops_nothing() {
    all_fetch(&[4_000], 1);
    all_fetch(&[0, 4_000], 2);
    all_fetch(&[900, 4_000], 2);
}

#[test]
fn transfers_of_all_threads_end_before_the_server_does() {
    const MACHINES: usize = 6;
    let file = pattern(LENGTH);
    let (server, metrics) = server(everywhere(), library(&file), &[0, 0, 0]);
    let server = server.unwrap();
    let addresses = addresses(&server);
    let stop = AtomicBool::new(false);
    let half_way = Barrier::new(MACHINES);
    let cpus = cpus();
    thread::scope(|scope| {
        let serving = scope.spawn(|| server.run(&stop));
        let fetches: Vec<_> = (0..MACHINES)
            .map(|number| {
                let (half_way, stop, cpus) = (&half_way, &stop, &cpus);
                // All stop in the middle, and go on when the server was told to end.
                let mut is_first = true;
                let pause = move |length: usize| {
                    if length > LENGTH / 2 && std::mem::take(&mut is_first) {
                        half_way.wait();
                        stop.store(true, Ordering::Relaxed);
                    }
                };
                scope.spawn(move || fetch(addresses[number % 2], cpus, if number < 3 { 1 } else { 4 }, pause))
            })
            .collect();
        for fetched in fetches {
            assert!(fetched.join().unwrap() == file);
        }
        serving.join().unwrap().unwrap();
    });
    assert_eq!((metrics.ended(Outcome::Completed), metrics.ended(Outcome::Stopped)), (MACHINES as u64, 0));
}

#[test]
fn a_port_is_not_shared_with_another_server_though_it_is_among_threads() {
    let cpus = [0, 0];
    let (first, _) = server((Ipv4Addr::LOCALHOST, 0).into(), library(b""), &cpus);
    let first = first.unwrap();
    assert_eq!(first.threads(), 2);
    let address = first.local_addr().unwrap();
    let (second, _) = server(address, library(b""), &cpus);
    assert!(matches!(second, Err(BindError::InUse(_))), "{:?}", second.err());
    drop(first);
    assert!(server(address, library(b""), &cpus).0.is_ok());
}
