//! A server that runs, and a client that reads its answers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use api::{BootService, Limits, Metrics, Server};
use boot::{Catalog, Change, ExtrinsicLabels, ObjectKey, Profile, SharedCatalog};
use prometheus_client::registry::Registry;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) registry: Registry,
    pub(crate) stop: CancellationToken,
    pub(crate) task: JoinHandle<std::io::Result<()>>,
}

pub(crate) fn start(limits: Limits) -> Running {
    start_with(limits, None)
}

/// Starts a server, with one config if given.
pub(crate) fn start_with(limits: Limits, config: Option<&str>) -> Running {
    let (server, registry) = bind(limits, config);
    let stop = CancellationToken::new();
    Running {
        address: server.local_addr().unwrap(),
        registry,
        task: tokio::spawn(server.run(stop.clone())),
        stop,
    }
}

pub(crate) fn bind(limits: Limits, config: Option<&str>) -> (Server, Registry) {
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    let mut catalog = Catalog::new();
    if let Some(config) = config {
        let configs = [("config0".parse().unwrap(), config.to_owned())].into();
        let profile = Profile::compile(
            ObjectKey::new("ns", "p"),
            None,
            &[].into(),
            "#!ipxe\n",
            &configs,
        )
        .unwrap();
        let id = "47c6da67-7477-4970-aa03-84e48ff4f6ad".parse().unwrap();
        catalog.apply(Change::Profile(Arc::new(
            profile.with_ids([("config0".parse().unwrap(), id)].into()),
        )));
    }
    let boot = Arc::new(BootService::new(
        Arc::new(SharedCatalog::new(catalog)),
        ExtrinsicLabels::default(),
        None,
    ));
    boot.set_synced();
    (
        Server::bind(
            "127.0.0.1:0".parse().unwrap(),
            boot,
            metrics,
            Arc::new(()),
            limits,
        )
        .unwrap(),
        registry,
    )
}

impl Running {
    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends bytes on a new connection and reads until the server closes it.
    pub(crate) async fn exchange(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect().await;
        // The server may close the connection before it has read an oversized request.
        let _ = stream.write_all(bytes).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    }

    pub(crate) fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text
    }

    /// Waits until this many connections are counted as open.
    pub(crate) async fn wait_for_connections(&self, open: usize) {
        let line = format!("http_connections {open}\n");
        for _ in 0..500 {
            if self.metrics().contains(&line) {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("never {open} connections: {}", self.metrics());
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

/// Reads one response that has a Content-Length.
pub(crate) async fn read_answer(stream: &mut TcpStream) -> (String, String) {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .unwrap();
            if body.len() >= length.parse().unwrap() {
                return (head.to_owned(), body.to_owned());
            }
        }
        assert_ne!(
            stream.read_buf(&mut bytes).await.unwrap(),
            0,
            "closed after {text:?}"
        );
    }
}
