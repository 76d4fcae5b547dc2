//! Machines that boot as iPXE does: three requests on one connection, kept open for a while; a 503
//! with Retry-After makes them wait. A kept connection that is closed before a byte of an answer
//! arrives is opened again (`ipxe:src/net/tcp/httpconn.c`).

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::{HANG, connect};

/// How often a machine may be asked to wait.
const MOST_WAITS: usize = 20;
/// The number of connections that one client process may have open.
const OPEN: usize = 15_000;

/// The result of many boots.
#[derive(Debug, Default)]
pub struct Boots {
    /// The number of machines that got script and config.
    pub booted: usize,
    /// The failures that a real iPXE would have seen.
    pub failures: Vec<String>,
    /// The number of 503 answers with Retry-After.
    pub waits: usize,
    /// The values of Retry-After, in seconds.
    pub retry_after: BTreeSet<u64>,
    /// The times from a request to its whole answer, sorted.
    pub latencies: Vec<Duration>,
}

/// The result of one boot.
#[derive(Default)]
struct Boot {
    retry_after: Vec<u64>,
    latencies: Vec<Duration>,
}

/// A connection that is kept from one request to the next.
struct Kept {
    stream: TcpStream,
    to: SocketAddr,
    machine: usize,
    has_answered: bool,
}

/// The head of an answer in lower case, and its body.
struct Answer {
    head: String,
    body: String,
}

/// The result of one request.
enum Got {
    Body(String),
    Wait(u64),
}

/// Boots this many machines, `at_once` at a time.
pub fn boot_all(runtime: &Runtime, to: SocketAddr, machines: usize, at_once: usize) -> Boots {
    boot_within(
        runtime,
        to,
        machines,
        at_once,
        Duration::ZERO,
        Duration::ZERO,
    )
}

/// Switches on this many machines within some time, whether or not others have booted. Each keeps
/// its connection for a while.
pub fn storm(
    runtime: &Runtime,
    to: SocketAddr,
    machines: usize,
    within: Duration,
    hold: Duration,
) -> Boots {
    boot_within(runtime, to, machines, machines, within, hold)
}

fn boot_within(
    runtime: &Runtime,
    to: SocketAddr,
    machines: usize,
    at_once: usize,
    within: Duration,
    hold: Duration,
) -> Boots {
    runtime.block_on(async {
        let (turns, open) = (
            Arc::new(Semaphore::new(at_once)),
            Arc::new(Semaphore::new(OPEN)),
        );
        let mut tasks = JoinSet::new();
        for machine in 0..machines {
            let (turns, open) = (Arc::clone(&turns), Arc::clone(&open));
            tasks.spawn(async move {
                sleep(within.mul_f64(machine as f64 / machines as f64)).await;
                let _turn = turns.acquire().await;
                let mut boot = Boot::default();
                let ended = boot.run(to, machine, hold, &open).await;
                (boot, ended)
            });
        }
        let mut boots = Boots::default();
        while let Some(ended) = tasks.join_next().await {
            match ended {
                Ok((boot, ended)) => boots.add(boot, ended),
                Err(panic) => boots.failures.push(panic.to_string()),
            }
        }
        boots.latencies.sort_unstable();
        boots
    })
}

// === impl Boots ===

impl Boots {
    /// Fails if a boot failed or none took place.
    pub fn check(&self) -> Result<()> {
        let few = &self.failures[..self.failures.len().min(5)];
        ensure!(
            self.failures.is_empty(),
            "{} boots failed, {} did not: {few:#?}",
            self.failures.len(),
            self.booted
        );
        ensure!(self.booted > 0, "no machine booted");
        Ok(())
    }

    /// The time within which this percentage of answers arrived.
    pub fn percentile(&self, percent: usize) -> Duration {
        self.latencies
            .get((self.latencies.len() * percent / 100).min(self.latencies.len().saturating_sub(1)))
            .copied()
            .unwrap_or_default()
    }

    fn add(&mut self, boot: Boot, ended: Result<()>) {
        self.waits += boot.retry_after.len();
        self.retry_after.extend(boot.retry_after);
        self.latencies.extend(boot.latencies);
        match ended {
            Ok(()) => self.booted += 1,
            Err(error) => self.failures.push(format!("{error:#}")),
        }
    }
}

// === impl Boot ===

impl Boot {
    async fn run(
        &mut self,
        to: SocketAddr,
        machine: usize,
        hold: Duration,
        open: &Semaphore,
    ) -> Result<()> {
        for _ in 0..MOST_WAITS {
            let wait = {
                let _open = open.acquire().await;
                let mut kept = Kept::open(to, machine).await?;
                let wait = timeout(HANG, self.chain(&mut kept))
                    .await
                    .context("no answer")??;
                if wait.is_none() {
                    sleep(hold).await;
                }
                wait
            };
            let Some(seconds) = wait else { return Ok(()) };
            self.retry_after.push(seconds);
            sleep(Duration::from_secs(seconds)).await;
        }
        bail!("asked to wait {MOST_WAITS} times")
    }

    /// Fetches bootstrap, script and config. Returns how long to wait if told to.
    async fn chain(&mut self, kept: &mut Kept) -> Result<Option<u64>> {
        let machine = kept.machine;
        let bootstrap = match self.get(kept, "/boot.ipxe").await? {
            Got::Body(body) => body,
            Got::Wait(seconds) => return Ok(Some(seconds)),
        };
        ensure!(
            bootstrap.starts_with("#!ipxe\n"),
            "the bootstrap is no script"
        );
        let script = match self
            .get(
                kept,
                &format!("/ipxe?serial=SN-{machine}&buildarch=x86_64&platform=efi"),
            )
            .await?
        {
            Got::Body(body) => body,
            Got::Wait(seconds) => return Ok(Some(seconds)),
        };
        ensure!(
            script.starts_with("#!ipxe\n") && script.contains(&format!("SN-{machine} ")),
            "a wrong script: {script}"
        );
        let link = script
            .split_whitespace()
            .find_map(|word| Some(&word[word.find("/config/")?..]))
            .context("the script has no link")?;
        match self.get(kept, link).await? {
            Got::Body(body) => ensure!(
                body == format!("for SN-{machine}\n"),
                "a wrong config: {body:.100}"
            ),
            Got::Wait(seconds) => return Ok(Some(seconds)),
        }
        Ok(None)
    }

    async fn get(&mut self, kept: &mut Kept, target: &str) -> Result<Got> {
        let asked = Instant::now();
        let answer = match kept.exchange(target).await? {
            Some(answer) => answer,
            None if kept.has_answered => {
                *kept = Kept::open(kept.to, kept.machine).await?;
                let answer = kept.exchange(target).await?;
                answer.with_context(|| format!("{target}: closed before an answer, twice"))?
            }
            None => bail!("{target}: closed before an answer"),
        };
        self.latencies.push(asked.elapsed());
        let retry_after = answer
            .head
            .lines()
            .find_map(|line| line.strip_prefix("retry-after: "));
        match (answer.head.split(' ').nth(1), retry_after) {
            (Some("200"), _) => Ok(Got::Body(answer.body)),
            (Some("503"), Some(seconds)) => Ok(Got::Wait(seconds.trim().parse()?)),
            _ => bail!("{target} answers {}: {}", answer.head, answer.body),
        }
    }
}

// === impl Kept ===

impl Kept {
    async fn open(to: SocketAddr, machine: usize) -> Result<Self> {
        let stream = timeout(HANG, connect(to, machine, None))
            .await
            .context("no connection")?
            .context("no connection")?;
        Ok(Self {
            stream,
            to,
            machine,
            has_answered: false,
        })
    }

    /// Sends a request and reads its answer. None if the connection ends before a byte of it.
    async fn exchange(&mut self, target: &str) -> Result<Option<Answer>> {
        let to = self.to;
        let request =
            format!("GET {target} HTTP/1.1\r\nHost: {to}\r\nConnection: keep-alive\r\n\r\n");
        // If the server has closed the connection, reading tells.
        let _ = self.stream.write_all(request.as_bytes()).await;
        let mut answer = Vec::new();
        loop {
            if let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") {
                let head = std::str::from_utf8(&answer[..end])?.to_ascii_lowercase();
                let length = head
                    .lines()
                    .find_map(|line| line.strip_prefix("content-length: "));
                let length: usize = length.context("no Content-Length")?.trim().parse()?;
                if answer.len() >= end + 4 + length {
                    self.has_answered = true;
                    let body = String::from_utf8_lossy(&answer[answer.len() - length..]);
                    let body = body.into_owned();
                    return Ok(Some(Answer { head, body }));
                }
            }
            match self.stream.read_buf(&mut answer).await {
                Ok(0) | Err(_) if answer.is_empty() => return Ok(None),
                Ok(0) => bail!("{target}: closed after {} bytes", answer.len()),
                read => read.with_context(|| format!("{target}: after {} bytes", answer.len()))?,
            };
        }
    }
}
