//! Clients that mean harm, in numbers, and machines that boot among them.
//!
//! Both are tasks of one runtime in the test's own process. Addresses are of the loopback network, a hundred different ones, so that ports don't
//! run out; loops end by count, and waits by [`HANG`].

mod boot;
mod crowd;

pub use boot::{Boots, boot_all, storm};
pub use crowd::{Crowd, Habit};

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::net::{TcpSocket, TcpStream};

/// Longer than anything here takes on a busy computer; what takes longer has no end.
pub const HANG: Duration = Duration::from_mins(1);

/// A runtime for all clients of a test, whose process may have as many files open as the system allows.
pub fn runtime() -> Result<tokio::runtime::Runtime> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("the limit of open files")?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("the limit of open files")?;
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("no runtime")
}

/// Connects from one of a hundred addresses. `window` is the client's receive buffer, where it is to be small.
async fn connect(to: SocketAddr, client: usize, window: Option<u32>) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if let Some(window) = window {
        socket.set_recv_buffer_size(window)?;
    }
    let host = u8::try_from(client % 100).unwrap_or(0);
    socket.bind((Ipv4Addr::new(127, 7, 7, 1 + host), 0).into())?;
    socket.connect(to).await
}
