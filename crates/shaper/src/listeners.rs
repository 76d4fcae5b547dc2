//! Flags and listeners of the HTTP and HTTPS servers for machines.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, bail};
use api::{BaseUrl, BootService, Limits, Metrics, Server};
use boot::{ExtrinsicLabels, SharedCatalog};
use tls::{PublicTls, Reloader};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::address::cannot_listen;
use crate::logs;

/// Maximum number of HTTPS connections. With a request, each takes about 40 KiB, far more than one
/// without TLS.
const MAX_TLS_CONNECTIONS: usize = 8 * 1024;

/// Open files reserved for everything but machines: manifests, the admin port, the feed.
const RESERVED_FILES: usize = 256;

/// Flags for serving machines.
#[derive(clap::Args)]
pub struct HttpArgs {
    /// Address at which machines fetch scripts and configs
    #[arg(
        long,
        env = "SHAPER_HTTP_LISTEN",
        default_value = "[::]:8080",
        value_name = "ADDRESS:PORT",
        value_parser = crate::address::parse_listen
    )]
    pub(crate) http_listen: SocketAddr,
    /// Address at which machines fetch the same over HTTPS, in addition to HTTP
    #[arg(
        long,
        env = "SHAPER_HTTPS_LISTEN",
        value_name = "ADDRESS:PORT",
        value_parser = crate::address::parse_listen,
        requires = "https_tls_dir"
    )]
    https_listen: Option<SocketAddr>,
    /// Directory with tls.crt, tls.key and optionally ca.crt for HTTPS, as in a mounted
    /// cert-manager Secret; reloaded when it changes. Older iPXE needs an RSA key
    #[arg(
        long,
        env = "SHAPER_HTTPS_TLS_DIR",
        value_name = "DIR",
        requires = "https_listen"
    )]
    https_tls_dir: Option<PathBuf>,
    /// Maximum number of open HTTP connections. Machines beyond it get a 503 and retry
    #[arg(long, env = "SHAPER_HTTP_CONNECTIONS", default_value_t = Limits::default().connections, value_name = "COUNT", value_parser = at_least_one)]
    http_connections: usize,
    /// Base URL of links, if machines reach shaper at another address than the Host header that
    /// they send
    #[arg(long, env = "SHAPER_PUBLIC_URL", value_name = "URL")]
    pub(crate) public_url: Option<BaseUrl>,
    /// A label that every machine gets, overriding what it sends; repeatable
    #[arg(long = "label", env = "SHAPER_LABEL", value_name = "KEY=VALUE", value_delimiter = ',', value_parser = inspect::parse_label)]
    labels: Vec<(String, String)>,
}

/// The bound servers for machines.
pub(crate) struct Listeners {
    http: Server,
    https: Option<(Server, Arc<Reloader<PublicTls>>)>,
    /// The address of the HTTP server.
    pub(crate) http_listen: SocketAddr,
    /// The address of the HTTPS server.
    pub(crate) https_listen: Option<SocketAddr>,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("write at least 1; with 0, no machine could connect".to_owned()),
        Ok(count) => Ok(count),
        Err(_) => Err("write a number".to_owned()),
    }
}

// === impl HttpArgs ===

impl HttpArgs {
    /// Creates the service that answers machines from this catalog.
    pub(crate) fn boot(&self, shared: Arc<SharedCatalog>) -> anyhow::Result<Arc<BootService>> {
        let extrinsic = ExtrinsicLabels::new(self.labels.iter().map(|(key, value)| (key, value)))
            .context("--label")?;
        Ok(Arc::new(BootService::new(
            shared,
            extrinsic,
            self.public_url.clone(),
        )))
    }

    /// Binds the HTTP server and, if enabled, the HTTPS server.
    pub(crate) fn bind(
        &self,
        boot: &Arc<BootService>,
        tls: &tls::Metrics,
        metrics: &Metrics,
    ) -> anyhow::Result<Listeners> {
        let open_files = net::raise_open_files();
        let for_machines = open_files - RESERVED_FILES.min(open_files / 4);
        // HTTPS, if enabled, gets a third of them.
        let for_https = self.https_listen.map_or(0, |_| for_machines / 3);
        let configured = Limits {
            connections: self.http_connections,
            ..Limits::default()
        };
        let limits = configured.clone().within(for_machines - for_https);
        if limits.connections < configured.connections {
            let connections = limits.connections;
            warn!(
                open_files,
                connections,
                "the limit of open files allows fewer connections than configured; raise it to 32768"
            );
        }
        let http = Server::bind(
            self.http_listen,
            boot.clone(),
            metrics.clone(),
            logs::request_log(),
            limits,
        )
        .map_err(|error| cannot_listen("--http-listen", self.http_listen, error))?;
        let https = self.https_listen.zip(self.https_tls_dir.as_deref());
        let https = https.map(|(address, directory)| {
            if !directory.is_dir() {
                bail!(
                    "--https-tls-dir is not a directory: {}; pass the directory that contains tls.crt and tls.key",
                    directory.display()
                );
            }
            let reloader = Reloader::public("https", directory, tls.clone());
            let limits = Limits {
                connections: MAX_TLS_CONNECTIONS,
                ..Limits::default()
            }
            .within(for_https);
            let server = Server::bind_tls(
                address,
                reloader.clone(),
                boot.clone(),
                metrics.clone(),
                logs::request_log(),
                limits,
            );
            Ok((
                server.map_err(|error| cannot_listen("--https-listen", address, error))?,
                reloader,
            ))
        });
        let https = https.transpose()?;
        let https_listen = https
            .as_ref()
            .map(|(server, _)| server.local_addr())
            .transpose()?;
        Ok(Listeners {
            http_listen: http.local_addr()?,
            http,
            https,
            https_listen,
        })
    }
}

// === impl Listeners ===

impl Listeners {
    /// The certificate files of HTTPS.
    pub(crate) fn tls(&self) -> Option<Arc<Reloader<PublicTls>>> {
        self.https.as_ref().map(|(_, reloader)| reloader.clone())
    }

    /// Answers until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let https = async {
            match self.https {
                Some((server, _)) => server.run(stop.clone()).await,
                None => Ok(()),
            }
        };
        let (http, https) = tokio::join!(self.http.run(stop.clone()), https);
        http.and(https).context("can't start a server thread")
    }
}
