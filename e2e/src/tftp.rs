//! A running `shaper tftp`, started as an operator would, and its clients.

mod client;
mod proxy;

use crate::http::{self, Response};
use crate::process::Process;
use crate::server::{self, Log, START, Server};
use anyhow::{Context, Result, ensure};
use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

pub use client::{Client, Fetched, Options, ask};
pub use proxy::{Faults, Proxy};

/// A builder of `shaper tftp`.
#[derive(Debug, Clone)]
pub struct Builder {
    args: Vec<OsString>,
    listen: String,
    netns: Option<String>,
}

/// A running server. It is stopped on drop.
#[derive(Debug)]
pub struct Tftp {
    process: Process,
    log: Log,
    netns: Option<String>,
    listen: SocketAddr,
    admin: SocketAddr,
}

/// A TFTP root.
#[derive(Debug)]
pub struct Root {
    folder: tempfile::TempDir,
}

/// The TFTP address of a standalone server.
pub fn address_of(server: &Server) -> Result<SocketAddr> {
    let line = server
        .log()
        .wait_for(START, server::says_listening)
        .context("shaper did not say that it listens")?;
    address(&line, "tftp_listen")
}

/// Bytes in which every block differs.
pub fn pattern(length: usize) -> Vec<u8> {
    (0..length.div_ceil(8) as u64)
        .flat_map(|number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes())
        .take(length)
        .collect()
}

fn address(line: &str, key: &str) -> Result<SocketAddr> {
    server::field(line, key)
        .and_then(|text| text.parse().ok())
        .with_context(|| format!("no {key} in {line}"))
}

// === impl Builder ===

impl Builder {
    /// Adds arguments.
    pub fn args<S: Into<OsString>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets the address; the default is a free loopback port.
    pub fn listen(mut self, address: &str) -> Self {
        address.clone_into(&mut self.listen);
        self
    }

    /// Runs the server in a network namespace.
    pub fn netns(mut self, netns: &str) -> Self {
        self.netns = Some(netns.to_owned());
        self
    }

    /// Starts the server and waits until it listens.
    pub fn start(self) -> Result<Tftp> {
        let mut process = Process::start(
            "shaper",
            server::binary()?.as_os_str(),
            self.netns.as_deref(),
            |command| {
                for (key, _) in std::env::vars_os()
                    .filter(|(key, _)| key.to_string_lossy().starts_with("SHAPER_"))
                {
                    command.env_remove(key);
                }
                command
                    .args([
                        "--log-format",
                        "json",
                        "tftp",
                        "--admin-listen",
                        "127.0.0.1:0",
                        "--tftp-listen",
                        &self.listen,
                    ])
                    .args(&self.args)
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(Stdio::piped());
            },
        )?;
        let log = Log::default();
        log.read(
            process
                .child()
                .stderr
                .take()
                .context("shaper has no standard error")?,
        );
        let line = log
            .wait_for(START, server::says_listening)
            .with_context(|| {
                format!(
                    "shaper did not say that it listens; its log:\n{}",
                    log.text()
                )
            })?;
        let (listen, admin) = (
            address(&line, "tftp_listen")?,
            address(&line, "admin_listen")?,
        );
        Ok(Tftp {
            process,
            log,
            netns: self.netns,
            listen,
            admin,
        })
    }
}

// === impl Tftp ===

impl Tftp {
    /// Builds `shaper tftp --tftp-root ROOT` on free ports.
    pub fn serving(root: &Path) -> Builder {
        let args = vec!["--tftp-root".into(), root.into()];
        Builder {
            args,
            listen: "127.0.0.1:0".to_owned(),
            netns: None,
        }
    }

    /// The address that the server listens on.
    pub fn address(&self) -> SocketAddr {
        self.listen
    }

    /// The log so far.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Waits for the log line of a transfer or a refused request.
    pub fn wait_for_line(&self, parts: &[&str]) -> Result<String> {
        self.log
            .wait_for(Duration::from_secs(10), |line| {
                parts.iter().all(|part| line.contains(part))
            })
            .with_context(|| format!("no line with {parts:?} in the log:\n{}", self.log.text()))
    }

    /// Fetches a path of the admin port.
    pub fn admin(&self, target: &str) -> Result<Response> {
        let url = format!("http://{}{target}", self.admin);
        match &self.netns {
            None => http::get(&url),
            Some(netns) => crate::network::get(netns, &url),
        }
    }

    /// The value of a metric; `name` includes its labels.
    pub fn metric(&self, name: &str) -> Result<u64> {
        let text = self.admin("/metrics")?.body;
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        value.with_context(|| format!("no metric {name} in\n{text}"))
    }

    /// Waits until a metric fulfils a condition.
    pub fn wait_for_metric(&self, name: &str, wanted: impl Fn(u64) -> bool) -> Result<u64> {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let value = self.metric(name)?;
            if wanted(value) {
                return Ok(value);
            }
            ensure!(
                Instant::now() < deadline,
                "{name} is still {value}; the log:\n{}",
                self.log.text()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The resident memory, in KiB.
    pub fn memory(&self) -> Result<u64> {
        self.process.memory()
    }

    /// Sends SIGTERM without waiting.
    pub fn ask_to_stop(&mut self) -> Result<()> {
        crate::process::output("kill", ["-TERM", &self.process.child().id().to_string()]).map(drop)
    }

    /// Waits until the server has ended.
    pub fn wait(&mut self, timeout: Duration) -> Result<ExitStatus> {
        self.process.wait(timeout)
    }
}

impl Drop for Tftp {
    fn drop(&mut self) {
        let _ = self.process.terminate(Duration::from_secs(5));
    }
}

// === impl Root ===

impl Root {
    /// Creates a folder with these files.
    pub fn of<B: AsRef<[u8]>>(files: &[(&str, B)]) -> Result<Self> {
        let root = Self {
            folder: tempfile::tempdir().context("could not make a temporary folder")?,
        };
        for (name, bytes) in files {
            root.write(name, bytes.as_ref())?;
        }
        Ok(root)
    }

    /// The folder's path.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file next to the old one, then renames it over that.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.path().join(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let unfinished = path.with_file_name(".unfinished");
        fs::write(&unfinished, bytes)
            .and_then(|()| fs::rename(&unfinished, &path))
            .with_context(|| format!("could not write {}", path.display()))
    }

    /// Copies a file into the folder.
    pub fn copy(&self, file: &Path) -> Result<()> {
        let name = file.file_name().context("the file has no name")?;
        fs::copy(file, self.path().join(name))
            .with_context(|| format!("could not copy {}", file.display()))?;
        Ok(())
    }
}
