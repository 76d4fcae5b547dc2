//! Runs a controller without Kubernetes: the feed's publisher, in this process.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use e2e::certificates::{Authority, Directory, Leaf};
use feed::{Publisher, PublisherLimits, PublisherMetrics};
use prometheus_client::registry::Registry;
use tls::Reloader;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A controller as replicas see it.
pub(crate) struct Controller {
    /// The publisher of the feed.
    pub(crate) publisher: Arc<Publisher>,
    stop: CancellationToken,
    serving: JoinHandle<Result<(), tonic::transport::Error>>,
}

/// The certificates of both ends of the feed.
pub(crate) struct Certificates {
    controller: Directory,
    replicas: Directory,
}

/// Listens on a free port.
pub(crate) fn listen() -> anyhow::Result<std::net::TcpListener> {
    let listener =
        std::net::TcpListener::bind("127.0.0.1:0").context("can't listen on loopback")?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

// === impl Controller ===

impl Controller {
    pub(crate) fn serve(
        runtime: &Runtime,
        publisher: Arc<Publisher>,
        certificates: &Certificates,
        listener: std::net::TcpListener,
    ) -> anyhow::Result<Self> {
        let _entered = runtime.enter();
        let live = Reloader::mutual(
            "feed",
            certificates.controller.path(),
            vec!["shaper-api".parse()?],
            tls::Metrics::default(),
        );
        let stop = CancellationToken::new();
        let metrics = PublisherMetrics::register(&mut Registry::default());
        let serving = runtime.spawn(feed::serve(
            listener.try_into()?,
            publisher.clone(),
            live,
            metrics,
            PublisherLimits::default(),
            stop.clone(),
        ));
        Ok(Self {
            publisher,
            stop,
            serving,
        })
    }

    pub(crate) fn end(self, runtime: &Runtime) -> anyhow::Result<()> {
        self.stop.cancel();
        runtime.block_on(self.serving)?.context("the feed failed")
    }
}

// === impl Certificates ===

impl Certificates {
    /// Issues certificates from a new authority.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let authority = Authority::new("bench")?;
        let directory = |name| Directory::of(&authority.issue(&Leaf::peer(name))?, &authority);
        Ok(Self {
            controller: directory("localhost")?,
            replicas: directory("shaper-api")?,
        })
    }

    /// Returns the folder with the controller's certificate.
    pub(crate) fn of_controllers(&self) -> &Path {
        self.controller.path()
    }

    /// Returns the folder with the replicas' certificate.
    pub(crate) fn of_replicas(&self) -> &Path {
        self.replicas.path()
    }
}
