//! A Kubernetes of its own, as far as shaper sees one: etcd, kube-apiserver with RBAC, and kubectl.
//!
//! There are no controllers and no nodes: a namespace is never deleted and an owner's end collects nothing, so each test takes
//! a namespace of its own ([`Cluster::namespace`]). The definitions of `config/crd` and the roles of `config/rbac` are there
//! from the start. Ports stay the same over a restart of either program; several clusters at once don't meet.

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

/// How many clusters run at the same time on this computer, over all programs; `SHAPER_E2E_CLUSTERS` changes it. Each takes
/// about 320 MiB.
const CLUSTERS: usize = 6;

/// How long a start may take. It is three seconds on an idle machine.
const START: Duration = Duration::from_mins(2);

/// Folders of clusters start so.
const PREFIX: &str = "shaper-cluster-";

/// The namespace of shaper's own objects, as `config/rbac` has it.
pub const NAMESPACE: &str = "shaper-system";

/// A running API server and its store. Dropping it ends both and removes all they wrote.
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
    // Dropped after the folder, of which they say that it is in use.
    _in_use: File,
    _slot: Slot,
}

/// What can be stopped, paused and started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// kube-apiserver.
    ApiServer,
    /// etcd, below it.
    Etcd,
}

// === impl Cluster ===

impl Cluster {
    /// Starts one and waits until it knows shaper's kinds and roles. The first time this builds the programs, see
    /// [`Programs::find`].
    pub fn start() -> Result<Self> {
        let cluster = Self::bare()?;
        cluster.install()?;
        Ok(cluster)
    }

    /// Starts one that knows nothing of shaper.
    pub fn bare() -> Result<Self> {
        let programs = Programs::find()?;
        let clusters = std::env::var("SHAPER_E2E_CLUSTERS")
            .ok()
            .and_then(|count| count.parse().ok())
            .unwrap_or(CLUSTERS);
        let slot = Cache::open()?.slot("cluster", clusters.max(1))?;
        remove_leftovers();
        let folder = tempfile::Builder::new()
            .prefix(PREFIX)
            .tempdir()
            .context("could not make a temporary folder")?;
        let in_use = File::create(folder.path().join("in-use"))?;
        in_use.lock().context("could not lock a new folder")?;
        let pki = Pki::new(folder.path())?;

        // Between finding a free port and using it another program may take it.
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
                // Whichever of them there is yet.
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

    /// One for all tests of this program that want nothing of their own but a namespace. It ends with the last of them.
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
                "-f".as_ref(),
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

    /// kubectl as somebody who may do anything.
    pub fn admin(&self) -> &Kubectl {
        &self.admin
    }

    /// `kubectl ARGS` as somebody who may do anything.
    pub fn kubectl<S: AsRef<std::ffi::OsStr>>(
        &self,
        args: impl IntoIterator<Item = S>,
    ) -> Result<String> {
        self.admin.run(args)
    }

    /// kubectl as the user of this name, with a certificate of their own. They may do what RBAC says, which is nothing at
    /// first; a service account is the user `system:serviceaccount:NAMESPACE:NAME`.
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

    /// kubectl as shaper's controller; its [`Kubectl::kubeconfig`] is what `shaper controller --kubeconfig` takes.
    pub fn controller(&self) -> Result<Kubectl> {
        self.user(
            &format!("system:serviceaccount:{NAMESPACE}:shaper-controller"),
            Some("system:serviceaccounts"),
        )
    }

    /// The kubeconfig of a user, for other clients than kubectl.
    pub fn kubeconfig_for(&self, name: &str, group: Option<&str>) -> Result<PathBuf> {
        Ok(self.user(name, group)?.kubeconfig)
    }

    /// Makes a new namespace and gives its name.
    pub fn namespace(&self) -> Result<String> {
        let name = format!("test-{}", self.namespaces.fetch_add(1, Ordering::Relaxed));
        self.admin.run(["create", "namespace", &name])?;
        Ok(name)
    }

    /// The address of the API server, `https://127.0.0.1:PORT`.
    pub fn server(&self) -> String {
        self.ports.server()
    }

    /// What it wrote: logs, certificates, kubeconfigs, the store.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The programs that it runs.
    pub fn programs(&self) -> &Programs {
        &self.programs
    }

    /// What a shell needs to use it, name and value; the value of `PATH` is to be put before what is there.
    pub fn environment(&self) -> [(&'static str, &Path); 3] {
        // The ports of a later cluster may be these again, so what kubectl remembers of them must not be what it finds.
        [
            ("KUBECONFIG", self.admin.kubeconfig()),
            ("KUBECACHEDIR", &self.admin.cache),
            ("PATH", self.programs.folder()),
        ]
    }

    /// Asks a part to end, and waits until it has.
    pub fn stop(&self, part: Part) {
        self.part(part).stop();
    }

    /// Ends a part at once (SIGKILL).
    pub fn kill(&self, part: Part) {
        self.part(part).kill();
    }

    /// Starts a part that was stopped or killed, where it was and on what it wrote. It does not wait: see
    /// [`Cluster::wait_until_ready`].
    pub fn run(&self, part: Part) -> Result<()> {
        self.part(part).start()
    }

    /// Stops the part, starts it again, and waits until the API server answers.
    pub fn restart(&self, part: Part) -> Result<()> {
        self.stop(part);
        self.run(part)?;
        self.wait_until_ready(START)
    }

    /// Makes a part stand still (SIGSTOP): its connections stay open and nothing comes through them.
    pub fn pause(&self, part: Part) -> Result<()> {
        self.part(part).signal("STOP")
    }

    /// Lets a part that stands still go on (SIGCONT).
    pub fn resume(&self, part: Part) -> Result<()> {
        self.part(part).signal("CONT")
    }

    /// The process id of a part that runs.
    pub fn pid(&self, part: Part) -> Option<u32> {
        self.part(part).id()
    }

    /// Waits until the API server says that it is ready.
    pub fn wait_until_ready(&self, timeout: Duration) -> Result<()> {
        let deadline = Instant::now() + timeout;
        loop {
            // It makes this namespace itself, after it says that it is ready.
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

/// Starts both and waits until each has either its port or its end.
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

/// Removes the folders of programs that were killed.
fn remove_leftovers() {
    let Ok(entries) = fs::read_dir(std::env::temp_dir()) else {
        return;
    };
    for entry in entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX))
    {
        // Only the owner of a folder holds its lock, and only while it lives.
        let is_leftover =
            File::open(entry.path().join("in-use")).is_ok_and(|file| file.try_lock().is_ok());
        if is_leftover {
            // Another run may be removing it as well.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
