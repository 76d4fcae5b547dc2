//! A minimal Kubernetes: etcd, kube-apiserver with RBAC, and kubectl.
//!
//! There are no controllers and no nodes: namespaces are never deleted and garbage is never
//! collected, so each test uses a namespace of its own ([`Cluster::namespace`]). `config/crd` and
//! `config/rbac` are applied at the start. Ports stay the same over a restart of either program.
//! Several clusters can run at once.

mod daemon;
mod etcd;
mod kubectl;
mod pki;
mod ports;
mod programs;

use crate::assets::{Cache, Slot};
use crate::http;
use anyhow::{Context, Result, bail, ensure};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use daemon::Daemon;
use pki::Pki;
use ports::Ports;

pub use etcd::Backup;
pub use kubectl::{Answer, Kubectl, Proxy};
pub use programs::Programs;

/// The number of clusters that may run at the same time on this computer, over all processes;
/// `SHAPER_E2E_CLUSTERS` overrides it. Each takes about 320 MiB.
const CLUSTERS: usize = 6;

/// The timeout of a start, which takes three seconds on an idle machine.
const START: Duration = Duration::from_mins(2);

/// The prefix of cluster folders.
const PREFIX: &str = "shaper-cluster-";

/// The namespace of shaper's own objects, as in `config/rbac`.
pub const NAMESPACE: &str = "shaper-system";

/// A running API server and its etcd. Both are stopped and their files removed on drop.
#[derive(Debug)]
pub struct Cluster {
    api_server: Mutex<Daemon>,
    etcd: Mutex<Daemon>,
    ports: Ports,
    pki: Pki,
    programs: Programs,
    admin: Kubectl,
    namespaces: AtomicU32,
    users: AtomicU32,
    folder: tempfile::TempDir,
    // Dropped after the folder: the lock marks the folder as in use.
    _in_use: File,
    _slot: Slot,
}

/// A process that can be stopped, paused and started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// kube-apiserver.
    ApiServer,
    /// etcd, below it.
    Etcd,
}

// === impl Cluster ===

impl Cluster {
    /// Starts a cluster and waits until it serves shaper's CRDs and roles. The first call on a
    /// machine builds the programs; see [`Programs::find`].
    pub fn start() -> Result<Self> {
        let cluster = Self::bare()?;
        cluster.install()?;
        Ok(cluster)
    }

    /// Starts a cluster without shaper's CRDs and roles.
    pub fn bare() -> Result<Self> {
        let programs = Programs::find()?;
        let clusters = std::env::var("SHAPER_E2E_CLUSTERS")
            .ok()
            .and_then(|count| count.parse().ok())
            .unwrap_or(CLUSTERS);
        let slot = Cache::open()?.slot("cluster", clusters.max(1))?;
        let (folder, in_use) = new_folder()?;
        let pki = Pki::new(folder.path())?;

        // Another program may take a free port before it is used.
        let mut ports = Ports::free(slot.number(), 0)?;
        let (mut etcd, mut api_server) = daemons(&programs, folder.path(), ports);
        for attempt in 1.. {
            match start(&mut etcd, &mut api_server, ports) {
                Ok(()) => break,
                Err(_)
                    if attempt < 5 && (etcd.missed_its_port() || api_server.missed_its_port()) => {}
                Err(error) => return Err(error),
            }
            etcd.kill();
            api_server.kill();
            ports = Ports::free(slot.number(), attempt)?;
            for name in ["etcd", "etcd.log", "kube-apiserver.log"] {
                let path = folder.path().join(name);
                // Only some of these may exist yet.
                let _ = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
            }
            (etcd, api_server) = daemons(&programs, folder.path(), ports);
        }
        let kubeconfig = pki.kubeconfig(
            folder.path(),
            "admin",
            Some("system:masters"),
            &ports.server(),
        )?;
        let admin = Kubectl {
            program: programs.kubectl(),
            kubeconfig,
            cache: folder.path().join("kubectl"),
            namespace: None,
        };
        let cluster = Self {
            api_server: Mutex::new(api_server),
            etcd: Mutex::new(etcd),
            ports,
            pki,
            programs,
            admin,
            namespaces: AtomicU32::new(0),
            users: AtomicU32::new(0),
            folder,
            _in_use: in_use,
            _slot: slot,
        };
        cluster.wait_until_ready(START)?;
        Ok(cluster)
    }

    /// A cluster shared by all tests of this process that need only a namespace. It stops with the
    /// last of them.
    pub fn shared() -> Result<Arc<Self>> {
        static SHARED: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cluster) = shared.upgrade() {
            return Ok(cluster);
        }
        let cluster = Arc::new(Self::start()?);
        *shared = Arc::downgrade(&cluster);
        Ok(cluster)
    }

    /// Applies `config/crd` and `config/rbac`, and waits until the kinds are served.
    pub fn install(&self) -> Result<()> {
        let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config");
        for folder in ["crd", "rbac"] {
            let folder = config.join(folder);
            self.admin.run([
                "apply".as_ref(),
                "--server-side".as_ref(),
                "-k".as_ref(),
                folder.as_os_str(),
            ])?;
        }
        self.admin.run([
            "wait",
            "--for=condition=Established",
            "--timeout=60s",
            "crd/profiles.shaper.amahdha.com",
            "crd/assignments.shaper.amahdha.com",
        ])?;
        Ok(())
    }

    /// kubectl as a cluster administrator.
    pub fn admin(&self) -> &Kubectl {
        &self.admin
    }

    /// Runs `kubectl ARGS` as a cluster administrator.
    pub fn kubectl<S: AsRef<std::ffi::OsStr>>(
        &self,
        args: impl IntoIterator<Item = S>,
    ) -> Result<String> {
        self.admin.run(args)
    }

    /// kubectl as the user of this name, with a client certificate. RBAC grants a new user nothing.
    /// A service account is the user `system:serviceaccount:NAMESPACE:NAME`.
    pub fn user(&self, name: &str, group: Option<&str>) -> Result<Kubectl> {
        let number = self.users.fetch_add(1, Ordering::Relaxed);
        let folder = self.folder.path().join(format!("user-{number}"));
        fs::create_dir(&folder)?;
        let kubeconfig = self.pki.kubeconfig(&folder, name, group, &self.server())?;
        Ok(Kubectl {
            kubeconfig,
            ..self.admin.clone()
        })
    }

    /// kubectl as shaper's controller. [`Kubectl::kubeconfig`] is what `shaper controller
    /// --kubeconfig` takes.
    pub fn controller(&self) -> Result<Kubectl> {
        self.user(
            &format!("system:serviceaccount:{NAMESPACE}:shaper-controller"),
            Some("system:serviceaccounts"),
        )
    }

    /// Writes the kubeconfig of a user, for clients other than kubectl.
    pub fn kubeconfig_for(&self, name: &str, group: Option<&str>) -> Result<PathBuf> {
        Ok(self.user(name, group)?.kubeconfig)
    }

    /// Creates a namespace and returns its name.
    pub fn namespace(&self) -> Result<String> {
        let name = format!("test-{}", self.namespaces.fetch_add(1, Ordering::Relaxed));
        self.admin.run(["create", "namespace", &name])?;
        Ok(name)
    }

    /// The address of the API server, `https://127.0.0.1:PORT`.
    pub fn server(&self) -> String {
        self.ports.server()
    }

    /// The folder with logs, certificates, kubeconfigs and the etcd data.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The authority of the certificate that the API server presents to webhooks.
    pub fn webhook_client_ca(&self) -> PathBuf {
        self.folder.path().join(pki::WEBHOOK_CLIENT_CA)
    }

    /// The programs that this cluster runs.
    pub fn programs(&self) -> &Programs {
        &self.programs
    }

    /// The environment that a shell needs to use this cluster, as names and values. Prepend the
    /// value of `PATH` to the existing one.
    pub fn environment(&self) -> [(&'static str, &Path); 3] {
        // A later cluster may get these ports, so kubectl's discovery cache must not be shared.
        [
            ("KUBECONFIG", self.admin.kubeconfig()),
            ("KUBECACHEDIR", &self.admin.cache),
            ("PATH", self.programs.folder()),
        ]
    }

    /// Asks a process to end (SIGTERM) and waits until it has.
    pub fn stop(&self, part: Part) {
        self.part(part).stop();
    }

    /// Kills a process (SIGKILL).
    pub fn kill(&self, part: Part) {
        self.part(part).kill();
    }

    /// Starts a process that was stopped or killed, with its previous port and data. Does not wait;
    /// see [`Cluster::wait_until_ready`].
    pub fn run(&self, part: Part) -> Result<()> {
        self.part(part).start()
    }

    /// Stops a process, starts it again, and waits until the API server answers.
    pub fn restart(&self, part: Part) -> Result<()> {
        self.stop(part);
        self.run(part)?;
        self.wait_until_ready(START)
    }

    /// Pauses a process (SIGSTOP): its connections stay open and silent.
    pub fn pause(&self, part: Part) -> Result<()> {
        self.part(part).signal("STOP")
    }

    /// Resumes a paused process (SIGCONT).
    pub fn resume(&self, part: Part) -> Result<()> {
        self.part(part).signal("CONT")
    }

    /// The process id of a running process.
    pub fn pid(&self, part: Part) -> Option<u32> {
        self.part(part).id()
    }

    /// Waits until the API server's `/readyz` succeeds.
    pub fn wait_until_ready(&self, timeout: Duration) -> Result<()> {
        let deadline = Instant::now() + timeout;
        loop {
            // The API server creates this namespace after it reports ready.
            let answer = self
                .admin
                .answer(["get", "--raw", "/readyz", "--request-timeout=5s"], "")?;
            let is_ready = answer.success
                && self
                    .admin
                    .answer(["get", "namespace", "default", "--request-timeout=5s"], "")?
                    .success;
            if is_ready {
                return Ok(());
            }
            for part in [Part::Etcd, Part::ApiServer] {
                let mut daemon = self.part(part);
                ensure!(
                    daemon.is_running()?,
                    "{part:?} does not run; the end of its log:\n{}",
                    daemon.tail()
                );
            }
            if Instant::now() > deadline {
                let log = self.part(Part::ApiServer).tail();
                bail!(
                    "the API server was not ready within {} seconds: {}\n{log}",
                    timeout.as_secs(),
                    answer.stderr.trim()
                );
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn part(&self, part: Part) -> MutexGuard<'_, Daemon> {
        let daemon = match part {
            Part::ApiServer => &self.api_server,
            Part::Etcd => &self.etcd,
        };
        daemon.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn daemons(programs: &Programs, folder: &Path, ports: Ports) -> (Daemon, Daemon) {
    let etcd = Daemon::new(
        "etcd",
        programs.etcd(),
        folder,
        etcd::arguments(folder, ports),
    );
    let api_server = Daemon::new(
        "kube-apiserver",
        programs.kube_apiserver(),
        folder,
        pki::arguments(folder, ports),
    );
    (etcd, api_server)
}

/// Starts both programs and waits until each listens or has ended.
fn start(etcd: &mut Daemon, api_server: &mut Daemon, ports: Ports) -> Result<()> {
    etcd.start()?;
    let deadline = Instant::now() + START;
    while !http::get(&format!("{}/health", ports.etcd())).is_ok_and(|answer| answer.status == 200) {
        ensure!(
            etcd.is_running()? && Instant::now() < deadline,
            "etcd did not start; the end of its log:\n{}",
            etcd.tail()
        );
        std::thread::sleep(Duration::from_millis(25));
    }
    api_server.start()?;
    while !ports.api_server_listens() {
        let over = !api_server.is_running()? || Instant::now() > deadline;
        ensure!(
            !over,
            "kube-apiserver did not start; the end of its log:\n{}",
            api_server.tail()
        );
        std::thread::sleep(Duration::from_millis(25));
    }
    Ok(())
}

/// Creates a cluster's folder, with its lock held, after removing those of clusters whose process
/// was killed.
fn new_folder() -> Result<(tempfile::TempDir, File)> {
    // Between its creation and its lock, a folder looks like a leftover to another process.
    // The lock of the folder of temporary files leaves nothing behind.
    let creation = File::open(std::env::temp_dir())?;
    creation
        .lock()
        .context("could not wait for another cluster's folder")?;
    remove_leftovers();
    let folder = tempfile::Builder::new()
        .prefix(PREFIX)
        .tempdir()
        .context("could not make a temporary folder")?;
    let in_use = File::create(folder.path().join("in-use"))?;
    in_use.lock().context("could not lock a new folder")?;
    Ok((folder, in_use))
}

/// Removes the folders of clusters whose process was killed.
fn remove_leftovers() {
    let Ok(entries) = fs::read_dir(std::env::temp_dir()) else {
        return;
    };
    for entry in entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX))
    {
        // The owner of a folder holds its lock for as long as it lives.
        let is_leftover =
            File::open(entry.path().join("in-use")).is_ok_and(|file| file.try_lock().is_ok());
        if is_leftover {
            // Another test run may be removing it too.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
