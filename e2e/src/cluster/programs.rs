//! etcd, kube-apiserver and kubectl: found, or built from their Go modules.

use crate::assets::{Cache, fingerprint};
use crate::process;
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Where the modules are that pin the versions, and a name for the person who waits.
const MODULES: [(&str, &str); 2] = [("kubernetes", "kube-apiserver and kubectl"), ("etcd", "etcd")];

const NAMES: [&str; 3] = ["etcd", "kube-apiserver", "kubectl"];

/// How often the person who waits is told how far it is.
const PROGRESS: Duration = Duration::from_secs(15);

/// The folder that holds the three programs.
#[derive(Debug, Clone)]
pub struct Programs {
    folder: PathBuf,
}

// === impl Programs ===

impl Programs {
    /// Those in `KUBEBUILDER_ASSETS` if it has all three. Otherwise those in the cache, built if need be: six minutes on two
    /// cores and 3 GB in Go's own cache the first time.
    pub fn find() -> Result<Self> {
        if let Some(folder) = std::env::var_os("KUBEBUILDER_ASSETS").filter(|folder| !folder.is_empty()) {
            let folder = PathBuf::from(folder);
            match NAMES.iter().find(|name| !folder.join(name).is_file()) {
                None => return Ok(Self { folder }),
                Some(name) => eprintln!("e2e: KUBEBUILDER_ASSETS names {}, which has no {name}: not using it", folder.display()),
            }
        }
        let mut pinned = Vec::new();
        for (module, _) in MODULES {
            for file in ["go.mod", "go.sum"] {
                let path = module_folder(module).join(file);
                pinned.push(fs::read_to_string(&path).with_context(|| format!("could not read {}", path.display()))?);
            }
        }
        let name = format!("kubernetes-{}", fingerprint(pinned.iter().map(String::as_str).chain([std::env::consts::ARCH])));
        let folder = Cache::open()?.entry(&name, "etcd, kube-apiserver and kubectl", build).context(
            "could not build etcd, kube-apiserver and kubectl; a folder that holds the three can be named in KUBEBUILDER_ASSETS instead",
        )?;
        Ok(Self { folder })
    }

    /// Where they are, for `PATH`.
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

fn module_folder(module: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("kubernetes").join(module)
}

fn build(folder: &Path) -> Result<()> {
    let toolchain = Toolchain::find()?;
    for (module, what) in MODULES {
        toolchain.build(module, what, folder)?;
    }
    // Go names a program after the last element of its package's path.
    fs::rename(folder.join("server"), folder.join("etcd")).context("Go did not build etcd")?;
    for name in NAMES {
        ensure!(folder.join(name).is_file(), "Go did not build {name}");
    }
    Ok(())
}

/// The `go` command, and what it must be told to build with a version that the modules accept.
#[derive(Debug)]
struct Toolchain {
    program: PathBuf,
    toolchain: Option<&'static str>,
}

// === impl Toolchain ===

impl Toolchain {
    fn find() -> Result<Self> {
        let needed = needed_version()?;
        let install = format!(
            "building etcd, kube-apiserver and kubectl needs Go {}.{} or newer: install it as https://go.dev/doc/install says",
            needed.0, needed.1
        );
        let Some(program) = process::find("go").or_else(|| Some(PathBuf::from("/usr/local/go/bin/go")).filter(|go| go.is_file())) else {
            bail!("there is no `go` in PATH. {install}");
        };
        let out = Command::new(&program)
            .args(["env", "GOVERSION"])
            // No go.mod must have a say in this answer.
            .current_dir("/")
            .env("GOTOOLCHAIN", "local")
            .output()
            .with_context(|| format!("could not run {}", program.display()))?;
        let said = String::from_utf8_lossy(&out.stdout).trim().to_owned();
        let version = version_of(&said).with_context(|| format!("{} does not say its version. {install}", program.display()))?;
        if version >= needed {
            return Ok(Self { program, toolchain: None });
        }
        // From 1.21 on, `go` fetches the toolchain that a go.mod asks for, unless it is told not to.
        ensure!(version >= (1, 21), "{} is {said}. {install}", program.display());
        eprintln!("e2e: {} is {said}; it fetches Go {}.{} for this", program.display(), needed.0, needed.1);
        Ok(Self { program, toolchain: Some("auto") })
    }

    /// `go` in the folder of a module, whatever the developer has set for modules of their own.
    fn go(&self, module: &str) -> Command {
        let mut command = Command::new(&self.program);
        command
            .current_dir(module_folder(module))
            .envs([("CGO_ENABLED", "0"), ("GOFLAGS", ""), ("GOWORK", "off")])
            .envs(self.toolchain.map(|toolchain| ("GOTOOLCHAIN", toolchain)))
            .stdin(Stdio::null());
        command
    }

    /// Fetches the modules, and counts the packages to build.
    fn count_packages(&self, module: &str) -> Result<usize> {
        let out = self.go(module).args(["list", "-mod=readonly", "-deps", "tool"]).output();
        let out = out.with_context(|| format!("could not run {}", self.program.display()))?;
        ensure!(out.status.success(), "`go list` ended with {}:\n{}", out.status, String::from_utf8_lossy(&out.stderr).trim());
        Ok(out.stdout.iter().filter(|byte| **byte == b'\n').count())
    }

    fn build(&self, module: &str, what: &str, into: &Path) -> Result<()> {
        eprintln!("e2e: fetching the modules of {what}");
        let packages = self.count_packages(module)?;
        eprintln!("e2e: building {what}");
        let start = Instant::now();
        let flags = format!("-s -w {}", stamps()?);
        let mut command = self.go(module);
        command
            .args(["build", "-v", "-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags", &flags, "-o"])
            // A folder, because of the slash.
            .arg(into.join(""))
            .arg("tool")
            .stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("could not run {}", self.program.display()))?;
        let stderr = child.stderr.take().context("its standard error is piped")?;
        let said = follow(stderr, what, packages, start);
        let status = child.wait()?;
        ensure!(status.success(), "`go build` ended with {status}:\n{}", said.join("\n"));
        eprintln!("e2e: built {what} in {} seconds", start.elapsed().as_secs());
        Ok(())
    }
}

/// Reads what `go build -v` says, one package a line, and now and then tells how far it is. Gives what is no package.
fn follow(stderr: impl std::io::Read, what: &str, all: usize, start: Instant) -> Vec<String> {
    let (mut packages, mut told) = (0, start);
    let mut said = Vec::new();
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        if !line.contains(' ') {
            packages += 1;
        } else if !line.starts_with("go: downloading ") {
            said.push(line);
        }
        if told.elapsed() > PROGRESS {
            told = Instant::now();
            // Those that Go still has from before are not said, so this may end early.
            eprintln!("e2e: building {what}: {packages} of {all} packages, {} seconds", start.elapsed().as_secs());
        }
    }
    said
}

/// What makes `kubectl version` say the version that is pinned, as the project's own builds do.
fn stamps() -> Result<String> {
    let path = module_folder("kubernetes").join("go.mod");
    let text = fs::read_to_string(&path).with_context(|| format!("could not read {}", path.display()))?;
    let words = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let version =
        words.filter(|words| words.first() == Some(&"k8s.io/kubernetes")).find_map(|words| words.get(1).map(|word| (*word).to_owned()));
    let version = version.with_context(|| format!("{} pins no k8s.io/kubernetes", path.display()))?;
    let (major, minor) = version_of(&version).with_context(|| format!("{version} is no version"))?;
    let stamp = |name: &str, value: &str| format!("-X k8s.io/component-base/version.{name}={value}");
    Ok([stamp("gitVersion", &version), stamp("gitMajor", &major.to_string()), stamp("gitMinor", &minor.to_string())].join(" "))
}

/// The greatest of the versions that the modules ask for.
fn needed_version() -> Result<(u32, u32)> {
    let mut needed = (0, 0);
    for (module, _) in MODULES {
        let path = module_folder(module).join("go.mod");
        let text = fs::read_to_string(&path).with_context(|| format!("could not read {}", path.display()))?;
        let line = text.lines().find_map(|line| line.strip_prefix("go ")).and_then(version_of);
        needed = needed.max(line.with_context(|| format!("{} names no version of Go", path.display()))?);
    }
    Ok(needed)
}

/// `go1.26.8`, `1.26.0` or `devel go1.27-abcdef`, to the second number.
fn version_of(text: &str) -> Option<(u32, u32)> {
    let digits = text.get(text.find(|c: char| c.is_ascii_digit())?..)?;
    let mut numbers = digits.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_of_go_is_read_from_what_go_says() {
        assert_eq!(version_of("go1.26.8"), Some((1, 26)));
        assert_eq!(version_of("1.26.0"), Some((1, 26)));
        assert_eq!(version_of("devel go1.27-abcdef"), Some((1, 27)));
        assert_eq!(version_of("nothing"), None);
    }

    #[test]
    fn kubectl_says_the_version_that_is_pinned() -> Result<()> {
        let stamps = stamps()?;
        assert!(stamps.starts_with("-X k8s.io/component-base/version.gitVersion=v1."), "{stamps}");
        assert!(needed_version()? >= (1, 21));
        Ok(())
    }
}
