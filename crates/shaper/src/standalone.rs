//! `shaper standalone DIR`: serves the whole boot path in one process, from a folder of manifests.

mod banner;
mod confirmations;
mod last_good;
mod loader;
pub(crate) mod metrics;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use api::BootService;
use boot::{Catalog, SharedCatalog};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::admin::{AdminArgs, Remarks};
use crate::guard::GuardArgs;
use crate::ids::ConfigIds;
use crate::listeners::HttpArgs;
use crate::role::{self, Role};
use crate::stall::StallWatch;
use crate::state_dir::StateDir;
use crate::tftp::{HttpServer, Tftp, TftpArgs};
use crate::warnings::{self, Warnings};
use manifests::{Folder, Follow};

use confirmations::Confirmations;
use last_good::LastGoodCopy;
use loader::Loader;

/// Serve machines from a folder of manifests, without Kubernetes
///
/// Reads Profiles and Assignments from all *.yaml, *.yml and *.json files below DIR, picks up
/// changes live, and serves /boot.ipxe, /ipxe and /config/{uuid}. A broken file keeps its last good
/// objects, even over restarts; the log, /metrics and /readyz?verbose name it.
#[derive(clap::Args)]
pub struct Args {
    /// Directory that contains the manifests
    dir: PathBuf,
    #[command(flatten)]
    http: HttpArgs,
    #[command(flatten)]
    admin: AdminArgs,
    /// Directory for config ids and the last good objects of each file. Default: systemd's state
    /// directory, /var/lib/shaper for root, else ~/.local/state/shaper
    #[arg(long, env = "SHAPER_STATE_DIR", value_name = "DIR")]
    state_dir: Option<PathBuf>,
    #[command(flatten)]
    tftp: TftpArgs,
    #[command(flatten)]
    guard: GuardArgs,
    /// Seconds to keep serving after SIGTERM while reporting not ready, so that a load balancer can
    /// drain this replica
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
    let state_dir = match args.state_dir.clone() {
        Some(directory) => directory,
        None => default_state_dir(|name| std::env::var_os(name))?,
    };
    let state = StateDir::open(&state_dir)?;
    let ids = ConfigIds::open(&state)?;
    let mut role = Role::start(Duration::from_secs(args.lameduck))?;
    let stop = role.stop().clone();

    let metrics = crate::metrics::Standalone::register(&mut role.registry);
    let folder_metrics = metrics.folder;
    let shared = Arc::new(SharedCatalog::new(Catalog::new()));
    let boot = args.http.boot(shared.clone())?;
    let remarks = Remarks::default();
    let tftp_remarks = Remarks::default();

    let listeners = args.http.bind(&boot, &metrics.tls, &metrics.http)?;
    let admin = args.admin.bind()?;
    let (http_listen, admin_listen) = (listeners.http_listen, admin.address());
    let http = HttpServer {
        public_url: args.http.public_url.clone(),
        listen: http_listen,
    };
    let tftp = args
        .tftp
        .is_enabled()
        .then(|| {
            let metrics = crate::metrics::Tftp::register(&mut role.registry);
            args.tftp.bind(http, metrics.tftp, tftp_remarks.clone())
        })
        .transpose()?;
    let tftp_listen = tftp.as_ref().map(Tftp::listen);
    let https_listen = listeners.https_listen.map(tracing::field::display);
    info!(%http_listen, https_listen, %admin_listen, tftp_listen = tftp_listen.map(tracing::field::display), "listening");

    let folder = Folder::new(&args.dir, args.guard.limits());
    let stalls = StallWatch::spawn(
        "the folder",
        folder.activity().clone(),
        folder_metrics.load.read_stalled(),
    )?;
    let follow = Follow::new(&args.dir, folder.activity().clone());
    let waker = follow.waker();
    role.reload_with(move || waker.wake());
    let warnings = Arc::new(Warnings::default());
    let confirmations = Arc::new(Confirmations::new(follow.waker()));
    role.add_part(Arc::new(folder_metrics.load.clone()));
    role.add_part(remarks.clone());
    role.add_part(stalls);
    role.add_part(Arc::new(state.part()));
    role.add_part(tftp_remarks);
    if let Some(tftp) = &tftp {
        tftp.add_to(&mut role);
    }
    role.add_part(confirmations.clone());
    role.add_part(warnings.clone());
    role.add_part(Arc::new(folder_metrics.unsaved.clone()));
    if let Some(https) = listeners.tls() {
        role.reload_certificates(&https);
    }
    let last_good = LastGoodCopy::new(state.path(), &args.dir, folder_metrics.unsaved);
    let loader = Loader::new(
        folder,
        last_good,
        ids,
        shared,
        folder_metrics.load,
        remarks,
        confirmations,
    );
    let banner = banner::Banner {
        dir: args.dir.clone(),
        http_listen,
        admin_listen,
        tftp_listen,
        public_url: args.http.public_url,
    };
    let serving = async {
        let loading = spawn_loader(loader, follow, boot.clone(), banner, &stop)?;
        let tftp = tftp.map(|tftp| tftp.spawn(&stop)).transpose()?;
        tokio::spawn(warnings::follow(
            warnings,
            boot.clone(),
            Some(args.dir),
            stop.clone(),
        ));
        role::stop_after(&stop, listeners.run(stop.clone())).await?;
        if let Some(tftp) = tftp {
            tftp.ended().await?;
        }
        // The thread sleeps until the folder changes and needs no orderly end.
        if loading.is_finished() {
            bail!("following the folder failed; the log says why");
        }
        Ok(())
    };
    // On the heap: the future holds everything that serves.
    Box::pin(role.run(admin, Some(boot.clone()), serving)).await
}

/// Starts a thread that loads the folder now and whenever it changes. Reading files and compiling
/// templates may take long.
fn spawn_loader(
    mut loader: Loader,
    mut follow: Follow,
    boot: Arc<BootService>,
    banner: banner::Banner,
    stop: &CancellationToken,
) -> anyhow::Result<std::thread::JoinHandle<()>> {
    let ended = stop.clone().drop_guard();
    std::thread::Builder::new()
        .name("loader".to_owned())
        .spawn(move || {
            // End the process with this thread: without it, the catalog would become outdated.
            let _ended = ended;
            let loaded = loader.load_all();
            boot.set_synced();
            banner.print(&loaded);
            loop {
                follow.wait(loader.pending());
                loader.load();
            }
        })
        .context("can't start the loader thread")
}

/// Returns the state directory to use without `--state-dir`. Never the working directory, which may
/// differ at the next start.
fn default_state_dir(environment: impl Fn(&str) -> Option<OsString>) -> anyhow::Result<PathBuf> {
    let variable = |name| {
        environment(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let is_root = || {
        std::fs::metadata("/proc/self")
            .is_ok_and(|process| std::os::unix::fs::MetadataExt::uid(&process) == 0)
    };
    if let Some(directory) = variable("STATE_DIRECTORY") {
        return Ok(directory);
    }
    if is_root() {
        return Ok("/var/lib/shaper".into());
    }
    if let Some(directory) = variable("XDG_STATE_HOME") {
        return Ok(directory.join("shaper"));
    }
    let home = variable("HOME").context(
        "HOME is not set, so there is no default state directory; choose one with --state-dir, or set StateDirectory=shaper in the systemd unit",
    )?;
    Ok(home.join(".local/state/shaper"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_home_state_is_not_kept_in_the_working_directory() {
        let is_root =
            std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap()) == 0;
        match default_state_dir(|_| None) {
            Ok(directory) => assert!(is_root && directory.is_absolute(), "{directory:?}"),
            Err(error) => assert!(error.to_string().contains("--state-dir"), "{error}"),
        }
        let of_systemd =
            default_state_dir(|name| (name == "STATE_DIRECTORY").then(|| "/var/lib/x".into()));
        assert_eq!(of_systemd.unwrap(), PathBuf::from("/var/lib/x"));
    }
}
