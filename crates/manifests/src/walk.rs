//! Finds the manifest files below a folder.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use files::{Activity, Limits, Listing, Scope};

/// The attributes that identify an unchanged file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// Limits on the folder: far above a folder with a file for each of 100,000 machines.
pub(super) const LIMITS: Limits = Limits {
    directories: 20_000,
    depth: 32,
    entries: 1_000_000,
    files: 250_000,
    problems: 1_000,
    time: Duration::from_mins(1),
};

/// Lists the manifests below `dir`, following symlinks. Skips dotfiles: editors' files, `.git`, and
/// the folders behind the symlinks of a projected volume.
pub(super) fn walk(dir: &Path, limits: Limits, activity: &Activity) -> Listing<Stamp> {
    files::walk(
        dir,
        limits,
        Scope::Everywhere,
        activity,
        is_manifest,
        Stamp::of,
    )
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

/// Whether the name is that of a manifest.
pub(super) fn is_manifest(path: &Path) -> bool {
    path.extension()
        .and_then(|extension| extension.to_str())
        .is_some_and(|extension| matches!(extension, "yaml" | "yml" | "json"))
}
