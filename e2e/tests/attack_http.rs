//! Malformed or smuggled requests get an error answer, or none.

use anyhow::{Context, Result, ensure};
use e2e::http::Response;
use e2e::manifests::{Manifests, assignment, says_its_name};
use e2e::server::Server;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

fn server() -> Result<(Server, Manifests)> {
    let manifests = Manifests::of(&[says_its_name("linux"), assignment("all", "", "linux")])?;
    Ok((
        Server::standalone(manifests.path()).start_ready()?,
        manifests,
    ))
}

fn connect(server: &Server) -> Result<TcpStream> {
    let stream = TcpStream::connect(server.http_address())?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.set_write_timeout(Some(Duration::from_secs(30)))?;
    Ok(stream)
}

/// Sends bytes and reads to the end. A reset is an error, since it may drop the answer.
fn exchange(server: &Server, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut stream = connect(server)?;
    let mut writer = stream.try_clone()?;
    let bytes = bytes.to_vec();
    let sending = std::thread::spawn(move || writer.write_all(&bytes));
    let mut answer = Vec::new();
    stream
        .read_to_end(&mut answer)
        .context("reading the answer")?;
    // The server may close the connection before the end.
    let _ = sending.join();
    Ok(answer)
}

fn get(rest: &str) -> Vec<u8> {
    format!("GET /ipxe?serial=S1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{rest}").into_bytes()
}

#[test]
fn a_malformed_request_gets_a_sentence_with_the_id_from_the_log() -> Result<()> {
    let (server, _manifests) = server()?;
    let many = |count: usize| {
        (0..count)
            .map(|n| format!("X-{n}: y\r\n"))
            .collect::<String>()
    };
    let megabyte = "x".repeat(1_000_000);
    let long = "x".repeat(20_000);
    let cases: Vec<(&str, Vec<u8>, u16)> = vec![
        (
            "a URL of a megabyte",
            format!("GET /ipxe?serial={megabyte} HTTP/1.1\r\nHost: a\r\n\r\n").into(),
            431,
        ),
        (
            "a URL of 20 kilobytes",
            format!("GET /ipxe?serial={long} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                .into(),
            414,
        ),
        (
            "a header of a megabyte",
            get(&format!("X: {megabyte}\r\n\r\n")),
            431,
        ),
        (
            "a header of 20 kilobytes",
            get(&format!("X: {long}\r\n\r\n")),
            431,
        ),
        ("ten thousand headers", get(&(many(10_000) + "\r\n")), 431),
        ("200 headers", get(&(many(200) + "\r\n")), 431),
        (
            "a NUL in the target",
            b"GET /ipxe?serial=a\0b HTTP/1.1\r\nHost: a\r\n\r\n".into(),
            400,
        ),
        ("a NUL in a header", get("X: a\0b\r\n\r\n"), 400),
        (
            "no HTTP",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".into(),
            400,
        ),
        (
            "an unknown version",
            b"GET / HTTP/9.9\r\nHost: a\r\n\r\n".into(),
            400,
        ),
        (
            "a space in the target",
            b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n".into(),
            400,
        ),
        (
            "two lengths",
            get("Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello"),
            400,
        ),
        (
            "a length that is no number",
            get("Content-Length: -1\r\n\r\n"),
            400,
        ),
        (
            "an unknown coding last",
            get("Transfer-Encoding: chunked, gzip\r\n\r\n"),
            400,
        ),
        (
            "another method",
            b"DELETE /ipxe HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".into(),
            405,
        ),
        (
            "a host that is none",
            b"GET /boot.ipxe HTTP/1.1\r\nHost: a b\r\nConnection: close\r\n\r\n".into(),
            400,
        ),
    ];
    for (what, request, status) in cases {
        let answer = exchange(&server, &request).with_context(|| what.to_owned())?;
        let answer = Response::parse(&answer)
            .with_context(|| format!("{what}: {:.300}", String::from_utf8_lossy(&answer)))?;
        ensure!(answer.status == status, "{what}: {answer:?}");
        let id = answer
            .header("x-request-id")
            .with_context(|| format!("{what}: {answer:?}"))?
            .to_owned();
        ensure!(
            answer.body.ends_with(&format!("\nrequest id: {id}\n")),
            "{what}: {answer:?}"
        );
        let logged = server.log().wait_for(Duration::from_secs(5), |line| {
            line.contains(&format!("\"request\":\"{id}\""))
        });
        ensure!(
            logged.is_some(),
            "{what}: no line in the log for {id}:\n{}",
            server.log().text()
        );
    }
    ensure!(
        server.metric("shaper_http_requests_total{route=\"unknown\",outcome=\"bad_request\"}")?
            >= 8
    );
    Ok(())
}

#[test]
fn a_body_cannot_smuggle_a_request() -> Result<()> {
    let (server, _manifests) = server()?;
    let hidden = "GET /boot.ipxe HTTP/1.1\r\nHost: a\r\n\r\n";
    let head = |method: &str| format!("{method} /ipxe?serial=S1 HTTP/1.1\r\nHost: a\r\n");
    let cases = [
        (
            "a length",
            format!(
                "{}Content-Length: {}\r\n\r\n{hidden}{hidden}",
                head("GET"),
                hidden.len()
            ),
        ),
        (
            "a chunk",
            format!(
                "{}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{hidden}\r\n0\r\n\r\n{hidden}",
                head("POST"),
                hidden.len()
            ),
        ),
        (
            "no chunk",
            format!(
                "{}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}",
                head("GET")
            ),
        ),
        (
            "both, the length first",
            format!(
                "{}Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}",
                head("GET")
            ),
        ),
        (
            "both, the chunks first",
            format!(
                "{}Transfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\n{hidden}",
                head("POST")
            ),
        ),
        (
            "a coding with a space",
            format!(
                "{}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n{hidden}",
                head("GET")
            ),
        ),
        (
            "two lengths that agree",
            format!(
                "{}Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello{hidden}",
                head("GET")
            ),
        ),
        (
            "a megabyte",
            format!(
                "{}Content-Length: 1000000\r\n\r\n{}{hidden}",
                head("POST"),
                hidden.repeat(1_000_000 / hidden.len())
            ),
        ),
        (
            "a question before the body",
            format!(
                "{}Content-Length: 5\r\nExpect: 100-continue\r\n\r\nhello{hidden}",
                head("GET")
            ),
        ),
    ];
    for (what, request) in cases {
        let answer = exchange(&server, request.as_bytes()).with_context(|| what.to_owned())?;
        let text = String::from_utf8_lossy(&answer);
        ensure!(
            text.matches("HTTP/1.1 ").count() == 1 && !text.contains("uristring"),
            "{what}: {text}"
        );
        ensure!(
            Response::parse(&answer)?.header("connection") == Some("close"),
            "{what}: {text}"
        );
    }
    Ok(())
}

#[test]
fn two_hundred_pipelined_requests_are_answered_in_order() -> Result<()> {
    let (server, _manifests) = server()?;
    let mut stream = connect(&server)?;
    let requests: String = (0..200)
        .map(|n| format!("GET /ipxe?serial=S-{n} HTTP/1.1\r\nHost: a\r\n\r\n"))
        .collect();
    stream.write_all(
        (requests + "GET /none HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").as_bytes(),
    )?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let booted: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("echo BOOTED-linux "))
        .collect();
    let expected: Vec<_> = (0..200).map(|n| format!("S-{n}")).collect();
    ensure!(booted == expected, "{booted:?}");
    ensure!(text.matches("HTTP/1.1 404 ").count() == 1);
    Ok(())
}

#[test]
fn http_1_0_and_half_closed_clients_are_served() -> Result<()> {
    let (server, _manifests) = server()?;
    for request in [
        "GET /ipxe?serial=S1 HTTP/1.0\r\n\r\n",
        "GET /ipxe?serial=S1 HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http://b/ipxe?serial=S1 HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        let mut stream = connect(&server)?;
        // Sends two parts and then closes this direction.
        let (first, second) = request.split_at(20);
        stream.write_all(first.as_bytes())?;
        std::thread::sleep(Duration::from_millis(50));
        stream.write_all(second.as_bytes())?;
        stream.shutdown(Shutdown::Write)?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        ensure!(
            text.starts_with("HTTP/1.")
                && text.contains(" 200 OK\r\n")
                && text.contains("BOOTED-linux S1"),
            "{request}: {text}"
        );
    }
    Ok(())
}
