//! A controller that runs against a fake API server, and the objects that tests put there.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use boot::catalog::guard::Limits;
use boot::{ConfigName, ObjectKey};
use controller::lease::LeaseTiming;
use controller::{Controller, Handle, Metrics, Options, ResponseTimeout};
use fake_apiserver::FakeApiServer;
use feed::Publisher;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub(crate) const SOON: Duration = Duration::from_secs(30);

pub(crate) struct Running {
    pub(crate) publisher: Arc<Publisher>,
    pub(crate) handle: Handle,
    pub(crate) registry: Registry,
    pub(crate) stop: CancellationToken,
    pub(crate) task: JoinHandle<()>,
}

impl Running {
    pub(crate) async fn start(server: &FakeApiServer) -> Result<Self> {
        Self::start_in(server, &[]).await
    }

    pub(crate) async fn start_in(server: &FakeApiServer, namespaces: &[&str]) -> Result<Self> {
        Self::start_with(server, namespaces, ResponseTimeout::default()).await
    }

    pub(crate) async fn start_with(
        server: &FakeApiServer,
        namespaces: &[&str],
        response_timeout: ResponseTimeout,
    ) -> Result<Self> {
        let config = Config::from_custom_kubeconfig(
            Kubeconfig::from_yaml(&server.kubeconfig())?,
            &KubeConfigOptions::default(),
        )
        .await?;
        let publisher = Arc::new(Publisher::new());
        let options = Options {
            namespaces: namespaces.iter().map(ToString::to_string).collect(),
            guard: Limits::default(),
            lease_namespace: "shaper-system".into(),
            lease_name: "shaper-controller".into(),
            lease: LeaseTiming {
                retry_period: Duration::from_millis(100),
                ..LeaseTiming::default()
            },
            identity: format!("test-{:p}", Arc::as_ptr(&publisher)),
            writes_per_second: 10_000,
            response_timeout,
        };
        let mut registry = Registry::default();
        let controller = Controller::new(
            Client::try_from(config)?,
            publisher.clone(),
            options,
            Metrics::register(&mut registry),
        );
        let (handle, stop) = (controller.handle(), CancellationToken::new());
        let task = tokio::spawn(controller.run(stop.clone()));
        Ok(Self {
            publisher,
            handle,
            registry,
            stop,
            task,
        })
    }

    pub(crate) async fn ready(self) -> Result<Self> {
        eventually("the controller is ready", || self.handle.is_ready()).await?;
        Ok(self)
    }

    pub(crate) fn assignments(&self) -> usize {
        self.publisher.catalog().load().assignment_count()
    }

    pub(crate) fn priority(&self, name: &str) -> Option<i32> {
        Some(
            self.publisher
                .catalog()
                .load()
                .assignment(&ObjectKey::new("default", name))?
                .priority,
        )
    }

    /// Returns the id under which the config `config` of a Profile is served.
    pub(crate) fn config_id(&self, profile: &str) -> Option<Uuid> {
        let name: ConfigName = "config".parse().expect("a config name");
        let catalog = self.publisher.catalog().load();
        let profile = catalog.profile(&ObjectKey::new("default", profile))?;
        profile.ids.get(&name).copied()
    }

    pub(crate) fn metrics(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a String succeeds");
        text
    }

    pub(crate) async fn stop(self) -> Result<()> {
        self.stop.cancel();
        self.task.await.context("the controller panicked")
    }
}

pub(crate) async fn eventually(what: &str, look: impl Fn() -> bool) -> Result<()> {
    let deadline = Instant::now() + SOON;
    while !look() {
        ensure!(Instant::now() < deadline, "still not: {what}");
        sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

pub(crate) fn assignment(name: &str, priority: i32) -> Value {
    json!({
        "apiVersion": "shaper.amahdha.com/v1alpha1", "kind": "Assignment",
        "metadata": { "name": name, "namespace": "default" },
        "spec": { "subjectSelectors": { "serialNumbers": [name] }, "profileSelectors": {"os": "x"}, "priority": priority },
    })
}

pub(crate) fn profile(name: &str) -> Value {
    json!({
        "apiVersion": "shaper.amahdha.com/v1alpha1", "kind": "Profile",
        "metadata": { "name": name, "namespace": "default", "labels": {"os": "x"} },
        "spec": { "ipxe": "#!ipxe\nchain {{ config }}\n", "additionalConfig": { "config": "x" } },
    })
}

pub(crate) async fn server(assignments: usize) -> FakeApiServer {
    let server = FakeApiServer::start()
        .await
        .expect("a free port on the loopback address");
    (0..assignments).for_each(|n| drop(server.put(assignment(&format!("a{n}"), 0))));
    server
}
