//! `shaper controller`: follows Kubernetes, serves the feed, and writes status while it holds the
//! Lease.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use controller::lease::LeaseTiming;
use controller::{Controller, Handle, Options, ResponseTimeout};
use feed::{Publisher, PublisherLimits};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use net::Listener;
use rand::Rng;
use tls::{PeerName, Reloader};
use tracing::info;

use crate::address;
use crate::admin::{AdminArgs, Part};
use crate::guard::GuardArgs;
use crate::metrics;
use crate::role::{self, Role};

/// Follow Profiles and Assignments in Kubernetes and serve them to API servers
///
/// Every replica serves the feed, which `shaper api` and `shaper webhook` follow. The replica that
/// holds the Lease also writes config ids, conditions and events. It needs only the role in
/// config/rbac.
#[derive(clap::Args)]
pub struct Args {
    /// The kubeconfig file. Default: $KUBECONFIG, ~/.kube/config, or the pod's service account
    #[arg(long, env = "SHAPER_KUBECONFIG", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// A namespace to follow; repeatable. Default: all
    #[arg(
        long = "namespace",
        env = "SHAPER_NAMESPACE",
        value_name = "NAME",
        value_delimiter = ','
    )]
    namespaces: Vec<String>,
    /// Address of the feed that `shaper api` and `shaper webhook` follow, over mutual TLS
    #[arg(
        long,
        env = "SHAPER_FEED_LISTEN",
        default_value = "[::]:9443",
        value_name = "ADDRESS:PORT",
        value_parser = crate::address::parse_listen
    )]
    feed_listen: SocketAddr,
    /// Directory with tls.crt, tls.key and ca.crt for the feed, as in a mounted cert-manager
    /// Secret; reloaded when it changes
    #[arg(long, env = "SHAPER_FEED_TLS_DIR", value_name = "DIR")]
    feed_tls_dir: PathBuf,
    /// A DNS name that a follower's certificate must have; repeatable
    #[arg(
        long = "feed-allowed-peer",
        env = "SHAPER_FEED_ALLOWED_PEER",
        value_name = "NAME",
        value_delimiter = ',',
        default_value = "shaper-api,shaper-webhook"
    )]
    feed_allowed_peers: Vec<PeerName>,
    #[command(flatten)]
    admin: AdminArgs,
    /// The namespace of the Lease. Default: that of the pod or the kubeconfig
    #[arg(long, env = "SHAPER_LEASE_NAMESPACE", value_name = "NAME")]
    lease_namespace: Option<String>,
    /// The name of the Lease. Of several controllers, the one that holds it writes status
    #[arg(
        long,
        env = "SHAPER_LEASE_NAME",
        default_value = "shaper-controller",
        value_name = "NAME"
    )]
    lease_name: String,
    /// Maximum number of status writes per second
    #[arg(long, env = "SHAPER_STATUS_WRITES", default_value_t = 200, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    status_writes: u32,
    #[command(flatten)]
    guard: GuardArgs,
}

/// Runs until SIGTERM or SIGINT.
pub fn run(args: Args) -> anyhow::Result<()> {
    role::run(serve(args))
}

async fn serve(args: Args) -> anyhow::Result<()> {
    let mut role = Role::start(Duration::ZERO)?;
    let stop = role.stop().clone();
    // Install one cryptography provider for the whole process, also for libraries that use the
    // default.
    let _ = tls::provider().as_ref().clone().install_default();
    let config = kubernetes(args.kubeconfig.as_deref()).await?;
    let lease_namespace = args
        .lease_namespace
        .unwrap_or_else(|| config.default_namespace.clone());
    let server = config.cluster_url.to_string();
    let client = Client::try_from(config).context("can't use these Kubernetes credentials")?;

    let metrics = metrics::Controller::register(&mut role.registry);
    let tls = Reloader::mutual(
        "feed",
        &args.feed_tls_dir,
        args.feed_allowed_peers,
        metrics.tls,
    );
    let feed = Listener::bind(args.feed_listen)
        .map_err(|error| address::cannot_listen("--feed-listen", args.feed_listen, error))?;
    let admin = args.admin.bind()?;
    info!(feed_listen = %feed.local_addr(), admin_listen = %admin.address(), server, lease_namespace, "listening");

    let publisher = Arc::new(Publisher::new());
    let options = Options {
        namespaces: args.namespaces,
        guard: args.guard.limits(),
        lease_namespace,
        lease_name: args.lease_name,
        lease: LeaseTiming::default(),
        identity: identity(),
        writes_per_second: args.status_writes,
        response_timeout: ResponseTimeout::default(),
    };
    let controller = Controller::new(client, publisher.clone(), options, metrics.controller);
    role.add_part(Arc::new(controller.handle()));
    role.reload_certificates(&tls);
    let serving = async {
        let limits = PublisherLimits::default();
        let feeding = feed::serve(
            feed,
            publisher,
            tls,
            metrics.publisher,
            limits,
            stop.clone(),
        );
        let feeding = role::stop_after(&stop, feeding);
        let controlling = role::stop_after(&stop, controller.run(stop.clone()));
        let (fed, ()) = tokio::join!(feeding, controlling);
        fed.context("the feed failed")
    };
    // Boxed because the future contains the whole controller.
    Box::pin(role.run(admin, None, serving)).await
}

async fn kubernetes(kubeconfig: Option<&std::path::Path>) -> anyhow::Result<Config> {
    let Some(path) = kubeconfig else {
        return Config::infer()
            .await
            .context("no Kubernetes configuration found; pass --kubeconfig, set KUBECONFIG, or run in a pod with a service account");
    };
    let kubeconfig = Kubeconfig::read_from(path)
        .with_context(|| format!("can't read --kubeconfig {}", path.display()))?;
    let options = KubeConfigOptions::default();
    Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .with_context(|| format!("can't use --kubeconfig {}", path.display()))
}

/// The holder's name in the Lease: the host name and a random number.
fn identity() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}-{:08x}", host.trim(), rand::rng().random::<u32>())
}

impl Part for Handle {
    fn is_ready(&self) -> bool {
        Handle::is_ready(self)
    }

    fn remarks(&self) -> Vec<String> {
        Handle::remarks(self)
    }

    fn refresh(&self) {
        Handle::refresh(self);
    }

    fn confirm(&self, _: Option<&str>) -> Option<usize> {
        Some(Handle::confirm(self))
    }
}
