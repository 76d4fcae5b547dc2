//! Ports that nobody else has.

use anyhow::{Context, Result};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// Below what systems give to outgoing connections and to those who ask for any port.
const FIRST: u16 = 20_000;
/// How many each place on this computer has to choose from.
const EACH: u16 = 60;

/// Where the programs of a cluster listen, on the loopback address.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ports {
    etcd: u16,
    pub(super) peer: u16,
    pub(super) api_server: u16,
}

// === impl Ports ===

impl Ports {
    /// Ports that nobody listens on. A place (a number that no other cluster has now) has its own to choose from; `attempt`
    /// makes the choice another one.
    pub(super) fn free(place: usize, attempt: u16) -> Result<Self> {
        let first = FIRST + u16::try_from(place % 150).unwrap_or_default() * EACH;
        let mut free = (first + (attempt * 3) % EACH..first + EACH)
            .filter(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok());
        let mut next = || {
            free.next().with_context(|| {
                format!(
                    "no free port between {first} and {} on 127.0.0.1",
                    first + EACH
                )
            })
        };
        Ok(Self {
            etcd: next()?,
            peer: next()?,
            api_server: next()?,
        })
    }

    pub(super) fn etcd(self) -> String {
        format!("http://127.0.0.1:{}", self.etcd)
    }

    pub(super) fn server(self) -> String {
        format!("https://127.0.0.1:{}", self.api_server)
    }

    pub(super) fn api_server_listens(self) -> bool {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.api_server));
        TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
    }
}
