//! Parses listen addresses and explains why one can't be used.

use std::io;
use std::net::SocketAddr;

/// Parses a listen address: `ADDRESS:PORT`, or `:PORT` for every address.
pub(crate) fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    let spelled = match text.strip_prefix(':') {
        Some(port) => format!("[::]:{port}"),
        None => text.to_owned(),
    };
    spelled.parse().map_err(|_| {
        "write ADDRESS:PORT, as in 0.0.0.0:8080 or [::]:8080, or :8080 for every address".to_owned()
    })
}

/// Adds to a bind error which flag caused it and what to do.
pub(crate) fn cannot_listen(flag: &str, address: SocketAddr, error: io::Error) -> anyhow::Error {
    let what_to_do = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need a capability: set AmbientCapabilities=CAP_NET_BIND_SERVICE in the systemd unit, or choose another port"
        }
        io::ErrorKind::AddrNotAvailable => {
            "this machine does not have that address; choose another, or [::] for every address"
        }
        _ => "is another server there? Choose another address or port",
    };
    anyhow::Error::new(error).context(format!("can't listen on {flag} {address}; {what_to_do}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_listens_on_every_address() {
        assert_eq!(parse_listen(":8085"), Ok("[::]:8085".parse().unwrap()));
        assert_eq!(
            parse_listen("127.0.0.1:1"),
            Ok("127.0.0.1:1".parse().unwrap())
        );
        for text in ["8085", "localhost:1", ":", "::1:1:", ":http"] {
            assert!(parse_listen(text).unwrap_err().contains(":8080"), "{text}");
        }
    }

    #[test]
    fn a_refused_port_names_the_setting_of_systemd() {
        let message = |kind: io::ErrorKind| {
            cannot_listen("--http-listen", "[::]:80".parse().unwrap(), kind.into()).to_string()
        };
        assert!(
            message(io::ErrorKind::PermissionDenied)
                .contains("AmbientCapabilities=CAP_NET_BIND_SERVICE")
        );
        assert!(
            message(io::ErrorKind::AddrInUse)
                .contains("--http-listen [::]:80; is another server there?")
        );
    }
}
