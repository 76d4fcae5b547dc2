//! Processes that never outlive the test that started them.

use anyhow::{Context, Result, bail};
use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

/// A child process that is killed when this value is dropped, and by the kernel when the thread that started it ends,
/// even if that is by SIGKILL.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
}

/// Where `name` is found in `PATH` or among the administrator's programs, which a plain user's `PATH` often lacks.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from)).map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// Whether this process may make network namespaces and install packages.
pub fn is_root() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| {
        status.lines().find_map(|line| line.strip_prefix("Uid:")).and_then(|ids| ids.split_whitespace().nth(1)) == Some("0")
    })
}

/// Runs a command to its end and gives its standard output; an error holds what it said on standard error.
pub fn output<S: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = S>) -> Result<String> {
    let out = Command::new(program).args(args).output().with_context(|| format!("could not run {program}"))?;
    if !out.status.success() {
        bail!("{program} ended with {}: {}", out.status, String::from_utf8_lossy(&out.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

// === impl Process ===

impl Process {
    /// Starts `program` in the network namespace `netns`, or in this process's own. `prepare` sets arguments,
    /// environment and pipes.
    pub fn start(name: &str, program: &OsStr, netns: Option<&str>, prepare: impl FnOnce(&mut Command)) -> Result<Self> {
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
        let child = command.spawn().with_context(|| format!("could not start {name} ({})", program.display()))?;
        Ok(Self { name: name.to_owned(), child })
    }

    /// The process itself, for its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// How the process ended, if it has.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("could not ask for the state of {}", self.name))
    }

    /// Waits until the process ends by itself.
    pub fn wait(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("{} still runs after {} seconds", self.name, timeout.as_secs());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Asks the process to end (SIGTERM) and waits for it.
    pub fn terminate(&mut self, timeout: Duration) -> Result<ExitStatus> {
        if let Some(status) = self.ended()? {
            return Ok(status);
        }
        output("kill", ["-TERM", &self.child.id().to_string()])?;
        self.wait(timeout)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already; there is nobody left to tell otherwise.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
