//! A program that can be stopped and started again with the same arguments.

use crate::process::Process;
use anyhow::{Context, Result, bail};
use std::ffi::OsString;
use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

/// How long a program may take to end before it is killed.
const STOP: Duration = Duration::from_secs(30);

/// etcd or kube-apiserver.
#[derive(Debug)]
pub(super) struct Daemon {
    name: &'static str,
    program: PathBuf,
    args: Vec<OsString>,
    log: PathBuf,
    process: Option<Process>,
}

// === impl Daemon ===

impl Daemon {
    /// Describes a program without starting it. Its output is appended to `NAME.log` in `folder`.
    pub(super) fn new(
        name: &'static str,
        program: PathBuf,
        folder: &Path,
        args: impl IntoIterator<Item = String>,
    ) -> Self {
        let args = args.into_iter().map(OsString::from).collect();
        Self {
            name,
            program,
            args,
            log: folder.join(format!("{name}.log")),
            process: None,
        }
    }

    pub(super) fn start(&mut self) -> Result<()> {
        if self.is_running()? {
            return Ok(());
        }
        let log = File::options()
            .create(true)
            .append(true)
            .open(&self.log)
            .with_context(|| format!("could not write {}", self.log.display()))?;
        let stdout = log.try_clone()?;
        self.process = Some(Process::start(
            self.name,
            self.program.as_os_str(),
            None,
            |command| {
                // A process group of its own: Ctrl-C in a terminal reaches only the owner, which
                // then stops it in order.
                command
                    .args(&self.args)
                    .stdin(Stdio::null())
                    .stdout(stdout)
                    .stderr(log)
                    .process_group(0);
            },
        )?);
        Ok(())
    }

    /// Asks the program to end and waits until it has; kills it after [`STOP`].
    pub(super) fn stop(&mut self) {
        if let Some(process) = &mut self.process {
            // A paused program can't react to SIGTERM. One that doesn't end is killed on drop.
            let _ = process.signal("CONT");
            let _ = process.terminate(STOP);
        }
        self.process = None;
    }

    pub(super) fn kill(&mut self) {
        self.process = None;
    }

    pub(super) fn signal(&self, name: &str) -> Result<()> {
        match &self.process {
            Some(process) => process.signal(name),
            None => bail!("{} does not run", self.name),
        }
    }

    /// Whether the program was started and has not ended.
    pub(super) fn is_running(&mut self) -> Result<bool> {
        Ok(match &mut self.process {
            Some(process) => process.ended()?.is_none(),
            None => false,
        })
    }

    pub(super) fn id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// The last lines of the program's output.
    pub(super) fn tail(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Whether the program ended because its port was taken.
    pub(super) fn missed_its_port(&self) -> bool {
        self.tail().contains("address already in use")
    }
}
