//! Machines that boot continuously and count what a real iPXE would count as a failure.

use crate::http::{self, Response};
use crate::roles::Role;
use anyhow::{Context, Result, bail, ensure};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// iPXE gives up on a server that is silent for this long.
const SILENCE: Duration = Duration::from_secs(16);
/// How long a machine that is asked to wait keeps trying.
const PATIENCE: Duration = Duration::from_mins(1);
/// The pause of one machine between two boots. It keeps the load steady and leaves CPU time for the
/// servers.
const PAUSE: Duration = Duration::from_millis(20);

/// A round-robin over ready replicas, like a Kubernetes Service.
#[derive(Debug, Default)]
pub struct Balancer {
    backends: Mutex<Vec<Backend>>,
    next: AtomicU64,
}

#[derive(Debug, Clone, Copy)]
struct Backend {
    http: SocketAddr,
    admin: SocketAddr,
    is_ready: bool,
}

/// A running load. It stops on drop.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    balancer: Arc<Balancer>,
    machines: Vec<Machine>,
    stop: AtomicBool,
    boots: AtomicU64,
    waits: AtomicU64,
    failures: Mutex<Vec<String>>,
}

/// A machine and what its boot must contain.
#[derive(Debug, Clone)]
pub struct Machine {
    /// The query that the machine sends.
    pub query: String,
    /// Texts that the script must contain.
    pub script: Vec<String>,
    /// Text that the config linked from the script must contain.
    pub config: String,
}

/// The result of a load.
#[derive(Debug)]
pub struct Outcome {
    /// The number of boots that got script and config.
    pub boots: u64,
    /// The number of 503 answers with Retry-After.
    pub waits: u64,
    /// The failures that a real iPXE would have seen.
    pub failures: Vec<String>,
}

// === impl Balancer ===

impl Balancer {
    /// Balances over these roles.
    pub fn of<'r>(roles: impl IntoIterator<Item = &'r Role>) -> Result<Arc<Self>> {
        let balancer = Arc::new(Self::default());
        for role in roles {
            balancer.add(role)?;
        }
        Ok(balancer)
    }

    /// Adds a replica.
    pub fn add(&self, role: &Role) -> Result<()> {
        let backend = Backend {
            http: role.address("http_listen")?,
            admin: role.address("admin_listen")?,
            is_ready: false,
        };
        self.backends
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(backend);
        self.look();
        Ok(())
    }

    /// Asks each replica whether it is ready.
    fn look(&self) {
        let mut backends = self
            .backends
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        for backend in &mut backends {
            backend.is_ready = http::get(&format!("http://{}/readyz", backend.admin))
                .is_ok_and(|response| response.status == 200);
        }
        let mut current = self.backends.lock().unwrap_or_else(PoisonError::into_inner);
        for backend in current.iter_mut() {
            if let Some(seen) = backends.iter().find(|seen| seen.http == backend.http) {
                backend.is_ready = seen.is_ready;
            }
        }
    }

    /// Returns the next ready replica.
    fn pick(&self) -> Option<SocketAddr> {
        let backends = self.backends.lock().unwrap_or_else(PoisonError::into_inner);
        let ready: Vec<_> = backends.iter().filter(|backend| backend.is_ready).collect();
        let turn = usize::try_from(self.next.fetch_add(1, Ordering::Relaxed)).unwrap_or(0);
        ready
            .get(turn % ready.len().max(1))
            .map(|backend| backend.http)
    }
}

// === impl Load ===

impl Load {
    /// Boots these machines repeatedly, `at_once` at a time.
    pub fn start(balancer: Arc<Balancer>, machines: Vec<Machine>, at_once: usize) -> Self {
        let shared = Arc::new(Shared {
            balancer,
            machines,
            stop: AtomicBool::new(false),
            boots: AtomicU64::new(0),
            waits: AtomicU64::new(0),
            failures: Mutex::default(),
        });
        let looking = Arc::clone(&shared);
        let look = std::thread::spawn(move || {
            while !looking.stop.load(Ordering::Relaxed) {
                looking.balancer.look();
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        let boot = |first: usize| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || {
                for turn in (first..).step_by(at_once) {
                    if shared.stop.load(Ordering::Relaxed) {
                        return;
                    }
                    shared.boot(&shared.machines[turn % shared.machines.len()]);
                    std::thread::sleep(PAUSE);
                }
            })
        };
        let threads = (0..at_once).map(boot).chain([look]).collect();
        Self { shared, threads }
    }

    /// Waits until this many more boots have ended.
    pub fn wait_for(&self, boots: u64) -> Result<()> {
        let goal = self.shared.boots.load(Ordering::Relaxed) + boots;
        let deadline = Instant::now() + PATIENCE;
        while self.shared.boots.load(Ordering::Relaxed) < goal {
            ensure!(
                Instant::now() < deadline,
                "the machines stopped booting: {:?}",
                self.shared.outcome()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Stops the load and returns the result.
    pub fn finish(mut self) -> Outcome {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panicking thread has already printed its message.
            let _ = thread.join();
        }
        self.shared.outcome()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

// === impl Outcome ===

impl Outcome {
    /// Fails if a boot failed or none took place.
    pub fn into_result(self) -> Result<Self> {
        ensure!(
            self.failures.is_empty(),
            "{} of {} boots failed: {:#?}",
            self.failures.len(),
            self.boots,
            &self.failures[..self.failures.len().min(5)]
        );
        ensure!(self.boots > 0, "no machine booted");
        Ok(self)
    }

    /// Like [`Outcome::into_result`], and also fails if a machine was asked to wait.
    pub fn without_waits(self) -> Result<Self> {
        let outcome = self.into_result()?;
        ensure!(
            outcome.waits == 0,
            "{} times in {} boots, a machine was asked to wait",
            outcome.waits,
            outcome.boots
        );
        Ok(outcome)
    }
}

// === impl Shared ===

impl Shared {
    fn outcome(&self) -> Outcome {
        Outcome {
            boots: self.boots.load(Ordering::Relaxed),
            waits: self.waits.load(Ordering::Relaxed),
            failures: self
                .failures
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
        }
    }

    fn boot(&self, machine: &Machine) {
        match self.try_boot(machine) {
            Ok(()) => drop(self.boots.fetch_add(1, Ordering::Relaxed)),
            Err(error) => self
                .failures
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(format!("{}: {error:#}", machine.query)),
        }
    }

    fn try_boot(&self, machine: &Machine) -> Result<()> {
        let bootstrap = self.fetch("/boot.ipxe")?;
        ensure!(
            bootstrap.starts_with("#!ipxe"),
            "the bootstrap is no script"
        );
        let script = self.fetch(&format!("/ipxe?{}", machine.query))?;
        let is_its_own = machine.script.iter().all(|text| script.contains(text));
        ensure!(
            script.starts_with("#!ipxe") && is_its_own,
            "the wrong script:\n{script}"
        );
        let link = script
            .split_whitespace()
            .find_map(|word| Some(&word[word.find("/config/")?..]))
            .context("the script has no link")?;
        let config = self.fetch(link)?;
        ensure!(
            config.contains(&machine.config),
            "the wrong config:\n{config}"
        );
        Ok(())
    }

    /// Fetches as iPXE does: waits and repeats if asked to; any other status than 200 is a failure.
    fn fetch(&self, target: &str) -> Result<String> {
        let start = Instant::now();
        loop {
            let Some(backend) = self.balancer.pick() else {
                bail!("no replica is ready")
            };
            let asked = Instant::now();
            let Response {
                status,
                headers,
                body,
            } = http::get(&format!("http://{backend}{target}"))?;
            ensure!(
                asked.elapsed() < SILENCE,
                "{target}: no answer for {} s",
                asked.elapsed().as_secs()
            );
            match (
                status,
                headers.iter().any(|(name, _)| name == "retry-after"),
            ) {
                (200, _) => return Ok(body),
                (503, true) if start.elapsed() < PATIENCE => {
                    self.waits.fetch_add(1, Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(500));
                }
                _ => bail!("{target} answers {status}: {}", body.trim()),
            }
        }
    }
}
