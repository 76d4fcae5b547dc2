//! `shaper webhook`: validating and mutating admission for an API server. It does not talk to
//! Kubernetes.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use boot::{Catalog, SharedCatalog};
use feed::{Replica, Source};
use tls::{PeerName, PublicTls, Reloader};
use tracing::info;
use webhook::{Limits, Reviews, Server};

use crate::address;
use crate::admin::{AdminArgs, Part};
use crate::guard::GuardArgs;
use crate::metrics;
use crate::role::{self, Role};

/// How long after its start the webhook becomes ready even without a catalog: it can still check
/// each object by itself.
const READY_WITHOUT_CATALOG: Duration = Duration::from_secs(10);

/// Review Profiles and Assignments for an API server before they are written
///
/// Serves validating and mutating admission over HTTPS at /validate and /mutate, as config/webhook
/// registers them. Checks each object by itself and against the catalog, which the controllers'
/// feed keeps current in memory. It holds no Kubernetes credentials. While no webhook is reachable,
/// objects are written without review.
#[derive(clap::Args)]
pub struct Args {
    /// Address for the API server's requests, over HTTPS
    #[arg(
        long,
        env = "SHAPER_WEBHOOK_LISTEN",
        default_value = "[::]:8443",
        value_name = "ADDRESS:PORT",
        value_parser = crate::address::parse_listen
    )]
    webhook_listen: SocketAddr,
    /// Directory with the webhook's tls.crt and tls.key, as in a mounted cert-manager Secret;
    /// reloaded when it changes. The certificate must be valid for the name that the API server
    /// calls, such as shaper-webhook.shaper-system.svc
    #[arg(long, env = "SHAPER_WEBHOOK_TLS_DIR", value_name = "DIR")]
    webhook_tls_dir: PathBuf,
    /// File with the CAs that sign client certificates of API servers; reloaded when it changes.
    /// Requests without such a certificate are refused. Default: anybody who reaches the port is
    /// answered, and nothing is remembered of what was admitted
    #[arg(long, env = "SHAPER_WEBHOOK_CLIENT_CA", value_name = "FILE")]
    webhook_client_ca: Option<PathBuf>,
    /// URL of a controller to follow. If the host name has several addresses, each is a controller;
    /// one at a time is followed. Repeat the flag for more controllers of a cluster, or with
    /// different PARTITION names for several clusters that share the catalog
    #[arg(
        long = "feed",
        env = "SHAPER_FEED",
        value_name = "[PARTITION=]https://HOST[:PORT]",
        value_delimiter = ',',
        required = true
    )]
    feeds: Vec<Source>,
    /// Directory with tls.crt, tls.key and ca.crt for the feed, as in a mounted cert-manager
    /// Secret; reloaded when it changes
    #[arg(long, env = "SHAPER_FEED_TLS_DIR", value_name = "DIR")]
    feed_tls_dir: PathBuf,
    /// A name that a controller's certificate must have; repeatable. Default: the host of its URL
    #[arg(
        long = "feed-allowed-peer",
        env = "SHAPER_FEED_ALLOWED_PEER",
        value_name = "NAME",
        value_delimiter = ','
    )]
    feed_allowed_peers: Vec<PeerName>,
    /// The partition of --feed that the API server belongs to: Profiles are looked up there,
    /// conflicts in all partitions. Default: the partition of the first --feed
    #[arg(long, env = "SHAPER_PARTITION", value_name = "PARTITION")]
    partition: Option<String>,
    #[command(flatten)]
    admin: AdminArgs,
    /// Seconds to keep serving after SIGTERM while reporting not ready, so that a load balancer can
    /// drain this replica
    #[arg(
        long,
        env = "SHAPER_LAMEDUCK",
        default_value_t = 5,
        value_name = "SECONDS"
    )]
    lameduck: u64,
    #[command(flatten)]
    guard: GuardArgs,
}

/// Reports the state of the reviews at the admin port.
struct ReviewStatus {
    reviews: Arc<Reviews>,
    tls: Arc<Reloader<PublicTls>>,
    started: Instant,
}

/// Runs until SIGTERM or SIGINT.
pub fn run(args: Args) -> anyhow::Result<()> {
    role::run(serve(args))
}

async fn serve(args: Args) -> anyhow::Result<()> {
    for (flag, directory, files) in [
        (
            "--webhook-tls-dir",
            &args.webhook_tls_dir,
            "tls.crt and tls.key",
        ),
        (
            "--feed-tls-dir",
            &args.feed_tls_dir,
            "tls.crt, tls.key and ca.crt",
        ),
    ] {
        if !directory.is_dir() {
            bail!(
                "{flag} is not a directory: {}; pass the directory that contains {files}",
                directory.display()
            );
        }
    }
    if let Some(file) = args
        .webhook_client_ca
        .as_deref()
        .filter(|file| !file.is_file())
    {
        bail!(
            "--webhook-client-ca is not a file: {}; pass a file with the CA certificates of the API server's client certificate, in PEM",
            file.display()
        );
    }
    let partition = own_partition(&args.feeds, args.partition.as_deref())?;
    let mut role = Role::start(Duration::from_secs(args.lameduck))?;
    let stop = role.stop().clone();

    let metrics = metrics::Webhook::register(&mut role.registry);
    let shared = Arc::new(SharedCatalog::new(Catalog::with_selector_index()));
    let replica = Arc::new(
        Replica::new(
            args.feeds,
            args.guard.limits(),
            None,
            shared.clone(),
            metrics.replica,
        )
        .context("--feed")?,
    );
    let names = (!args.feed_allowed_peers.is_empty()).then_some(args.feed_allowed_peers);
    let feed_tls = Reloader::mutual(
        "feed",
        &args.feed_tls_dir,
        names.clone().unwrap_or_else(|| replica.hosts()),
        metrics.tls.clone(),
    );
    let tls = Reloader::service(
        "webhook",
        &args.webhook_tls_dir,
        args.webhook_client_ca.as_deref(),
        metrics.tls,
    );

    let followed = replica.clone();
    let reviews = Arc::new(
        Reviews::new(shared, &partition, metrics.webhook.clone()).with_age(move || followed.age()),
    );
    let server = Server::bind(
        args.webhook_listen,
        tls.clone(),
        reviews.clone(),
        metrics.webhook,
        Limits::default(),
    );
    let server = server
        .map_err(|error| address::cannot_listen("--webhook-listen", args.webhook_listen, error))?;
    let admin = args.admin.bind()?;
    info!(webhook_listen = %server.local_addr(), admin_listen = %admin.address(), partition, "listening");

    let review_status = Arc::new(ReviewStatus {
        reviews: reviews.clone(),
        tls: tls.clone(),
        started: Instant::now(),
    });
    role.add_part(review_status);
    role.add_part(replica.clone());
    role.reload_certificates(&feed_tls);
    role.reload_certificates(&tls);
    let serving = async {
        let syncing = async {
            if stop.run_until_cancelled(replica.loaded()).await.is_some() {
                reviews.set_synced();
                info!("the catalog is complete; checking objects against all others");
            }
        };
        let following = role::stop_after(&stop, replica.run(feed_tls, names, stop.clone()));
        let (served, (), ()) = tokio::join!(server.run(stop.clone()), following, syncing);
        served.context("can't serve reviews")
    };
    role.run(admin, None, serving).await
}

/// The partition of the API server.
fn own_partition(feeds: &[Source], name: Option<&str>) -> anyhow::Result<String> {
    let Some(name) = name else {
        return Ok(feeds
            .first()
            .map(|feed| feed.partition.to_string())
            .unwrap_or_default());
    };
    if !feeds.iter().any(|feed| *feed.partition == *name) {
        bail!("--partition {name}: no --feed has that name; write --feed {name}=https://HOST");
    }
    Ok(name.to_owned())
}

// === impl ReviewStatus ===

impl Part for ReviewStatus {
    /// Requires a certificate, because every request does. Waits for a catalog for a while, because
    /// another replica may have one.
    fn is_ready(&self) -> bool {
        self.tls.current().is_some()
            && (self.reviews.is_synced() || self.started.elapsed() > READY_WITHOUT_CATALOG)
    }

    fn remarks(&self) -> Vec<String> {
        let catalog = self.reviews.catalog().load();
        let known = format!(
            "{} Assignments, {} Profiles",
            catalog.assignment_count(),
            catalog.profile_count()
        );
        let alone = "the feed has not delivered a complete catalog yet; each object is checked only by itself";
        if self.reviews.is_synced() {
            vec![known]
        } else {
            vec![known, alone.to_owned()]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_partition_defaults_to_that_of_the_first_feed() {
        let feeds = |all: &[&str]| {
            all.iter()
                .map(|text| text.parse().unwrap())
                .collect::<Vec<Source>>()
        };
        assert_eq!(own_partition(&feeds(&["https://a"]), None).unwrap(), "");
        let two = feeds(&["east=https://a", "west=https://b"]);
        assert_eq!(own_partition(&two, None).unwrap(), "east");
        assert_eq!(own_partition(&two, Some("west")).unwrap(), "west");
        assert!(
            own_partition(&two, Some("north"))
                .unwrap_err()
                .to_string()
                .contains("write --feed north=https://HOST")
        );
    }
}
