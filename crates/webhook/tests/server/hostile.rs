//! Tests the server against clients other than an API server, and against reviews that no API
//! server sends.

use std::time::Duration;

use http::StatusCode;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::client::TlsStream;
use webhook::Limits;

use super::site::{LONG, Site, json_of, post, review};

/// Creates a review of a Profile with these fields changed.
fn with(fields: &Value) -> String {
    let mut review: Value = serde_json::from_str(&review("#!ipxe\nboot\n")).unwrap();
    for (key, value) in fields.as_object().unwrap() {
        review["request"][key] = value.clone();
    }
    review.to_string()
}

fn kind(group: &str, version: &str, kind: &str) -> Value {
    json!({ "kind": { "group": group, "version": version, "kind": kind } })
}

/// Creates the answer that allows the write with these warnings.
fn allowed(warnings: &[&str]) -> Value {
    let mut response = json!({ "uid": "u", "allowed": true });
    if !warnings.is_empty() {
        response["warnings"] = json!(warnings);
    }
    json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response })
}

const UNREACHED: &str = "Profile p: metadata.labels: no Assignment in namespace n selects this Profile, so no machine boots it (add an \
    Assignment whose profileSelectors are among its labels, or remove this Profile)";

#[tokio::test]
async fn a_foreign_or_undecodable_review_is_allowed() {
    let site = Site::start(Limits::default());
    let other = |what: &str| {
        format!(
            "not checked: shaper checks Profile, Assignment and Machine of shaper.amahdha.com/v1alpha1, not {what}"
        )
    };
    let [machine, v2, apps] = [
        "Rack of shaper.amahdha.com/v1alpha1",
        "Profile of shaper.amahdha.com/v2",
        "Profile of apps/v1alpha1",
    ]
    .map(other);
    // The old object can't be decoded, so its faults are unknown; the new one is valid.
    let undecodable =
        json!({ "operation": "UPDATE", "oldObject": { "metadata": 5, "spec": ["x"] } });
    let wrong = json!({ "spec": { "ipxe": 5 } });
    let still_wrong = json!({ "operation": "UPDATE", "object": wrong, "oldObject": wrong });
    let unreadable = "Profile p: does not match the schema: invalid type: integer `5`, expected a string (`kubectl explain` lists the fields and their \
        types; if this version of shaper has others, apply its config/crd)";
    let cases: [(Value, Vec<&str>); 9] = [
        (
            kind("shaper.amahdha.com", "v1alpha1", "Rack"),
            vec![&machine],
        ),
        (kind("shaper.amahdha.com", "v2", "Profile"), vec![&v2]),
        (kind("apps", "v1alpha1", "Profile"), vec![&apps]),
        (undecodable, vec![UNREACHED]),
        (still_wrong, vec![unreadable]),
        (
            json!({ "operation": "PATCH" }),
            vec!["not checked: the operation \"PATCH\" is unknown"],
        ),
        (
            json!({ "operation": "CONNECT" }),
            vec!["not checked: the operation \"CONNECT\" is unknown"],
        ),
        (
            json!({ "object": null }),
            vec!["not checked: the review has no object"],
        ),
        (json!({ "userInfo": null }), vec![UNREACHED]),
    ];
    for (fields, warnings) in cases {
        let response = site.ask("h2", post("/validate", with(&fields))).await;
        assert_eq!(response.status(), StatusCode::OK, "{fields}");
        assert_eq!(json_of(response).await, allowed(&warnings), "{fields}");
        // Without a known user no author is recorded, and nothing else changes.
        let mut unsigned: Value = serde_json::from_str(&with(&fields)).unwrap();
        unsigned["request"]
            .as_object_mut()
            .unwrap()
            .remove("userInfo");
        let response = site.ask("h2", post("/mutate", unsigned.to_string())).await;
        assert_eq!(json_of(response).await, allowed(&[]), "{fields}");
    }
}

#[tokio::test]
async fn a_duplicate_key_of_a_review_is_rejected() {
    let site = Site::start(Limits::default());
    let twice = |key: &str, first: &str| {
        review("#!ipxe\nboot\n").replacen(
            &format!("\"{key}\":"),
            &format!("\"{key}\":{first},\"{key}\":"),
            1,
        )
    };
    for (key, first) in [
        ("uid", "\"v\""),
        ("operation", "\"DELETE\""),
        ("object", "{}"),
        ("kind", "\"x\""),
        ("userInfo", "{}"),
    ] {
        for path in ["/validate", "/mutate"] {
            let response = site.ask("h2", post(path, twice(key, first))).await;
            assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{key}");
            let body = response.into_body().collect().await.unwrap().to_bytes();
            let body = String::from_utf8_lossy(&body).into_owned();
            assert!(
                body.starts_with(&format!(
                    "not an AdmissionReview: duplicate field `{key}` at "
                )),
                "{body}"
            );
        }
    }
    assert!(
        site.metrics()
            .contains("refusals_total{reason=\"malformed\"} 10"),
        "{}",
        site.metrics()
    );
    // Within the object the last duplicate counts, as in an API server.
    let response = site
        .ask("h2", post("/validate", twice("spec", "{\"ipxe\":\"{{\"}")))
        .await;
    assert_eq!(json_of(response).await, allowed(&[UNREACHED]));
}

#[tokio::test]
async fn three_megabytes_are_answered_and_more_than_four_are_refused() {
    let site = Site::start(Limits::default());
    let large = |bytes: usize| {
        with(&json!({ "oldObject": { "metadata": { "annotations": { "a": "x".repeat(bytes) } } } }))
    };
    for protocol in ["http/1.1", "h2"] {
        let body = large(3_000_000);
        assert!(body.len() > 3_000_000);
        let response = site.ask(protocol, post("/validate", body)).await;
        assert_eq!(
            (response.status(), json_of(response).await),
            (StatusCode::OK, allowed(&[UNREACHED]))
        );
    }
    let response = site
        .ask("h2", post("/validate", large(4 * 1024 * 1024)))
        .await;
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(
        response.into_body().collect().await.unwrap().to_bytes(),
        "the body is longer than 4194304 bytes\n"
    );
}

/// Reads everything until the peer closes.
async fn all_of(stream: &mut (impl AsyncReadExt + Unpin)) -> Vec<u8> {
    let (mut all, mut piece) = (Vec::new(), vec![0; 64 * 1024]);
    let reading = async {
        // A reset also ends the connection.
        while let Ok(read @ 1..) = stream.read(&mut piece).await {
            all.extend_from_slice(&piece[..read]);
        }
    };
    tokio::time::timeout(LONG, reading)
        .await
        .expect("it does not end");
    all
}

#[tokio::test]
async fn plain_http_and_noise_get_at_most_a_tls_alert() {
    let site = Site::start(Limits {
        head: Duration::from_millis(300),
        ..Limits::default()
    });
    let noises: [&[u8]; 4] = [
        b"POST /validate HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &[0; 4096],
        b"",
    ];
    for noise in noises {
        let mut stream = TcpStream::connect(site.address).await.unwrap();
        stream.write_all(noise).await.unwrap();
        let said = all_of(&mut stream).await;
        // A TLS record (RFC 8446, section 5.1) with an alert, and no HTTP.
        let is_alert = said.len() == 7 && said[0] == 21 && said[5] == 2;
        assert!(
            said.is_empty() || is_alert,
            "{noise:?} is answered {said:?}"
        );
    }
    site.works().await;
    let metrics = site.metrics();
    let errors = metrics
        .lines()
        .filter(|line| line.contains("tls_handshake_errors_total{tls=\"webhook\""));
    let counted: f64 = errors
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum();
    assert!((counted - 4.0).abs() < 0.1, "{metrics}");
}

#[tokio::test]
async fn silent_connections_of_one_address_leave_room_for_the_api_server() {
    let site = Site::start(Limits {
        connections: 8,
        ..Limits::default()
    });
    let mut strangers = Vec::new();
    for _ in 0..20 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 66], 0).into()).unwrap();
        strangers.push(socket.connect(site.address).await.unwrap());
    }
    for _ in 0..3 {
        site.works().await;
    }
    let metrics = site.metrics();
    let displaced = metrics
        .lines()
        .find(|line| line.starts_with("webhook_connections_displaced_total "))
        .expect("the metric is registered");
    assert_ne!(displaced, "webhook_connections_displaced_total 0");
}

// --- HTTP/2, frame by frame (RFC 9113, section 6) ---

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;
/// The error codes `PROTOCOL_ERROR` and `ENHANCE_YOUR_CALM` (section 7).
const NO_PROTOCOL: u32 = 1;
const TOO_MUCH: u32 = 11;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Encodes the headers of a JSON `POST` to `/validate` over https, without indexing.
fn head() -> Vec<u8> {
    let literal = |name: &str, value: &str| {
        let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
        [vec![0], text(name), text(value)].concat()
    };
    let fields = [
        (":method", "POST"),
        (":scheme", "https"),
        (":authority", "localhost"),
        (":path", "/validate"),
        ("content-type", "application/json"),
    ];
    fields
        .iter()
        .flat_map(|(name, value)| literal(name, value))
        .collect()
}

async fn flood(site: &Site, frames: impl Iterator<Item = Vec<u8>>) -> TlsStream<TcpStream> {
    let mut stream = site.connect("h2").await;
    stream
        .write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat())
        .await
        .unwrap();
    for frame in frames {
        // The server may have closed the connection already.
        if stream.write_all(&frame).await.is_err() {
            break;
        }
    }
    stream
}

/// Returns kind and payload of each complete frame.
fn frames(said: &[u8]) -> Vec<(u8, &[u8])> {
    let (mut rest, mut frames) = (said, Vec::new());
    while let [a, b, c, kind, _, _, _, _, _, after @ ..] = rest {
        let length = usize::try_from(u32::from_be_bytes([0, *a, *b, *c])).unwrap();
        let Some((payload, after)) = after.split_at_checked(length) else {
            break;
        };
        frames.push((*kind, payload));
        rest = after;
    }
    frames
}

/// Returns the error code of the GOAWAY that the server sends before it closes, if any.
async fn farewell(stream: &mut TlsStream<TcpStream>) -> Option<u32> {
    let said = all_of(stream).await;
    let last = frames(&said)
        .into_iter()
        .rfind(|(kind, _)| *kind == GOAWAY)?;
    Some(u32::from_be_bytes(last.1[4..8].try_into().unwrap()))
}

#[tokio::test]
async fn a_client_that_resets_its_streams_is_disconnected() {
    let site = Site::start(Limits::default());
    let begin_and_reset = |n: u32| {
        [
            frame(HEADERS, END_HEADERS, 2 * n + 1, &head()),
            frame(RST_STREAM, 0, 2 * n + 1, &8_u32.to_be_bytes()),
        ]
        .concat()
    };
    let mut stream = flood(&site, (0..20_000).map(begin_and_reset)).await;
    assert_eq!(farewell(&mut stream).await, Some(TOO_MUCH));
    site.works().await;
}

#[tokio::test]
async fn endless_streams_are_limited() {
    let site = Site::start(Limits {
        streams: 10,
        in_flight: 5,
        body: LONG,
        ..Limits::default()
    });
    let begin = |n: u32| frame(HEADERS, END_HEADERS, 2 * n + 1, &head());
    let streams = [
        flood(&site, (0..10).map(begin)).await,
        flood(&site, (0..10).map(begin)).await,
    ];
    let limit = tokio::time::Instant::now() + LONG / 2;
    // Their bodies never arrive. Until these requests end, others are told to retry.
    while !site
        .metrics()
        .contains("refusals_total{reason=\"overloaded\"} 15")
    {
        assert!(tokio::time::Instant::now() < limit, "{}", site.metrics());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let response = site.ask("h2", post("/validate", review("#!ipxe"))).await;
    assert_eq!(
        (
            response.status(),
            response.headers()["retry-after"].as_bytes()
        ),
        (StatusCode::SERVICE_UNAVAILABLE, &b"1"[..])
    );
    assert_eq!(
        response.into_body().collect().await.unwrap().to_bytes(),
        "too many concurrent reviews; try again\n"
    );
    drop(streams);
    while site
        .ask("h2", post("/validate", review("#!ipxe")))
        .await
        .status()
        != StatusCode::OK
    {
        assert!(tokio::time::Instant::now() < limit, "{}", site.metrics());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // A client that exceeds the limit that it was given is disconnected.
    let mut stream = flood(&site, (0..1_000).map(begin)).await;
    assert_eq!(farewell(&mut stream).await, Some(TOO_MUCH));
    site.works().await;
}

#[tokio::test]
async fn header_and_ping_floods_do_not_affect_other_clients() {
    let site = Site::start(Limits::default());
    let mut first = Some(frame(HEADERS, 0, 1, &head()));
    let endless = std::iter::from_fn(|| {
        Some(
            first
                .take()
                .unwrap_or_else(|| frame(CONTINUATION, 0, 1, &[0; 16 * 1024])),
        )
    });
    let mut stream = flood(&site, endless.take(2_000)).await;
    assert_eq!(farewell(&mut stream).await, Some(TOO_MUCH));

    let long = [
        head(),
        [vec![0, 1, b'x', 127, 0x81, 0x7f], vec![b'y'; 16_000]].concat(),
    ]
    .concat();
    let mut stream = flood(
        &site,
        (0..50).map(|n| frame(HEADERS, END_HEADERS, 2 * n + 1, &long[..16_000])),
    )
    .await;
    assert_eq!(farewell(&mut stream).await, Some(NO_PROTOCOL));

    let mut stream = flood(&site, (0..20_000).map(|_| frame(PING, 0, 0, &[0; 8]))).await;
    stream.shutdown().await.ok();
    let said = all_of(&mut stream).await;
    let of_the_connection = [SETTINGS, PING, GOAWAY, WINDOW_UPDATE];
    assert!(
        frames(&said)
            .iter()
            .all(|(kind, _)| of_the_connection.contains(kind)),
        "it answers what nobody asked for"
    );
    site.works().await;
}
