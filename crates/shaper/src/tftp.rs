//! `shaper tftp`: serves the first iPXE and the bootstrap script to firmware that speaks only TFTP.
//! `shaper standalone` uses the same parts.

mod root;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, anyhow};
use api::{BaseUrl, bootstrap};
use files::Activity;
use manifests::Waker;
use tftp::{Config, Library, Limits, Metrics, Server};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::admin::{AdminArgs, Remarks};
use crate::metrics;
use crate::role::{self, Role};
use crate::stall::StallWatch;

use root::TftpRoot;

/// Serve the first iPXE and the bootstrap script over TFTP
///
/// Serves the files below the root and picks up changes live. Generates autoexec.ipxe, at any
/// depth, and boot.ipxe, which lead iPXE to shaper's HTTP server, unless files with these names
/// exist.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    tftp: TftpArgs,
    /// Port of the HTTP server that the bootstrap script leads to, at the address at which the
    /// machine reached the TFTP server
    #[arg(
        long,
        env = "SHAPER_HTTP_PORT",
        default_value_t = 8080,
        value_name = "PORT"
    )]
    http_port: u16,
    /// URL of the HTTP server that the bootstrap script leads to, if its address differs from the
    /// TFTP server's
    #[arg(long, env = "SHAPER_PUBLIC_URL", value_name = "URL")]
    public_url: Option<BaseUrl>,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Flags for serving TFTP.
#[expect(clippy::struct_field_names, reason = "the flags are named so")]
#[derive(clap::Args)]
pub struct TftpArgs {
    /// Serve the files below this directory over TFTP
    #[arg(long, env = "SHAPER_TFTP_ROOT", value_name = "DIR")]
    tftp_root: Option<PathBuf>,
    /// Address for TFTP requests
    #[arg(
        long,
        env = "SHAPER_TFTP_LISTEN",
        default_value = "[::]:69",
        value_name = "ADDRESS:PORT",
        value_parser = crate::address::parse_listen
    )]
    tftp_listen: SocketAddr,
    /// Answer TFTP from these ports. Default: the port of --tftp-listen, as NAT and Kubernetes need
    #[arg(long, env = "SHAPER_TFTP_PORTS", value_name = "FIRST-LAST", value_parser = parse_ports)]
    tftp_ports: Option<RangeInclusive<u16>>,
    /// Largest IP packet that reaches all machines unfragmented; limits the TFTP block size
    #[arg(long, env = "SHAPER_TFTP_MTU", default_value_t = Limits::default().mtu, value_name = "BYTES", value_parser = clap::value_parser!(u16).range(576..))]
    tftp_mtu: u16,
    /// Maximum number of concurrent TFTP transfers
    #[arg(long, env = "SHAPER_TFTP_TRANSFERS", default_value_t = Limits::default().transfers, value_name = "COUNT", value_parser = parse_count)]
    tftp_transfers: usize,
    /// Maximum number of concurrent TFTP transfers to one address; machines behind a NAT share one
    #[arg(long, env = "SHAPER_TFTP_TRANSFERS_PER_PEER", default_value_t = Limits::default().transfers_per_peer, value_name = "COUNT", value_parser = parse_count)]
    tftp_transfers_per_peer: usize,
    /// Maximum bytes per second to all clients of one /24 (IPv6: /56) that have not proved their
    /// address yet
    #[arg(long, env = "SHAPER_TFTP_UNPROVEN_BYTES", default_value_t = Limits::default().unproven_bytes, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1024..))]
    tftp_unproven_bytes: u32,
}

/// A bound TFTP server.
pub(crate) struct Tftp {
    server: Server,
    listen: SocketAddr,
    stalls: Arc<StallWatch>,
    /// Makes the root be read again.
    waker: Option<Waker>,
}

/// A running TFTP server.
pub(crate) struct Serving {
    thread: JoinHandle<std::io::Result<()>>,
}

/// The HTTP server that the bootstrap script leads to.
#[derive(Clone, Debug)]
pub(crate) struct HttpServer {
    pub(crate) public_url: Option<BaseUrl>,
    /// The address it listens on. If unspecified, the address at which the machine reached the TFTP
    /// server is used.
    pub(crate) listen: SocketAddr,
}

fn parse_ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let parse = || {
        let (first, last) = text.split_once('-')?;
        let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        (0 < first && first <= last && last - first < 1_024).then_some(first..=last)
    };
    parse().ok_or_else(|| {
        format!("{text:?} is not a range of at most 1024 ports; write it as 50000-50063")
    })
}

fn parse_count(text: &str) -> Result<usize, String> {
    let count = text
        .parse()
        .ok()
        .filter(|count| (1..=65_536).contains(count));
    count.ok_or_else(|| format!("{text:?} is not a number from 1 to 65536"))
}

/// Runs until SIGTERM or SIGINT.
pub fn run(args: Args) -> anyhow::Result<()> {
    role::run_on_one_thread(serve(args))
}

async fn serve(args: Args) -> anyhow::Result<()> {
    let mut role = Role::start(Duration::ZERO)?;
    let stop = role.stop().clone();
    let metrics = metrics::Tftp::register(&mut role.registry);
    let remarks = Remarks::default();
    let http = HttpServer {
        public_url: args.public_url,
        listen: (Ipv4Addr::UNSPECIFIED, args.http_port).into(),
    };
    let tftp = args.tftp.bind(http, metrics.tftp, remarks.clone())?;
    let admin = args.admin.bind()?;
    info!(tftp_listen = %tftp.listen, admin_listen = %admin.address(), "listening");
    role.add_part(remarks);
    tftp.add_to(&mut role);
    let serving = tftp.spawn(&stop)?;
    role.run(admin, None, serving.ended()).await
}

// === impl TftpArgs ===

impl TftpArgs {
    /// Whether TFTP is enabled.
    pub(crate) fn is_enabled(&self) -> bool {
        self.tftp_root.is_some()
    }

    /// Reads the files and binds the socket.
    pub(crate) fn bind(
        self,
        http: HttpServer,
        metrics: Metrics,
        remarks: Remarks,
    ) -> anyhow::Result<Tftp> {
        let activity = Activity::default();
        // Watches the first read, too: it happens before the server listens.
        let stalls = StallWatch::spawn("--tftp-root", activity.clone(), metrics.read_stalled())?;
        let root = self.tftp_root.as_deref();
        let root = TftpRoot::open(root, activity, metrics.clone(), remarks)?;
        let library = Library {
            table: root.table(),
            bootstrap: Arc::new(move |local| bootstrap(&http.base_url(local))),
        };
        let limits = Limits {
            transfers: self.tftp_transfers,
            transfers_per_peer: self.tftp_transfers_per_peer,
            mtu: self.tftp_mtu,
            unproven_bytes: self.tftp_unproven_bytes,
            ..Limits::default()
        };
        let config = Config {
            listen: self.tftp_listen,
            ports: self.tftp_ports,
            limits,
        };
        let server = Server::bind(&config, library, metrics).context("--tftp-listen")?;
        let waker = root.follow()?;
        Ok(Tftp {
            listen: server.local_addr()?,
            server,
            stalls,
            waker,
        })
    }
}

// === impl Tftp ===

impl Tftp {
    /// The address it listens on.
    pub(crate) fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// Makes a role report reads that stall, and read the root again at a SIGHUP.
    pub(crate) fn add_to(&self, role: &mut Role) {
        role.add_part(self.stalls.clone());
        if let Some(waker) = self.waker.clone() {
            role.reload_with(move || waker.wake());
        }
    }

    /// Serves on its own thread until `stop`, and cancels `stop` if the thread ends earlier.
    pub(crate) fn spawn(self, stop: &CancellationToken) -> anyhow::Result<Serving> {
        let stopping = Arc::new(AtomicBool::new(false));
        let (is_stopping, ended) = (stopping.clone(), stop.clone().drop_guard());
        let serve = move || {
            let _ended = ended;
            self.server.run(&is_stopping)
        };
        let thread = std::thread::Builder::new()
            .name("tftp".to_owned())
            .spawn(serve)
            .context("can't start the TFTP server's thread")?;
        let stop = stop.clone();
        tokio::spawn(async move {
            stop.cancelled().await;
            stopping.store(true, Ordering::Relaxed);
        });
        Ok(Serving { thread })
    }
}

// === impl Serving ===

impl Serving {
    /// Waits until the server has ended: after `stop`, once all transfers are over.
    pub(crate) async fn ended(self) -> anyhow::Result<()> {
        let joined = tokio::task::spawn_blocking(|| self.thread.join())
            .await
            .context("can't wait for the TFTP server")?;
        joined
            .map_err(|_| anyhow!("the TFTP server failed; the log says why"))?
            .context("can't start the TFTP server's threads")
    }
}

// === impl HttpServer ===

impl HttpServer {
    /// The base URL for a machine that reached the TFTP server at `local`.
    fn base_url(&self, local: IpAddr) -> BaseUrl {
        if let Some(public_url) = &self.public_url {
            return public_url.clone();
        }
        let ip = if self.listen.ip().is_unspecified() {
            local
        } else {
            self.listen.ip()
        };
        BaseUrl::from_address("http", SocketAddr::new(ip, self.listen.port()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base_url(public_url: Option<&str>, listen: &str) -> String {
        let http = HttpServer {
            public_url: public_url.map(|url| url.parse().unwrap()),
            listen: listen.parse().unwrap(),
        };
        http.base_url("192.0.2.1".parse().unwrap()).to_string()
    }

    #[test]
    fn the_bootstrap_leads_to_the_address_that_the_machine_reached_by_default() {
        assert_eq!(base_url(None, "[::]:8080"), "http://192.0.2.1:8080");
        assert_eq!(base_url(None, "0.0.0.0:80"), "http://192.0.2.1:80");
        assert_eq!(base_url(None, "192.0.2.9:8080"), "http://192.0.2.9:8080");
        assert_eq!(
            base_url(Some("https://boot.lab/"), "[::]:8080"),
            "https://boot.lab"
        );
    }

    #[test]
    fn a_port_range_needs_a_first_and_a_last_port() {
        assert_eq!(parse_ports("50000-50063"), Ok(50_000..=50_063));
        assert_eq!(parse_ports("7000-7000"), Ok(7_000..=7_000));
        for text in ["", "50000", "0-5", "6-5", "1-70000", "1-2000", "a-b", "-"] {
            assert!(parse_ports(text).is_err(), "{text:?}");
        }
    }
}
