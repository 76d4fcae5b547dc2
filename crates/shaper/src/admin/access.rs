//! Which requests the admin port answers.
//!
//! A connection from loopback doesn't prove that the operator asks. A browser on the same machine
//! sends what a web page tells it to, even to 127.0.0.1, and a proxy or the sidecar of a service
//! mesh connects from loopback for clients elsewhere. Both leave marks in the request's head, and
//! a request that has one of them is refused.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use http::{HeaderMap, Request, StatusCode, header, uri::Authority};
use net::PlainText;

/// The header that a `POST` needs. A web page can't send it to another site without that site's
/// consent (a CORS preflight).
const REQUEST_HEADER: &str = "x-shaper-request";

/// Headers that proxies add, besides all whose names start with [`FORWARDED_PREFIX`].
const PROXY_HEADERS: [&str; 3] = ["forwarded", "via", "x-real-ip"];
const FORWARDED_PREFIX: &str = "x-forwarded-";

/// Paths that probes and Prometheus ask for, by whatever address. They show no objects.
const OPEN_PATHS: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// Longest part of a Host that an answer repeats, in bytes.
const MAX_SHOWN: usize = 100;

/// From where a client connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Client {
    /// From the Unix socket of the admin port.
    UnixSocket,
    /// From a loopback address.
    Loopback,
    /// From another machine, or from another address of this one.
    Remote,
}

/// A host name or IP address by which clients may address the admin port: lower case, without a
/// port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AdminHost(String);

/// Decides which requests are answered.
#[derive(Clone, Debug, Default)]
pub(super) struct Access {
    /// Hosts besides loopback.
    hosts: Vec<AdminHost>,
}

// === impl Client ===

impl Client {
    pub(super) fn from_address(address: IpAddr) -> Self {
        if address.to_canonical().is_loopback() {
            Self::Loopback
        } else {
            Self::Remote
        }
    }

    /// Whether it runs on this machine, or in this pod.
    pub(super) fn is_local(self) -> bool {
        self != Self::Remote
    }
}

// === impl AdminHost ===

impl FromStr for AdminHost {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || {
            format!(
                "not a host name: {text:?}; write a name or an address without a port, as in shaper.lab or 192.0.2.10"
            )
        };
        if text.parse::<std::net::Ipv6Addr>().is_ok() {
            return Ok(Self(format!("[{}]", text.to_ascii_lowercase())));
        }
        let authority: Authority = text.parse().map_err(|_| invalid())?;
        // A port, a user or an empty name.
        if authority.host().len() != text.len() || text.is_empty() {
            return Err(invalid());
        }
        Ok(Self(normalized(text)))
    }
}

impl fmt::Display for AdminHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A host as it is compared: in lower case, without the dot of a fully qualified name.
fn normalized(host: &str) -> String {
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

/// Whether a host, as in a URL, is a name or an address of loopback.
fn is_loopback(host: &str) -> bool {
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    host == "localhost"
        || bare
            .parse::<IpAddr>()
            .is_ok_and(|address| address.to_canonical().is_loopback())
}

// === impl Access ===

impl Access {
    pub(super) fn new(hosts: Vec<AdminHost>) -> Self {
        Self { hosts }
    }

    /// Refuses a request that a web page or a proxy may have sent. The error is the answer.
    pub(super) fn check<B>(&self, request: &Request<B>, client: Client) -> Result<(), PlainText> {
        if OPEN_PATHS.contains(&request.uri().path()) {
            return Ok(());
        }
        let headers = request.headers();
        if let Some(name) = proxy_header(headers) {
            return Err(refused(format!(
                "the request has the header {name}, so it came through a proxy; this path answers only clients on the same machine that \
                 connect directly: use `kubectl port-forward` or `kubectl exec`"
            )));
        }
        if let Some(name) = page_header(headers) {
            return Err(refused(format!(
                "the header {name} says that a web page sent this request; use curl, or open the URL from the address bar of the browser"
            )));
        }
        // No browser connects to a Unix socket.
        if client == Client::UnixSocket {
            return Ok(());
        }
        self.check_host(request)
    }

    /// Refuses a host that could be a stranger's: a web page can have its own name resolve to
    /// 127.0.0.1 and then read the answers (DNS rebinding).
    fn check_host<B>(&self, request: &Request<B>) -> Result<(), PlainText> {
        let mut fields = request.headers().get_all(header::HOST).iter();
        let (Some(field), None) = (fields.next(), fields.next()) else {
            return Err(refused(
                "the request must have exactly one Host header, as in `Host: localhost`",
            ));
        };
        let field: Option<Authority> = field.to_str().ok().and_then(|text| text.parse().ok());
        let Some(field) = field else {
            return Err(refused(
                "the Host header is not a host; write `Host: localhost`",
            ));
        };
        // The target of the request may name a host too.
        for authority in std::iter::once(&field).chain(request.uri().authority()) {
            let host = normalized(authority.host());
            if !is_loopback(&host) && !self.hosts.iter().any(|known| known.0 == host) {
                let shown: String = host.chars().take(MAX_SHOWN).collect();
                return Err(refused(format!(
                    "the request is for the host {shown}, which is not a name of this port; ask for localhost or 127.0.0.1, or start \
                     shaper with `--admin-host {shown}`"
                )));
            }
        }
        Ok(())
    }
}

/// Refuses a `POST` that a form of a web page could have sent.
pub(super) fn check_post<B>(request: &Request<B>) -> Result<(), PlainText> {
    let value = request.headers().get(REQUEST_HEADER);
    if value.is_some_and(|value| value.as_bytes() == b"1") {
        return Ok(());
    }
    Err(refused(format!(
        "a request that changes something needs the header X-Shaper-Request: 1, as in `curl -X POST -H 'X-Shaper-Request: 1' http://127.0.0.1:9090{}`",
        request.uri().path()
    )))
}

/// The first header that a proxy has added.
fn proxy_header(headers: &HeaderMap) -> Option<&str> {
    headers
        .keys()
        .map(http::HeaderName::as_str)
        .find(|name| name.starts_with(FORWARDED_PREFIX) || PROXY_HEADERS.contains(name))
}

/// The header by which a browser says that a page has sent the request, and not the user.
fn page_header(headers: &HeaderMap) -> Option<&'static str> {
    if headers.contains_key(header::ORIGIN) {
        return Some("Origin");
    }
    // `none` is the address bar or a bookmark. This port has no pages, so `same-origin` can only be
    // one of its answers, loaded again.
    let is_page = |value: &http::HeaderValue| !matches!(value.as_bytes(), b"none" | b"same-origin");
    headers
        .get_all("sec-fetch-site")
        .iter()
        .any(is_page)
        .then_some("Sec-Fetch-Site")
}

fn refused(sentence: impl Into<String>) -> PlainText {
    PlainText::new(StatusCode::FORBIDDEN, sentence)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(headers: &[(&str, &str)]) -> Request<()> {
        let mut builder = Request::get("/catalog");
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        builder.body(()).unwrap()
    }

    /// The sentence that refuses a request of a loopback client.
    fn refusal(headers: &[(&str, &str)]) -> Option<String> {
        let access = Access::new(vec![
            "Shaper.Lab.".parse().unwrap(),
            "fd00::1".parse().unwrap(),
        ]);
        let checked = access.check(&request(headers), Client::Loopback);
        checked.err().map(|refused| refused.body())
    }

    #[test]
    fn loopback_and_configured_hosts_are_answered() {
        for host in [
            "localhost",
            "LOCALHOST:9090",
            "localhost.",
            "127.0.0.1:9090",
            "127.8.7.6",
            "[::1]:9090",
            "[::ffff:127.0.0.1]",
            "shaper.lab:9090",
            "SHAPER.LAB.",
            "[fd00::1]:1",
        ] {
            assert_eq!(refusal(&[("host", host)]), None, "{host}");
        }
    }

    #[test]
    fn any_other_host_is_refused() {
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "evil.example:9090",
            "10.0.0.1",
            "0.0.0.0",
            "[::2]",
            "x@evil.example",
            "",
        ] {
            assert!(refusal(&[("host", host)]).is_some(), "{host}");
        }
        assert!(refusal(&[]).is_some(), "no Host at all");
        let two = [("host", "localhost"), ("host", "localhost")];
        assert!(refusal(&two).unwrap().contains("exactly one Host"));
        let mut absolute = request(&[("host", "localhost")]);
        *absolute.uri_mut() = "http://evil.example/catalog".parse().unwrap();
        assert!(
            Access::default()
                .check(&absolute, Client::Loopback)
                .is_err()
        );
        let said = refusal(&[("host", "shaper-api:9090")]).unwrap();
        assert!(said.contains("--admin-host shaper-api`"), "{said}");
    }

    #[test]
    fn requests_of_pages_and_proxies_are_refused_even_on_a_unix_socket() {
        for (name, value) in [
            ("origin", "null"),
            ("origin", "http://localhost:9090"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            ("forwarded", "for=192.0.2.1"),
            ("x-forwarded-for", "192.0.2.1"),
            ("x-forwarded-proto", "http"),
            ("x-real-ip", "192.0.2.1"),
            ("via", "1.1 proxy"),
        ] {
            let all = [("host", "localhost"), (name, value)];
            assert!(refusal(&all).is_some(), "{name}: {value}");
            let on_socket = Access::default().check(&request(&all), Client::UnixSocket);
            assert!(on_socket.is_err(), "{name}: {value}");
        }
        for site in ["none", "same-origin"] {
            let typed = [("host", "localhost"), ("sec-fetch-site", site)];
            assert_eq!(refusal(&typed), None, "{site}");
        }
    }

    #[test]
    fn probes_and_prometheus_ask_by_any_host() {
        let headers = [("host", "10.1.2.3:9090"), ("x-forwarded-proto", "http")];
        for path in OPEN_PATHS {
            let mut probe = request(&headers);
            *probe.uri_mut() = path.parse().unwrap();
            assert!(Access::default().check(&probe, Client::Remote).is_ok());
        }
    }

    #[test]
    fn a_post_needs_a_header_that_a_form_can_not_send() {
        assert!(check_post(&request(&[("x-shaper-request", "1")])).is_ok());
        for headers in [&[][..], &[("x-shaper-request", "0")]] {
            let said = check_post(&request(headers)).unwrap_err().body();
            assert!(said.contains("-H 'X-Shaper-Request: 1'"), "{said}");
        }
    }

    #[test]
    fn a_host_is_configured_without_a_port() {
        for text in ["", "a:80", "u@a", "a/b", "http://a", "a b"] {
            let refused = text.parse::<AdminHost>().unwrap_err();
            assert!(refused.contains("without a port"), "{text}");
        }
        assert_eq!("[FD00::1]".parse::<AdminHost>().unwrap().0, "[fd00::1]");
    }
}
