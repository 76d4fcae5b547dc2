//! Admission as a kubectl user sees it.

use crate::cluster::{Answer, Cluster, Kubectl};
use crate::manifests::profile;
use crate::roles::{FeedCertificates, Role, WebhookCertificates, eventually};
use anyhow::{Result, ensure};
use std::time::Duration;

/// Timeout of every wait; far more than any of them takes.
pub const SOON: Duration = Duration::from_secs(30);

/// A cluster with a controller and a registered webhook.
#[derive(Debug)]
pub struct Site {
    /// The API server.
    pub cluster: Cluster,
    /// kubectl as an administrator, in the namespace of this site.
    pub kubectl: Kubectl,
    /// A namespace that no other test uses.
    pub namespace: String,
    /// The certificates of both ends of the feed.
    pub feed: FeedCertificates,
    /// The webhook's serving certificate.
    pub certificates: WebhookCertificates,
    /// The controller that follows the API server.
    pub controller: Role,
    /// The webhook that the API server calls.
    pub webhook: Role,
}

// === impl Site ===

impl Site {
    /// Starts all of them and waits until the webhook is called and has a whole catalog. The
    /// webhook requires the client certificate of the API server.
    pub fn start() -> Result<Self> {
        Self::start_with(true)
    }

    /// Starts all of them with a webhook that answers anybody.
    pub fn start_for_anybody() -> Result<Self> {
        Self::start_with(false)
    }

    fn start_with(is_verified: bool) -> Result<Self> {
        let cluster = Cluster::start()?;
        let namespace = cluster.namespace()?;
        let kubectl = cluster.admin().in_namespace(&namespace);
        let (feed, certificates) = (FeedCertificates::new()?, WebhookCertificates::new()?);
        let controller = Role::controller(&cluster, feed.controller.path())?.start_ready()?;
        let mut webhook = Role::webhook(
            [&controller],
            feed.webhook.path(),
            certificates.directory.path(),
        )?;
        if is_verified {
            let client_ca = cluster.webhook_client_ca();
            webhook = webhook.args(["--webhook-client-ca".into(), client_ca.into_os_string()]);
        }
        let webhook = webhook.start_ready()?;
        let site = Self {
            cluster,
            kubectl,
            namespace,
            feed,
            certificates,
            controller,
            webhook,
        };
        site.kubectl.apply(
            &site
                .webhook
                .webhook_configuration(&site.certificates.authority)?,
        )?;
        site.asks_again()?;
        Ok(site)
    }

    /// Waits until the API server calls the webhook and trusts it.
    pub fn asks_again(&self) -> Result<()> {
        eventually(SOON, "the webhook refuses", || {
            Ok((!self.dry(&profile("probe", "{{"))?.success).then_some(()))
        })
    }

    /// Runs `kubectl apply --dry-run=server`.
    pub fn dry(&self, yaml: &str) -> Result<Answer> {
        self.kubectl
            .answer(["apply", "--dry-run=server", "-f", "-"], yaml)
    }

    /// Applies a manifest and returns kubectl's warnings.
    pub fn warned(&self, yaml: &str) -> Result<Vec<String>> {
        warnings(self.kubectl.answer(["apply", "-f", "-"], yaml)?)
    }

    /// Waits until the webhook's catalog has these counts.
    pub fn knows(&self, counts: &str) -> Result<()> {
        eventually(SOON, counts, || {
            Ok(self
                .webhook
                .admin("/readyz?verbose")?
                .body
                .contains(counts)
                .then_some(()))
        })
    }
}

/// The warnings of a successful kubectl call.
pub fn warnings(answer: Answer) -> Result<Vec<String>> {
    ensure!(answer.success, "{}", answer.stderr);
    Ok(answer
        .stderr
        .lines()
        .map(|line| line.strip_prefix("Warning: ").unwrap_or(line).to_owned())
        .collect())
}
