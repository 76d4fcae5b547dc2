//! Runs a replica as a process and queries it.

use std::cell::RefCell;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use e2e::process::Process;

use super::controller::Certificates;

/// A running `shaper api`, ended when dropped.
pub(crate) struct Replica {
    pid: u32,
    http: SocketAddr,
    admin: SocketAddr,
    _process: Process,
}

thread_local! {
    /// A connection kept between requests, as by a load balancer.
    static KEPT: RefCell<Option<(SocketAddr, BufReader<TcpStream>)>> = const { RefCell::new(None) };
}

impl Replica {
    /// Starts a replica that follows the controller on this port. Its log goes through a pipe, as
    /// under Kubernetes, and is discarded.
    pub(crate) fn start(
        program: &Path,
        port: u16,
        certificates: &Certificates,
        args: &[&str],
    ) -> anyhow::Result<Self> {
        let (http, admin) = (free_port()?, free_port()?);
        let mut process = Process::start("shaper api", program.as_os_str(), None, |command| {
            command
                .args(["api", "--feed", &format!("https://localhost:{port}")])
                .arg("--feed-tls-dir")
                .arg(certificates.of_replicas());
            command
                .args([
                    "--http-listen",
                    &http.to_string(),
                    "--admin-listen",
                    &admin.to_string(),
                ])
                .args(args);
            command.stderr(Stdio::piped());
        })?;
        let mut log = process.child().stderr.take().context("its log is piped")?;
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Ok(Self {
            pid: process.child().id(),
            http,
            admin,
            _process: process,
        })
    }

    /// Returns the address for machines.
    pub(crate) fn http(&self) -> SocketAddr {
        self.http
    }

    /// Returns the process id.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits until it has a complete catalog.
    pub(crate) fn wait_ready(&self, limit: Duration) -> anyhow::Result<()> {
        self.wait(limit, || {
            Ok(get(self.admin, "/readyz").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")))
        })
    }

    /// Waits until the response contains a text.
    pub(crate) fn wait_answer(
        &self,
        path: &str,
        expected: &str,
        limit: Duration,
    ) -> anyhow::Result<()> {
        self.wait(limit, || Ok(self.get(path)?.contains(expected)))
    }

    /// Returns head and body of a response.
    pub(crate) fn get(&self, path: &str) -> anyhow::Result<String> {
        get(self.http, path)
    }

    /// Returns the value of a metric with at most one set of labels.
    pub(crate) fn metric(&self, name: &str) -> anyhow::Result<u64> {
        let metrics = get(self.admin, "/metrics")?;
        let line = metrics
            .lines()
            .find(|line| line.starts_with(name))
            .with_context(|| format!("there is no metric {name}"))?;
        let value = line.rsplit(' ').next().unwrap_or_default();
        value
            .parse()
            .with_context(|| format!("{line:?} has no number"))
    }

    /// Resets the peak of memory (`proc(5)`, `clear_refs`).
    pub(crate) fn forget_peak(&self) -> anyhow::Result<()> {
        fs::write(format!("/proc/{}/clear_refs", self.pid), "5")
            .context("can't reset the peak of memory")
    }

    fn wait(
        &self,
        limit: Duration,
        is_so: impl Fn() -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + limit;
        while !is_so()? {
            if Instant::now() > deadline {
                bail!(
                    "the replica at {} did not get there; /readyz?verbose says: {:?}",
                    self.http,
                    get(self.admin, "/readyz?verbose")
                );
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

/// Returns one of the sizes in `/proc/PID/status`, in bytes.
pub(crate) fn memory(pid: u32, what: &str) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))
        .context("can't read the state of a process")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(what)?.strip_prefix(':'))
        .context("there is no such size")?;
    let kibibytes: u64 = line
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .context("a size is a number of kB")?;
    Ok(kibibytes * 1024)
}

fn free_port() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")
        .context("can't listen on loopback")?
        .local_addr()?)
}

fn get(address: SocketAddr, path: &str) -> anyhow::Result<String> {
    let kept = KEPT
        .with_borrow_mut(Option::take)
        .filter(|(kept, _)| *kept == address);
    let mut stream = match kept {
        Some((_, stream)) => stream,
        None => BufReader::new(TcpStream::connect(address)?),
    };
    stream
        .get_mut()
        .write_all(format!("GET {path} HTTP/1.1\r\nhost: bench\r\n\r\n").as_bytes())?;
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let start = head.len();
        ensure!(stream.read_line(&mut head)? > 0, "the server closed");
        let line = head[start..].trim_end();
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse()?;
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    KEPT.set(Some((address, stream)));
    Ok(head + &String::from_utf8_lossy(&body))
}
