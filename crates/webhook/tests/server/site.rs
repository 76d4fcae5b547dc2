//! A server with a generated certificate, and clients for it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use boot::{Catalog, SharedCatalog};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prometheus_client::registry::Registry;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tempfile::TempDir;
use tls::Reloader;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;
use webhook::{Limits, Metrics, Reviews, Server};

/// A limit far above the duration of any step.
pub(crate) const LONG: Duration = Duration::from_secs(20);

/// The certificate chain and the key of a client.
pub(crate) type Identity = Arc<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>;

pub(crate) struct Site {
    pub(crate) address: SocketAddr,
    pub(crate) root: CertificateDer<'static>,
    pub(crate) live: Arc<Reloader<tls::PublicTls>>,
    pub(crate) registry: Registry,
    pub(crate) stop: CancellationToken,
    pub(crate) running: JoinHandle<std::io::Result<()>>,
    pub(crate) folder: TempDir,
    /// What clients present.
    pub(crate) identity: Option<Identity>,
}

pub(crate) fn certify(folder: &TempDir) -> CertificateDer<'static> {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    std::fs::write(folder.path().join("tls.crt"), certificate.pem()).unwrap();
    std::fs::write(folder.path().join("tls.key"), key.serialize_pem()).unwrap();
    certificate.der().clone()
}

impl Site {
    pub(crate) fn start(limits: Limits) -> Self {
        Self::start_with(limits, None, None)
    }

    /// Starts a server that requires a client certificate of these authorities.
    pub(crate) fn start_for_clients(limits: Limits, authorities: &str, identity: Identity) -> Self {
        Self::start_with(limits, Some(authorities), Some(identity))
    }

    fn start_with(limits: Limits, authorities: Option<&str>, identity: Option<Identity>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let client_ca = folder.path().join("clients.crt");
        if let Some(authorities) = authorities {
            std::fs::write(&client_ca, authorities).unwrap();
        }
        let root = certify(&folder);
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let live = Reloader::service(
            "webhook",
            folder.path(),
            authorities.map(|_| client_ca.as_path()),
            tls::Metrics::register(&mut registry),
        );
        let reviews = Arc::new(Reviews::new(
            Arc::new(SharedCatalog::new(Catalog::with_selector_index())),
            "",
            metrics.clone(),
        ));
        reviews.set_synced();
        let server = Server::bind(
            ([127, 0, 0, 1], 0).into(),
            live.clone(),
            reviews,
            metrics,
            limits,
        )
        .unwrap();
        let address = server.local_addr();
        let stop = CancellationToken::new();
        let running = tokio::spawn(server.run(stop.clone()));
        Self {
            address,
            root,
            live,
            registry,
            stop,
            running,
            folder,
            identity,
        }
    }

    /// The file of the authorities of clients.
    pub(crate) fn client_ca(&self) -> PathBuf {
        self.folder.path().join("clients.crt")
    }

    pub(crate) async fn connect(&self, protocol: &str) -> TlsStream<TcpStream> {
        self.try_connect(protocol).await.unwrap()
    }

    pub(crate) async fn try_connect(
        &self,
        protocol: &str,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(tls::provider())
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = builder.with_root_certificates(roots);
        let mut config = match self.identity.as_deref() {
            Some((chain, key)) => builder
                .with_client_auth_cert(chain.clone(), key.clone_key())
                .unwrap(),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let stream = TcpStream::connect(self.address).await.unwrap();
        TlsConnector::from(Arc::new(config))
            .connect(ServerName::try_from("localhost").unwrap(), stream)
            .await
    }

    pub(crate) async fn ask(
        &self,
        protocol: &str,
        request: Request<Full<Bytes>>,
    ) -> Response<Incoming> {
        let io = TokioIo::new(self.connect(protocol).await);
        if protocol == "h2" {
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
                    .await
                    .unwrap();
            tokio::spawn(connection);
            return sender.send_request(request).await.unwrap();
        }
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        sender.send_request(request).await.unwrap()
    }

    pub(crate) fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text
    }

    pub(crate) async fn works(&self) {
        let response = self
            .ask("h2", post("/validate", review("#!ipxe\nboot\n")))
            .await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(json_of(response).await["response"]["allowed"], true);
    }
}

pub(crate) fn post(path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let builder = Request::post(format!("https://localhost{path}"))
        .header("content-type", "application/json")
        .header("host", "localhost");
    builder.body(Full::new(body.into())).unwrap()
}

pub(crate) fn review(ipxe: &str) -> String {
    let kind = json!({ "group": "shaper.amahdha.com", "version": "v1alpha1", "kind": "Profile" });
    let object = json!({ "metadata": { "name": "p", "namespace": "n" }, "spec": { "ipxe": ipxe } });
    let request = json!({
        "uid": "u", "kind": kind, "operation": "CREATE", "namespace": "n", "name": "p", "userInfo": { "username": "alice" }, "object": object,
    });
    json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request })
        .to_string()
}

pub(crate) async fn json_of(response: Response<Incoming>) -> Value {
    serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap()
}

/// Reads until the peer closes, in whatever way.
pub(crate) async fn is_closed(stream: &mut (impl AsyncReadExt + Unpin)) -> bool {
    let mut all = vec![0; 64 * 1024];
    let reading = async { while stream.read(&mut all).await.is_ok_and(|read| read > 0) {} };
    tokio::time::timeout(LONG, reading).await.is_ok()
}
