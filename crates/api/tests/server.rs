//! What a client sees on the wire: heads, limits, and how it ends.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use api::{Boot, Limits, Metrics, Server};
use boot::{Catalog, ExtrinsicLabels, SharedCatalog};
use prometheus_client::registry::Registry;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

struct Running {
    address: SocketAddr,
    registry: Registry,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

fn start(limits: Limits) -> Running {
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    let boot = Arc::new(Boot::new(Arc::new(SharedCatalog::new(Catalog::new())), ExtrinsicLabels::default(), None));
    boot.set_synced();
    let server = Server::bind("127.0.0.1:0".parse().unwrap(), boot, metrics, limits).unwrap();
    let stop = CancellationToken::new();
    Running { address: server.local_addr().unwrap(), registry, task: tokio::spawn(server.run(stop.clone())), stop }
}

impl Running {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends bytes on a connection of their own and reads until the server closes.
    async fn exchange(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect().await;
        // The server may close before it has read all of what is too long.
        let _ = stream.write_all(bytes).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

/// Reads one answer with a body of known length.
async fn read_answer(stream: &mut TcpStream) -> (String, String) {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            if body.len() >= length.parse().unwrap() {
                return (head.to_owned(), body.to_owned());
            }
        }
        assert_ne!(stream.read_buf(&mut bytes).await.unwrap(), 0, "closed after {text:?}");
    }
}

#[tokio::test]
async fn a_connection_serves_several_requests_with_a_length_each() {
    let server = start(Limits::default());
    let mut stream = server.connect().await;
    for _ in 0..3 {
        stream.write_all(b"GET /boot.ipxe HTTP/1.1\r\nHost: shaper:8080\r\n\r\n").await.unwrap();
        let (head, body) = read_answer(&mut stream).await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(head.contains("cache-control: no-store") && head.contains("x-request-id: "), "{head}");
        assert!(!head.contains("transfer-encoding") && !head.contains("content-encoding"), "{head}");
        assert!(body.starts_with("#!ipxe\n"));
    }
    server.stop().await;
}

#[tokio::test]
async fn head_has_the_length_of_get_and_no_body() {
    let server = start(Limits::default());
    let get = server.exchange(b"GET /boot.ipxe HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    let head = server.exchange(b"HEAD /boot.ipxe HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    let length = |text: &str| text.lines().find_map(|line| line.strip_prefix("content-length: ").map(str::to_owned)).unwrap();
    assert_eq!(length(&get), length(&head));
    assert!(head.ends_with("\r\n\r\n"), "{head}");
    server.stop().await;
}

#[tokio::test]
async fn a_failure_says_what_to_do_under_an_id_that_the_log_has() {
    let server = start(Limits::default());
    let answer = server.exchange(b"GET /ipxe?uuid= HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 404 Not Found\r\n"), "{answer}");
    let id = answer.lines().find_map(|line| line.strip_prefix("x-request-id: ")).unwrap();
    assert!(answer.contains("no Assignment matches this machine") && answer.ends_with(&format!("request id: {id}\n")), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn what_ipxe_leaves_raw_in_a_query_is_read() {
    let server = start(Limits::default());
    let answer = server.exchange(b"GET /ipxe?product=a\"<b>{} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 404 ") && answer.contains("no Assignment matches this machine"), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn a_body_ends_the_connection_and_is_never_taken_for_a_request() {
    let server = start(Limits::default());
    let hidden = "GET /boot.ipxe HTTP/1.1\r\nHost: a\r\n\r\n";
    for body in ["\"\"\"\n".to_owned() + hidden, hidden.to_owned()] {
        let request = format!("GET /ipxe HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}{hidden}", body.len());
        let answer = server.exchange(request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 404 ") && answer.contains("connection: close\r\n"), "{answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    }
    server.stop().await;
}

#[tokio::test]
async fn other_methods_are_told_which_are_served() {
    let server = start(Limits::default());
    let answer = server.exchange(b"POST /ipxe HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 405 ") && answer.contains("allow: GET, HEAD\r\n"), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn what_is_too_long_is_refused() {
    let server = start(Limits::default());
    let cases = [
        (format!("GET /ipxe?a={} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "x".repeat(9000)), "HTTP/1.1 414 "),
        (format!("GET /ipxe HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX: {}\r\n\r\n", "x".repeat(20_000)), "HTTP/1.1 431 "),
        (format!("GET /ipxe?a={} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(1_000_000)), "HTTP/1.1 4"),
    ];
    for (request, status) in cases {
        let answer = server.exchange(request.as_bytes()).await;
        // Of a megabyte, hyper refuses the start; the reset for the rest may overtake its answer.
        assert!(answer.starts_with(status) || (request.len() > 900_000 && answer.is_empty()), "{answer:.200}");
    }
    let answer = server.exchange(b"GET /boot.ipxe HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "others go on");
    server.stop().await;
}

#[tokio::test]
async fn an_idle_connection_and_a_slow_head_are_closed() {
    let server = start(Limits { head: Duration::from_millis(200), ..Limits::default() });
    for beginning in ["", "GET /ipxe HTTP/1.1\r\nHo"] {
        let answer = server.exchange(beginning.as_bytes()).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408 "), "{answer}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_client_too_many_is_asked_to_come_again() {
    let server = start(Limits { connections: 1, ..Limits::default() });
    let mut first = server.connect().await;
    first.write_all(b"GET /boot.ipxe HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    read_answer(&mut first).await;
    let answer = server.exchange(b"GET /boot.ipxe HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    let seconds: u32 = answer.lines().find_map(|line| line.strip_prefix("retry-after: ")).unwrap().parse().unwrap();
    assert!((2..=10).contains(&seconds));
    first.write_all(b"GET /boot.ipxe HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
    assert!(read_answer(&mut first).await.0.starts_with("HTTP/1.1 200 "), "the first is served on");
    server.stop().await;
}

#[tokio::test]
async fn a_request_too_many_is_asked_to_come_again() {
    let server = start(Limits { in_flight: 0, ..Limits::default() });
    let answer = server.exchange(b"GET /boot.ipxe HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("retry-after: "), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn stopping_ends_idle_connections_and_counts_are_right() {
    let server = start(Limits::default());
    let mut idle = server.connect().await;
    idle.write_all(b"GET /boot.ipxe HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    read_answer(&mut idle).await;
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &server.registry).unwrap();
    assert!(text.contains("http_requests_total{route=\"bootstrap\",outcome=\"ok\"} 1"), "{text}");
    assert!(text.contains("http_connections 1"), "{text}");
    server.stop().await;
    assert_eq!(idle.read(&mut [0; 16]).await.unwrap(), 0);
}

#[tokio::test]
async fn bytes_that_are_no_request_get_a_400_or_nothing() {
    let server = start(Limits::default());
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"GET / HTTP/9.9\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
        b"GET /\x80 HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        let mut stream = server.connect().await;
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{bytes:?}: {answer}");
    }
    server.stop().await;
}
