//! Where the admin port listens: flags and sockets.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use net::Listener;

use super::access::AdminHost;
use super::unix_socket::UnixSocket;
use crate::address::{cannot_listen, parse_listen};

/// Flags of the admin port.
#[derive(clap::Args)]
pub struct AdminArgs {
    /// Address of the admin port, for probes, metrics and operators. `unix:` and a path for a
    /// Unix socket that only this user and root can use
    #[arg(
        long,
        env = "SHAPER_ADMIN_LISTEN",
        default_value = "127.0.0.1:9090",
        value_name = "ADDRESS:PORT"
    )]
    admin_listen: AdminAddress,
    /// A host name or address, besides localhost and 127.0.0.1, by which clients may ask the admin
    /// port for more than probes and metrics; repeatable
    #[arg(
        long = "admin-host",
        env = "SHAPER_ADMIN_HOST",
        value_name = "NAME",
        value_delimiter = ','
    )]
    admin_hosts: Vec<AdminHost>,
}

/// The address of an admin port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AdminAddress {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// An admin port that is bound and not served yet.
pub(crate) struct AdminPort {
    pub(super) listener: AdminListener,
    pub(super) hosts: Vec<AdminHost>,
}

pub(super) enum AdminListener {
    Tcp(Listener),
    Unix(UnixSocket),
}

// === impl AdminArgs ===

impl AdminArgs {
    /// Binds the socket.
    pub(crate) fn bind(&self) -> anyhow::Result<AdminPort> {
        let listener = match &self.admin_listen {
            AdminAddress::Tcp(address) => {
                let bound = Listener::bind(*address);
                AdminListener::Tcp(
                    bound.map_err(|error| cannot_listen("--admin-listen", *address, error))?,
                )
            }
            AdminAddress::Unix(path) => AdminListener::Unix(UnixSocket::bind(path)?),
        };
        Ok(AdminPort {
            listener,
            hosts: self.admin_hosts.clone(),
        })
    }
}

// === impl AdminPort ===

impl AdminPort {
    /// The address it listens on, with the port that the kernel chose if port 0 was asked for.
    pub(crate) fn address(&self) -> AdminAddress {
        match &self.listener {
            AdminListener::Tcp(listener) => AdminAddress::Tcp(listener.local_addr()),
            AdminListener::Unix(socket) => AdminAddress::Unix(socket.path().to_owned()),
        }
    }
}

// === impl AdminAddress ===

impl FromStr for AdminAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix("unix:") {
            Some(path) if path.starts_with('/') && !path.ends_with('/') => {
                Ok(Self::Unix(path.into()))
            }
            Some(_) => Err("write unix:/PATH, as in unix:/run/shaper/admin.sock".to_owned()),
            None => parse_listen(text)
                .map(Self::Tcp)
                .map_err(|error| format!("{error}, or unix:/PATH for a Unix socket")),
        }
    }
}

impl fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_tcp_or_a_unix_socket() {
        let parse = |text: &str| text.parse::<AdminAddress>();
        let unix = parse("unix:/run/shaper/admin.sock").unwrap();
        assert_eq!(unix, AdminAddress::Unix("/run/shaper/admin.sock".into()));
        assert_eq!(unix.to_string(), "unix:/run/shaper/admin.sock");
        let tcp = parse("127.0.0.1:9090").unwrap();
        assert_eq!(tcp.to_string(), "127.0.0.1:9090");
        for text in [
            "unix:",
            "unix:admin.sock",
            "unix:/run/",
            "unix://run",
            "9090",
        ] {
            let refused = parse(text);
            let is_named = refused
                .as_ref()
                .is_err_and(|error| error.contains("unix:/PATH"));
            assert!(is_named || text == "unix://run", "{text}: {refused:?}");
        }
    }
}
