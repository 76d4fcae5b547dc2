//! Arbitrary bytes on an HTTP connection.

use std::cell::OnceCell;
use std::sync::Arc;

use api::{Limits, Metrics, Server};
use prometheus_client::registry::Registry;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use super::{answer, check_error_to};

thread_local! {
    static SERVER: OnceCell<(Runtime, Server)> = const { OnceCell::new() };
}

/// Input: what a client sends; the first byte sets the size of the buffer between client and
/// server.
pub(crate) fn http(bytes: &[u8]) {
    let [at_once, bytes @ ..] = bytes else { return };
    SERVER.with(|server| {
        let (runtime, server) = server.get_or_init(start);
        let answers = runtime.block_on(exchange(server, bytes, usize::from(*at_once)));
        let mut rest = &answers[..];
        while !rest.is_empty() {
            rest = check(rest, bytes);
        }
    });
}

fn start() -> (Runtime, Server) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let metrics = Metrics::register(&mut Registry::default());
    let address = "127.0.0.1:0".parse().expect("an address");
    let server = runtime.block_on(async {
        Server::bind(
            address,
            Arc::new(answer::boot()),
            metrics,
            Arc::new(()),
            Limits::default(),
        )
    });
    (runtime, server.expect("a port"))
}

/// Sends everything, closes that direction, and reads to the end.
async fn exchange(server: &Server, bytes: &[u8], at_once: usize) -> Vec<u8> {
    let (server_end, client) = duplex(if at_once == 0 { 1 << 20 } else { at_once });
    let (mut read, mut write) = tokio::io::split(server_end);
    let mut answers = Vec::new();
    let send = async {
        // The server may close the connection earlier.
        let _ = write.write_all(bytes).await;
        let _ = write.shutdown().await;
    };
    let receive = async { read.read_to_end(&mut answers).await.map(drop) };
    let serve = server.serve_connection(
        client,
        ([192, 0, 2, 1], 50_000).into(),
        CancellationToken::new(),
    );
    let ((), received, served) = tokio::join!(send, receive, serve);
    received.and(served).expect("nothing breaks a duplex");
    answers
}

/// Checks one answer and returns the bytes after it.
fn check<'a>(answers: &'a [u8], sent: &[u8]) -> &'a [u8] {
    let end = answers
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .expect("a head has an end");
    let head = std::str::from_utf8(&answers[..end]).expect("a head is ASCII");
    let header = |name: &str| {
        head.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    };
    let status: u16 = head
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .expect("a status");
    let length: usize = header("content-length")
        .expect("a length")
        .parse()
        .expect("a number");
    // The answer to a HEAD has a Content-Length and no body.
    let after = &answers[end + 4..];
    let is_head = after.is_empty() || after.starts_with(b"HTTP/1.");
    let (body, rest) = if is_head {
        (&b""[..], after)
    } else {
        after.split_at(length)
    };
    let id = header("x-request-id").unwrap_or_else(|| panic!("no request id in {head}"));
    assert!(
        header("transfer-encoding").is_none() && header("content-encoding").is_none(),
        "{head}"
    );
    assert!([200, 400, 404, 405, 414, 431].contains(&status), "{head}");
    let text = std::str::from_utf8(body).expect("UTF-8");
    if status != 200 && !is_head {
        check_error_to(sent, text);
        assert!(
            text.ends_with(&format!("request id: {id}\n")),
            "{head}\n\n{text}"
        );
    }
    rest
}
