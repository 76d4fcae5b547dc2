//! The manifest files below a folder.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// By what a file is taken for unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// What is below a folder.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) files: BTreeMap<PathBuf, Stamp>,
    /// Folders and files that could not be looked at, and why.
    pub(super) unreadable: Vec<(PathBuf, String)>,
}

/// Looks at everything below `dir`, following links. Names that start with a dot are passed over: editors' files, `.git`, and the folders
/// behind the links of a projected volume.
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

    /// Whether a later write must show. The clock of a file system goes by steps of some milliseconds, so that two writes within one step
    /// look alike.
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
        // Without an age, the file is of the future: the clocks of an NFS server and ours differ.
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
                "the link leads back to a folder that it is in".to_owned(),
            ));
        }
        above.push(id);
        for entry in entries {
            match entry {
                Ok(entry) if entry.file_name().as_encoded_bytes().starts_with(b".") => {}
                Ok(entry) => self.look(&entry.path(), above),
                Err(error) => self.unreadable(dir, &error),
            }
        }
        above.pop();
    }

    fn look(&mut self, path: &Path, above: &mut Vec<(u64, u64)>) {
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => self.enter(path, above),
            Ok(metadata) if metadata.is_file() && is_manifest(path) => {
                self.files.insert(path.to_owned(), Stamp::of(&metadata));
            }
            Ok(_) => {}
            // Gone since the folder was listed, or a link to nowhere.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => self.unreadable(path, &error),
        }
    }

    fn unreadable(&mut self, path: &Path, error: &io::Error) {
        self.unreadable.push((
            path.to_owned(),
            format!("can't be read: {error}; what was there before stays"),
        ));
    }
}

/// Whether the name is that of a manifest.
pub(super) fn is_manifest(path: &Path) -> bool {
    path.extension()
        .and_then(|extension| extension.to_str())
        .is_some_and(|extension| matches!(extension, "yaml" | "yml" | "json"))
}
