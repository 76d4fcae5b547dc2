//! `shaper api`: answers machines from the catalog that controllers feed it. It does not talk to
//! Kubernetes.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use boot::{Catalog, SharedCatalog};
use feed::{Replica, Source};
use tls::{PeerName, Reloader};
use tracing::{info, warn};

use crate::admin::{AdminArgs, Part};
use crate::guard::GuardArgs;
use crate::listeners::HttpArgs;
use crate::metrics;
use crate::role::{self, Role};
use crate::state_dir::StateDir;
use crate::warnings::{self, Warnings};

/// Answer machines from the catalog that controllers feed it, without Kubernetes
///
/// Follows one controller of each partition over mutual TLS and serves /boot.ipxe, /ipxe and
/// /config/{uuid} from memory. It is ready once it has a complete snapshot, or a copy of one in
/// --state-dir, and keeps serving the last snapshot while no controller is reachable.
#[derive(clap::Args)]
pub struct Args {
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
    #[command(flatten)]
    http: HttpArgs,
    #[command(flatten)]
    admin: AdminArgs,
    /// Directory for a copy of the catalog, so that a restart can serve while no controller is
    /// reachable. Default: no copy is kept
    #[arg(long, env = "SHAPER_STATE_DIR", value_name = "DIR")]
    state_dir: Option<PathBuf>,
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

/// Runs until SIGTERM or SIGINT.
pub fn run(args: Args) -> anyhow::Result<()> {
    role::run(serve(args))
}

async fn serve(args: Args) -> anyhow::Result<()> {
    if !args.feed_tls_dir.is_dir() {
        bail!(
            "--feed-tls-dir is not a directory: {}; pass the directory that contains tls.crt, tls.key and ca.crt",
            args.feed_tls_dir.display()
        );
    }
    let state = args.state_dir.as_deref().map(StateDir::open).transpose()?;
    let mut role = Role::start(Duration::from_secs(args.lameduck))?;
    let stop = role.stop().clone();

    let metrics = metrics::Api::register(&mut role.registry);
    let shared = Arc::new(SharedCatalog::new(Catalog::new()));
    let boot = args.http.boot(shared.clone())?;
    let copies = state.as_ref().map(|state| state.path().to_owned());
    let replica = Arc::new(
        Replica::new(
            args.feeds,
            args.guard.limits(),
            copies,
            shared,
            metrics.replica,
        )
        .context("--feed")?,
    );
    let names = (!args.feed_allowed_peers.is_empty()).then_some(args.feed_allowed_peers);
    let tls = Reloader::mutual(
        "feed",
        &args.feed_tls_dir,
        names.clone().unwrap_or_else(|| replica.hosts()),
        metrics.tls.clone(),
    );

    let listeners = args.http.bind(&boot, &metrics.tls, &metrics.http)?;
    let admin = args.admin.bind()?;
    let https_listen = listeners.https_listen.map(tracing::field::display);
    info!(http_listen = %listeners.http_listen, https_listen, admin_listen = %admin.address(), "listening");

    let warnings = Arc::new(Warnings::default());
    role.add_part(replica.clone());
    role.add_part(warnings.clone());
    if let Some(state) = &state {
        role.add_part(Arc::new(state.part()));
    }
    role.reload_certificates(&tls);
    if let Some(https) = listeners.tls() {
        role.reload_certificates(&https);
    }
    let has_copies = state.is_some();
    let serving = async {
        if has_copies {
            let replica = replica.clone();
            tokio::task::spawn_blocking(move || replica.restore())
                .await
                .context("reading the copy of the catalog failed")?;
        } else {
            warn!(
                "no --state-dir, so no copy of the catalog is kept; after a restart, nothing is served until a controller is reachable"
            );
        }
        let syncing = async {
            if stop.run_until_cancelled(replica.loaded()).await.is_some() {
                boot.set_synced();
                info!("the catalog is complete; ready");
            }
        };
        let following = role::stop_after(&stop, replica.run(tls, names, stop.clone()));
        let serving = role::stop_after(&stop, listeners.run(stop.clone()));
        let checking = warnings::follow(warnings, boot.clone(), None, stop.clone());
        let (served, (), (), ()) = tokio::join!(serving, following, syncing, checking);
        served
    };
    role.run(admin, Some(boot.clone()), serving).await
}

impl Part for Replica {
    fn remarks(&self) -> Vec<String> {
        Replica::remarks(self)
    }

    fn warnings(&self) -> Vec<String> {
        Replica::warnings(self)
    }

    fn refresh(&self) {
        Replica::refresh_metrics(self);
    }

    fn confirm(&self, partition: Option<&str>) -> Option<usize> {
        // An unknown partition has nothing to confirm.
        Some(Replica::confirm(self, partition).unwrap_or(0))
    }
}
