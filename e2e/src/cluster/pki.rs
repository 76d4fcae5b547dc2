//! The API server's certificates, users and arguments.

use super::ports::Ports;
use crate::certificates::{Authority, Leaf};
use crate::manifests::examples;
use anyhow::{Context, Result};
use serde_json::json;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// The authority that issues the certificates of the API server and its users.
#[derive(Debug)]
pub(super) struct Pki {
    authority: Authority,
}

/// The file of the authority that signs the certificate which the API server presents to webhooks.
pub(super) const WEBHOOK_CLIENT_CA: &str = "webhook-client-ca.crt";

/// The command line of kube-apiserver.
pub(super) fn arguments(folder: &Path, ports: Ports) -> Vec<String> {
    let file = |name: &str| folder.join(name).display().to_string();
    vec![
        format!("--etcd-servers={}", ports.etcd()),
        format!("--secure-port={}", ports.api_server),
        "--bind-address=127.0.0.1".to_owned(),
        "--advertise-address=127.0.0.1".to_owned(),
        // The default looks for a network address of this computer, and a network namespace has
        // none.
        "--endpoint-reconciler-type=none".to_owned(),
        format!("--tls-cert-file={}", file("server.crt")),
        format!("--tls-private-key-file={}", file("server.key")),
        format!("--client-ca-file={}", file("ca.crt")),
        format!("--cert-dir={}", file("api-server")),
        format!("--admission-control-config-file={}", file("admission.yaml")),
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local".to_owned(),
        format!("--service-account-key-file={}", file("accounts.pub")),
        format!(
            "--service-account-signing-key-file={}",
            file("accounts.key")
        ),
        "--service-cluster-ip-range=10.96.0.0/24".to_owned(),
        "--authorization-mode=RBAC".to_owned(),
        // This plugin waits for each namespace's default service account, which nothing creates
        // here.
        "--disable-admission-plugins=ServiceAccount".to_owned(),
    ]
}

// === impl Pki ===

impl Pki {
    /// Creates the authority and writes the files that kube-apiserver reads.
    pub(super) fn new(folder: &Path) -> Result<Self> {
        let authority = Authority::new("a cluster for tests")?;
        let server = authority.issue(
            &Leaf::server("localhost")
                .dns("kubernetes.default.svc")
                .address(Ipv4Addr::LOCALHOST),
        )?;
        let accounts = authority.issue(&Leaf::client("service accounts"))?;
        for (name, text) in [
            ("ca.crt", authority.pem().as_str()),
            ("server.crt", server.certificate()),
            ("server.key", server.key()),
            ("accounts.pub", accounts.public_key()),
            ("accounts.key", accounts.key()),
        ] {
            fs::write(folder.join(name), text)
                .with_context(|| format!("could not write {name} in {}", folder.display()))?;
        }
        webhook_client(folder)?;
        Ok(Self { authority })
    }

    /// Writes a self-contained kubeconfig for a user.
    pub(super) fn kubeconfig(
        &self,
        folder: &Path,
        user: &str,
        group: Option<&str>,
        server: &str,
    ) -> Result<PathBuf> {
        let leaf = Leaf::client(user);
        let issued = self
            .authority
            .issue(&group.into_iter().fold(leaf, Leaf::group))?;
        // JSON is YAML, and `data` is base64 of PEM.
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "shaper",
            "contexts": [{ "name": "shaper", "context": { "cluster": "shaper", "user": user } }],
            "clusters": [{ "name": "shaper", "cluster": { "server": server, "certificate-authority-data": base64(&self.authority.pem()) } }],
            "users": [{ "name": user, "user": {
                "client-certificate-data": base64(issued.certificate()), "client-key-data": base64(issued.key()),
            } }],
        });
        let path = folder.join("kubeconfig");
        fs::write(&path, serde_json::to_string_pretty(&config)?)
            .with_context(|| format!("could not write {}", path.display()))?;
        Ok(path)
    }
}

/// Has the API server present a certificate to webhooks, with the files of
/// `examples/webhook-client` and an authority of its own.
fn webhook_client(folder: &Path) -> Result<()> {
    let authority = Authority::new("webhook clients")?;
    let issued = authority.issue(&Leaf::client("kube-apiserver"))?;
    fs::write(folder.join(WEBHOOK_CLIENT_CA), authority.pem())?;
    fs::write(folder.join("front-proxy-client.crt"), issued.certificate())?;
    fs::write(folder.join("front-proxy-client.key"), issued.key())?;
    let here = folder.display().to_string();
    for name in ["admission.yaml", "webhooks.kubeconfig"] {
        let text = fs::read_to_string(examples("webhook-client").join(name))?
            .replace("/etc/kubernetes/admission", &here)
            .replace("/etc/kubernetes/pki", &here)
            // Tests register webhooks at ports that are chosen later.
            .replace("shaper-webhook.shaper-system.svc", "'*'");
        fs::write(folder.join(name), text)?;
    }
    Ok(())
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}
