//! Runs the role `api` as a process, fed by a publisher in this process.

#[path = "../../tls/tests/certificates/authority.rs"]
mod authority;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use authority::{Authority, Secret};
use boot::{Assignment, Change, ObjectKey, Profile, SubjectSelectors};
use feed::{Publisher, PublisherLimits, PublisherMetrics};
use net::Listener;
use prometheus_client::registry::Registry;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use tls::{Metrics, Reloader};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

/// A limit that only a hang reaches.
const LONG: Duration = Duration::from_mins(1);

struct Controller {
    publisher: Arc<Publisher>,
    url: String,
    stop: CancellationToken,
    _tls: tempfile::TempDir,
}

/// A running `shaper api`, ended when dropped.
struct Api {
    child: Child,
    http: SocketAddr,
    https: SocketAddr,
    admin: SocketAddr,
}

fn directory(secret: &Secret) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    secret.project(directory.path());
    directory
}

fn controller(authority: &Authority, changes: Vec<Change>) -> Controller {
    let directory = directory(&authority.issue("localhost"));
    let tls = Reloader::mutual(
        "feed",
        directory.path(),
        vec!["shaper-api".parse().unwrap()],
        Metrics::default(),
    );
    let publisher = Arc::new(Publisher::new());
    publisher.apply(changes);
    publisher.set_ready();
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().port());
    let stop = CancellationToken::new();
    let metrics = PublisherMetrics::register(&mut Registry::default());
    tokio::spawn(feed::serve(
        listener,
        publisher.clone(),
        tls,
        metrics,
        PublisherLimits::default(),
        stop.clone(),
    ));
    Controller {
        publisher,
        url,
        stop,
        _tls: directory,
    }
}

/// Returns a port that is free now. Another process may take it first, but that is rare.
fn free_port() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

impl Api {
    fn start(feeds: &[&str], tls: &Path, arguments: &[&str]) -> Self {
        let (http, https, admin) = (free_port(), free_port(), free_port());
        let mut command = Command::new(env!("CARGO_BIN_EXE_shaper"));
        command.arg("api").arg("--feed-tls-dir").arg(tls);
        for feed in feeds {
            command.arg("--feed").arg(feed);
        }
        command
            .args([
                "--http-listen",
                &http.to_string(),
                "--admin-listen",
                &admin.to_string(),
            ])
            .args(arguments);
        if arguments.contains(&"--https-tls-dir") {
            command.args(["--https-listen", &https.to_string()]);
        }
        let child = command.stderr(Stdio::null()).spawn().unwrap();
        Self {
            child,
            http,
            https,
            admin,
        }
    }

    /// Returns status line, headers and body; empty while the server does not listen.
    async fn get(&self, path: &str) -> String {
        request(self.http, "GET", path).await
    }

    async fn admin(&self, method: &str, path: &str) -> String {
        match TcpStream::connect(self.admin).await {
            Ok(stream) => exchange(stream, method, path, "localhost\r\nx-shaper-request: 1")
                .await
                .unwrap_or_default(),
            Err(_) => String::new(),
        }
    }

    /// Waits until the response contains these words.
    async fn until(&self, path: &str, words: &str) {
        let last = std::sync::Mutex::new(String::new());
        let wait = async {
            loop {
                let answer = if path.starts_with("/ipxe") {
                    self.get(path).await
                } else {
                    self.admin("GET", path).await
                };
                if answer.contains(words) {
                    return;
                }
                *last.lock().unwrap() = answer;
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(LONG, wait)
            .await
            .unwrap_or_else(|_| panic!("{path} has no {words:?}: {}", last.lock().unwrap()));
    }

    async fn terminate(mut self) {
        assert!(
            Command::new("kill")
                .arg(self.child.id().to_string())
                .status()
                .unwrap()
                .success()
        );
        let ended = tokio::task::spawn_blocking(move || self.child.wait().unwrap().success());
        assert!(
            timeout(LONG, ended).await.expect("it ends").unwrap(),
            "it ends in order"
        );
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn request(address: SocketAddr, method: &str, path: &str) -> String {
    match TcpStream::connect(address).await {
        Ok(stream) => exchange(stream, method, path, "shaper.lab")
            .await
            .unwrap_or_default(),
        Err(_) => String::new(),
    }
}

async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    method: &str,
    path: &str,
    host: &str,
) -> std::io::Result<String> {
    let head = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(String::from_utf8(answer).unwrap())
}

fn profile(text: &str) -> Change {
    let configs = BTreeMap::from([("config0".parse().unwrap(), "text\n".to_owned())]);
    let script = format!("#!ipxe\necho {text} {{{{ config0 }}}}\n");
    let profile = Profile::compile(
        ObjectKey::new("default", "p"),
        None,
        &BTreeMap::new(),
        &script,
        &configs,
    )
    .unwrap();
    let ids = BTreeMap::from([(
        "config0".parse().unwrap(),
        "445a4753-3d59-4429-8cea-7db9febdecad".parse().unwrap(),
    )]);
    Change::Profile(Arc::new(profile.with_ids(ids)))
}

fn assignment(name: &str) -> Change {
    Change::Assignment(Arc::new(Assignment {
        key: ObjectKey::new("default", name),
        created: None,
        labels: boot::Labels::default(),
        subjects: SubjectSelectors::default(),
        profiles: boot::Labels::default(),
        priority: 0,
        variables: boot::Variables::default(),
    }))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_serves_its_feed_and_survives_its_loss_and_starts_from_its_copy() {
    let authority = Authority::new("ca");
    let tls = directory(&authority.issue("shaper-api"));
    let state = tempfile::tempdir().unwrap();
    let arguments = [
        "--state-dir",
        state.path().to_str().unwrap(),
        "--label",
        "region=lab",
    ];
    let controller = controller(&authority, vec![assignment("a"), profile("one")]);

    let api = Api::start(&[&controller.url], tls.path(), &arguments);
    api.until("/readyz", "200 OK").await;
    api.until(
        "/ipxe?mac=52:54:00:00:00:01",
        "echo one http://shaper.lab/config/445a4753-3d59-4429-8cea-7db9febdecad?",
    )
    .await;
    controller.publisher.apply(vec![profile("two")]);
    api.until("/ipxe", "echo two").await;
    assert!(
        api.admin("GET", "/metrics")
            .await
            .contains("shaper_feed_connected{partition=\"\"} 1")
    );
    assert!(
        !api.admin("GET", "/explain?mac=525400000001")
            .await
            .contains("warnings")
    );

    controller.stop.cancel();
    api.until("/readyz?verbose", "the feed: disconnected for")
        .await;
    api.until("/explain", "the feed: disconnected for").await;
    assert!(
        api.admin("GET", "/readyz")
            .await
            .starts_with("HTTP/1.1 200"),
        "what it has is served on"
    );
    assert!(api.get("/ipxe").await.contains("echo two"));
    api.terminate().await;

    let api = Api::start(&[&controller.url], tls.path(), &arguments);
    api.until("/readyz", "200 OK").await;
    assert!(
        api.get("/ipxe").await.contains("echo two"),
        "no controller is alive"
    );
    drop(api);

    std::fs::write(state.path().join("feed.copy"), "something else").unwrap();
    let api = Api::start(&[&controller.url], tls.path(), &arguments);
    api.until("/readyz?verbose", "503").await;
    api.until("/ipxe", "503").await;
    assert!(
        api.get("/ipxe")
            .await
            .to_ascii_lowercase()
            .contains("retry-after: ")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_confirms_a_mass_deletion() {
    let authority = Authority::new("ca");
    let tls = directory(&authority.issue("shaper-api"));
    let many: Vec<_> = (0..60).map(|n| assignment(&format!("a{n}"))).collect();
    let first = controller(&authority, many);
    let second = controller(&authority, vec![assignment("a0")]);
    let state = tempfile::tempdir().unwrap();
    let arguments = [
        "--guard-percent",
        "50",
        "--state-dir",
        state.path().to_str().unwrap(),
    ];
    let api = Api::start(&[&first.url], tls.path(), &arguments);
    api.until("/readyz?verbose", "60 Assignments").await;
    api.terminate().await;
    let api = Api::start(&[&second.url], tls.path(), &arguments);
    api.until("/readyz?verbose", "the guard keeps 59 of 60 objects")
        .await;
    assert!(
        api.admin("GET", "/readyz?verbose")
            .await
            .contains("60 Assignments")
    );
    assert!(
        api.admin("GET", "/metrics")
            .await
            .contains("shaper_guard_holding{partition=\"\"} 1")
    );
    assert!(
        api.admin("GET", "/guard/confirm")
            .await
            .starts_with("HTTP/1.1 405")
    );
    assert!(
        api.admin("POST", "/guard/confirm")
            .await
            .contains("removed 59 objects")
    );
    api.until("/readyz?verbose", "1 Assignments").await;
    assert!(
        api.admin("POST", "/guard/confirm")
            .await
            .contains("the guard keeps no objects")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn two_partitions_merge_and_an_unreachable_one_is_named() {
    let authority = Authority::new("ca");
    let tls = directory(&authority.issue("shaper-api"));
    let west = controller(&authority, vec![assignment("a"), profile("west")]);
    let east = controller(&authority, vec![assignment("b")]);
    let feeds = [format!("west={}", west.url), format!("east={}", east.url)];
    let api = Api::start(&[&feeds[0], &feeds[1]], tls.path(), &[]);
    api.until("/readyz?verbose", "2 Assignments, 1 Profiles")
        .await;
    api.until("/ipxe", "echo west").await;
    west.stop.cancel();
    api.until("/readyz?verbose", "partition west: disconnected for")
        .await;
    api.until("/explain", "partition west: disconnected for")
        .await;
    api.until("/ipxe", "echo west").await;
    let metrics = api.admin("GET", "/metrics").await;
    assert!(
        metrics.contains("shaper_feed_connected{partition=\"west\"} 0"),
        "{metrics}"
    );
    assert!(
        metrics.contains("shaper_feed_connected{partition=\"east\"} 1"),
        "{metrics}"
    );
}

fn trusting(authorities: &[&Authority]) -> TlsConnector {
    let mut roots = rustls::RootCertStore::empty();
    for authority in authorities {
        roots
            .add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap())
            .unwrap();
    }
    let builder = rustls::ClientConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS12]);
    Arc::new(
        builder
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth(),
    )
    .into()
}

async fn get_tls(
    address: SocketAddr,
    connector: &TlsConnector,
    path: &str,
) -> std::io::Result<String> {
    let stream = TcpStream::connect(address).await?;
    let stream = connector
        .connect(ServerName::try_from("boot.lab").unwrap(), stream)
        .await?;
    exchange(stream, "GET", path, "boot.lab").await
}

/// Replaces certificates, finally by those of another CA, while machines fetch. Every request must
/// be answered.
#[tokio::test(flavor = "multi_thread")]
async fn https_serves_every_request_while_certificates_are_replaced() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let tls = directory(&old.issue("shaper-api"));
    let https = directory(&old.issue_rsa("boot.lab"));
    let controller = controller(&old, vec![assignment("a"), profile("one")]);
    let api = Api::start(
        &[&controller.url],
        tls.path(),
        &["--https-tls-dir", https.path().to_str().unwrap()],
    );
    api.until("/ipxe", "echo one http://").await;
    let either = trusting(&[&old, &new]);
    let answer = get_tls(api.https, &either, "/ipxe").await.unwrap();
    assert!(
        answer.contains("echo one https://boot.lab/config/"),
        "{answer}"
    );
    assert!(
        get_tls(api.https, &trusting(&[&new]), "/ipxe")
            .await
            .is_err()
    );
    assert!(
        !request(api.https, "GET", "/ipxe").await.contains("HTTP"),
        "plain text gets no answer there"
    );

    let (is_over, served) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU32::new(0)),
    );
    let load: Vec<_> = (0..4)
        .map(|_| {
            let (is_over, served, either, address) =
                (is_over.clone(), served.clone(), either.clone(), api.https);
            tokio::spawn(async move {
                while !is_over.load(Ordering::Relaxed) {
                    let answer = get_tls(address, &either, "/ipxe")
                        .await
                        .expect("no request fails");
                    assert!(
                        answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with('\n'),
                        "{answer}"
                    );
                    served.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let reloads = |count: u32| format!("shaper_tls_reloads_total{{tls=\"https\"}} {count}\n");
    for (count, authority) in (2..).zip([&old, &old, &new, &new]) {
        // A half-written certificate leaves the old one in use.
        Secret {
            key: String::new(),
            ..authority.issue("boot.lab")
        }
        .project(https.path());
        api.until(
            "/readyz?verbose",
            "tls.key does not contain a complete PEM private key",
        )
        .await;
        authority.issue_rsa("boot.lab").project(https.path());
        api.until("/metrics", &reloads(count)).await;
    }
    let before = served.load(Ordering::Relaxed);
    assert!(before > 0);
    get_tls(api.https, &trusting(&[&new]), "/ipxe")
        .await
        .expect("the new authority holds");
    is_over.store(true, Ordering::Relaxed);
    for task in load {
        task.await.unwrap();
    }
}

#[test]
fn a_bad_configuration_fails_at_startup() {
    let empty = tempfile::tempdir().unwrap();
    let directory = empty.path().to_str().unwrap();
    let feed = ["--feed", "https://localhost", "--feed-tls-dir", directory];
    let cases: [(&[&str], &str); 7] = [
        (
            &["--feed", "http://localhost", "--feed-tls-dir", directory],
            "the feed is served only over TLS; write https://",
        ),
        (&["--feed", "https://localhost"], "--feed-tls-dir"),
        (&["--feed-tls-dir", directory], "--feed"),
        (
            &["--feed", "https://localhost", "--feed-tls-dir", "/nowhere"],
            "--feed-tls-dir is not a directory: /nowhere",
        ),
        (
            &[&feed[..], &["--feed", "west=https://localhost"]].concat(),
            "name the partition of every controller or of none",
        ),
        (
            &[&feed[..], &["--https-listen", "127.0.0.1:0"]].concat(),
            "--https-tls-dir",
        ),
        (&[&feed[..], &["--guard-percent", "101"]].concat(), "101"),
    ];
    for (arguments, words) in cases {
        let output = Command::new(env!("CARGO_BIN_EXE_shaper"))
            .arg("api")
            .args(arguments)
            .args([
                "--http-listen",
                "127.0.0.1:0",
                "--admin-listen",
                "127.0.0.1:0",
            ])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && said.contains(words),
            "{arguments:?}: {said}"
        );
    }
}

#[test]
fn a_key_belongs_to_one_of_the_clusters() {
    let partition = |arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_shaper"))
            .arg("partition")
            .args(arguments)
            .output()
            .unwrap()
    };
    let output = partition(&[
        "--partitions",
        "a,b,c",
        "default/web-1",
        "47c6da67-7477-4970-aa03-84e48ff4f6ad",
    ]);
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "default/web-1\tb\n47c6da67-7477-4970-aa03-84e48ff4f6ad\tc\n"
    );
    for (arguments, words) in [
        (&["--partitions", "a,a", "key"][..], "\"a\" is named twice"),
        (&["--partitions", "A", "key"], "is not a partition name"),
        (&["key"], "--partitions"),
        (&["--partitions", "a"], "KEY"),
    ] {
        let output = partition(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && said.contains(words),
            "{arguments:?}: {said}"
        );
    }
}
