//! Admission as somebody with kubectl meets it.

use crate::cluster::{Answer, Cluster, Kubectl};
use crate::manifests::profile;
use crate::roles::{FeedCertificates, Role, WebhookCertificates, eventually};
use anyhow::{Result, ensure};
use std::time::Duration;

/// Far more than anything here takes.
pub const SOON: Duration = Duration::from_secs(30);

/// A cluster, a controller, and a webhook that is asked.
#[derive(Debug)]
pub struct Site {
    /// Its API server.
    pub cluster: Cluster,
    /// Its administrator, in a namespace of this site.
    pub kubectl: Kubectl,
    /// That namespace.
    pub namespace: String,
    /// What the ends of the feed show each other.
    pub feed: FeedCertificates,
    /// What the webhook shows.
    pub certificates: WebhookCertificates,
    /// Follows the API server.
    pub controller: Role,
    /// Is asked by the API server.
    pub webhook: Role,
}

// === impl Site ===

impl Site {
    /// Starts all of them, and waits until the webhook is asked and knows everything.
    pub fn start() -> Result<Self> {
        let cluster = Cluster::start()?;
        let namespace = cluster.namespace()?;
        let kubectl = cluster.admin().in_namespace(&namespace);
        let (feed, certificates) = (FeedCertificates::new()?, WebhookCertificates::new()?);
        let controller = Role::controller(&cluster, feed.controller.path())?.start_ready()?;
        let webhook = Role::webhook(
            [&controller],
            feed.webhook.path(),
            certificates.directory.path(),
        )?
        .start_ready()?;
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

    /// Waits until the API server asks the webhook and believes it.
    pub fn asks_again(&self) -> Result<()> {
        eventually(SOON, "the webhook refuses", || {
            Ok((!self.dry(&profile("probe", "{{"))?.success).then_some(()))
        })
    }

    /// `kubectl apply --dry-run=server`.
    pub fn dry(&self, yaml: &str) -> Result<Answer> {
        self.kubectl
            .answer(["apply", "--dry-run=server", "-f", "-"], yaml)
    }

    /// Applies, and what kubectl warned of.
    pub fn warned(&self, yaml: &str) -> Result<Vec<String>> {
        warnings(self.kubectl.answer(["apply", "-f", "-"], yaml)?)
    }

    /// Waits until the feed has brought so much to the webhook.
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

/// What kubectl warned of, if it did what it was asked for.
pub fn warnings(answer: Answer) -> Result<Vec<String>> {
    ensure!(answer.success, "{}", answer.stderr);
    Ok(answer
        .stderr
        .lines()
        .map(|line| line.strip_prefix("Warning: ").unwrap_or(line).to_owned())
        .collect())
}
