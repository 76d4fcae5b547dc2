//! A folder of manifests.

use anyhow::{Context, Result};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// A temporary folder, removed on drop.
#[derive(Debug)]
pub struct Manifests {
    folder: tempfile::TempDir,
}

/// The path of an example that the documents use.
pub fn examples(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../examples")
        .join(name)
}

/// A Profile that prints its name on the machine's console and then restarts the machine, which
/// ends the virtual machine.
///
/// It has the label `profile: NAME`.
pub fn says_its_name(name: &str) -> String {
    profile(
        name,
        &format!(
            "#!ipxe\necho BOOTED-{name} {{{{ subject.serial | default('') }}}}\nsleep 1\nreboot\n"
        ),
    )
}

/// A Profile with this script and the label `profile: NAME`.
pub fn profile(name: &str, script: &str) -> String {
    let mut text = format!(
        "apiVersion: shaper.amahdha.com/v1alpha1\nkind: Profile\nmetadata:\n  name: {name}\n  labels: {{profile: {name}}}\n\
         spec:\n  ipxe: |\n"
    );
    indent(&mut text, script, 4);
    text
}

/// An Assignment that selects Profiles with the label `profile: PROFILE`. `subject` is the content
/// of `subjectSelectors` as one line of YAML; empty for a default.
pub fn assignment(name: &str, subject: &str, profile: &str) -> String {
    format!(
        "apiVersion: shaper.amahdha.com/v1alpha1\nkind: Assignment\nmetadata:\n  name: {name}\n\
         spec:\n  subjectSelectors: {{{subject}}}\n  profileSelectors: {{profile: {profile}}}\n"
    )
}

fn indent(text: &mut String, block: &str, by: usize) {
    for line in block.lines() {
        let _ = writeln!(text, "{:by$}{line}", "");
    }
}

// === impl Manifests ===

impl Manifests {
    /// Creates an empty folder.
    pub fn new() -> Result<Self> {
        let folder = tempfile::tempdir().context("could not make a temporary folder")?;
        Ok(Self { folder })
    }

    /// Creates a folder with these documents in one file.
    pub fn of(documents: &[String]) -> Result<Self> {
        let manifests = Self::new()?;
        manifests.write("manifests.yaml", &documents.join("---\n"))?;
        Ok(manifests)
    }

    /// The folder's path.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file as an editor does: next to the old one, then renamed over it.
    pub fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.path().join(name);
        let unfinished = self.path().join(format!(".{name}.new"));
        fs::write(&unfinished, text)
            .and_then(|()| fs::rename(&unfinished, &path))
            .with_context(|| format!("could not write {}", path.display()))
    }
}
