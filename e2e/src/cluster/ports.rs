//! Ports that no other program uses.

use anyhow::{Context, Result};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// The first port: below the ranges that systems use for outgoing connections and port 0.
const FIRST: u16 = 20_000;
/// The number of ports that each slot may choose from.
const EACH: u16 = 60;

/// The loopback ports of a cluster's programs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ports {
    etcd: u16,
    pub(super) peer: u16,
    pub(super) api_server: u16,
}

// === impl Ports ===

impl Ports {
    /// Returns free ports. Each slot (a number that no other running cluster has) chooses from its
    /// own range; `attempt` changes the choice.
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
