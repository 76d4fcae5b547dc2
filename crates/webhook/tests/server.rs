//! The server as an API server meets it, and as those meet it who are none.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use boot::{Catalog, SharedCatalog};
use bytes::Bytes;
use http::{Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prometheus_client::registry::Registry;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tempfile::TempDir;
use tls::Live;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;
use webhook::{Limits, Metrics, Reviews, Server};

/// Far more than any of this takes.
const LONG: Duration = Duration::from_secs(20);

struct Site {
    address: SocketAddr,
    root: CertificateDer<'static>,
    live: Arc<Live<tls::Public>>,
    registry: Registry,
    stop: CancellationToken,
    running: JoinHandle<()>,
    folder: TempDir,
}

fn certify(folder: &TempDir) -> CertificateDer<'static> {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    std::fs::write(folder.path().join("tls.crt"), certificate.pem()).unwrap();
    std::fs::write(folder.path().join("tls.key"), key.serialize_pem()).unwrap();
    certificate.der().clone()
}

impl Site {
    async fn start(limits: Limits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = certify(&folder);
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let live = Live::service("webhook", folder.path(), tls::Metrics::register(&mut registry));
        let reviews = Arc::new(Reviews::new(Arc::new(SharedCatalog::new(Catalog::with_selectors())), "", metrics.clone()));
        reviews.set_synced();
        let server = Server::bind(([127, 0, 0, 1], 0).into(), live.clone(), reviews, metrics, limits).await.unwrap();
        let address = server.local_addr().unwrap();
        let stop = CancellationToken::new();
        let running = tokio::spawn(server.run(stop.clone()));
        Self { address, root, live, registry, stop, running, folder }
    }

    async fn connect(&self, protocol: &str) -> TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(tls::provider()).with_safe_default_protocol_versions().unwrap();
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let stream = TcpStream::connect(self.address).await.unwrap();
        TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap()
    }

    async fn ask(&self, protocol: &str, request: Request<Full<Bytes>>) -> Response<Incoming> {
        let io = TokioIo::new(self.connect(protocol).await);
        if protocol == "h2" {
            let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
            tokio::spawn(connection);
            return sender.send_request(request).await.unwrap();
        }
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        sender.send_request(request).await.unwrap()
    }

    fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text
    }

    async fn works(&self) {
        let response = self.ask("h2", post("/validate", review("#!ipxe\nboot\n"))).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(json_of(response).await["response"]["allowed"], true);
    }
}

fn post(path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let builder = Request::post(format!("https://localhost{path}")).header("content-type", "application/json").header("host", "localhost");
    builder.body(Full::new(body.into())).unwrap()
}

fn review(ipxe: &str) -> String {
    let kind = json!({ "group": "shaper.amahdha.com", "version": "v1alpha1", "kind": "Profile" });
    let object = json!({ "metadata": { "name": "p", "namespace": "n" }, "spec": { "ipxe": ipxe } });
    let request = json!({
        "uid": "u", "kind": kind, "operation": "CREATE", "namespace": "n", "name": "p", "userInfo": { "username": "alice" }, "object": object,
    });
    json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request }).to_string()
}

async fn json_of(response: Response<Incoming>) -> Value {
    serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap()
}

/// Reads until the other end closes, however it does that.
async fn is_closed(stream: &mut (impl AsyncReadExt + Unpin)) -> bool {
    let mut all = vec![0; 64 * 1024];
    let reading = async { while stream.read(&mut all).await.is_ok_and(|read| read > 0) {} };
    tokio::time::timeout(LONG, reading).await.is_ok()
}

#[tokio::test]
async fn reviews_are_answered_over_either_version_of_http() {
    let site = Site::start(Limits::default()).await;
    for (protocol, version) in [("http/1.1", Version::HTTP_11), ("h2", Version::HTTP_2)] {
        let response = site.ask(protocol, post("/validate?timeout=3s", review("{{"))).await;
        assert_eq!((response.status(), response.version()), (StatusCode::OK, version));
        assert_eq!(json_of(response).await["response"]["allowed"], false);
        let response = site.ask(protocol, post("/mutate", review("#!ipxe"))).await;
        assert_eq!(json_of(response).await["response"]["patchType"], "JSONPatch");
    }
    let metrics = site.metrics();
    assert!(
        metrics.contains("reviews_total{webhook=\"validate\",kind=\"Profile\",operation=\"CREATE\",outcome=\"denied\"} 2"),
        "{metrics}"
    );
    assert!(metrics.contains("findings_total{rule=\"template\"} 2"), "{metrics}");
}

#[tokio::test]
async fn what_is_no_review_gets_a_status_and_a_sentence() {
    let site = Site::start(Limits::default()).await;
    let get = Request::get("https://localhost/validate").header("host", "localhost").body(Full::default()).unwrap();
    let text = Request::post("https://localhost/validate").header("host", "localhost").body(Full::from("{}")).unwrap();
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
            // A body that nobody reads may end the connection before all of it is sent.
            if status == 413 && protocol == "http/1.1" {
                continue;
            }
            let response = site.ask(protocol, request.clone()).await;
            assert_eq!(response.status().as_u16(), status, "{method} {path} {protocol}");
            let body = response.into_body().collect().await.unwrap().to_bytes();
            assert!(body.len() > 10 && body.ends_with(b"\n"), "{body:?}");
        }
    }
    site.works().await;
}

#[tokio::test]
async fn plain_http_on_the_port_and_other_noise_is_closed() {
    let site = Site::start(Limits { head: Duration::from_millis(300), ..Limits::default() }).await;
    let noises: [&[u8]; 4] = [b"POST /validate HTTP/1.1\r\nhost: localhost\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[0; 4096], b""];
    for noise in noises {
        let mut stream = TcpStream::connect(site.address).await.unwrap();
        stream.write_all(noise).await.unwrap();
        assert!(is_closed(&mut stream).await);
    }
    site.works().await;
    assert!(site.metrics().contains("handshake_errors_total{tls=\"webhook\""));
}

#[tokio::test]
async fn a_slow_body_and_a_slow_head_are_given_up() {
    let limits = Limits { head: Duration::from_millis(200), body: Duration::from_millis(200), ..Limits::default() };
    let site = Site::start(limits).await;
    let mut stream = site.connect("http/1.1").await;
    stream.write_all(b"POST /validate HTTP/1.1\r\nhost: localhost\r\n").await.unwrap();
    assert!(is_closed(&mut stream).await);

    let mut stream = site.connect("http/1.1").await;
    let head = b"POST /validate HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{";
    stream.write_all(head).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 408");
    site.works().await;
}

// --- HTTP/2, frame by frame (RFC 9113, section 6) ---

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// `POST https /validate`, of type JSON, without indexing.
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
    fields.iter().flat_map(|(name, value)| literal(name, value)).collect()
}

async fn flood(site: &Site, frames: impl Iterator<Item = Vec<u8>>) -> TlsStream<TcpStream> {
    let mut stream = site.connect("h2").await;
    stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await.unwrap();
    for frame in frames {
        // The server may have had enough.
        if stream.write_all(&frame).await.is_err() {
            break;
        }
    }
    stream
}

#[tokio::test]
async fn a_caller_that_resets_what_it_begins_is_sent_away() {
    let site = Site::start(Limits::default()).await;
    let begin_and_reset =
        |n: u32| [frame(HEADERS, END_HEADERS, 2 * n + 1, &head()), frame(RST_STREAM, 0, 2 * n + 1, &8_u32.to_be_bytes())].concat();
    let mut stream = flood(&site, (0..20_000).map(begin_and_reset)).await;
    assert!(is_closed(&mut stream).await);
    site.works().await;
}

#[tokio::test]
async fn streams_that_never_end_take_no_more_than_their_limits() {
    let limits = Limits { streams: 10, in_flight: 5, body: Duration::from_millis(500), ..Limits::default() };
    let site = Site::start(limits).await;
    let begin = |n: u32| frame(HEADERS, END_HEADERS, 2 * n + 1, &head());
    let streams = [flood(&site, (0..1_000).map(begin)).await, flood(&site, (0..1_000).map(begin)).await];
    // Their bodies never come, and then there is room again.
    let limit = tokio::time::Instant::now() + LONG;
    loop {
        let response = site.ask("h2", post("/validate", review("#!ipxe"))).await;
        if response.status() == StatusCode::OK {
            break;
        }
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(tokio::time::Instant::now() < limit);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(streams);
}

#[tokio::test]
async fn headers_without_end_and_pings_without_number_harm_nobody() {
    let site = Site::start(Limits::default()).await;
    let mut first = Some(frame(HEADERS, 0, 1, &head()));
    let endless = std::iter::from_fn(|| Some(first.take().unwrap_or_else(|| frame(CONTINUATION, 0, 1, &[0; 16 * 1024]))));
    let mut stream = flood(&site, endless.take(2_000)).await;
    assert!(is_closed(&mut stream).await);

    let long = [head(), [vec![0, 1, b'x', 127, 0x81, 0x7f], vec![b'y'; 16_000]].concat()].concat();
    let mut stream = flood(&site, (0..50).map(|n| frame(HEADERS, END_HEADERS, 2 * n + 1, &long[..16_000]))).await;
    assert!(is_closed(&mut stream).await);

    let mut stream = flood(&site, (0..20_000).map(|_| frame(PING, 0, 0, &[0; 8]))).await;
    stream.shutdown().await.ok();
    site.works().await;
}

#[tokio::test]
async fn more_connections_than_there_may_be_are_closed_and_idle_ones_end() {
    let limits = Limits { connections: 2, idle: Duration::from_secs(1), ..Limits::default() };
    let site = Site::start(limits).await;
    let mut kept = [site.connect("h2").await, site.connect("http/1.1").await];
    let mut third = TcpStream::connect(site.address).await.unwrap();
    assert!(is_closed(&mut third).await);
    for stream in &mut kept {
        stream.write_all(PREFACE).await.ok();
        assert!(is_closed(stream).await);
    }
    site.works().await;
}

#[tokio::test]
async fn a_server_that_stops_finishes_what_is_on_its_way() {
    let site = Site::start(Limits::default()).await;
    let io = TokioIo::new(site.connect("h2").await);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    assert_eq!(sender.send_request(post("/validate", review("#!ipxe"))).await.unwrap().status(), StatusCode::OK);
    let asked = sender.send_request(post("/validate", review("#!ipxe\necho {% for n in range(900) %}x{% endfor %}")));
    tokio::time::sleep(Duration::from_millis(5)).await;
    site.stop.cancel();
    assert_eq!(asked.await.unwrap().status(), StatusCode::OK);
    tokio::time::timeout(LONG, site.running).await.unwrap().unwrap();
    assert!(TcpStream::connect(site.address).await.is_err());
}

#[tokio::test]
async fn a_new_certificate_is_shown_to_the_next_caller() {
    let mut site = Site::start(Limits::default()).await;
    site.works().await;
    site.root = certify(&site.folder);
    assert!(site.live.reload());
    site.works().await;
}
