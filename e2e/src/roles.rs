//! The roles of a shaper in Kubernetes, each as its own process.

use crate::certificates::{Authority, Directory, Leaf};
use crate::cluster::{Cluster, NAMESPACE};
use crate::http::{self, Response};
use crate::process::Process;
use crate::server::{Log, START, binary, field, says_listening};
use anyhow::{Context, Result, bail, ensure};
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// A running role. It is stopped on drop.
#[derive(Debug)]
pub struct Role {
    process: Process,
    name: &'static str,
    log: Log,
    listening: String,
}

/// A builder of a role.
#[derive(Debug, Clone)]
pub struct RoleBuilder {
    name: &'static str,
    args: Vec<OsString>,
}

/// The certificates of the feed: one authority and a directory for each end.
#[derive(Debug)]
pub struct FeedCertificates {
    /// The authority that signs them.
    pub authority: Authority,
    /// The controllers' certificate, for `localhost` and `shaper-controller`.
    pub controller: Directory,
    /// The API replicas' certificate.
    pub api: Directory,
    /// The webhooks' certificate.
    pub webhook: Directory,
}

/// The webhook's serving certificate and its authority.
#[derive(Debug)]
pub struct WebhookCertificates {
    /// The authority that signs it.
    pub authority: Authority,
    /// The directory with the certificate for the loopback address.
    pub directory: Directory,
}

// === impl FeedCertificates ===

impl FeedCertificates {
    /// Creates new certificates.
    pub fn new() -> Result<Self> {
        let authority = Authority::new("shaper feed")?;
        let controller = Directory::of(
            &authority.issue(&Leaf::peer("shaper-controller").dns("localhost"))?,
            &authority,
        )?;
        let api = Directory::of(&authority.issue(&Leaf::peer("shaper-api"))?, &authority)?;
        let webhook = Directory::of(&authority.issue(&Leaf::peer("shaper-webhook"))?, &authority)?;
        Ok(Self {
            authority,
            controller,
            api,
            webhook,
        })
    }
}

// === impl WebhookCertificates ===

impl WebhookCertificates {
    /// Creates new certificates.
    pub fn new() -> Result<Self> {
        let authority = Authority::new("shaper webhook")?;
        let directory = Directory::of(&authority.issue(&Self::leaf())?, &authority)?;
        Ok(Self {
            authority,
            directory,
        })
    }

    /// The serving certificate to issue.
    pub fn leaf() -> Leaf {
        Leaf::server("localhost").address(std::net::Ipv4Addr::LOCALHOST)
    }
}

// === impl RoleBuilder ===

impl RoleBuilder {
    /// Adds arguments.
    pub fn args<S: Into<OsString>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Starts the role and waits until it listens.
    pub fn start(&self) -> Result<Role> {
        let mut process = Process::start(self.name, binary()?.as_os_str(), None, |command| {
            // The developer's environment must not decide a test.
            for (key, _) in
                std::env::vars_os().filter(|(key, _)| key.to_string_lossy().starts_with("SHAPER_"))
            {
                command.env_remove(key);
            }
            command.env_remove("KUBECONFIG").arg(self.name).args([
                "--admin-listen",
                "127.0.0.1:0",
                "--log-format",
                "json",
            ]);
            command
                .args(&self.args)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::piped());
        })?;
        let stderr = process
            .child()
            .stderr
            .take()
            .context("shaper has no standard error")?;
        let log = Log::default();
        log.read(stderr);
        let listening = log.wait_for(START, says_listening).with_context(|| {
            format!(
                "shaper {} did not say that it listens; its log:\n{}",
                self.name,
                log.text()
            )
        })?;
        Ok(Role {
            process,
            name: self.name,
            log,
            listening,
        })
    }

    /// Starts the role and waits until `/readyz` succeeds.
    pub fn start_ready(&self) -> Result<Role> {
        let role = self.start()?;
        role.wait_until_ready(START)?;
        Ok(role)
    }
}

// === impl Role ===

impl Role {
    /// Builds a `shaper controller` for a cluster, with its own user there, on free ports.
    pub fn controller(cluster: &Cluster, tls: &Path) -> Result<RoleBuilder> {
        let kubectl = cluster.controller()?;
        Ok(Self::builder("controller")
            .args([
                "--feed-listen",
                "127.0.0.1:0",
                "--lease-namespace",
                NAMESPACE,
            ])
            .args([OsString::from("--kubeconfig"), kubectl.kubeconfig().into()])
            .args([OsString::from("--feed-tls-dir"), tls.into()]))
    }

    /// Builds a `shaper api` behind these controllers, on free ports.
    pub fn api<'r>(
        controllers: impl IntoIterator<Item = &'r Role>,
        tls: &Path,
        state: &Path,
    ) -> Result<RoleBuilder> {
        let mut builder = Self::builder("api")
            .args(["--http-listen", "127.0.0.1:0"])
            .args([OsString::from("--feed-tls-dir"), tls.into()])
            .args([OsString::from("--state-dir"), state.into()]);
        for controller in controllers {
            builder = builder.args(["--feed", &controller.feed_url()?]);
        }
        Ok(builder)
    }

    /// Builds a `shaper webhook` behind these controllers, on free ports.
    pub fn webhook<'r>(
        controllers: impl IntoIterator<Item = &'r Role>,
        feed_tls: &Path,
        tls: &Path,
    ) -> Result<RoleBuilder> {
        let mut builder = Self::builder("webhook")
            .args(["--webhook-listen", "127.0.0.1:0"])
            .args([OsString::from("--webhook-tls-dir"), tls.into()])
            .args([OsString::from("--feed-tls-dir"), feed_tls.into()]);
        for controller in controllers {
            builder = builder.args(["--feed", &controller.feed_url()?]);
        }
        Ok(builder)
    }

    /// The configurations that register this webhook, as `shaper webhook-configuration` prints
    /// them.
    pub fn webhook_configuration(&self, authority: &Authority) -> Result<String> {
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), authority.pem())?;
        let url = format!("https://{}", self.address("webhook_listen")?);
        let mut command = std::process::Command::new(binary()?);
        let out = command
            .args(["webhook-configuration", "--url", &url, "--ca-file"])
            .arg(file.path())
            .output()?;
        ensure!(
            out.status.success(),
            "shaper webhook-configuration: {}",
            String::from_utf8_lossy(&out.stderr)
        );
        Ok(String::from_utf8(out.stdout)?)
    }

    /// Builds any role.
    pub fn builder(name: &'static str) -> RoleBuilder {
        RoleBuilder {
            name,
            args: Vec::new(),
        }
    }

    /// An address that the role listens on, by the name of the field in its log.
    pub fn address(&self, key: &str) -> Result<SocketAddr> {
        let address = field(&self.listening, key).and_then(|text| text.parse().ok());
        address.with_context(|| format!("no {key} in {}", self.listening))
    }

    /// The URL of the feed that a controller serves.
    pub fn feed_url(&self) -> Result<String> {
        Ok(format!(
            "https://localhost:{}",
            self.address("feed_listen")?.port()
        ))
    }

    /// A URL of the port for machines.
    pub fn url(&self, target: &str) -> Result<String> {
        Ok(format!("http://{}{target}", self.address("http_listen")?))
    }

    /// Fetches a path of the admin port.
    pub fn admin(&self, target: &str) -> Result<Response> {
        http::get(&format!("http://{}{target}", self.address("admin_listen")?))
    }

    /// Fetches a path of the port for machines.
    pub fn get(&self, target: &str) -> Result<Response> {
        http::get(&self.url(target)?)
    }

    /// The value of a metric; `name` includes the labels as `/metrics` writes them.
    pub fn metric(&self, name: &str) -> Result<f64> {
        http::metric(
            &format!("http://{}/metrics", self.address("admin_listen")?),
            name,
        )
    }

    /// Waits until `/readyz` answers 200.
    pub fn wait_until_ready(&self, timeout: Duration) -> Result<()> {
        let deadline = Instant::now() + timeout;
        loop {
            match self.admin("/readyz") {
                Ok(response) if response.status == 200 => return Ok(()),
                _ if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(20)),
                Ok(response) => {
                    bail!(
                        "/readyz of {} still answers {}: {}; its log:\n{}",
                        self.name,
                        response.status,
                        response.body.trim(),
                        self.log.text()
                    )
                }
                Err(error) => {
                    return Err(error.context(format!(
                        "/readyz of {}; the log:\n{}",
                        self.name,
                        self.log.text()
                    )));
                }
            }
        }
    }

    /// The log so far.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Sends a signal, named as for `kill`.
    pub fn signal(&self, name: &str) -> Result<()> {
        self.process.signal(name)
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Stops the role with SIGTERM, as a service manager does.
    pub fn stop(mut self) -> Result<()> {
        let status = self.process.terminate(Duration::from_secs(40))?;
        ensure!(
            status.success(),
            "shaper {} ended with {status}; its log:\n{}",
            self.name,
            self.log.text()
        );
        Ok(())
    }
}

/// Repeats a check until it succeeds or a timeout passes.
pub fn eventually<T>(
    timeout: Duration,
    what: &str,
    mut look: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + timeout;
    loop {
        match look() {
            Ok(Some(value)) => return Ok(value),
            _ if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(25)),
            Ok(None) => bail!("after {} s still not: {what}", timeout.as_secs()),
            Err(error) => {
                return Err(
                    error.context(format!("after {} s still not: {what}", timeout.as_secs()))
                );
            }
        }
    }
}
