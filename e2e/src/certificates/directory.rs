//! A directory of certificate files, as the kubelet writes it.

use super::{Authority, Issued};
use anyhow::{Context, Result};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

/// `tls.crt`, `tls.key` and `ca.crt`, as the kubelet projects a Secret: the three names are links
/// to `..data/NAME`, and `..data` is a link to a directory with a time in its name. A change makes
/// a new such directory, renames a new `..data` over the old one, and removes the old directory;
/// the three links never change.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    generation: u64,
    _temporary: Option<tempfile::TempDir>,
}

// === impl Directory ===

impl Directory {
    /// Creates a temporary directory with a certificate and the CA that verifies peers.
    pub fn of(issued: &Issued, ca: &Authority) -> Result<Self> {
        let temporary = tempfile::tempdir().context("could not make a temporary folder")?;
        let mut directory = Self {
            path: temporary.path().to_owned(),
            generation: 0,
            _temporary: Some(temporary),
        };
        directory.write(issued, &ca.pem())?;
        Ok(directory)
    }

    /// Uses the directory `path`, creating it if needed. It is kept on drop.
    pub fn at(path: &Path) -> Result<Self> {
        fs::create_dir_all(path).with_context(|| format!("could not make {}", path.display()))?;
        Ok(Self {
            path: path.to_owned(),
            generation: 0,
            _temporary: None,
        })
    }

    /// The directory's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces all three files at once. `ca` may hold several certificates, as it does while a CA
    /// is replaced.
    pub fn write(&mut self, issued: &Issued, ca: &str) -> Result<()> {
        self.write_files(&[
            ("tls.crt", issued.certificate()),
            ("tls.key", issued.key()),
            ("ca.crt", ca),
        ])
    }

    /// Replaces all files by these, whatever they contain; names that are left out are removed.
    pub fn write_files(&mut self, files: &[(&str, &str)]) -> Result<()> {
        self.generation += 1;
        let name = format!("..2026_01_01_00_00_00.{:010}", self.generation);
        let folder = self.path.join(&name);
        fs::create_dir(&folder).with_context(|| format!("could not make {}", folder.display()))?;
        for (file, text) in files {
            let path = folder.join(file);
            fs::write(&path, text)
                .with_context(|| format!("could not write {}", path.display()))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        }
        let (data, unfinished) = (self.path.join("..data"), self.path.join("..data_tmp"));
        let old = fs::read_link(&data).ok();
        symlink(&name, &unfinished)?;
        fs::rename(&unfinished, &data)
            .with_context(|| format!("could not replace {}", data.display()))?;
        for (file, _) in files {
            let link = self.path.join(file);
            if fs::symlink_metadata(&link).is_err() {
                symlink(Path::new("..data").join(file), &link)?;
            }
        }
        self.remove_links_but(files)?;
        if let Some(old) = old {
            fs::remove_dir_all(self.path.join(old))?;
        }
        Ok(())
    }

    fn remove_links_but(&self, files: &[(&str, &str)]) -> Result<()> {
        for entry in fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            let stays = name.to_string_lossy().starts_with("..")
                || files.iter().any(|(file, _)| name == **file);
            if !stays {
                fs::remove_file(self.path.join(name))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificates::Leaf;

    #[test]
    fn a_rotation_replaces_all_files_by_one_link() -> Result<()> {
        let (old, new) = (Authority::new("old")?, Authority::new("new")?);
        let mut directory = Directory::of(&old.issue(&Leaf::peer("a.example"))?, &old)?;
        let link = fs::read_link(directory.path().join("..data"))?;
        assert_eq!(
            fs::read_link(directory.path().join("tls.crt"))?,
            Path::new("..data/tls.crt")
        );

        let leaf = new.issue(&Leaf::peer("a.example").rsa())?;
        directory.write(&leaf, &new.pem())?;
        assert_ne!(fs::read_link(directory.path().join("..data"))?, link);
        assert!(!directory.path().join(link).exists());
        assert_eq!(
            fs::read_to_string(directory.path().join("tls.crt"))?,
            leaf.certificate()
        );
        assert_eq!(
            fs::read_to_string(directory.path().join("ca.crt"))?,
            new.pem()
        );
        Ok(())
    }

    #[test]
    fn a_file_that_is_left_out_is_gone() -> Result<()> {
        let ca = Authority::rsa("ca")?;
        let mut directory = Directory::of(&ca.issue(&Leaf::server("a.example").expired())?, &ca)?;
        directory.write_files(&[("tls.crt", "half"), ("tls.key", "")])?;
        assert!(fs::symlink_metadata(directory.path().join("ca.crt")).is_err());
        assert_eq!(
            fs::read_to_string(directory.path().join("tls.crt"))?,
            "half"
        );
        Ok(())
    }
}
