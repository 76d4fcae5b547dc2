//! Finds the manifest files below a folder.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// The attributes that identify an unchanged file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// The files below a folder.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) files: BTreeMap<PathBuf, Stamp>,
    /// Folders and files that could not be read, and why.
    pub(super) unreadable: Vec<(PathBuf, String)>,
}

/// Lists everything below `dir`, following symlinks. Skips dotfiles: editors' files, `.git`, and
/// the folders behind the symlinks of a projected volume.
pub(super) fn walk(dir: &Path) -> Found {
    let mut found = Found::default();
    found.enter(dir, &mut Vec::new());
    found
}

// === impl Stamp ===

impl Stamp {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether a later write would change the stamp. File system clocks advance in steps of some
    /// milliseconds, so two writes within one step are indistinguishable.
    pub(super) fn is_settled(&self) -> bool {
        const STEP: Duration = Duration::from_millis(100);
        let (seconds, nanoseconds) = self.changed;
        let since = Duration::new(
            seconds.try_into().unwrap_or_default(),
            nanoseconds.try_into().unwrap_or_default(),
        );
        let age = SystemTime::UNIX_EPOCH
            .checked_add(since)
            .and_then(|changed| changed.elapsed().ok());
        // A file without an age has a time in the future: the clocks of an NFS server and this
        // machine differ.
        age.is_none_or(|age| age > STEP)
    }
}

// === impl Found ===

impl Found {
    fn enter(&mut self, dir: &Path, above: &mut Vec<(u64, u64)>) {
        let entries = fs::metadata(dir).and_then(|metadata| Ok((metadata, fs::read_dir(dir)?)));
        let (metadata, entries) = match entries {
            Ok(opened) => opened,
            Err(error) => return self.unreadable(dir, &error),
        };
        let id = (metadata.dev(), metadata.ino());
        if above.contains(&id) {
            return self.unreadable.push((
                dir.to_owned(),
                "the link leads back to a folder that contains it".to_owned(),
            ));
        }
        above.push(id);
        for entry in entries {
            match entry {
                Ok(entry) if entry.file_name().as_encoded_bytes().starts_with(b".") => {}
                Ok(entry) => self.visit(&entry.path(), above),
                Err(error) => self.unreadable(dir, &error),
            }
        }
        above.pop();
    }

    fn visit(&mut self, path: &Path, above: &mut Vec<(u64, u64)>) {
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => self.enter(path, above),
            Ok(metadata) if metadata.is_file() && is_manifest(path) => {
                self.files.insert(path.to_owned(), Stamp::of(&metadata));
            }
            Ok(_) => {}
            // Removed since the folder was listed, or a dangling symlink.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => self.unreadable(path, &error),
        }
    }

    fn unreadable(&mut self, path: &Path, error: &io::Error) {
        self.unreadable.push((
            path.to_owned(),
            format!("can't be read: {error}; its previous objects stay in use"),
        ));
    }
}

/// Whether the name is that of a manifest.
pub(super) fn is_manifest(path: &Path) -> bool {
    path.extension()
        .and_then(|extension| extension.to_str())
        .is_some_and(|extension| matches!(extension, "yaml" | "yml" | "json"))
}
