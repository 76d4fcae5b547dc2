//! A Kubernetes API server in memory, for faults that a real one does not produce on demand.
//!
//! It serves any kind to a client that knows the kind: lists in pages, watches with bookmarks and
//! initial events, reads, writes with `resourceVersion` conflicts, merge patches, and server-side
//! apply as far as a single status writer can tell. It has no schema, admission, permissions or
//! discovery: test those against a real server. It speaks plain HTTP on the loopback address; a
//! client only needs [`FakeApiServer::kubeconfig`].
//!
//! [`FakeApiServer::inject`] injects faults, and [`FakeApiServer::calls`] returns the received
//! requests.

mod apply;
mod call;
mod fault;
mod handler;
mod listing;
mod response;
mod store;
mod watch;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch as channel;
use tokio::task::AbortHandle;

use store::Store;

pub use call::{Call, Verb};
pub use fault::{Fault, InjectedFault, When};

/// A running server. Dropping it stops the server and closes all connections.
#[derive(Debug)]
pub struct FakeApiServer {
    address: SocketAddr,
    shared: Arc<ServerState>,
    accepting: AbortHandle,
}

/// State shared by all connections.
#[derive(Debug)]
struct ServerState {
    state: Mutex<State>,
    /// A counter that increases when watches have to check for changes of objects or faults.
    changed: channel::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    store: Store,
    faults: fault::Faults,
    calls: Vec<Call>,
    settings: Settings,
}

#[derive(Clone, Copy, Debug)]
struct Settings {
    bookmark_interval: Duration,
    supports_watch_list: bool,
    is_terminating: bool,
}

// === impl FakeApiServer ===

impl FakeApiServer {
    /// Starts an empty server on a free port. It runs as long as the current tokio runtime.
    pub async fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(ServerState {
            state: Mutex::default(),
            changed: channel::Sender::new(0),
        });
        let accepting = tokio::spawn(accept(listener, shared.clone())).abort_handle();
        Ok(Self {
            address,
            shared,
            accepting,
        })
    }

    /// The server's URL, `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A kubeconfig in YAML.
    pub fn kubeconfig(&self) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: fake\ncontexts: [{{name: fake, context: {{cluster: fake, user: fake}}}}]\n\
             clusters: [{{name: fake, cluster: {{server: \"{}\"}}}}]\nusers: [{{name: fake, user: {{}}}}]\n",
            self.url()
        )
    }

    /// Creates or replaces an object, including its status, as another client would. It needs
    /// `apiVersion`, `kind` and `metadata.name`; the namespace defaults to `default`. Machines are
    /// cluster-scoped: they have no namespace, and an empty one in the other methods. Returns the
    /// stored object.
    ///
    /// # Panics
    /// If one of these fields is missing, which is a mistake in a test.
    pub fn put(&self, object: Value) -> Value {
        let stored = self.shared.state().store.put(object);
        self.shared.notify_watches();
        stored
    }

    /// Deletes an object of the kind with this plural. Returns whether it existed.
    pub fn delete(&self, plural: &str, namespace: &str, name: &str) -> bool {
        let was_there = self.shared.state().store.delete(plural, namespace, name);
        self.shared.notify_watches();
        was_there
    }

    /// Returns an object in its current state.
    pub fn object(&self, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        self.shared.state().store.object(plural, namespace, name)
    }

    /// Returns all objects of a kind, sorted by namespace and name.
    pub fn objects(&self, plural: &str) -> Vec<Value> {
        self.shared.state().store.objects(plural)
    }

    /// Forgets all history. A watch or page that continues from an earlier revision gets 410.
    pub fn compact(&self) {
        self.shared.state().store.compact();
        self.shared.notify_watches();
    }

    /// Makes matching requests fail until the returned value is dropped, or as often as
    /// [`When::times`] allows. If several faults match, the oldest is used. Running watches are
    /// affected too, by faults that apply to them.
    #[must_use = "the fault ends when this is dropped"]
    pub fn inject(&self, when: When, fault: Fault) -> InjectedFault {
        let injected = InjectedFault::new(
            self.shared.state().faults.add(when, fault),
            Arc::downgrade(&self.shared),
        );
        self.shared.notify_watches();
        injected
    }

    /// Returns all requests received so far.
    pub fn calls(&self) -> Vec<Call> {
        self.shared.state().calls.clone()
    }

    /// Counts the requests with a verb for the kind with this plural.
    pub fn count(&self, verb: Verb, plural: &str) -> usize {
        self.shared
            .state()
            .calls
            .iter()
            .filter(|call| call.verb == verb && call.plural == plural)
            .count()
    }

    /// Clears the recorded requests.
    pub fn clear_calls(&self) {
        self.shared.state().calls.clear();
    }

    /// Sets how often an idle watch gets a bookmark. The default is one second; a real server sends
    /// one about every minute.
    pub fn set_bookmark_interval(&self, every: Duration) {
        self.shared.state().settings.bookmark_interval = every;
    }

    /// Sets whether watches may start with a list. Some versions of Kubernetes reject that with
    /// 422.
    pub fn set_watch_list(&self, supports_watch_list: bool) {
        self.shared.state().settings.supports_watch_list = supports_watch_list;
    }

    /// Sets whether the definitions of the custom resources are being deleted, so that no objects
    /// can be created.
    pub fn set_terminating(&self, is_terminating: bool) {
        self.shared.state().settings.is_terminating = is_terminating;
    }
}

impl Drop for FakeApiServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

// === impl ServerState ===

impl ServerState {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes all watches.
    fn notify_watches(&self) {
        self.changed.send_modify(|count| *count += 1);
    }
}

// === impl Settings ===

impl Default for Settings {
    fn default() -> Self {
        Self {
            bookmark_interval: Duration::from_secs(1),
            supports_watch_list: true,
            is_terminating: false,
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<ServerState>) {
    // Dropped together with this task, which closes all connections.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        while connections.try_join_next().is_some() {}
        let shared = shared.clone();
        connections.spawn(async move {
            let service = service_fn(move |request| {
                let shared = shared.clone();
                async move {
                    handler::handle(shared, request)
                        .await
                        .ok_or_else(response::connection_closed)
                }
            });
            // Tests close and cut connections on purpose.
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}
