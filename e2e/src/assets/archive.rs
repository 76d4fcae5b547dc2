//! Packages of a Debian suite, downloaded and unpacked without being installed.

use crate::process;
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The keyring that signs every Debian suite.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// A suite on this computer's package mirror, with package lists of its own: the system's package
/// state is not touched, and root is not needed.
#[derive(Debug)]
pub(super) struct Archive {
    state: tempfile::TempDir,
}

impl Archive {
    /// The suite that this computer runs.
    pub(super) fn of_this_system() -> Result<Self> {
        let release =
            fs::read_to_string("/etc/os-release").context("there is no /etc/os-release")?;
        let field = |name: &str| {
            release
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
                .map(|value| value.trim_matches('"').to_owned())
        };
        let id = field("ID").unwrap_or_default();
        ensure!(
            id == "debian",
            "the tests take their kernel from Debian, and this is {id:?}"
        );
        Self::of_suite(&field("VERSION_CODENAME").unwrap_or_else(|| "sid".to_owned()))
    }

    /// A suite by name.
    pub(super) fn of_suite(suite: &str) -> Result<Self> {
        let state = tempfile::tempdir().context("could not make a temporary folder")?;
        for folder in ["lists/partial", "cache/archives/partial", "debs"] {
            fs::create_dir_all(state.path().join(folder))?;
        }
        fs::write(
            state.path().join("list"),
            format!("deb [signed-by={KEYRING}] {} {suite} main\n", mirror()?),
        )?;
        let archive = Self { state };
        archive
            .apt(&["update"])
            .with_context(|| format!("could not fetch the package lists of Debian {suite}"))?;
        Ok(archive)
    }

    /// The first dependency of a package, which for a meta-package is the real one.
    pub(super) fn dependency(&self, package: &str) -> Result<String> {
        let mut command = self.command("apt-cache");
        command.args(["depends", package]);
        let out = command.output().context("could not run apt-cache")?;
        String::from_utf8_lossy(&out.stdout)
            .lines()
            .find_map(|line| line.trim().strip_prefix("Depends: "))
            .map(str::to_owned)
            .with_context(|| format!("the package {package} has no dependency, or isn't there"))
    }

    /// Downloads packages and unpacks them into `folder`.
    pub(super) fn unpack(&self, packages: &[&str], folder: &Path) -> Result<()> {
        let mut args = vec!["download"];
        args.extend(packages);
        self.apt(&args)
            .with_context(|| format!("could not download {}", packages.join(" ")))?;
        for deb in fs::read_dir(self.state.path().join("debs"))? {
            let deb = deb?.path();
            process::output("dpkg-deb", [Path::new("-x"), &deb, folder])?;
            fs::remove_file(deb)?;
        }
        Ok(())
    }

    fn apt(&self, args: &[&str]) -> Result<()> {
        let out = self
            .command("apt-get")
            .arg("-qq")
            .args(args)
            .output()
            .context("could not run apt-get")?;
        if !out.status.success() {
            bail!(
                "apt-get {}: {}",
                args[0],
                String::from_utf8_lossy(&out.stderr).trim()
            );
        }
        Ok(())
    }

    fn command(&self, program: &str) -> Command {
        let state = self.state.path();
        let mut command = Command::new(program);
        command.current_dir(state.join("debs"));
        for (key, path) in [
            ("Dir::Etc::sourcelist", "list"),
            ("Dir::State::lists", "lists"),
            ("Dir::Cache", "cache"),
        ] {
            command
                .arg("-o")
                .arg(format!("{key}={}", state.join(path).display()));
        }
        command.args(["-o", "Dir::Etc::sourceparts=-"]);
        // apt's own user could not write into our folder.
        command.args(["-o", "APT::Sandbox::User=root"]);
        command
    }
}

/// The mirror that this computer's package manager uses.
fn mirror() -> Result<String> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(entries) = fs::read_dir("/etc/apt/sources.list.d") {
        let mut parts: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        parts.sort();
        files.extend(parts);
    }
    let texts: Vec<String> = files
        .iter()
        .filter_map(|file| fs::read_to_string(file).ok())
        .collect();
    let urls = || {
        texts
            .iter()
            .flat_map(|text| text.lines())
            .filter(|line| !line.trim_start().starts_with('#'))
            .flat_map(str::split_whitespace)
            .filter(|word| word.starts_with("http://") || word.starts_with("https://"))
    };
    // Other vendors' archives may be listed too, and a local mirror may have any path.
    urls()
        .find(|url| url.trim_end_matches('/').ends_with("/debian"))
        .or_else(|| urls().find(|url| url.contains("debian") && !url.contains("security")))
        .map(str::to_owned)
        .context(
            "no mirror of the Debian archive in /etc/apt/sources.list or /etc/apt/sources.list.d",
        )
}
