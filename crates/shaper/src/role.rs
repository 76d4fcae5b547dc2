//! The runtime of a role: signals, metrics registry, admin port, and how it starts and stops.
//!
//! Every role starts in the same order: check the flags, [start](Role::start) the runtime, register
//! metrics, bind sockets, add [parts](Part), and call [`Role::run`]. The first task that ends stops
//! the others.

use std::sync::Arc;
use std::time::Duration;

use ::api::BootService;
use anyhow::Context;
use prometheus_client::registry::Registry;
use tls::Reloader;
use tokio_util::sync::CancellationToken;

use crate::admin::{AdminPort, AdminState, Part};
use crate::stop::{self, Stop};

/// A role that has started.
pub(crate) struct Role {
    pub(crate) registry: Registry,
    signals: Stop,
    parts: Vec<Arc<dyn Part>>,
    /// Called at a SIGHUP.
    reloads: Vec<Box<dyn Fn() + Send>>,
}

/// How long to wait at the end for threads that read files. A file system may never answer.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// Runs a role to its end on a runtime with a worker for each core.
pub(crate) fn run(role: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    run_on(&mut tokio::runtime::Builder::new_multi_thread(), role)
}

/// Runs a role to its end on a runtime with one worker, for a role that works on its own threads.
pub(crate) fn run_on_one_thread(
    role: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    run_on(builder.worker_threads(1), role)
}

fn run_on(
    builder: &mut tokio::runtime::Builder,
    role: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let runtime = builder
        .enable_all()
        .build()
        .context("can't start the runtime")?;
    {
        let _context = runtime.enter();
        stop::survive_hangup().context("can't listen for signals")?;
    }
    let ended = runtime.block_on(role);
    runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
    ended
}

// === impl Role ===

impl Role {
    /// Listens for signals and creates an empty registry.
    ///
    /// After a SIGTERM, the role reports not ready and serves for `lameduck` before it stops.
    pub(crate) fn start(lameduck: Duration) -> anyhow::Result<Self> {
        Ok(Self {
            registry: Registry::with_prefix("shaper"),
            signals: stop::on_signal_after(lameduck).context("can't listen for signals")?,
            parts: Vec::new(),
            reloads: Vec::new(),
        })
    }

    /// Cancelled when the role stops: it finishes what has begun and accepts nothing new.
    pub(crate) fn stop(&self) -> &CancellationToken {
        &self.signals.stop
    }

    /// Adds a part that the admin port reports. Parts are reported in this order.
    pub(crate) fn add_part(&mut self, part: Arc<dyn Part>) {
        self.parts.push(part);
    }

    /// Adds what to do at a SIGHUP. It must not block.
    pub(crate) fn reload_with(&mut self, reload: impl Fn() + Send + 'static) {
        self.reloads.push(Box::new(reload));
    }

    /// Reloads certificate files when they change, and at a SIGHUP, until the role stops, and
    /// reports their problems at the admin port.
    pub(crate) fn reload_certificates<T: Send + Sync + 'static>(
        &mut self,
        reloader: &Arc<Reloader<T>>,
    ) {
        self.parts.push(reloader.clone());
        let at_hangup = reloader.clone();
        self.reload_with(move || at_hangup.reload_soon());
        tokio::spawn(reloader.clone().follow(self.stop().clone()));
    }

    /// Serves the admin port while `serving` runs, and stops the role when `serving` ends.
    ///
    /// `boot` is the service that `/explain` queries.
    pub(crate) async fn run(
        self,
        admin: AdminPort,
        boot: Option<Arc<BootService>>,
        serving: impl Future<Output = anyhow::Result<()>>,
    ) -> anyhow::Result<()> {
        let Stop { not_ready, stop } = self.signals;
        let reloads = self.reloads;
        let reload = move || reloads.iter().for_each(|reload| reload());
        stop::on_hangup(stop.clone(), reload).context("can't listen for signals")?;
        let state = AdminState {
            registry: self.registry,
            boot,
            parts: self.parts,
            not_ready,
        };
        let admin = tokio::spawn(state.serve(admin, stop.clone()));
        stop_after(&stop, serving).await?;
        admin
            .await
            .map_err(anyhow::Error::from)
            .and_then(|ended| Ok(ended?))
            .context("the admin port failed")
    }
}

/// Awaits `task`, then stops the role: it can't work without one of its tasks and has to be
/// restarted.
pub(crate) async fn stop_after<T>(stop: &CancellationToken, task: impl Future<Output = T>) -> T {
    let ended = task.await;
    stop.cancel();
    ended
}
