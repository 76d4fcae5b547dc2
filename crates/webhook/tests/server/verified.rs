//! Tests the server with a client CA, as `--webhook-client-ca` configures it.

use std::sync::Arc;

use http::StatusCode;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use webhook::Limits;

use crate::site::{Identity, Site, is_closed, json_of, post};

/// An authority that signs certificates of clients.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "clients");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    fn client(&self) -> Identity {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "kube-apiserver");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let chain: Vec<CertificateDer<'static>> = vec![certificate.der().clone()];
        Arc::new((chain, PrivateKeyDer::Pkcs8(key.serialize_der().into())))
    }
}

/// A review of an object of this kind, which is created.
fn created(kind: &str, name: &str, spec: &Value) -> String {
    let request = json!({
        "uid": "u", "operation": "CREATE", "namespace": "n", "name": name,
        "kind": { "group": "shaper.amahdha.com", "version": "v1alpha1", "kind": kind },
        "object": { "metadata": { "name": name, "namespace": "n", "labels": { "p": name } }, "spec": spec },
    });
    json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request })
        .to_string()
}

/// The warnings about an Assignment, after a Profile that it selects was admitted.
async fn warnings_after_a_profile(site: &Site) -> String {
    let profile = created("Profile", "p", &json!({ "ipxe": "#!ipxe\nboot\n" }));
    let response = site.ask("h2", post("/validate", profile)).await;
    assert_eq!(json_of(response).await["response"]["allowed"], true);
    let spec = json!({ "subjectSelectors": {}, "profileSelectors": { "p": "p" } });
    let assignment = created("Assignment", "a", &spec);
    let response = site.ask("h2", post("/validate", assignment)).await;
    json_of(response).await["response"]["warnings"].to_string()
}

#[tokio::test]
async fn only_reviews_of_verified_callers_are_remembered() {
    let anybody = Site::start(Limits::default());
    let said = warnings_after_a_profile(&anybody).await;
    assert!(said.contains("no Profile in namespace n"), "{said}");

    let authority = Authority::new();
    let verified = Site::start_for_clients(Limits::default(), &authority.pem(), authority.client());
    assert_eq!(warnings_after_a_profile(&verified).await, "null");
}

#[tokio::test]
async fn a_client_without_a_certificate_of_the_authority_is_refused() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let mut site = Site::start_for_clients(Limits::default(), &authority.pem(), authority.client());
    site.works().await;
    for identity in [None, Some(stranger.client())] {
        site.identity = identity;
        // In TLS 1.3, a client learns after its handshake that it is refused.
        match site.try_connect("h2").await {
            Ok(mut stream) => assert!(stream.read_u8().await.is_err()),
            Err(error) => drop(error),
        }
    }
    let metrics = site.metrics();
    for reason in ["no_certificate", "peer_unknown_authority"] {
        let counted =
            format!("tls_handshake_errors_total{{tls=\"webhook\",reason=\"{reason}\"}} 1");
        assert!(metrics.contains(&counted), "{metrics}");
    }
}

#[tokio::test]
async fn a_withdrawn_authority_ends_open_connections() {
    let (old, new) = (Authority::new(), Authority::new());
    let mut site = Site::start_for_clients(Limits::default(), &old.pem(), old.client());
    let mut open = site.connect("http/1.1").await;
    site.works().await;
    std::fs::write(site.client_ca(), new.pem()).unwrap();
    assert!(site.live.reload());
    assert!(is_closed(&mut open).await);
    site.identity = Some(new.client());
    site.works().await;

    // A broken file changes nothing.
    std::fs::write(site.client_ca(), "not PEM").unwrap();
    assert!(!site.live.reload());
    let error = site.live.last_error().unwrap();
    assert!(error.contains("the client CA file"), "{error}");
    site.works().await;
    std::fs::remove_file(site.client_ca()).unwrap();
    assert!(!site.live.reload());
    let review = post("/validate", crate::site::review("#!ipxe\nboot\n"));
    assert_eq!(site.ask("h2", review).await.status(), StatusCode::OK);
}
