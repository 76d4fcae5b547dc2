//! A Kubernetes API server in memory, for the faults that a real one has rarely and never on demand.
//!
//! It serves any kind to a client that knows it: lists in pages, watches with bookmarks and initial events, reads, writes with
//! conflicts of `resourceVersion`, merge patches, and as much of server-side apply as one writer of a status can tell from the real one.
//! It knows no schema, no admission, no permissions and no discovery: those are tried on a real server. Plain HTTP on the loopback
//! address; [`FakeApiServer::kubeconfig`] is all that a client needs.
//!
//! [`FakeApiServer::inject`] makes it fail, and [`FakeApiServer::calls`] tells what it was asked.

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

/// A running server. Dropping it ends it and closes every connection.
#[derive(Debug)]
pub struct FakeApiServer {
    address: SocketAddr,
    shared: Arc<ServerState>,
    accepting: AbortHandle,
}

/// What every connection shares.
#[derive(Debug)]
struct ServerState {
    state: Mutex<State>,
    /// Counts whatever a watch must look at: changes of objects and of faults.
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
}

// === impl FakeApiServer ===

impl FakeApiServer {
    /// Starts an empty one on a free port. It needs a tokio runtime, and answers as long as that runs.
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

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A kubeconfig, as YAML.
    pub fn kubeconfig(&self) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: fake\ncontexts: [{{name: fake, context: {{cluster: fake, user: fake}}}}]\n\
             clusters: [{{name: fake, cluster: {{server: \"{}\"}}}}]\nusers: [{{name: fake, user: {{}}}}]\n",
            self.url()
        )
    }

    /// Creates or replaces an object, status and all, as some other client would. It needs `apiVersion`, `kind` and
    /// `metadata.name`; its namespace is `default` unless it names one. Gives it back as stored.
    ///
    /// # Panics
    /// When one of these is missing: that is a mistake in a test.
    pub fn put(&self, object: Value) -> Value {
        let stored = self.shared.state().store.put(object);
        self.shared.notify_watches();
        stored
    }

    /// Deletes an object by the plural of its kind; whether it was there.
    pub fn delete(&self, plural: &str, namespace: &str, name: &str) -> bool {
        let was_there = self.shared.state().store.delete(plural, namespace, name);
        self.shared.notify_watches();
        was_there
    }

    /// An object as it is now.
    pub fn object(&self, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        self.shared.state().store.object(plural, namespace, name)
    }

    /// All objects of a kind, by namespace and name.
    pub fn objects(&self, plural: &str) -> Vec<Value> {
        self.shared.state().store.objects(plural)
    }

    /// Forgets all history: a watch or a page that goes on from before now is told 410.
    pub fn compact(&self) {
        self.shared.state().store.compact();
        self.shared.notify_watches();
    }

    /// From now on each request that is as said fails so, until the value returned is dropped, or as often as [`When::times`] said.
    /// Of several faults that fit, the oldest counts. Watches that run already are hit as well by what can hit them.
    #[must_use = "the fault ends when this is dropped"]
    pub fn inject(&self, when: When, fault: Fault) -> InjectedFault {
        let injected = InjectedFault::new(
            self.shared.state().faults.add(when, fault),
            Arc::downgrade(&self.shared),
        );
        self.shared.notify_watches();
        injected
    }

    /// Every request so far.
    pub fn calls(&self) -> Vec<Call> {
        self.shared.state().calls.clone()
    }

    /// How often it was asked this, of the kind with this plural.
    pub fn count(&self, verb: Verb, plural: &str) -> usize {
        self.shared
            .state()
            .calls
            .iter()
            .filter(|call| call.verb == verb && call.plural == plural)
            .count()
    }

    /// Forgets which requests there were.
    pub fn clear_calls(&self) {
        self.shared.state().calls.clear();
    }

    /// How often a quiet watch gets a bookmark: every second if this isn't called, and about every minute on a real server.
    pub fn set_bookmark_interval(&self, every: Duration) {
        self.shared.state().settings.bookmark_interval = every;
    }

    /// Whether watches can begin with a list, which some versions refuse with 422.
    pub fn set_watch_list(&self, supports_watch_list: bool) {
        self.shared.state().settings.supports_watch_list = supports_watch_list;
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

    /// Wakes the watches.
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
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<ServerState>) {
    // Dropped with this task, and every connection with it.
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
            // A client that goes away, or is cut off, is what tests do here.
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}
