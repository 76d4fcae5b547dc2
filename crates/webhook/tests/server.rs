//! Tests the server as an API server uses it.

use std::time::Duration;

use http::{Request, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use webhook::Limits;

#[path = "server/hostile.rs"]
mod hostile;
#[path = "server/site.rs"]
mod site;
#[path = "server/verified.rs"]
mod verified;

use site::{LONG, Site, certify, is_closed, json_of, post, review};

#[tokio::test]
async fn reviews_are_answered_over_http_1_and_http_2() {
    let site = Site::start(Limits::default());
    for (protocol, version) in [("http/1.1", Version::HTTP_11), ("h2", Version::HTTP_2)] {
        let response = site
            .ask(protocol, post("/validate?timeout=3s", review("{{")))
            .await;
        assert_eq!(
            (response.status(), response.version()),
            (StatusCode::OK, version)
        );
        assert_eq!(json_of(response).await["response"]["allowed"], false);
        let response = site.ask(protocol, post("/mutate", review("#!ipxe"))).await;
        assert_eq!(
            json_of(response).await["response"]["patchType"],
            "JSONPatch"
        );
    }
    let metrics = site.metrics();
    assert!(
        metrics.contains("reviews_total{webhook=\"validate\",kind=\"Profile\",operation=\"CREATE\",outcome=\"denied\"} 2"),
        "{metrics}"
    );
    assert!(
        metrics.contains("findings_total{rule=\"template\"} 2"),
        "{metrics}"
    );
}

#[tokio::test]
async fn a_request_that_is_not_a_review_gets_a_status_and_a_message() {
    let site = Site::start(Limits::default());
    let get = Request::get("https://localhost/validate")
        .header("host", "localhost")
        .body(Full::default())
        .unwrap();
    let text = Request::post("https://localhost/validate")
        .header("host", "localhost")
        .body(Full::from("{}"))
        .unwrap();
    let cases = [
        (post("/", "{}"), 404),
        (get, 405),
        (text, 415),
        (post("/validate", "{}"), 400),
        (post("/mutate", ""), 400),
        (post("/validate", vec![b' '; 5 * 1024 * 1024]), 413),
    ];
    for (request, status) in cases {
        for protocol in ["http/1.1", "h2"] {
            let (path, method) = (request.uri().path().to_owned(), request.method().clone());
            // A rejected body that is not read may end the connection before all of it is sent.
            if status == 413 && protocol == "http/1.1" {
                continue;
            }
            let response = site.ask(protocol, request.clone()).await;
            assert_eq!(
                response.status().as_u16(),
                status,
                "{method} {path} {protocol}"
            );
            let body = response.into_body().collect().await.unwrap().to_bytes();
            assert!(body.len() > 10 && body.ends_with(b"\n"), "{body:?}");
        }
    }
    site.works().await;
}

#[tokio::test]
async fn slow_heads_and_bodies_time_out() {
    let limits = Limits {
        head: Duration::from_millis(200),
        body: Duration::from_millis(200),
        ..Limits::default()
    };
    let site = Site::start(limits);
    let mut stream = site.connect("http/1.1").await;
    stream
        .write_all(b"POST /validate HTTP/1.1\r\nhost: localhost\r\n")
        .await
        .unwrap();
    assert!(is_closed(&mut stream).await);

    let mut stream = site.connect("http/1.1").await;
    let head = b"POST /validate HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{";
    stream.write_all(head).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 408");
    site.works().await;
}

#[tokio::test]
async fn excess_connections_are_closed_and_idle_ones_time_out() {
    let limits = Limits {
        connections: 2,
        idle: Duration::from_secs(1),
        ..Limits::default()
    };
    let site = Site::start(limits);
    let mut kept = [site.connect("h2").await, site.connect("http/1.1").await];
    let mut third = TcpStream::connect(site.address).await.unwrap();
    assert!(is_closed(&mut third).await);
    for stream in &mut kept {
        stream
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .await
            .ok();
        assert!(is_closed(stream).await);
    }
    site.works().await;
}

#[tokio::test]
async fn a_stopping_server_finishes_requests_in_flight() {
    let site = Site::start(Limits::default());
    let io = TokioIo::new(site.connect("h2").await);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
        .await
        .unwrap();
    tokio::spawn(connection);
    assert_eq!(
        sender
            .send_request(post("/validate", review("#!ipxe")))
            .await
            .unwrap()
            .status(),
        StatusCode::OK
    );
    let asked = sender.send_request(post(
        "/validate",
        review("#!ipxe\necho {% for n in range(900) %}x{% endfor %}"),
    ));
    tokio::time::sleep(Duration::from_millis(5)).await;
    site.stop.cancel();
    assert_eq!(asked.await.unwrap().status(), StatusCode::OK);
    tokio::time::timeout(LONG, site.running)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert!(TcpStream::connect(site.address).await.is_err());
}

#[tokio::test]
async fn a_new_certificate_is_used_for_the_next_connection() {
    let mut site = Site::start(Limits::default());
    site.works().await;
    site.root = certify(&site.folder);
    assert!(site.live.reload());
    site.works().await;
}
