//! Checks the server on the wire: heads, limits and the end of connections.

mod running;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use api::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use running::{bind, read_answer, start, start_with};

#[tokio::test]
async fn a_connection_serves_several_requests_with_a_length_each() {
    let server = start(Limits::default());
    let mut stream = server.connect().await;
    for _ in 0..3 {
        stream
            .write_all(b"GET /boot.ipxe HTTP/1.1\r\nHost: shaper:8080\r\n\r\n")
            .await
            .unwrap();
        let (head, body) = read_answer(&mut stream).await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(
            head.contains("cache-control: no-store") && head.contains("x-request-id: "),
            "{head}"
        );
        assert!(
            !head.contains("transfer-encoding") && !head.contains("content-encoding"),
            "{head}"
        );
        assert!(body.starts_with("#!ipxe\n"));
    }
    server.stop().await;
}

#[tokio::test]
async fn head_has_the_length_of_get_and_no_body() {
    let server = start(Limits::default());
    let get = server
        .exchange(b"GET /boot.ipxe HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .await;
    let head = server
        .exchange(b"HEAD /boot.ipxe HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .await;
    let length = |text: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix("content-length: ").map(str::to_owned))
            .unwrap()
    };
    assert_eq!(length(&get), length(&head));
    assert!(head.ends_with("\r\n\r\n"), "{head}");
    server.stop().await;
}

#[tokio::test]
async fn an_error_response_has_a_sentence_and_a_request_id() {
    let server = start(Limits::default());
    let answer = server
        .exchange(b"GET /ipxe?uuid= HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .await;
    assert!(answer.starts_with("HTTP/1.1 404 Not Found\r\n"), "{answer}");
    let id = answer
        .lines()
        .find_map(|line| line.strip_prefix("x-request-id: "))
        .unwrap();
    assert!(
        answer.contains("no Assignment matches this machine")
            && answer.ends_with(&format!("request id: {id}\n")),
        "{answer}"
    );
    server.stop().await;
}

#[tokio::test]
async fn characters_that_ipxe_does_not_encode_are_accepted_in_a_query() {
    let server = start(Limits::default());
    let answer = server
        .exchange(b"GET /ipxe?product=a\"<b>{} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .await;
    assert!(
        answer.starts_with("HTTP/1.1 404 ")
            && answer.contains("no Assignment matches this machine"),
        "{answer}"
    );
    server.stop().await;
}

#[tokio::test]
async fn a_body_ends_the_connection_and_is_never_taken_for_a_request() {
    let server = start(Limits::default());
    let hidden = "GET /boot.ipxe HTTP/1.1\r\nHost: a\r\n\r\n";
    for body in ["\"\"\"\n".to_owned() + hidden, hidden.to_owned()] {
        let request = format!(
            "GET /ipxe HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}{hidden}",
            body.len()
        );
        let answer = server.exchange(request.as_bytes()).await;
        assert!(
            answer.starts_with("HTTP/1.1 404 ") && answer.contains("connection: close\r\n"),
            "{answer}"
        );
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_request_has_exactly_one_host_header() {
    let server = start(Limits::default());
    for (head, status, reason) in [
        ("GET //boot.ipxe HTTP/1.1\r\nHost: a\r\n", 200, ""),
        ("GET /boot.ipxe HTTP/1.1\r\nHost:\r\n", 200, ""),
        ("GET /boot.ipxe HTTP/1.0\r\n", 200, ""),
        (
            "GET /boot.ipxe HTTP/1.1\r\n",
            400,
            "the request has no Host header, which HTTP/1.1 requires; send one",
        ),
        (
            "GET /boot.ipxe HTTP/1.1\r\nHost: a\r\nHost: b\r\n",
            400,
            "the request has 2 Host headers; send one",
        ),
        (
            "GET http://a/boot.ipxe HTTP/1.1\r\nHost: a\r\nX: y\r\nhost: a\r\n",
            400,
            "the request has 2 Host headers; send one",
        ),
        (
            "GET /boot.ipxe HTTP/1.1\r\nHost: a b\r\n",
            400,
            "the Host header is not a host name or address with an optional port",
        ),
    ] {
        let answer = server
            .exchange(format!("{head}Connection: close\r\n\r\n").as_bytes())
            .await;
        let (status_line, _) = answer.split_once("\r\n").unwrap();
        assert_eq!(
            status_line.split(' ').nth(1),
            Some(&*status.to_string()),
            "{head}: {answer}"
        );
        assert!(answer.contains(reason), "{head}: {answer}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_405_lists_the_allowed_methods() {
    let server = start(Limits::default());
    let answer = server
        .exchange(
            b"POST /ipxe HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        )
        .await;
    assert!(
        answer.starts_with("HTTP/1.1 405 ") && answer.contains("allow: GET, HEAD\r\n"),
        "{answer}"
    );
    server.stop().await;
}

#[tokio::test]
async fn oversized_requests_are_rejected() {
    let server = start(Limits::default());
    let cases = [
        (
            format!(
                "GET /ipxe?a={} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
                "x".repeat(9000)
            ),
            "HTTP/1.1 414 ",
        ),
        (
            format!(
                "GET /ipxe HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX: {}\r\n\r\n",
                "x".repeat(20_000)
            ),
            "HTTP/1.1 431 ",
        ),
        (
            format!(
                "GET /ipxe?a={} HTTP/1.1\r\nHost: a\r\n\r\n",
                "x".repeat(1_000_000)
            ),
            "HTTP/1.1 431 ",
        ),
    ];
    for (request, status) in cases {
        let answer = server.exchange(request.as_bytes()).await;
        assert!(
            answer.starts_with(status) && answer.contains("\nrequest id: "),
            "{answer:.200}"
        );
    }
    let answer = server
        .exchange(b"GET /boot.ipxe HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "others go on");
    server.stop().await;
}

#[tokio::test]
async fn an_idle_connection_and_a_slow_head_are_closed() {
    let server = start(Limits {
        head: Duration::from_millis(200),
        ..Limits::default()
    });
    for beginning in ["", "GET /ipxe HTTP/1.1\r\nHo"] {
        let answer = server.exchange(beginning.as_bytes()).await;
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 408 "),
            "{answer}"
        );
    }
    server.stop().await;
}

#[tokio::test]
async fn a_connection_beyond_the_limit_gets_503_with_retry_after() {
    let server = start(Limits {
        connections: 1,
        ..Limits::default()
    });
    let mut first = server.connect().await;
    first
        .write_all(b"GET /boot.ipxe HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    read_answer(&mut first).await;
    let answer = server
        .exchange(b"GET /boot.ipxe HTTP/1.1\r\nHost: a\r\n\r\n")
        .await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    let seconds: u32 = answer
        .lines()
        .find_map(|line| line.strip_prefix("retry-after: "))
        .unwrap()
        .parse()
        .unwrap();
    assert!((2..=10).contains(&seconds));
    first
        .write_all(b"GET /boot.ipxe HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    assert!(
        read_answer(&mut first).await.0.starts_with("HTTP/1.1 200 "),
        "the first is served on"
    );
    server.stop().await;
}

#[tokio::test]
async fn a_connection_that_gives_way_before_its_request_gets_503_with_retry_after() {
    let server = start(Limits {
        connections: 2,
        ..Limits::default()
    });
    let mut early = server.connect().await;
    // Half a head is no request.
    early.write_all(b"GET /boot.ipxe HTTP").await.unwrap();
    server.wait_for_connections(1).await;
    let _silent = server.connect().await;
    server.wait_for_connections(2).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.9.9.9:0".parse().unwrap()).unwrap();
    let mut newcomer = socket.connect(server.address).await.unwrap();
    newcomer
        .write_all(b"GET /boot.ipxe HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    let (head, _) = read_answer(&mut newcomer).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let (head, _) = read_answer(&mut early).await;
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    assert!(head.contains("\r\nretry-after: "), "{head}");
    let metrics = server.metrics();
    assert!(
        metrics.contains("http_connections_displaced_total 1\n"),
        "{metrics}"
    );
    // The silent one and the newcomer.
    server.wait_for_connections(2).await;
    server.stop().await;
}

#[tokio::test]
async fn a_request_beyond_the_limit_gets_503_with_retry_after() {
    let server = start(Limits {
        in_flight: 0,
        ..Limits::default()
    });
    let answer = server
        .exchange(b"GET /boot.ipxe HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .await;
    assert!(
        answer.starts_with("HTTP/1.1 503 ") && answer.contains("retry-after: "),
        "{answer}"
    );
    server.stop().await;
}

#[tokio::test]
async fn stopping_closes_idle_connections() {
    let server = start(Limits::default());
    let mut idle = server.connect().await;
    idle.write_all(b"GET /boot.ipxe HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    read_answer(&mut idle).await;
    let text = server.metrics();
    assert!(
        text.contains("http_requests_total{route=\"bootstrap\",outcome=\"ok\"} 1"),
        "{text}"
    );
    assert!(text.contains("http_connections 1"), "{text}");
    server.stop().await;
    assert_eq!(idle.read(&mut [0; 16]).await.unwrap(), 0);
}

#[tokio::test]
async fn bytes_that_are_not_a_request_get_a_complete_400_and_are_counted() {
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
        assert!(
            answer.starts_with("HTTP/1.1 400 Bad Request\r\n"),
            "{bytes:?}: {answer}"
        );
        let id = answer
            .lines()
            .find_map(|line| line.strip_prefix("x-request-id: "))
            .unwrap();
        assert!(
            answer.ends_with(&format!("\nrequest id: {id}\n")),
            "{answer}"
        );
    }
    // HTTP/2 is recognized and gets no HTTP/1 response.
    assert_eq!(
        server.exchange(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await,
        ""
    );
    let text = server.metrics();
    assert!(
        text.contains("http_requests_total{route=\"unknown\",outcome=\"bad_request\"} 5"),
        "{text}"
    );
    server.stop().await;
}

#[tokio::test]
async fn an_unparsable_request_after_a_good_one_gets_a_complete_error_response() {
    let server = start(Limits::default());
    let answer = server
        .exchange(b"GET /boot.ipxe HTTP/1.1\r\nHost: a\r\n\r\nGET /\0 HTTP/1.1\r\n\r\n")
        .await;
    assert_eq!(answer.matches("x-request-id: ").count(), 2, "{answer}");
    assert!(
        answer.contains("HTTP/1.1 400 Bad Request\r\n")
            && answer.contains("this is not a valid HTTP/1 request"),
        "{answer}"
    );
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_connected_before_the_stop_can_send_its_first_request_after_it() {
    let server = start(Limits::default());
    let mut accepted = server.connect().await;
    accepted.write_all(b"GET /boot").await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    server.stop.cancel();
    tokio::time::sleep(Duration::from_millis(50)).await;
    accepted
        .write_all(b".ipxe HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    accepted.read_to_string(&mut answer).await.unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.contains("connection: close\r\n"),
        "{answer}"
    );
    server.stop().await;
}

#[tokio::test]
async fn connections_established_before_the_stop_are_served() {
    let server = start(Limits::default());
    // The server's task has not run since these clients connected.
    let waiting: Vec<_> = (0..20)
        .map(|_| std::net::TcpStream::connect(server.address).unwrap())
        .collect();
    server.stop.cancel();
    for mut stream in waiting {
        std::io::Write::write_all(&mut stream, b"GET /boot.ipxe HTTP/1.1\r\nHost: a\r\n\r\n")
            .unwrap();
        stream.set_nonblocking(true).unwrap();
        let mut answer = String::new();
        TcpStream::from_std(stream)
            .unwrap()
            .read_to_string(&mut answer)
            .await
            .unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    server.stop().await;
}

#[tokio::test]
async fn unread_long_answers_are_bounded_until_they_are_read() {
    let limits = Limits {
        answer_bytes: 3_000_000,
        ..Limits::default()
    };
    let server = start_with(limits, Some(&"x".repeat(200_000)));
    let ask = b"GET /config/47c6da67-7477-4970-aa03-84e48ff4f6ad HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let mut readers = Vec::new();
    // The kernel buffers an unknown part of each answer.
    let shed = loop {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let mut stream = socket.connect(server.address).await.unwrap();
        stream.write_all(ask).await.unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).await.unwrap();
        readers.push(stream);
        if status.ends_with(b"503") {
            break readers.len();
        }
        assert!(readers.len() < 500, "nothing is bounded");
    };
    assert!(shed > 3_000_000 / 200_000, "only {shed} fit");
    assert!(
        server
            .exchange(b"GET /boot.ipxe HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            .await
            .starts_with("HTTP/1.1 200 ")
    );
    drop(readers);
    while !server.exchange(ask).await.starts_with("HTTP/1.1 200 ") {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    server.stop().await;
}

const ASK: &str = "GET /config/47c6da67-7477-4970-aa03-84e48ff4f6ad HTTP/1.1\r\nHost: a\r\n\r\n";

#[tokio::test]
async fn an_answer_of_any_length_that_looks_like_an_error_is_sent_unchanged() {
    // Every fragment that starts at a multiple of 16 looks like a response head.
    const SIXTEEN: &str = "HTTP/1.1 400 no\n";
    for len in [
        0, 1, 16_383, 16_384, 16_385, 32_768, 32_769, 49_152, 250_000,
    ] {
        let text: String = SIXTEEN.chars().cycle().take(len).collect();
        let server = start_with(Limits::default(), Some(&text));
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        // Smaller than the answer, so that it is written in pieces.
        socket.set_recv_buffer_size(4096).unwrap();
        let mut stream = socket.connect(server.address).await.unwrap();
        for _ in 0..2 {
            stream.write_all(ASK.as_bytes()).await.unwrap();
            let (head, body) = read_answer(&mut stream).await;
            assert!(
                head.starts_with("HTTP/1.1 200 OK\r\n")
                    && head.contains(&format!("content-length: {len}")),
                "{head}"
            );
            assert!(body == text, "{len}: {} bytes came", body.len());
        }
        stream
            .write_all(ASK.replace("GET", "HEAD").as_bytes())
            .await
            .unwrap();
        stream
            .write_all(b"GET /boot.ipxe HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            .await
            .unwrap();
        let mut rest = String::new();
        stream.read_to_string(&mut rest).await.unwrap();
        let (head, next) = rest.split_once("\r\n\r\n").unwrap();
        // Hyper sends no Content-Length for an empty body here.
        assert!(
            len == 0 || head.contains(&format!("content-length: {len}")),
            "{head}"
        );
        assert!(next.starts_with("HTTP/1.1 200 OK\r\n"), "{rest}");
        server.stop().await;
    }
}

#[tokio::test]
async fn a_connection_times_out_as_idle_after_a_long_answer() {
    let server = start_with(
        Limits {
            head: Duration::from_millis(200),
            ..Limits::default()
        },
        Some(&"x".repeat(100_000)),
    );
    for method in ["GET", "HEAD"] {
        // Reads until the server closes the connection by itself.
        let ask = ASK.replace("GET", method);
        let answer = tokio::time::timeout(Duration::from_mins(1), server.exchange(ask.as_bytes()))
            .await
            .expect("it is closed");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer:.100}");
    }
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_nothing_times_out_over_a_buffering_stream() {
    let (server, _registry) = bind(Limits::default(), Some(&"x".repeat(5000)));
    let (mut client, server_end) = tokio::io::duplex(1000);
    client.write_all(ASK.as_bytes()).await.unwrap();
    // Like TLS, it accepts all bytes and is pending only when flushed.
    let stream = tokio::io::BufWriter::new(server_end);
    let started = tokio::time::Instant::now();
    let served = server.serve_connection(
        stream,
        "192.0.2.7:1234".parse().unwrap(),
        CancellationToken::new(),
    );
    tokio::time::timeout(Duration::from_mins(10), served)
        .await
        .expect("it ends")
        .unwrap();
    assert_eq!(
        started.elapsed().as_secs(),
        Limits::default().answer.as_secs()
    );
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_not_read_without_bound() {
    for config in ["", "x", &"x".repeat(100_000)] {
        let server = start_with(Limits::default(), Some(config));
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let mut stream = socket.connect(server.address).await.unwrap();
        let many = ASK.repeat(1000);
        let mut sent = 0;
        // The kernel buffers some megabytes for both directions.
        while let Ok(more) =
            tokio::time::timeout(Duration::from_secs(2), stream.write_all(many.as_bytes())).await
        {
            more.unwrap();
            sent += many.len();
            assert!(sent < 60_000_000, "the server reads on and on");
        }
        server.stop.cancel();
        drop(stream);
        server.task.await.unwrap().unwrap();
    }
}

#[test]
fn connection_limits_fit_into_the_limit_of_open_files() {
    let within = |files| {
        let limits = Limits::default().within(files);
        (limits.connections, limits.shedding)
    };
    assert_eq!(within(100_000), (16_384, 2_048));
    assert_eq!(within(8_000), (7_000, 1_000));
    assert_eq!(within(18_000), (15_952, 2_048));
    assert_eq!(within(0), (1, 1));
}

/// Sends a request from this address again and again, and counts the answers.
async fn ask_repeatedly(
    server: SocketAddr,
    from: Ipv4Addr,
    request: String,
    answers: Arc<AtomicUsize>,
) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    let mut stream = socket.connect(server).await.unwrap();
    loop {
        stream.write_all(request.as_bytes()).await.unwrap();
        read_answer(&mut stream).await;
        answers.fetch_add(1, Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_with_many_costly_requests_waits_longer_than_another() {
    const CROWD: usize = 500;
    const ANSWERS: usize = 20;
    let server = start(Limits::default());
    let (many, few) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let costly = format!(
        "GET /ipxe?a={} HTTP/1.1\r\nHost: a\r\n\r\n",
        "%41".repeat(2_600)
    );
    let mut asking = JoinSet::new();
    let crowd = Ipv4Addr::new(127, 0, 66, 1);
    for _ in 0..CROWD {
        let request = costly.clone();
        asking.spawn(ask_repeatedly(server.address, crowd, request, many.clone()));
    }
    let eventually = async |answers: &AtomicUsize, count: usize| {
        let enough = async {
            while answers.load(Relaxed) < count {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_mins(1), enough).await.unwrap();
    };
    eventually(&many, CROWD).await;
    many.store(0, Relaxed);
    let request = "GET /boot.ipxe HTTP/1.1\r\nHost: a\r\n\r\n".to_owned();
    let other = Ipv4Addr::new(127, 0, 77, 1);
    asking.spawn(ask_repeatedly(server.address, other, request, few.clone()));
    eventually(&few, ANSWERS).await;
    let (few, many) = (few.load(Relaxed), many.load(Relaxed));
    asking.shutdown().await;
    // Of answers for each client. Without turns, every client gets as many.
    assert!(many * 5 < few * CROWD, "{few} and {many} for {CROWD}");
    server.stop().await;
}
