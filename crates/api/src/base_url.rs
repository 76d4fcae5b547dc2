//! The base URL of links in scripts: the address at which the client reached this server.

use std::cell::RefCell;
use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

/// A base URL: `http://` or `https://`, a host, and optionally a port and a path, without a
/// trailing slash. It contains no character that iPXE would expand or split in a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl(Arc<str>);

/// The text is not a usable base URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a base URL; write http://HOST[:PORT][/PATH] or https://..., without query")]
pub struct InvalidBaseUrl(String);

impl BaseUrl {
    /// Builds a base URL from a Host header (RFC 9110, section 7.2). Returns `None` if the header
    /// is not a valid host.
    ///
    /// Each thread caches the last result, because nearly all clients use the same name.
    pub fn from_host(scheme: &str, host: &str) -> Option<Self> {
        thread_local! {
            static LAST: RefCell<Option<BaseUrl>> = const { RefCell::new(None) };
        }
        LAST.with_borrow_mut(|last| {
            if let Some(last) = last.as_ref().filter(|last| last.is_for(scheme, host)) {
                return Some(last.clone());
            }
            let authority = Authority::parse(host)?;
            let url = Self(format!("{scheme}://{authority}").into());
            *last = Some(url.clone());
            Some(url)
        })
    }

    fn is_for(&self, scheme: &str, host: &str) -> bool {
        self.0
            .strip_prefix(scheme)
            .and_then(|rest| rest.strip_prefix("://"))
            == Some(host)
    }

    /// Builds a base URL from the server's address of the connection, for clients that send no
    /// Host.
    pub fn from_address(scheme: &str, address: SocketAddr) -> Self {
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        Self(format!("{scheme}://{address}").into())
    }

    /// The URL as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for BaseUrl {
    type Err = InvalidBaseUrl;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (scheme, rest) = text.split_once("://")?;
            let rest = rest.trim_end_matches('/');
            let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let path_is_plain = path
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"/-._~".contains(&b));
            let authority = Authority::parse(host)?;
            let is_valid = matches!(scheme, "http" | "https") && path_is_plain;
            is_valid.then(|| Self(format!("{scheme}://{authority}{path}").into()))
        };
        parse().ok_or_else(|| InvalidBaseUrl(text.to_owned()))
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A host name, an IPv4 address or a bracketed IPv6 address, with an optional port.
struct Authority<'a> {
    host: &'a str,
    /// The zone of an IPv6 address: the network card that its link-local addresses belong to.
    zone: Option<&'a str>,
    port: Option<&'a str>,
}

/// The longest host name with a port.
const MAX_AUTHORITY_BYTES: usize = 261;

impl<'a> Authority<'a> {
    /// Parses `uri-host [ ":" port ]` (RFC 9110, section 7.2). The port may be empty, which means
    /// none. The zone of an IPv6 address follows `%25` (RFC 6874) or a bare `%`.
    fn parse(text: &'a str) -> Option<Self> {
        if text.len() > MAX_AUTHORITY_BYTES {
            return None;
        }
        let (host, zone, port) = if let Some(rest) = text.strip_prefix('[') {
            let (address, port) = rest.split_once(']')?;
            let (host, zone) = match address.split_once('%') {
                Some((host, zone)) => (host, Some(zone.strip_prefix("25").unwrap_or(zone))),
                None => (address, None),
            };
            host.parse::<Ipv6Addr>().ok()?;
            (host, zone, port)
        } else {
            let (host, port) = text.split_at(text.find(':').unwrap_or(text.len()));
            (is_plain(host)).then_some((host, None, port))?
        };
        if zone.is_some_and(|zone| !is_plain(zone)) {
            return None;
        }
        let port = match port {
            "" | ":" => None,
            port => {
                let port = port.strip_prefix(':')?;
                let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
                (is_number && port.parse::<u16>().is_ok_and(|port| port > 0)).then_some(port)?;
                Some(port)
            }
        };
        Some(Self { host, zone, port })
    }
}

impl fmt::Display for Authority<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.zone, self.host.contains(':')) {
            (Some(zone), _) => write!(f, "[{}%25{zone}]", self.host)?,
            (None, true) => write!(f, "[{}]", self.host)?,
            (None, false) => f.write_str(self.host)?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// Whether the text contains only characters of host names, and at least one.
fn is_plain(text: &str) -> bool {
    !text.is_empty()
        && boot::bytes::all(text.as_bytes(), |b| {
            b.is_ascii_alphanumeric() | matches!(b, b'-' | b'.' | b'_')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_with_or_without_a_port_is_a_valid_base_url() {
        for host in [
            "shaper",
            "shaper.lab:8080",
            "192.0.2.1:80",
            "[2001:db8::1]:8080",
            "[::1]",
        ] {
            assert_eq!(
                BaseUrl::from_host("http", host).unwrap().as_str(),
                format!("http://{host}")
            );
        }
    }

    #[test]
    fn an_empty_port_is_left_out_and_a_zone_is_encoded() {
        for (host, url) in [
            ("shaper:", "http://shaper"),
            ("[::1]:", "http://[::1]"),
            ("[fe80::1%25net0]:8080", "http://[fe80::1%25net0]:8080"),
            ("[fe80::1%25net0]", "http://[fe80::1%25net0]"),
            ("[fe80::1%eth0.5]:80", "http://[fe80::1%25eth0.5]:80"),
        ] {
            assert_eq!(BaseUrl::from_host("http", host).unwrap().as_str(), url);
        }
        assert_eq!(
            "http://boot.lab:/x".parse::<BaseUrl>().unwrap().as_str(),
            "http://boot.lab/x"
        );
    }

    #[test]
    fn a_host_that_could_change_a_script_is_rejected() {
        for host in [
            "",
            ":",
            ":80",
            "a b",
            "a\nb",
            "a/b",
            "${x}",
            "a@b",
            "a:b",
            "a:70000",
            "a:0",
            "a:+80",
            "a:80:",
            "a::80",
            "fe80::1",
            "a%25eth0",
            "[::1",
            "[::1]8080",
            "[::1]]",
            "[]:1",
            "[a]",
            "[:::]",
            "[fe80::1%25]",
            "[fe80::1%25${x}]",
            "[fe80::1%25a%25b]",
            "a?b",
            "a#b",
            "é",
        ] {
            assert_eq!(BaseUrl::from_host("http", host), None, "{host:?}");
        }
    }

    #[test]
    fn a_public_url_loses_its_last_slash_and_may_have_a_path() {
        assert_eq!(
            "https://boot.lab/".parse::<BaseUrl>().unwrap().as_str(),
            "https://boot.lab"
        );
        assert_eq!(
            "http://boot.lab/shaper/"
                .parse::<BaseUrl>()
                .unwrap()
                .as_str(),
            "http://boot.lab/shaper"
        );
        for text in [
            "boot.lab",
            "ftp://boot.lab",
            "http://",
            "http://a?b",
            "http://a/${x}",
            "http://a b",
        ] {
            assert!(text.parse::<BaseUrl>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_ipv4_client_of_a_dual_stack_socket_gets_ipv4_links() {
        let address = "[::ffff:192.0.2.1]:8080".parse().unwrap();
        assert_eq!(
            BaseUrl::from_address("http", address).as_str(),
            "http://192.0.2.1:8080"
        );
    }
}
