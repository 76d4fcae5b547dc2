//! The admin port, for operators and probes: `/healthz`, `/readyz`, `/metrics`, `/explain`,
//! `/catalog`, `/guard/confirm`.

pub mod paths;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::{BaseUrl, BootService};
use boot::Subject;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use net::{Connection, Connections, Limits, Listener, PlainText, Stage, WhenFull};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::address::cannot_listen;

/// When full, a new connection closes one that is idle: liveness probes must get in even if a
/// client holds all connections open.
const LIMITS: Limits = Limits {
    connections: 128,
    when_full: WhenFull::Refuse,
    proof: Stage::HeadRead,
    grace: Duration::from_secs(1),
    answer_bytes: usize::MAX,
    drain: Duration::ZERO,
};

/// How long a client may take to send the head of a request.
const IDLE_TIMEOUT: Duration = Duration::from_mins(1);

const NO_CATALOG: &str = "this role answers no machines\n";

/// Lines for `/readyz?verbose`, updated by the part that loads something.
pub type Remarks = Arc<Mutex<Vec<String>>>;

/// The state that the admin port reports.
pub struct Admin {
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

type Reply = Response<Full<Bytes>>;

impl Part for Mutex<Vec<String>> {
    fn remarks(&self) -> Vec<String> {
        self.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Admin {
    /// Answers until `stop`, then closes all connections.
    pub async fn run(self, listener: Listener, stop: CancellationToken) -> io::Result<()> {
        let connections = Connections::new("admin", LIMITS);
        let admin = Arc::new(self);
        let serve = move |stream, connection| serve_connection(admin.clone(), stream, connection);
        net::serve(listener, connections, serve, stop).await
    }

    fn answer<B>(&self, request: &Request<B>, is_local: bool) -> Reply {
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
            return PlainText::new(
                StatusCode::METHOD_NOT_ALLOWED,
                format!("this path allows {allowed} only"),
            )
            .allow(allowed)
            .into_response();
        }
        match path {
            "/healthz" => text(StatusCode::OK, "ok\n"),
            "/readyz" => self.readyz(
                boot::query::pairs(query).any(|(key, _)| key == "verbose") || query == "verbose",
            ),
            "/metrics" => self.metrics(),
            "/explain" => self.explain(query),
            // Configs and templates may contain secrets.
            "/catalog" if !is_local => forbidden(),
            path if path.starts_with("/explain/") && !is_local => forbidden(),
            "/catalog" => self.catalog(query),
            "/explain/script" => self.render(query, None),
            path if path.starts_with("/explain/config/") => {
                self.render(query, path.strip_prefix("/explain/config/"))
            }
            // The port may be open to probes and Prometheus, so changes are accepted only from the
            // machine or pod itself.
            "/guard/confirm" if !is_local => forbidden(),
            "/guard/confirm" => self.confirm(query),
            _ => text(
                StatusCode::NOT_FOUND,
                "unknown path; this port serves /healthz, /readyz, /readyz?verbose, /metrics, /explain?uuid=...&mac=..., /explain/script?uuid=..., \
                 /explain/config/NAME?uuid=..., /catalog and, by POST, /guard/confirm\n",
            ),
        }
    }

    fn is_ready(&self) -> bool {
        self.boot.as_ref().is_none_or(|boot| boot.is_synced())
            && self.parts.iter().all(|part| part.is_ready())
    }

    fn readyz(&self, verbose: bool) -> Reply {
        let (status, word) = match (self.not_ready.is_cancelled(), self.is_ready()) {
            (true, _) => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
            (false, false) => (StatusCode::SERVICE_UNAVAILABLE, "not loaded yet"),
            (false, true) => (StatusCode::OK, "ok"),
        };
        let mut body = format!("{word}\n");
        if verbose {
            if let Some(boot) = &self.boot {
                let catalog = boot.catalog().load();
                body += &format!(
                    "{} Assignments, {} Profiles\n",
                    catalog.assignment_count(),
                    catalog.profile_count()
                );
            }
            for remark in self.parts.iter().flat_map(|part| part.remarks()) {
                body += &format!("{remark}\n");
            }
        }
        text(status, body)
    }

    fn metrics(&self) -> Reply {
        self.parts.iter().for_each(|part| part.refresh());
        let mut body = String::new();
        match encode(&mut body, &self.registry) {
            Ok(()) => net::response(
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

    fn explain(&self, query: &str) -> Reply {
        let Some(boot) = &self.boot else {
            return text(StatusCode::NOT_FOUND, NO_CATALOG);
        };
        let subject = match Subject::from_query(query, boot.extrinsic()) {
            Ok(subject) => subject,
            Err(error) => return text(StatusCode::BAD_REQUEST, format!("{error}\n")),
        };
        let explanation = boot.catalog().load().explain(&subject);
        let warnings = self.parts.iter().flat_map(|part| part.warnings()).collect();
        match serde_json::to_string_pretty(&ExplainReply {
            explanation,
            warnings,
        }) {
            Ok(json) => net::response(StatusCode::OK, "application/json", json + "\n"),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        }
    }
}

impl Admin {
    /// Renders the script or a config for a machine.
    fn render(&self, query: &str, config: Option<&str>) -> Reply {
        let Some(boot) = &self.boot else {
            return text(StatusCode::NOT_FOUND, NO_CATALOG);
        };
        let subject = match Subject::from_query(query, boot.extrinsic()) {
            Ok(subject) => Arc::new(subject),
            Err(error) => return text(StatusCode::BAD_REQUEST, format!("{error}\n")),
        };
        let selection = match boot.catalog().load().select(&subject) {
            Ok(selection) => selection,
            Err(error) => return text(StatusCode::NOT_FOUND, format!("{error}\n")),
        };
        // Machines use another port, so this request's Host does not tell their base URL.
        let base_url = boot
            .public_url()
            .map_or(review::sample::BASE_URL, BaseUrl::as_str);
        let rendered = match config {
            None => selection.script(&subject, base_url),
            Some(name) => {
                let Some(name) = selection.profile.templates.config_named(name) else {
                    return text(
                        StatusCode::NOT_FOUND,
                        format!("Profile {} has no config {name:?}\n", selection.profile.key),
                    );
                };
                boot::render::config(
                    &selection.profile,
                    name,
                    &subject,
                    Some(&selection.assignment),
                    base_url,
                )
            }
        };
        match rendered {
            Ok(body) => text(StatusCode::OK, body),
            Err(error) => text(StatusCode::UNPROCESSABLE_ENTITY, format!("{error}\n")),
        }
    }

    /// Lists all objects of the catalog.
    fn catalog(&self, query: &str) -> Reply {
        let Some(boot) = &self.boot else {
            return text(StatusCode::NOT_FOUND, NO_CATALOG);
        };
        let Some(catalog) = boot.synced() else {
            return text(StatusCode::SERVICE_UNAVAILABLE, "not loaded yet\n");
        };
        let partition = boot::query::pairs(query)
            .find_map(|(key, value)| (key == "partition").then(|| value.into_owned()));
        net::response(
            StatusCode::OK,
            "application/json",
            manifests::listing::of(&catalog, partition.as_deref()).to_string() + "\n",
        )
    }
}

async fn serve_connection(admin: Arc<Admin>, stream: TcpStream, connection: Connection) {
    let is_local = connection.peer().ip().is_loopback();
    let service = service_fn(|request| {
        connection.reached(Stage::HeadRead);
        let (admin, busy) = (admin.clone(), connection.busy());
        async move {
            let reply = answer_request(admin, request, is_local).await;
            drop(busy);
            reply
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        debug!(%error, "admin connection ended");
    }
}

/// Answers a request. Listing all objects takes a while, so `/catalog` runs on a blocking thread.
async fn answer_request(
    admin: Arc<Admin>,
    request: Request<Incoming>,
    is_local: bool,
) -> Result<Reply, Infallible> {
    if request.uri().path() != "/catalog" {
        return Ok(admin.answer(&request, is_local));
    }
    let answer = tokio::task::spawn_blocking(move || admin.answer(&request, is_local)).await;
    Ok(
        answer
            .unwrap_or_else(|_| text(StatusCode::INTERNAL_SERVER_ERROR, "can't write the list\n")),
    )
}

fn forbidden() -> Reply {
    text(
        StatusCode::FORBIDDEN,
        "this path answers only clients on the same machine; use `kubectl port-forward` or `kubectl exec`\n",
    )
}

/// Listens on the address of `--admin-listen`.
pub fn bind(address: SocketAddr) -> anyhow::Result<Listener> {
    Listener::bind(address).map_err(|error| cannot_listen("--admin-listen", address, error))
}

fn text(status: StatusCode, body: impl Into<String>) -> Reply {
    net::response(status, net::TEXT, body.into())
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
