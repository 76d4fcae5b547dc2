//! etcd, kube-apiserver and kubectl: found, or built from their Go modules.

use crate::assets::Cache;
use crate::assets::go::{self, Module, Toolchain};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};

const KUBERNETES: Module = Module {
    name: "kubernetes",
    what: "kube-apiserver and kubectl",
    target: "tool",
};

const ETCD: Module = Module {
    name: "etcd",
    what: "etcd",
    target: "tool",
};

const NAMES: [&str; 3] = ["etcd", "kube-apiserver", "kubectl"];

/// The folder that holds the three programs.
#[derive(Debug, Clone)]
pub struct Programs {
    folder: PathBuf,
}

// === impl Programs ===

impl Programs {
    /// Returns the programs in `KUBEBUILDER_ASSETS` if it has all three, otherwise those in the
    /// cache. Builds them if needed: six minutes on two cores and 3 GB in Go's own cache.
    pub fn find() -> Result<Self> {
        if let Some(folder) =
            std::env::var_os("KUBEBUILDER_ASSETS").filter(|folder| !folder.is_empty())
        {
            let folder = PathBuf::from(folder);
            match NAMES.iter().find(|name| !folder.join(name).is_file()) {
                None => return Ok(Self { folder }),
                Some(name) => eprintln!(
                    "e2e: KUBEBUILDER_ASSETS names {}, which has no {name}: not using it",
                    folder.display()
                ),
            }
        }
        let name = format!("kubernetes-{}", go::version(&[KUBERNETES, ETCD], &[])?);
        let folder = Cache::open()?.entry(&name, "etcd, kube-apiserver and kubectl", build).context(
            "could not build etcd, kube-apiserver and kubectl; a folder that holds the three can be named in KUBEBUILDER_ASSETS instead",
        )?;
        Ok(Self { folder })
    }

    /// The folder to add to `PATH`.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn etcd(&self) -> PathBuf {
        self.folder.join("etcd")
    }

    pub(super) fn kube_apiserver(&self) -> PathBuf {
        self.folder.join("kube-apiserver")
    }

    pub(super) fn kubectl(&self) -> PathBuf {
        self.folder.join("kubectl")
    }
}

fn build(folder: &Path) -> Result<()> {
    let (toolchain, stamps) = (Toolchain::find(&[KUBERNETES, ETCD])?, stamps()?);
    for module in [KUBERNETES, ETCD] {
        toolchain.build(module, &stamps, folder)?;
    }
    // Go names a program after the last element of its package's path.
    fs::rename(folder.join("server"), folder.join("etcd")).context("Go did not build etcd")?;
    for name in NAMES {
        ensure!(folder.join(name).is_file(), "Go did not build {name}");
    }
    Ok(())
}

/// The linker flags that stamp the pinned version into `kubectl version`, as the official builds
/// do.
fn stamps() -> Result<String> {
    let text = KUBERNETES.read("go.mod")?;
    let words = text
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let version = words
        .filter(|words| words.first() == Some(&"k8s.io/kubernetes"))
        .find_map(|words| words.get(1).map(|word| (*word).to_owned()));
    let version = version.context("go.mod pins no k8s.io/kubernetes")?;
    let (major, minor) =
        go::version_of(&version).with_context(|| format!("{version} is no version"))?;
    let stamp =
        |name: &str, value: &str| format!("-X k8s.io/component-base/version.{name}={value}");
    Ok([
        stamp("gitVersion", &version),
        stamp("gitMajor", &major.to_string()),
        stamp("gitMinor", &minor.to_string()),
    ]
    .join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubectl_says_the_version_that_is_pinned() -> Result<()> {
        let stamps = stamps()?;
        assert!(
            stamps.starts_with("-X k8s.io/component-base/version.gitVersion=v1."),
            "{stamps}"
        );
        Ok(())
    }
}
