//! The server with sockets and threads, and clients that send from different CPUs.

#[path = "server/machine.rs"]
mod machine;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use tftp::{BindError, Outcome, Refusal, Server};

use machine::{Stop, cpus, fetch, library, pattern, server};

const LENGTH: usize = 100_500;

fn everywhere() -> SocketAddr {
    (Ipv6Addr::UNSPECIFIED, 0).into()
}

/// An address of each family; the IPv4 one is not the kernel's default source address.
fn addresses(server: &Server) -> [SocketAddr; 2] {
    let port = server.local_addr().unwrap().port();
    [
        (Ipv4Addr::new(127, 0, 0, 2), port).into(),
        (Ipv6Addr::LOCALHOST, port).into(),
    ]
}

/// Fetches concurrently from a server that is asked for this many threads and has `threads`: two
/// clients on each CPU, and two that change CPUs.
fn all_fetch(wanted: usize, threads: usize) {
    let file = pattern(LENGTH);
    let (server, metrics) = server(everywhere(), library(&file), wanted);
    let server = server.unwrap();
    assert_eq!(server.threads(), threads, "for {wanted}");
    let addresses = addresses(&server);
    let stop = AtomicBool::new(false);
    let cpus = cpus();
    let places: Vec<_> = cpus.chunks(1).chain([&*cpus]).collect();
    thread::scope(|scope| {
        let _stop = Stop(&stop);
        let serving = scope.spawn(|| server.run(&stop));
        let one = |to, place, windowsize| scope.spawn(move || fetch(to, place, windowsize, |_| ()));
        let fetches: Vec<_> = places
            .iter()
            .flat_map(|place| {
                addresses.map(|to| [1, 4].map(|windowsize| one(to, *place, windowsize)))
            })
            .flatten()
            .collect();
        let count = fetches.len() as u64;
        for fetched in fetches {
            assert!(fetched.join().unwrap() == file, "for {wanted}");
        }
        stop.store(true, Ordering::Relaxed);
        serving.join().unwrap().unwrap();
        assert_eq!(metrics.outcome_count(Outcome::Completed), count);
    });
}

#[test]
fn machines_get_complete_files_whichever_cpus_receive_their_packets() {
    let count = cpus().len();
    all_fetch(count, count.min(8));
}

#[test]
fn each_thread_gets_a_socket_up_to_eight_and_at_least_one_exists() {
    all_fetch(3, 3);
    all_fetch(20, 8);
    all_fetch(0, 1);
}

#[test]
fn the_server_stops_after_the_transfers_of_all_threads() {
    const MACHINES: usize = 6;
    let file = pattern(LENGTH);
    let (server, metrics) = server(everywhere(), library(&file), 3);
    let server = server.unwrap();
    let addresses = addresses(&server);
    let stop = AtomicBool::new(false);
    let half_way = Barrier::new(MACHINES);
    let cpus = cpus();
    thread::scope(|scope| {
        let _stop = Stop(&stop);
        let serving = scope.spawn(|| server.run(&stop));
        let fetches: Vec<_> = (0..MACHINES)
            .map(|number| {
                let (half_way, stop, cpus) = (&half_way, &stop, &cpus);
                // All pause halfway and continue once the server was told to stop.
                let mut is_first = true;
                let pause = move |length: usize| {
                    if length > LENGTH / 2 && std::mem::take(&mut is_first) {
                        half_way.wait();
                        stop.store(true, Ordering::Relaxed);
                    }
                };
                scope.spawn(move || {
                    fetch(
                        addresses[number % 2],
                        cpus,
                        if number < 3 { 1 } else { 4 },
                        pause,
                    )
                })
            })
            .collect();
        for fetched in fetches {
            assert!(fetched.join().unwrap() == file);
        }
        serving.join().unwrap().unwrap();
    });
    assert_eq!(
        (
            metrics.outcome_count(Outcome::Completed),
            metrics.outcome_count(Outcome::Stopped)
        ),
        (MACHINES as u64, 0)
    );
}

#[test]
fn a_broadcast_request_is_refused_on_an_ipv4_only_server() {
    let file = pattern(LENGTH);
    let (server, metrics) = server((Ipv4Addr::UNSPECIFIED, 0).into(), library(&file), 1);
    let server = server.unwrap();
    let [address, _] = addresses(&server);
    let other = UdpSocket::bind("127.0.0.1:0").unwrap();
    other.set_broadcast(true).unwrap();
    other
        .send_to(
            b"\0\x01file\0octet\0",
            (Ipv4Addr::new(127, 255, 255, 255), address.port()),
        )
        .unwrap();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let _stop = Stop(&stop);
        let serving = scope.spawn(|| server.run(&stop));
        assert!(
            scope
                .spawn(|| fetch(address, &cpus(), 1, |_| ()))
                .join()
                .unwrap()
                == file
        );
        stop.store(true, Ordering::Relaxed);
        serving.join().unwrap().unwrap();
    });
    assert_eq!(metrics.refusal_count(Refusal::Address), 1);
    let ended: u64 = Outcome::ALL
        .map(|outcome| metrics.outcome_count(outcome))
        .iter()
        .sum();
    assert_eq!((ended, metrics.outcome_count(Outcome::Completed)), (1, 1));
}

#[test]
fn a_port_shared_by_threads_is_not_shared_with_another_server() {
    let (first, _) = server((Ipv4Addr::LOCALHOST, 0).into(), library(b""), 2);
    let first = first.unwrap();
    assert_eq!(first.threads(), 2);
    let address = first.local_addr().unwrap();
    let (second, _) = server(address, library(b""), 2);
    assert!(
        matches!(second, Err(BindError::InUse(_))),
        "{:?}",
        second.err()
    );
    drop(first);
    assert!(server(address, library(b""), 2).0.is_ok());
}
