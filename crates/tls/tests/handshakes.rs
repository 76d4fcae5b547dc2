//! Which peers a handshake accepts, seen from both ends.

#[path = "certificates/authority.rs"]
mod authority;

use std::io;
use std::sync::Arc;

use authority::{Age, Authority, Secret};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tls::{Metrics, MutualTls, PublicTls, Reloader, handshake_reason};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio_rustls::{TlsAcceptor, TlsConnector};

struct End {
    directory: tempfile::TempDir,
    live: Arc<Reloader<MutualTls>>,
}

fn end(secret: &Secret, peers: &[&str]) -> End {
    let directory = tempfile::tempdir().unwrap();
    secret.project(directory.path());
    let peers = peers.iter().map(|peer| peer.parse().unwrap()).collect();
    let live = Reloader::mutual("feed", directory.path(), peers, Metrics::default());
    End { directory, live }
}

/// Runs a handshake and returns its outcome at the server and at the client: `ok` or the `reason`
/// label.
async fn handshake(server: &End, client: &End) -> (&'static str, &'static str) {
    let (near, far) = duplex(64 * 1024);
    let (server, client) = (
        server.live.current().unwrap().server(),
        client.live.current().unwrap().client(),
    );
    let accept = async {
        let mut stream = TlsAcceptor::from(server).accept(near).await?;
        stream.write_all(b"hello").await?;
        stream.shutdown().await
    };
    let connect = async {
        let name = ServerName::try_from("any.name.will.do").unwrap();
        let mut stream = TlsConnector::from(client).connect(name, far).await?;
        // In TLS 1.3 a client learns of its rejection when it first reads.
        stream.read_exact(&mut [0; 5]).await.map(drop)
    };
    let word =
        |result: io::Result<()>| result.map_or_else(|error| handshake_reason(&error), |()| "ok");
    let (accepted, connected) = tokio::join!(accept, connect);
    (word(accepted), word(connected))
}

#[tokio::test]
async fn both_ends_check_authority_and_name() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let controller = || ours.issue("shaper-controller");
    let api = || ours.issue("shaper-api");
    let allow_api: &[&str] = &["shaper-webhook", "shaper-api"];
    let allow_controller: &[&str] = &["shaper-controller"];
    let foreign = theirs.issue("shaper-api").trusting(&[&ours]);
    let foreign_controller = theirs.issue("shaper-controller").trusting(&[&ours]);
    let table = [
        (
            end(&controller(), allow_api),
            end(&api(), allow_controller),
            ("ok", "ok"),
        ),
        (
            end(&controller(), &["shaper-webhook"]),
            end(&api(), allow_controller),
            ("peer_name", "refused_by_peer"),
        ),
        (
            end(&controller(), &[]),
            end(&api(), allow_controller),
            ("peer_name", "refused_by_peer"),
        ),
        (
            end(&controller(), allow_api),
            end(&foreign, allow_controller),
            ("peer_unknown_authority", "refused_by_peer"),
        ),
        (
            end(&controller(), allow_api),
            end(&api(), &["other"]),
            ("refused_by_peer", "peer_name"),
        ),
        (
            end(&controller(), allow_api),
            end(&api(), &[]),
            ("refused_by_peer", "peer_name"),
        ),
        (
            end(&foreign_controller, allow_api),
            end(&api(), allow_controller),
            ("refused_by_peer", "peer_unknown_authority"),
        ),
        (
            end(
                &ours
                    .intermediate("sub")
                    .issue("shaper-controller")
                    .trusting(&[&ours]),
                allow_api,
            ),
            end(&api(), allow_controller),
            ("ok", "ok"),
        ),
        (
            end(&controller(), allow_api),
            end(&api().trusting(&[&theirs, &ours]), allow_controller),
            ("ok", "ok"),
        ),
        (
            end(&ours.issue("192.0.2.7"), allow_api),
            end(&api(), &["192.0.2.7"]),
            ("ok", "ok"),
        ),
    ];
    for (row, (server, client, expected)) in table.iter().enumerate() {
        assert_eq!(handshake(server, client).await, *expected, "row {row}");
    }
}

#[tokio::test]
async fn a_wildcard_in_a_certificate_stands_for_exactly_one_label() {
    let ours = Authority::new("ours");
    let server = |peer: &str| end(&ours.issue("shaper-controller"), &[peer]);
    for (certificate, peer, is_accepted) in [
        ("*.lab.example", "api.lab.example", true),
        ("*.lab.example", "API.Lab.Example", true),
        ("*.lab.example", "a.b.lab.example", false),
        ("*.lab.example", "lab.example", false),
        ("*.example", "lab.example", false),
        ("*", "shaper-api", false),
        ("shaper-*.lab.example", "shaper-api.lab.example", false),
        ("api.*.example", "api.lab.example", false),
        ("shaper-api", "shaper-api.lab.example", false),
        ("shaper-api.lab.example", "shaper-api", false),
        ("192.0.2.7", "192.0.2.7", true),
        ("*.0.2.7", "192.0.2.7", false),
    ] {
        let client = end(&ours.issue(certificate), &["shaper-controller"]);
        let (accepted, _) = handshake(&server(peer), &client).await;
        assert_eq!(
            accepted == "ok",
            is_accepted,
            "{certificate} as {peer}: {accepted}"
        );
    }
}

#[test]
fn a_peer_name_has_no_wildcard() {
    for name in [
        "*",
        "*.example",
        "*.lab.example",
        "shaper-*",
        "",
        "a b",
        "192.0.2.0/24",
    ] {
        let error = name.parse::<tls::PeerName>().unwrap_err().to_string();
        assert!(error.contains("without wildcards"), "{name}: {error}");
    }
}

#[tokio::test]
async fn a_client_without_a_certificate_is_rejected() {
    let ours = Authority::new("ours");
    let server = end(&ours.issue("shaper-controller"), &["shaper-api"]);
    let (near, far) = duplex(64 * 1024);
    let accept = TlsAcceptor::from(server.live.current().unwrap().server()).accept(near);
    let client = anonymous(&ours, &[&rustls::version::TLS13]);
    let connect =
        TlsConnector::from(client).connect(ServerName::try_from("shaper-controller").unwrap(), far);
    let (accepted, _) = tokio::join!(accept, connect);
    assert_eq!(handshake_reason(&accepted.err().unwrap()), "no_certificate");
}

#[tokio::test]
async fn plain_text_is_reported_as_not_tls() {
    let server = end(
        &Authority::new("ours").issue("shaper-controller"),
        &["shaper-api"],
    );
    let (near, mut far) = duplex(1024);
    far.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let error = TlsAcceptor::from(server.live.current().unwrap().server())
        .accept(near)
        .await
        .err()
        .unwrap();
    assert_eq!(handshake_reason(&error), "not_tls");
}

#[tokio::test]
async fn rotating_the_authority_interrupts_no_handshake_and_invalidates_old_peers() {
    let (old, new) = (Authority::new("ca"), Authority::new("ca"));
    let server = end(&old.issue("shaper-controller"), &["shaper-api"]);
    let client = end(&old.issue("shaper-api"), &["shaper-controller"]);
    let chain = |end: &End| {
        tls::Material::read(end.directory.path())
            .unwrap()
            .chain()
            .to_vec()
    };
    let shown = chain(&client);
    let check = |server: &End| server.live.current().unwrap().check_client(&shown);
    assert_eq!(handshake(&server, &client).await, ("ok", "ok"));
    check(&server).unwrap();

    // Trust both authorities, then reissue the leaves, then withdraw the old authority: no step
    // rejects a peer.
    old.issue("shaper-controller")
        .trusting(&[&old, &new])
        .project(server.directory.path());
    old.issue("shaper-api")
        .trusting(&[&old, &new])
        .project(client.directory.path());
    assert!(server.live.reload());
    assert_eq!(handshake(&server, &client).await, ("ok", "ok"));
    assert!(client.live.reload());
    assert_eq!(handshake(&server, &client).await, ("ok", "ok"));
    new.issue("shaper-controller")
        .trusting(&[&old, &new])
        .project(server.directory.path());
    assert!(server.live.reload());
    assert_eq!(handshake(&server, &client).await, ("ok", "ok"));
    check(&server).unwrap();
    new.issue("shaper-controller")
        .project(server.directory.path());
    assert!(server.live.reload());
    assert_eq!(
        handshake(&server, &client).await,
        ("peer_unknown_authority", "refused_by_peer")
    );
    check(&server).unwrap_err();
    new.issue("shaper-api").project(client.directory.path());
    assert!(client.live.reload());
    assert_eq!(handshake(&server, &client).await, ("ok", "ok"));
    assert!(
        client
            .live
            .current()
            .unwrap()
            .check_server(&chain(&server))
            .is_ok()
    );
    assert!(
        client.live.current().unwrap().check_server(&shown).is_err(),
        "the chain is for a client's name"
    );
}

fn anonymous(
    authority: &Authority,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap())
        .unwrap();
    let builder = ClientConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(versions)
        .unwrap();
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
}

#[tokio::test]
async fn machines_get_short_records_and_the_root_over_tls_1_2_and_1_3() {
    let root = Authority::new("root");
    let directory = tempfile::tempdir().unwrap();
    root.intermediate("sub")
        .issue_rsa("boot.lab")
        .trusting(&[&Authority::new("other"), &root])
        .project(directory.path());
    let live: Arc<Reloader<PublicTls>> =
        Reloader::public("https", directory.path(), Metrics::default());
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let (near, far) = duplex(1024 * 1024);
        let acceptor = TlsAcceptor::from(live.current().unwrap().server());
        let accept = async {
            let mut stream = acceptor.accept(near).await.unwrap();
            stream.write_all(&vec![7; 100_000]).await.unwrap();
            stream.shutdown().await.unwrap();
        };
        let connect = async {
            let connector = TlsConnector::from(anonymous(&root, &[version]));
            let mut stream = connector
                .connect(ServerName::try_from("boot.lab").unwrap(), Records::new(far))
                .await
                .unwrap();
            assert_eq!(
                stream.get_ref().1.peer_certificates().unwrap().len(),
                3,
                "leaf, intermediate, root"
            );
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await.unwrap();
            assert_eq!(all.len(), 100_000);
            stream.into_inner().0.longest()
        };
        let ((), longest) = tokio::join!(accept, connect);
        assert!(longest <= 4096 + 256, "{longest}");
        assert!(
            longest > 2048,
            "{longest}: the records are too short to measure anything"
        );
    }
}

/// A stream that keeps the bytes it read, so that a test can inspect the TLS records.
struct Records {
    stream: tokio::io::DuplexStream,
    read: Vec<u8>,
}

impl Records {
    fn new(stream: tokio::io::DuplexStream) -> Self {
        Self {
            stream,
            read: Vec::new(),
        }
    }

    fn longest(&self) -> usize {
        let mut rest = &self.read[..];
        let mut longest = 0;
        while let [_, _, _, high, low, ..] = rest {
            let len = usize::from(u16::from_be_bytes([*high, *low]));
            longest = longest.max(len);
            rest = rest.get(5 + len..).unwrap_or_default();
        }
        longest
    }
}

impl tokio::io::AsyncRead for Records {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = std::pin::Pin::new(&mut self.stream).poll_read(cx, buf);
        let new = buf.filled()[before..].to_vec();
        self.read.extend(new);
        polled
    }
}

impl tokio::io::AsyncWrite for Records {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<io::Result<usize>> {
        std::pin::Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[test]
fn a_peer_whose_certificate_expired_since_the_handshake_is_rejected() {
    let ours = Authority::new("ours");
    let server = end(&ours.issue("shaper-controller"), &["shaper-api"]);
    let expired = ours.issue_aged("shaper-api", Age::Expired);
    let chain: Vec<_> = {
        use rustls::pki_types::{CertificateDer, pem::PemObject};
        CertificateDer::pem_slice_iter(expired.chain.as_bytes())
            .collect::<Result<_, _>>()
            .unwrap()
    };
    let error = server
        .live
        .current()
        .unwrap()
        .check_client(&chain)
        .unwrap_err();
    assert!(error.to_string().contains("expired"), "{error}");
}

#[tokio::test]
async fn a_chain_has_few_intermediate_certificates() {
    let ours = Authority::new("ours");
    let controller = end(&ours.issue("shaper-controller"), &["shaper-api"]);
    for (count, outcome) in [
        (6, ("ok", "ok")),
        (7, ("peer_certificate", "refused_by_peer")),
    ] {
        let mut authority = ours.intermediate("1");
        for number in 2..=count {
            authority = authority.intermediate(&number.to_string());
        }
        let api = end(
            &authority.issue("shaper-api").trusting(&[&ours]),
            &["shaper-controller"],
        );
        assert_eq!(handshake(&controller, &api).await, outcome, "{count}");
    }
}
