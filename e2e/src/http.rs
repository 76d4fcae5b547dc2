//! A minimal HTTP client that sends what a machine would send.

use anyhow::{Context, Result, ensure};
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

/// A server's answer.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Names in lower case, in the order of arrival.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: String,
}

/// Fetches an `http://` URL on a new connection. An answer that takes longer than ten seconds is an
/// error.
pub fn get(url: &str) -> Result<Response> {
    let (authority, target) = split(url)?;
    exchange(url, authority, &request(authority, target))
}

/// Sends text to an `http://` URL, with the limits of [`get`].
pub fn send(method: &str, url: &str, content_type: &str, text: &str) -> Result<Response> {
    let (authority, target) = split(url)?;
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\nContent-Type: {content_type}\r\n"
    );
    exchange(
        url,
        authority,
        &format!("{head}Content-Length: {}\r\n\r\n{text}", text.len()),
    )
}

/// Sends a `POST` that changes something to an `http://` URL of an admin port.
pub fn confirm(url: &str) -> Result<Response> {
    let (authority, target) = split(url)?;
    let request = format!(
        "POST {target} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\nX-Shaper-Request: 1\r\nContent-Length: 0\r\n\r\n"
    );
    exchange(url, authority, &request)
}

fn exchange(url: &str, authority: &str, request: &str) -> Result<Response> {
    let address = authority
        .to_socket_addrs()
        .with_context(|| format!("{authority} in {url} is no address"))?
        .next()
        .with_context(|| format!("{authority} in {url} has no address"))?;
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))
        .with_context(|| format!("no connection to {address}"))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(request.as_bytes())?;
    let mut bytes = Vec::new();
    stream
        .read_to_end(&mut bytes)
        .with_context(|| format!("no whole answer from {url}"))?;
    Response::parse(&bytes).with_context(|| format!("in the answer from {url}"))
}

/// Repeats a request until a condition holds. Returns the answer and the time that it took.
pub fn wait_until(
    url: &str,
    timeout: Duration,
    wanted: impl Fn(&Response) -> bool,
) -> Result<(Response, Duration)> {
    let start = Instant::now();
    loop {
        let answer = get(url);
        match answer {
            Ok(response) if wanted(&response) => return Ok((response, start.elapsed())),
            _ if start.elapsed() < timeout => std::thread::sleep(Duration::from_millis(25)),
            Ok(response) => anyhow::bail!(
                "after {timeout:?} {url} still answers {}: {}",
                response.status,
                response.body.trim()
            ),
            Err(error) => {
                return Err(error.context(format!("{url} did not answer within {timeout:?}")));
            }
        }
    }
}

/// The value of a metric at this URL; `name` includes the labels as `/metrics` writes them.
pub fn metric<N: std::str::FromStr>(url: &str, name: &str) -> Result<N> {
    let text = get(url)?.body;
    let value = text.lines().find_map(|line| {
        line.strip_prefix(name)?
            .strip_prefix(' ')?
            .trim()
            .parse()
            .ok()
    });
    value.with_context(|| format!("no metric {name} in\n{text}"))
}

/// The bytes of a request.
pub(crate) fn request(authority: &str, target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n")
}

/// Splits `http://AUTHORITY/TARGET`.
pub(crate) fn split(url: &str) -> Result<(&str, &str)> {
    let rest = url
        .strip_prefix("http://")
        .with_context(|| format!("{url} does not start with http://"))?;
    Ok(match rest.find('/') {
        Some(slash) => rest.split_at(slash),
        None => (rest, "/"),
    })
}

// === impl Response ===

impl Response {
    /// Parses a whole answer. Content-Length must be present and right, since iPXE relies on it,
    /// unless the answer is chunked, as a list of the admin port is.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let end = bytes
            .windows(4)
            .position(|window| window == b"\r\n\r\n")
            .context("the head has no end")?;
        let head = std::str::from_utf8(&bytes[..end]).context("the head is not UTF-8")?;
        let mut lines = head.split("\r\n");
        let status = lines
            .next()
            .and_then(|line| line.split(' ').nth(1))
            .and_then(|code| code.parse().ok())
            .context("there is no status line")?;
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
            .collect();
        let response = Self {
            status,
            headers,
            body: String::from_utf8_lossy(&bytes[end + 4..]).into_owned(),
        };
        if response.header("transfer-encoding") == Some("chunked") {
            return Ok(Self {
                body: unchunked(&response.body)?,
                ..response
            });
        }
        let length = bytes.len() - end - 4;
        ensure!(
            response.header("content-length") == Some(length.to_string().as_str()),
            "Content-Length is {:?}, the body has {length} bytes",
            response.header("content-length")
        );
        Ok(response)
    }

    /// The first header with this name, given in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}

/// Decodes a chunked body (RFC 9112, section 7.1) without trailers.
fn unchunked(mut rest: &str) -> Result<String> {
    let mut body = String::new();
    loop {
        let (size, after) = rest.split_once("\r\n").context("a chunk has no size")?;
        let size = usize::from_str_radix(size, 16).context("a chunk has no size")?;
        let chunk = after.get(..size).context("a chunk is cut off")?;
        body += chunk;
        rest = after[size..]
            .strip_prefix("\r\n")
            .context("a chunk has no end")?;
        if size == 0 {
            return Ok(body);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_whole() {
        let response =
            Response::parse(b"HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\nno\n").unwrap();
        assert_eq!((response.status, response.body.as_str()), (404, "no\n"));
    }

    #[test]
    fn an_answer_that_is_shorter_than_it_says_is_an_error() {
        assert!(Response::parse(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nno\n").is_err());
        assert!(Response::parse(b"HTTP/1.1 200 OK\r\n\r\nno\n").is_err());
    }

    #[test]
    fn a_chunked_answer_is_joined_and_must_be_whole() {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let parse = |body: &str| Response::parse(format!("{head}{body}").as_bytes());
        let whole = parse("3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n").unwrap();
        assert_eq!(whole.body, "abc0123456789");
        assert!(parse("3\r\nabc\r\n").is_err());
        assert!(parse("3\r\nab").is_err());
    }
}
