//! Processes that never outlive the program that started them.

use anyhow::{Context, Result, bail};
use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// A child process that is killed on drop, and by the kernel when this program ends, even by
/// SIGKILL.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
}

/// Finds a program in `PATH` or in the administrator's directories, which a plain user's `PATH`
/// often lacks.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}

/// Whether this process may make network namespaces and install packages.
pub fn is_root() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| {
        status
            .lines()
            .find_map(|line| line.strip_prefix("Uid:"))
            .and_then(|ids| ids.split_whitespace().nth(1))
            == Some("0")
    })
}

/// Runs a command to its end and returns its standard output; an error contains its standard error.
pub fn output<S: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = S>) -> Result<String> {
    let out = Command::new(program)
        .args(args)
        .output()
        .with_context(|| format!("could not run {program}"))?;
    if !out.status.success() {
        bail!(
            "{program} ended with {}: {}",
            out.status,
            String::from_utf8_lossy(&out.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// Starts a command in a thread that lives as long as this program. The kernel ties a child to the
/// thread that started it, and a process shared by several tests must survive the test that came
/// first.
fn spawn(command: Command) -> std::io::Result<Child> {
    type Request = (Command, Sender<std::io::Result<Child>>);
    static REQUESTS: OnceLock<Mutex<Sender<Request>>> = OnceLock::new();
    let requests = REQUESTS.get_or_init(|| {
        let (requests, received) = channel::<Request>();
        std::thread::spawn(move || {
            for (mut command, answer) in received {
                // If the receiver panicked, dropping the child's handle is all there is to do.
                let _ = answer.send(command.spawn());
            }
        });
        Mutex::new(requests)
    });
    let gone = || std::io::Error::other("the thread that starts processes is gone");
    let (answer, answered) = channel();
    requests
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .send((command, answer))
        .map_err(|_| gone())?;
    answered.recv().map_err(|_| gone())?
}

// === impl Process ===

impl Process {
    /// Starts `program` in the network namespace `netns`, or in this process's own. `prepare` sets
    /// arguments, environment and pipes.
    pub fn start(
        name: &str,
        program: &OsStr,
        netns: Option<&str>,
        prepare: impl FnOnce(&mut Command),
    ) -> Result<Self> {
        // Neither `ip netns exec` nor setpriv forks: the child's pid is the program's own.
        let mut command = match netns {
            Some(netns) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", netns, "setpriv"]);
                command
            }
            None => Command::new("setpriv"),
        };
        command.args(["--pdeathsig", "KILL", "--"]).arg(program);
        prepare(&mut command);
        let child = spawn(command)
            .with_context(|| format!("could not start {name} ({})", program.display()))?;
        Ok(Self {
            name: name.to_owned(),
            child,
        })
    }

    /// The child process, for its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// The exit status, if the process has ended.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child
            .try_wait()
            .with_context(|| format!("could not ask for the state of {}", self.name))
    }

    /// Waits until the process ends by itself.
    pub fn wait(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!(
                    "{} still runs after {} seconds",
                    self.name,
                    timeout.as_secs()
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Sends a signal, named as for `kill`.
    pub fn signal(&self, name: &str) -> Result<()> {
        output("kill", [&format!("-{name}"), &self.child.id().to_string()])
            .with_context(|| format!("could not send {name} to {}", self.name))?;
        Ok(())
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The resident memory, in KiB.
    pub fn memory(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok())
            .context("no VmRSS")
    }

    /// Asks the process to end (SIGTERM) and waits for it.
    pub fn terminate(&mut self, timeout: Duration) -> Result<ExitStatus> {
        if let Some(status) = self.ended()? {
            return Ok(status);
        }
        self.signal("TERM")?;
        self.wait(timeout)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
