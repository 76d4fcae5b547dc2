//! A server that lacks memory for some of its threads. The only test in its process, since the
//! limit is per process.

#[path = "server/machine.rs"]
mod machine;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tftp::Outcome;

use machine::{Stop, cpus, fetch, library, pattern, server};

const MIB: u64 = 1024 * 1024;

fn anywhere() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

/// Runs `call` while the process may allocate only `bytes` more. A thread takes 2 MiB.
fn with_room_for<T>(bytes: u64, call: impl FnOnce() -> T) -> T {
    let (soft, hard) = getrlimit(Resource::RLIMIT_AS).unwrap();
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = pages.split(' ').next().unwrap().parse().unwrap();
    setrlimit(Resource::RLIMIT_AS, pages * 4096 + bytes, hard).unwrap();
    let given = call();
    setrlimit(Resource::RLIMIT_AS, soft, hard).unwrap();
    given
}

#[test]
fn a_server_runs_with_the_threads_it_gets_and_fails_without_any() {
    let file = pattern(100_500);
    let stop = AtomicBool::new(false);
    let (none, _) = server(anywhere(), library(&file), 3);
    let none = none.unwrap();
    assert_eq!(none.threads(), 3);
    assert!(with_room_for(MIB, || none.run(&stop)).is_err());
    let (one, metrics) = server(anywhere(), library(&file), 3);
    let one = one.unwrap();
    assert_eq!(one.threads(), 3);
    let address = one.local_addr().unwrap();
    // Enough machines that each socket would receive some of them.
    let machines = 8;
    let begin = Barrier::new(2);
    thread::scope(|scope| {
        let _stop = Stop(&stop);
        let serving = scope.spawn(|| {
            begin.wait();
            one.run(&stop)
        });
        with_room_for(3 * MIB, || {
            begin.wait();
            assert!(fetch(address, &cpus(), 1, |_| ()) == file);
        });
        for _ in 1..machines {
            assert!(fetch(address, &cpus(), 4, |_| ()) == file);
        }
        stop.store(true, Ordering::Relaxed);
        serving.join().unwrap().unwrap();
    });
    assert_eq!(metrics.outcome_count(Outcome::Completed), machines);
}
