//! Go programs, built from the modules in `e2e/kubernetes`, which pin their versions.

use super::fingerprint;
use crate::process;
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How often progress is printed.
const PROGRESS: Duration = Duration::from_secs(15);

/// A folder below `e2e/kubernetes` with a `go.mod`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Module {
    /// The folder's name.
    pub(crate) name: &'static str,
    /// What it builds, for messages.
    pub(crate) what: &'static str,
    /// The argument of `go build`: the tools that `go.mod` names, or a package.
    pub(crate) target: &'static str,
}

/// The `go` command, with the environment that makes it use a version that the modules accept.
#[derive(Debug)]
pub(crate) struct Toolchain {
    program: PathBuf,
    toolchain: Option<&'static str>,
}

// === impl Toolchain ===

impl Toolchain {
    /// Finds the developer's `go`, if it is new enough to build these modules or to fetch a
    /// toolchain that is.
    pub(crate) fn find(modules: &[Module]) -> Result<Self> {
        let needed = needed_version(modules)?;
        let what: Vec<_> = modules.iter().map(|module| module.what).collect();
        let what = what.join(" and ");
        let install = format!(
            "building {what} needs Go {}.{} or newer: install it as https://go.dev/doc/install says",
            needed.0, needed.1
        );
        let Some(program) = process::find("go")
            .or_else(|| Some(PathBuf::from("/usr/local/go/bin/go")).filter(|go| go.is_file()))
        else {
            bail!("there is no `go` in PATH. {install}");
        };
        let out = Command::new(&program)
            .args(["env", "GOVERSION"])
            // No go.mod may influence this answer.
            .current_dir("/")
            .env("GOTOOLCHAIN", "local")
            .output()
            .with_context(|| format!("could not run {}", program.display()))?;
        let said = String::from_utf8_lossy(&out.stdout).trim().to_owned();
        let version = version_of(&said).with_context(|| {
            format!("{} does not say its version. {install}", program.display())
        })?;
        if version >= needed {
            return Ok(Self {
                program,
                toolchain: None,
            });
        }
        // Since 1.21, `go` fetches the toolchain that a go.mod asks for, unless told not to.
        ensure!(
            version >= (1, 21),
            "{} is {said}. {install}",
            program.display()
        );
        eprintln!(
            "e2e: {} is {said}; it fetches Go {}.{} for this",
            program.display(),
            needed.0,
            needed.1
        );
        Ok(Self {
            program,
            toolchain: Some("auto"),
        })
    }

    /// `go` in the folder of a module, with the developer's own settings removed.
    fn go(&self, module: Module) -> Command {
        let mut command = Command::new(&self.program);
        command
            .current_dir(module.folder())
            .envs([("CGO_ENABLED", "0"), ("GOFLAGS", ""), ("GOWORK", "off")])
            .envs(self.toolchain.map(|toolchain| ("GOTOOLCHAIN", toolchain)))
            .stdin(Stdio::null());
        command
    }

    /// The folder in which Go keeps the source of a dependency.
    pub(crate) fn source(&self, module: Module, dependency: &str) -> Result<PathBuf> {
        let out = self
            .go(module)
            .args(["list", "-mod=readonly", "-m", "-f", "{{.Dir}}", dependency])
            .output();
        let out = out.with_context(|| format!("could not run {}", self.program.display()))?;
        ensure!(
            out.status.success(),
            "`go list` ended with {}:\n{}",
            out.status,
            String::from_utf8_lossy(&out.stderr).trim()
        );
        Ok(PathBuf::from(String::from_utf8_lossy(&out.stdout).trim()))
    }

    /// Fetches the modules and counts the packages to build.
    fn count_packages(&self, module: Module) -> Result<usize> {
        let out = self
            .go(module)
            .args(["list", "-mod=readonly", "-deps", module.target])
            .output();
        let out = out.with_context(|| format!("could not run {}", self.program.display()))?;
        ensure!(
            out.status.success(),
            "`go list` ended with {}:\n{}",
            out.status,
            String::from_utf8_lossy(&out.stderr).trim()
        );
        Ok(out.stdout.iter().filter(|byte| **byte == b'\n').count())
    }

    /// Builds the programs of a module into a folder. `stamps` are additional linker flags.
    pub(crate) fn build(&self, module: Module, stamps: &str, into: &Path) -> Result<()> {
        let what = module.what;
        eprintln!("e2e: fetching the modules of {what}");
        let packages = self.count_packages(module)?;
        eprintln!("e2e: building {what}");
        let start = Instant::now();
        let flags = format!("-s -w {stamps}");
        let mut command = self.go(module);
        command
            .args([
                "build",
                "-v",
                "-mod=readonly",
                "-trimpath",
                "-buildvcs=false",
                "-ldflags",
                &flags,
                "-o",
            ])
            // The slash makes it a folder.
            .arg(into.join(""))
            .arg(module.target)
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .with_context(|| format!("could not run {}", self.program.display()))?;
        let stderr = child.stderr.take().context("its standard error is piped")?;
        let said = follow(stderr, what, packages, start);
        let status = child.wait()?;
        ensure!(
            status.success(),
            "`go build` ended with {status}:\n{}",
            said.join("\n")
        );
        eprintln!("e2e: built {what} in {} seconds", start.elapsed().as_secs());
        Ok(())
    }
}

/// Reads the output of `go build -v`, one package a line, and prints progress. Returns the lines
/// that are not packages.
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
            // Packages in Go's cache are not listed, so this may end below the total.
            eprintln!(
                "e2e: building {what}: {packages} of {all} packages, {} seconds",
                start.elapsed().as_secs()
            );
        }
    }
    said
}

// === impl Module ===

impl Module {
    /// The module's folder.
    pub(crate) fn folder(self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("kubernetes")
            .join(self.name)
    }

    /// The text of one of the module's files.
    pub(crate) fn read(self, file: &str) -> Result<String> {
        let path = self.folder().join(file);
        fs::read_to_string(&path).with_context(|| format!("could not read {}", path.display()))
    }
}

/// A fingerprint of what is built. `files` are those besides `go.mod` and `go.sum`.
pub(crate) fn version(modules: &[Module], files: &[&str]) -> Result<String> {
    let mut pinned = Vec::new();
    for module in modules {
        for file in ["go.mod", "go.sum"].iter().chain(files) {
            pinned.push(module.read(file)?);
        }
    }
    Ok(fingerprint(
        pinned
            .iter()
            .map(String::as_str)
            .chain([std::env::consts::ARCH]),
    ))
}

/// The highest Go version that the modules require.
fn needed_version(modules: &[Module]) -> Result<(u32, u32)> {
    let mut needed = (0, 0);
    for module in modules {
        let text = module.read("go.mod")?;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("go "))
            .and_then(version_of);
        needed =
            needed.max(line.with_context(|| {
                format!("the go.mod of {} names no version of Go", module.name)
            })?);
    }
    Ok(needed)
}

/// Parses `go1.26.8`, `1.26.0` or `devel go1.27-abcdef` to the second number.
pub(crate) fn version_of(text: &str) -> Option<(u32, u32)> {
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
}
