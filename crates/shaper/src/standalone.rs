//! `shaper standalone DIR`: the whole boot path in one process, from a folder of manifests.

mod confirmations;
mod loader;
mod memory;
mod welcome;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use api::Boot;
use boot::{Catalog, SharedCatalog};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::admin::{self, Remarks};
use crate::guard::GuardArgs;
use crate::ids::ConfigIds;
use crate::machines::HttpArgs;
use crate::manifests::{Folder, Follow};
use crate::role::{self, Role};
use crate::tftp::{HttpServer, Tftp, TftpArgs};

use confirmations::Confirmations;
use loader::{Gauges, Loader};
use memory::{Memory, Unsaved};

/// Serve machines from a folder of manifests, without Kubernetes
///
/// Reads Profiles and Assignments from all *.yaml, *.yml and *.json files below DIR, picks up changes live, and serves /boot.ipxe, /ipxe
/// and /config/{uuid}. A broken file keeps its last good objects, also over restarts; the log, /metrics and /readyz?verbose name it.
#[derive(clap::Args)]
pub struct Args {
    /// The directory that contains the manifests
    dir: PathBuf,
    #[command(flatten)]
    http: HttpArgs,
    /// Address of the admin port, with /healthz, /readyz, /metrics and /explain
    #[arg(
        long,
        env = "SHAPER_ADMIN_LISTEN",
        default_value = "127.0.0.1:9090",
        value_name = "ADDRESS:PORT"
    )]
    admin_listen: SocketAddr,
    /// Directory for config ids and the last good objects of each file. Default: systemd's state directory, /var/lib/shaper for root, else ~/.local/state/shaper
    #[arg(long, env = "SHAPER_STATE_DIR", value_name = "DIR")]
    state_dir: Option<PathBuf>,
    #[command(flatten)]
    tftp: TftpArgs,
    #[command(flatten)]
    guard: GuardArgs,
    /// Seconds to keep serving after SIGTERM while reporting not ready, so that a load balancer can drain this replica
    #[arg(
        long,
        env = "SHAPER_LAMEDUCK",
        default_value_t = 0,
        value_name = "SECONDS"
    )]
    lameduck: u64,
}

/// Runs until SIGTERM or SIGINT.
pub fn run(args: Args) -> anyhow::Result<()> {
    role::run(serve(args))
}

async fn serve(args: Args) -> anyhow::Result<()> {
    if !args.dir.is_dir() {
        bail!(
            "not a directory: {}; pass the directory that contains the manifests",
            args.dir.display()
        );
    }
    let state_dir = args.state_dir.clone().unwrap_or_else(default_state_dir);
    let ids = ConfigIds::open(&state_dir)?;
    let mut role = Role::start(Duration::from_secs(args.lameduck))?;
    let stop = role.stop().clone();

    let tls_metrics = tls::Metrics::register(&mut role.registry);
    let gauges = Gauges::register(&mut role.registry);
    let unsaved = Unsaved::register(&mut role.registry);
    let shared = Arc::new(SharedCatalog::new(Catalog::new()));
    let boot = args.http.boot(shared.clone())?;
    let remarks = Remarks::default();
    let tftp_remarks = Remarks::default();

    let listeners = args.http.bind(&boot, &tls_metrics, &mut role.registry)?;
    let admin = admin::bind(args.admin_listen)?;
    let (http_listen, admin_listen) = (listeners.http_listen, admin.local_addr());
    let http = HttpServer {
        public_url: args.http.public_url.clone(),
        listen: http_listen,
    };
    let tftp = args
        .tftp
        .is_wanted()
        .then(|| {
            args.tftp
                .bind(http, &mut role.registry, tftp_remarks.clone())
        })
        .transpose()?;
    let tftp_listen = tftp.as_ref().map(Tftp::listen);
    let https_listen = listeners.https_listen.map(tracing::field::display);
    info!(%http_listen, https_listen, %admin_listen, tftp_listen = tftp_listen.map(tracing::field::display), "listening");

    let follow = Follow::new(&args.dir);
    let asked = Arc::new(Confirmations::new(follow.waker()));
    role.add_part(Arc::new(gauges.clone()));
    role.add_part(remarks.clone());
    role.add_part(tftp_remarks);
    role.add_part(asked.clone());
    role.add_part(Arc::new(unsaved.clone()));
    if let Some(https) = listeners.tls() {
        role.follow(&https);
    }
    let memory = Memory::new(&state_dir, &args.dir, unsaved);
    let loader = Loader::new(
        Folder::new(&args.dir, args.guard.limits()),
        memory,
        ids,
        shared,
        gauges,
        remarks,
        asked,
    );
    let welcome = welcome::Welcome {
        dir: args.dir.clone(),
        http_listen,
        admin_listen,
        tftp_listen,
        public_url: args.http.public_url,
    };
    let serving = async {
        let loading = spawn_loader(loader, follow, boot.clone(), welcome, &stop)?;
        let tftp = tftp.map(|tftp| tftp.spawn(&stop)).transpose()?;
        role::until(&stop, listeners.run(stop.clone())).await?;
        if let Some(tftp) = tftp {
            tftp.ended().await?;
        }
        // The thread sleeps until something changes in the folder; it holds nothing that needs an
        // orderly end.
        if loading.is_finished() {
            bail!("following the folder failed; the log says why");
        }
        Ok(())
    };
    role.run(admin, Some(boot.clone()), serving).await
}

/// Starts a thread that reads the folder now and whenever it changes: reading files and compiling
/// templates may take long.
fn spawn_loader(
    mut loader: Loader,
    mut follow: Follow,
    boot: Arc<Boot>,
    welcome: welcome::Welcome,
    stop: &CancellationToken,
) -> anyhow::Result<std::thread::JoinHandle<()>> {
    let ended = stop.clone().drop_guard();
    std::thread::Builder::new()
        .name("loader".to_owned())
        .spawn(move || {
            // When this thread ends, the process ends: it would serve an outdated catalog.
            let _ended = ended;
            let loaded = loader.load();
            boot.set_synced();
            welcome.say(&loaded);
            loop {
                follow.wait(loader.pending());
                loader.load();
            }
        })
        .context("can't start the loader's thread")
}

fn default_state_dir() -> PathBuf {
    let variable = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let is_root = || {
        std::fs::metadata("/proc/self")
            .is_ok_and(|process| std::os::unix::fs::MetadataExt::uid(&process) == 0)
    };
    if let Some(directory) = variable("STATE_DIRECTORY") {
        return directory;
    }
    if is_root() {
        return "/var/lib/shaper".into();
    }
    let home = || variable("HOME").unwrap_or_default().join(".local/state");
    variable("XDG_STATE_HOME")
        .unwrap_or_else(home)
        .join("shaper")
}
