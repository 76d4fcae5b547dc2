//! A server that may not open a socket per CPU. The only test in its process, since the limit is
//! per process.

#[path = "server/machine.rs"]
mod machine;

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::{Domain, SockAddr, Socket, Type};
use tftp::{BindError, Outcome};

use machine::{Stop, cpus, fetch, library, pattern, server};

#[test]
fn one_unshared_socket_serves_if_sockets_for_all_cpus_cant_be_opened() {
    let file = pattern(100_500);
    let library_of_file = library(&file);
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    // The next file gets this descriptor, so five more sockets can be opened.
    let next = UdpSocket::bind("127.0.0.1:0")
        .map(|socket| std::os::fd::AsRawFd::as_raw_fd(&socket))
        .unwrap();
    setrlimit(
        Resource::RLIMIT_NOFILE,
        u64::try_from(next).unwrap() + 5,
        hard,
    )
    .unwrap();
    let (bound, metrics) = server((Ipv4Addr::LOCALHOST, 0).into(), library_of_file, 8);
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
    let bound = bound.unwrap();
    assert_eq!(bound.threads(), 1);
    let address = bound.local_addr().unwrap();
    let other = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
    other.set_reuse_port(true).unwrap();
    assert!(
        other.bind(&SockAddr::from(address)).is_err(),
        "another process can share the port"
    );
    let second = server(address, library(b""), 8).0;
    assert!(
        matches!(second, Err(BindError::InUse(_))),
        "{:?}",
        second.err()
    );
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let _stop = Stop(&stop);
        let serving = scope.spawn(|| bound.run(&stop));
        assert!(fetch(address, &cpus(), 4, |_| ()) == file);
        stop.store(true, Ordering::Relaxed);
        serving.join().unwrap().unwrap();
    });
    assert_eq!(metrics.outcome_count(Outcome::Completed), 1);
}
