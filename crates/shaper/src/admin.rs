//! The admin port, for operators and probes: `/healthz`, `/readyz`, `/metrics`, `/explain`,
//! `/catalog`, `/guard/confirm`.

mod access;
mod answer_memory;
mod listen;
pub mod paths;
mod unix_socket;

use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::{BaseUrl, BootService};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use manifests::listing::Listing;
use net::{
    Connection, Connections, CountedInput, Limits, PlainText, Source, Stage, Turns, WhenFull,
    WriteTimeout,
};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use access::{Access, Client};
use answer_memory::{AnswerMemory, ListBody, ListPermit};
use listen::AdminListener;

pub use listen::AdminArgs;
pub(crate) use listen::{AdminAddress, AdminPort};

/// When full, a new connection closes one that is idle: liveness probes must get in even if a
/// client holds all connections open.
const LIMITS: Limits = Limits {
    connections: 128,
    when_full: WhenFull::Refuse,
    proof: Stage::HeadRead,
    grace: Duration::from_secs(1),
    input_bytes: 1024 * 1024,
    answer_bytes: usize::MAX,
    drain: Duration::ZERO,
};

/// Size of the longest head that is read.
const HEAD_BUFFER_BYTES: usize = 32 * 1024;

/// How long a client may take to send the head of a request.
const IDLE_TIMEOUT: Duration = Duration::from_mins(1);

/// How long a client may leave sent data unread. It applies to each piece of a long answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Lines for `/readyz?verbose`, updated by the part that loads something.
pub type Remarks = Arc<Mutex<Vec<String>>>;

/// The state that the admin port reports.
pub struct AdminState {
    /// All metrics of the role.
    pub registry: Registry,
    /// The service that answers machines, for readiness and `/explain`.
    pub boot: Option<Arc<BootService>>,
    /// The other parts of the role.
    pub parts: Vec<Arc<dyn Part>>,
    /// Cancelled when the role begins to stop and is no longer ready.
    pub not_ready: CancellationToken,
}

/// A part of a role that reports its state at the admin port.
pub trait Part: Send + Sync {
    /// Whether the part is ready. A role is ready when all of its parts are.
    fn is_ready(&self) -> bool {
        true
    }

    /// Lines for `/readyz?verbose`.
    fn remarks(&self) -> Vec<String> {
        Vec::new()
    }

    /// Problems that may make the answer of `/explain` wrong.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }

    /// Updates metrics that change with time. Called before metrics are encoded.
    fn refresh(&self) {}

    /// Confirms the deletions that the mass-deletion guard holds back, of one partition or of all.
    /// Returns the number of objects, or `None` if there is no guard.
    fn confirm(&self, _partition: Option<&str>) -> Option<usize> {
        None
    }
}

/// The response to `/explain`.
#[derive(serde::Serialize)]
struct ExplainReply {
    #[serde(flatten)]
    explanation: boot::Explanation,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

type Reply = Response<Either<Full<Bytes>, ListBody>>;

/// An admin port that answers.
struct Admin {
    state: AdminState,
    access: Access,
    memory: AnswerMemory,
    turns: Turns,
}

impl Part for Mutex<Vec<String>> {
    fn remarks(&self) -> Vec<String> {
        self.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl AdminState {
    /// Answers at `port` until `stop`, then closes all connections.
    pub(crate) async fn serve(self, port: AdminPort, stop: CancellationToken) -> io::Result<()> {
        let admin = Arc::new(Admin::new(self, Access::new(port.hosts)));
        match port.listener {
            AdminListener::Unix(socket) => socket.serve(admin, stop).await,
            AdminListener::Tcp(listener) => {
                let serve = move |stream: CountedInput<TcpStream>, connection: Connection| {
                    let client = Client::from_address(connection.peer().ip());
                    serve_stream(admin.clone(), stream, client, connection)
                };
                let connections = Connections::new("admin", LIMITS, Counter::default());
                net::serve(listener, connections, serve, stop).await
            }
        }
    }
}

impl Admin {
    fn new(state: AdminState, access: Access) -> Self {
        Self {
            state,
            access,
            memory: AnswerMemory::default(),
            // One processor is left for probes.
            turns: Turns::new(1),
        }
    }

    fn answer<B>(&self, request: &Request<B>, client: Client) -> Reply {
        self.try_answer(request, client)
            .unwrap_or_else(|refused| refused.into_response().map(Either::Left))
    }

    /// Answers a request. The error is an answer too: why it is refused.
    fn try_answer<B>(&self, request: &Request<B>, client: Client) -> Result<Reply, PlainText> {
        let query = request.uri().query().unwrap_or_default();
        let path = request.uri().path();
        let (is_allowed, allowed) = match path {
            "/guard/confirm" => (request.method() == Method::POST, "POST"),
            _ => (
                matches!(*request.method(), Method::GET | Method::HEAD),
                "GET, HEAD",
            ),
        };
        if !is_allowed {
            let sentence = format!("this path allows {allowed} only");
            return Err(PlainText::new(StatusCode::METHOD_NOT_ALLOWED, sentence).allow(allowed));
        }
        self.access.check(request, client)?;
        // Configs and templates may contain secrets, and the port may be open to probes and
        // Prometheus, so changes too are accepted only from the machine or pod itself.
        let is_local_only =
            matches!(path, "/catalog" | "/guard/confirm") || path.starts_with("/explain/");
        if is_local_only && !client.is_local() {
            return Err(not_local());
        }
        match path {
            "/healthz" => Ok(text(StatusCode::OK, "ok\n")),
            "/readyz" => Ok(self.readyz(
                boot::query::pairs(query).any(|(key, _)| key == "verbose") || query == "verbose",
            )),
            "/metrics" => Ok(self.metrics()),
            "/explain" => self.explain(query),
            "/catalog" => self.catalog(query),
            "/explain/script" => self.render(query, None),
            path if path.starts_with("/explain/config/") => {
                self.render(query, path.strip_prefix("/explain/config/"))
            }
            "/guard/confirm" => {
                access::check_post(request)?;
                Ok(self.confirm(query))
            }
            _ => Ok(text(
                StatusCode::NOT_FOUND,
                "unknown path; this port serves /healthz, /readyz, /readyz?verbose, /metrics, /explain?uuid=...&mac=..., /explain/script?uuid=..., \
                 /explain/config/NAME?uuid=..., /catalog and, by POST, /guard/confirm\n",
            )),
        }
    }

    fn is_ready(&self) -> bool {
        self.state.boot.as_ref().is_none_or(|boot| boot.is_synced())
            && self.state.parts.iter().all(|part| part.is_ready())
    }

    fn readyz(&self, verbose: bool) -> Reply {
        let (status, word) = match (self.state.not_ready.is_cancelled(), self.is_ready()) {
            (true, _) => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
            (false, false) => (StatusCode::SERVICE_UNAVAILABLE, "not loaded yet"),
            (false, true) => (StatusCode::OK, "ok"),
        };
        let mut body = format!("{word}\n");
        if verbose {
            if let Some(boot) = &self.state.boot {
                let catalog = boot.catalog().load();
                body += &format!(
                    "{} Assignments, {} Profiles\n",
                    catalog.assignment_count(),
                    catalog.profile_count()
                );
            }
            for remark in self.state.parts.iter().flat_map(|part| part.remarks()) {
                body += &format!("{remark}\n");
            }
        }
        text(status, body)
    }

    fn metrics(&self) -> Reply {
        self.state.parts.iter().for_each(|part| part.refresh());
        let mut body = String::new();
        match encode(&mut body, &self.state.registry) {
            Ok(()) => reply_of(
                StatusCode::OK,
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
                body,
            ),
            Err(_) => text(
                StatusCode::INTERNAL_SERVER_ERROR,
                "can't encode the metrics\n",
            ),
        }
    }

    fn confirm(&self, query: &str) -> Reply {
        let partition = boot::query::pairs(query)
            .find_map(|(key, value)| (key == "partition").then(|| value.into_owned()));
        match self
            .state
            .parts
            .iter()
            .filter_map(|part| part.confirm(partition.as_deref()))
            .reduce(|a, b| a + b)
        {
            Some(0) => text(StatusCode::OK, "the guard keeps no objects\n"),
            Some(count) => text(StatusCode::OK, format!("removed {count} objects\n")),
            None => text(
                StatusCode::NOT_FOUND,
                "this role has no mass-deletion guard\n",
            ),
        }
    }

    fn explain(&self, query: &str) -> Result<Reply, PlainText> {
        let boot = self.boot()?;
        let catalog = boot.catalog().load();
        let subject = catalog
            .subject(query, boot.extrinsic())
            .map_err(bad_query)?;
        let explanation = catalog.explain(&subject);
        let parts = self.state.parts.iter();
        let warnings = parts.flat_map(|part| part.warnings()).collect();
        let reply = ExplainReply {
            explanation,
            warnings,
        };
        let json = serde_json::to_string_pretty(&reply).map_err(|error| {
            PlainText::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
        })?;
        let body = self.memory.hold(json + "\n")?;
        Ok(reply_of(StatusCode::OK, "application/json", body))
    }

    /// Renders the script or a config for a machine.
    fn render(&self, query: &str, config: Option<&str>) -> Result<Reply, PlainText> {
        let boot = self.boot()?;
        let catalog = boot.catalog().load();
        let subject = catalog
            .subject(query, boot.extrinsic())
            .map_err(bad_query)?;
        let subject = Arc::new(subject);
        let not_found = |sentence: String| PlainText::new(StatusCode::NOT_FOUND, sentence);
        let selection = catalog.select(&subject);
        let selection = selection.map_err(|error| not_found(error.to_string()))?;
        // Machines use another port, so this request's Host does not tell their base URL.
        let base_url = boot
            .public_url()
            .map_or(review::sample::BASE_URL, BaseUrl::as_str);
        let profile = &selection.profile;
        let rendered = match config {
            None => selection.script(&subject, base_url),
            Some(name) => {
                let Some(name) = profile.templates.config_named(name) else {
                    let sentence = format!("Profile {} has no config {name:?}", profile.key);
                    return Err(not_found(sentence));
                };
                let assignment = Some(&selection.assignment);
                boot::render::config(profile, name, &subject, assignment, base_url)
            }
        };
        let body = rendered
            .map_err(|error| PlainText::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()))?;
        Ok(reply_of(StatusCode::OK, net::TEXT, self.memory.hold(body)?))
    }

    /// Lists all objects of the catalog.
    fn catalog(&self, query: &str) -> Result<Reply, PlainText> {
        let boot = self.boot()?;
        let Some(catalog) = boot.synced() else {
            let status = StatusCode::SERVICE_UNAVAILABLE;
            return Err(PlainText::new(status, "not loaded yet"));
        };
        let permit: ListPermit = self.memory.list()?;
        let partition = boot::query::pairs(query)
            .find_map(|(key, value)| (key == "partition").then(|| value.into_owned()));
        let body = ListBody::new(Listing::of(&catalog, partition.as_deref()), permit);
        let head = net::response(StatusCode::OK, "application/json", Bytes::new());
        Ok(head.map(|_| Either::Right(body)))
    }

    fn boot(&self) -> Result<&BootService, PlainText> {
        let boot = self.state.boot.as_deref();
        boot.ok_or_else(|| PlainText::new(StatusCode::NOT_FOUND, "this role answers no machines"))
    }
}

/// Serves one connection to its end.
async fn serve_stream<S>(admin: Arc<Admin>, stream: S, client: Client, connection: Connection)
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    let source = Source::from(connection.peer().ip());
    let service = service_fn(|request| {
        connection.reached(Stage::HeadRead);
        let (admin, busy) = (admin.clone(), connection.busy());
        async move {
            let reply = answer_request(admin, request, client, source).await;
            drop(busy);
            reply
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_TIMEOUT)
        .max_buf_size(HEAD_BUFFER_BYTES)
        .serve_connection(
            TokioIo::new(WriteTimeout::new(stream, connection.clone(), WRITE_TIMEOUT)),
            service,
        )
        .await;
    if let Err(error) = served {
        debug!(%error, "admin connection ended");
    }
}

/// Answers a request. What takes a while is answered on a blocking thread, and networks take turns
/// at it, so that probes are answered meanwhile.
async fn answer_request(
    admin: Arc<Admin>,
    request: Request<Incoming>,
    client: Client,
    source: Source,
) -> Result<Reply, Infallible> {
    let path = request.uri().path();
    if path != "/catalog" && !path.starts_with("/explain") {
        return Ok(admin.answer(&request, client));
    }
    let turn = admin.turns.take(source).await;
    let answer = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        admin.answer(&request, client)
    });
    Ok(answer.await.unwrap_or_else(|_| {
        text(
            StatusCode::INTERNAL_SERVER_ERROR,
            "can't answer this request\n",
        )
    }))
}

fn not_local() -> PlainText {
    PlainText::new(
        StatusCode::FORBIDDEN,
        "this path answers only clients on the same machine; use `kubectl port-forward` or `kubectl exec`",
    )
}

fn bad_query(error: impl std::fmt::Display) -> PlainText {
    PlainText::new(StatusCode::BAD_REQUEST, error.to_string())
}

fn text(status: StatusCode, body: impl Into<String>) -> Reply {
    reply_of(status, net::TEXT, body.into())
}

fn reply_of(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Reply {
    net::response(status, content_type, body).map(Either::Left)
}

/// Reports certificate files that can't be used.
impl<T: Send + Sync + 'static> Part for tls::Reloader<T> {
    fn remarks(&self) -> Vec<String> {
        let remark = |problem| {
            format!(
                "can't use the certificate files for {}; the last good ones, if any, stay in use: {problem}",
                self.name()
            )
        };
        self.last_error().map(remark).into_iter().collect()
    }
}

#[cfg(test)]
mod tests;
