//! A program that can be stopped and started again as it was.

use crate::process::Process;
use anyhow::{Context, Result, bail};
use std::ffi::OsString;
use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

/// How long a program may take to end when it is asked to, before it is killed.
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
    /// One that does not run yet. What it says is appended to `NAME.log` in `folder`.
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
                // A group of its own: Ctrl-C in a terminal is for the program that owns this one, which then ends it in order.
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

    /// Asks it to end and waits until it has; it is killed if it takes too long.
    pub(super) fn stop(&mut self) {
        if let Some(process) = &mut self.process {
            // A paused program can't hear; and one that doesn't end is killed when it is dropped.
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

    /// Whether it has been started and has not ended.
    pub(super) fn is_running(&mut self) -> Result<bool> {
        Ok(match &mut self.process {
            Some(process) => process.ended()?.is_none(),
            None => false,
        })
    }

    pub(super) fn id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// The last lines that it said.
    pub(super) fn tail(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Whether it ended because somebody else had its port.
    pub(super) fn missed_its_port(&self) -> bool {
        self.tail().contains("address already in use")
    }
}
