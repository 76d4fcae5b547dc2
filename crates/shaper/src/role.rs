//! The runtime of a role: signals, metrics registry, admin port, and how it starts and stops.
//!
//! Every role starts in the same order. It checks its flags, [starts](Role::start) its runtime,
//! registers metrics, binds its sockets, adds its [parts](Part), and hands what serves to
//! [`Role::run`]. The first of its tasks that ends stops the others.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ::api::Boot;
use anyhow::Context;
use net::Listener;
use prometheus_client::registry::Registry;
use tls::Reloader;
use tokio_util::sync::CancellationToken;

use crate::admin::{Admin, Part};
use crate::stop::{self, Stop};

/// A role between its start and its end.
pub(crate) struct Role {
    pub(crate) registry: Registry,
    signals: Stop,
    parts: Vec<Arc<dyn Part>>,
}

/// Runs a role to its end on a runtime with a worker for each core.
pub(crate) fn run(role: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    run_on(&mut tokio::runtime::Builder::new_multi_thread(), role)
}

/// Runs a role to its end on a runtime with one worker, for a role that does its work on its own
/// threads.
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
    runtime.block_on(role)
}

/// An address to listen on: `ADDRESS:PORT`, or `:PORT` for every address.
pub(crate) fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    let spelled = match text.strip_prefix(':') {
        Some(port) => format!("[::]:{port}"),
        None => text.to_owned(),
    };
    spelled.parse().map_err(|_| {
        "write ADDRESS:PORT, as in 0.0.0.0:8080 or [::]:8080, or :8080 for every address".to_owned()
    })
}

/// Says why an address can't be listened on, and what to do.
pub(crate) fn cannot_listen(flag: &str, address: SocketAddr, error: io::Error) -> anyhow::Error {
    let what_to_do = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need a capability: set AmbientCapabilities=CAP_NET_BIND_SERVICE in the systemd unit, or choose another port"
        }
        io::ErrorKind::AddrNotAvailable => {
            "this machine does not have that address; choose another, or [::] for every address"
        }
        _ => "is another server there? Choose another address or port",
    };
    anyhow::Error::new(error).context(format!("can't listen on {flag} {address}; {what_to_do}"))
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
        })
    }

    /// Cancelled when the role is to stop: what has begun is finished, and nothing new is accepted.
    pub(crate) fn stop(&self) -> &CancellationToken {
        &self.signals.stop
    }

    /// Adds a part to what the admin port reports. They are reported in the order of their adding.
    pub(crate) fn add_part(&mut self, part: Arc<dyn Part>) {
        self.parts.push(part);
    }

    /// Re-reads certificate files when they change until the role stops, and reports their
    /// problems at the admin port.
    pub(crate) fn follow<T: Send + Sync + 'static>(&mut self, live: &Arc<Reloader<T>>) {
        self.parts.push(live.clone());
        tokio::spawn(live.clone().follow(self.stop().clone()));
    }

    /// Serves the admin port while `serving` runs, and stops the role when that ends.
    ///
    /// `boot` is what the admin port explains.
    pub(crate) async fn run(
        self,
        admin: Listener,
        boot: Option<Arc<Boot>>,
        serving: impl Future<Output = anyhow::Result<()>>,
    ) -> anyhow::Result<()> {
        let Stop { told, stop } = self.signals;
        let port = Admin {
            registry: self.registry,
            boot,
            parts: self.parts,
            told,
        };
        let admin = tokio::spawn(port.run(admin, stop.clone()));
        until(&stop, serving).await?;
        admin
            .await
            .map_err(anyhow::Error::from)
            .and_then(|ended| Ok(ended?))
            .context("the admin port failed")
    }
}

/// Awaits `task`, then stops the role: a role without one of its tasks is to be started again.
pub(crate) async fn until<T>(stop: &CancellationToken, task: impl Future<Output = T>) -> T {
    let ended = task.await;
    stop.cancel();
    ended
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_listens_on_every_address() {
        assert_eq!(parse_listen(":8085"), Ok("[::]:8085".parse().unwrap()));
        assert_eq!(
            parse_listen("127.0.0.1:1"),
            Ok("127.0.0.1:1".parse().unwrap())
        );
        for text in ["8085", "localhost:1", ":", "::1:1:", ":http"] {
            assert!(parse_listen(text).unwrap_err().contains(":8080"), "{text}");
        }
    }

    #[test]
    fn a_refused_port_names_the_setting_of_systemd() {
        let say = |kind: io::ErrorKind| {
            cannot_listen("--http-listen", "[::]:80".parse().unwrap(), kind.into()).to_string()
        };
        assert!(
            say(io::ErrorKind::PermissionDenied)
                .contains("AmbientCapabilities=CAP_NET_BIND_SERVICE")
        );
        assert!(
            say(io::ErrorKind::AddrInUse)
                .contains("--http-listen [::]:80; is another server there?")
        );
    }
}
