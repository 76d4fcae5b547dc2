//! Runs cert-manager next to an API server: its controllers and cainjector, in one process.

use crate::assets::Cache;
use crate::assets::go::{self, Module, Toolchain};
use crate::certificates::Directory;
use crate::cluster::{Cluster, Kubectl};
use crate::process::Process;
use anyhow::{Context, Result, ensure};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;

const MODULE: Module = Module {
    name: "cert-manager",
    what: "cert-manager",
    target: ".",
};

/// The path of the CRDs below cert-manager's module.
const DEFINITIONS: &str = "deploy/crds";

/// A running cert-manager. It is stopped on drop.
#[derive(Debug)]
pub struct CertManager {
    log: PathBuf,
    _process: Process,
}

// === impl CertManager ===

impl CertManager {
    /// Returns the folder with the program and its CRDs, in the cache. Builds them if needed, which
    /// takes two minutes on two cores.
    pub fn find() -> Result<PathBuf> {
        let name = format!("cert-manager-{}", go::version(&[MODULE], &["main.go"])?);
        Cache::open()?
            .entry(&name, "cert-manager", build)
            .context("could not build cert-manager")
    }

    /// Applies cert-manager's CRDs to a cluster and starts it there.
    pub fn start(cluster: &Cluster) -> Result<Self> {
        let folder = Self::find()?;
        let admin = cluster.admin();
        let definitions = folder.join("crds");
        admin.run([
            "apply".as_ref(),
            "--server-side".as_ref(),
            "-f".as_ref(),
            definitions.as_os_str(),
        ])?;
        admin.run([
            "wait",
            "--for=condition=Established",
            "--timeout=60s",
            "crd",
            "--all",
        ])?;

        let log = cluster.folder().join("cert-manager.log");
        let said =
            File::create(&log).with_context(|| format!("could not write {}", log.display()))?;
        let process = Process::start(
            "cert-manager",
            folder.join("cert-manager").as_os_str(),
            None,
            |command| {
                command.arg("--kubeconfig").arg(admin.kubeconfig());
                command
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(said);
            },
        )?;
        Ok(Self {
            log,
            _process: process,
        })
    }

    /// The log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

// === impl Directory ===

impl Directory {
    /// Writes a Secret's content to a directory, as the kubelet does for a pod that mounts it.
    pub fn write_secret(&mut self, kubectl: &Kubectl, name: &str) -> Result<()> {
        let secret = kubectl.json(["get", "secret", name])?;
        let data = secret["data"]
            .as_object()
            .with_context(|| format!("the Secret {name} is empty"))?;
        let mut files = Vec::new();
        for (file, value) in data {
            files.push((file.as_str(), decoded(value.as_str().unwrap_or_default())?));
        }
        let files: Vec<_> = files
            .iter()
            .map(|(file, text)| (*file, text.as_str()))
            .collect();
        self.write_files(&files)
    }
}

/// Decodes base64 text of an object.
pub fn decoded(base64: &str) -> Result<String> {
    use base64::Engine as _;
    Ok(String::from_utf8(
        base64::engine::general_purpose::STANDARD
            .decode(base64)
            .context("this is no base64")?,
    )?)
}

fn build(folder: &Path) -> Result<()> {
    let toolchain = Toolchain::find(&[MODULE])?;
    toolchain.build(MODULE, "", folder)?;
    ensure!(
        folder.join("cert-manager").is_file(),
        "Go did not build cert-manager"
    );
    let source = toolchain
        .source(MODULE, "github.com/cert-manager/cert-manager")?
        .join(DEFINITIONS);
    let crds = folder.join("crds");
    fs::create_dir(&crds)?;
    for entry in
        fs::read_dir(&source).with_context(|| format!("could not read {}", source.display()))?
    {
        let entry = entry?;
        if entry
            .path()
            .extension()
            .is_some_and(|extension| extension == "yaml")
        {
            // Permissions are not copied: Go keeps its sources read-only.
            fs::write(crds.join(entry.file_name()), fs::read(entry.path())?)?;
        }
    }
    Ok(())
}
