//! kstatus, by which tools such as Flux and Helm judge whether an object is ready.

use crate::assets::Cache;
use crate::assets::go::{self, Module, Toolchain};
use crate::cluster::Kubectl;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const MODULE: Module = Module {
    name: "kstatus",
    what: "kstatus",
    target: ".",
};

/// The program that computes the status of objects.
#[derive(Debug)]
pub struct Kstatus {
    program: PathBuf,
}

// === impl Kstatus ===

impl Kstatus {
    /// Finds the program in the cache, or builds it, which takes a minute.
    pub fn find() -> Result<Self> {
        let name = format!("kstatus-{}", go::version(&[MODULE], &["main.go"])?);
        let folder = Cache::open()?
            .entry(&name, "kstatus", build)
            .context("could not build kstatus")?;
        Ok(Self {
            program: folder.join("kstatus"),
        })
    }

    /// Returns the status of all Profiles and Assignments of a namespace by `Kind name`: `Current`,
    /// `InProgress`, `Failed`, `Terminating`.
    pub fn of(&self, kubectl: &Kubectl) -> Result<BTreeMap<String, String>> {
        let objects = kubectl.json(["get", "profiles,assignments"])?;
        let mut child = Command::new(&self.program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("could not run {}", self.program.display()))?;
        let mut stdin = child.stdin.take().context("it is piped")?;
        stdin.write_all(objects.to_string().as_bytes())?;
        drop(stdin);
        let output = child.wait_with_output()?;
        ensure!(
            output.status.success(),
            "kstatus ended with {}",
            output.status
        );
        let text = String::from_utf8(output.stdout)?;
        let lines = text.lines().filter_map(|line| line.rsplit_once(' '));
        Ok(lines
            .map(|(object, status)| (object.to_owned(), status.to_owned()))
            .collect())
    }
}

fn build(folder: &Path) -> Result<()> {
    let toolchain = Toolchain::find(&[MODULE])?;
    toolchain.build(MODULE, "", folder)
}
