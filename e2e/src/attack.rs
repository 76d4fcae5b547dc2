//! Hostile clients in large numbers, and machines that boot among them.
//!
//! Both are tasks of one runtime in the test's process. Clients use a hundred different loopback
//! addresses, so that ports don't run out. Loops are bounded by count and waits by [`HANG`].

mod boot;
mod crowd;

pub use boot::{Boots, boot_all, storm};
pub use crowd::{Crowd, Habit};

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::net::{TcpSocket, TcpStream};

/// The timeout of every wait: longer than anything here takes on a busy computer.
pub const HANG: Duration = Duration::from_mins(1);

/// Starts a runtime for all clients of a test and raises the process's limit of open files to its
/// maximum.
pub fn runtime() -> Result<tokio::runtime::Runtime> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("the limit of open files")?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("the limit of open files")?;
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("no runtime")
}

/// Connects from one of a hundred addresses. `window` sets the client's receive buffer in bytes.
async fn connect(to: SocketAddr, client: usize, window: Option<u32>) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if let Some(window) = window {
        socket.set_recv_buffer_size(window)?;
    }
    let host = u8::try_from(client % 100).unwrap_or(0);
    socket.bind((Ipv4Addr::new(127, 7, 7, 1 + host), 0).into())?;
    socket.connect(to).await
}
