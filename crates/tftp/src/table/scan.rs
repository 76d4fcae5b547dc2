//! Builds the table from a directory.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use files::{Activity, Limits, Listing, Scope, Symlinks, Unread, open_regular, walk};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::{SkippedPath, Table};
use crate::content::{Fingerprint, OpenFile};

/// Limits on the served directory. Each file is kept open.
const LIMITS: Limits = Limits {
    directories: 10_000,
    depth: 32,
    entries: 200_000,
    files: 16_384,
    problems: 1_000,
    time: Duration::from_mins(1),
};

/// The reason for skipping a symlink out of the root.
const ESCAPING_SYMLINK: &str =
    "symlinks out of the served directory are not followed; copy the target instead";

/// The result of [`Table::scan`].
#[derive(Debug)]
pub struct TableScan {
    /// The files to serve.
    pub table: Table,
    /// The paths that are not served, up to a thousand, sorted.
    pub skipped: Vec<SkippedPath>,
    /// The number of skipped paths that are not listed.
    pub more_skipped: usize,
    /// The limit that kept the scan from seeing the whole directory, if any. Files that were not
    /// seen stay in the table if they were in it.
    pub limit: Option<String>,
}

impl Table {
    /// Opens the regular files below `root`.
    ///
    /// Unchanged files of `previous` stay open. Dotfiles are ignored; other paths that can't be
    /// served are returned with the reason. Fails only if `root` itself can't be read.
    pub fn scan(root: &Path, previous: &Self, activity: &Activity) -> io::Result<TableScan> {
        Self::scan_within(LIMITS, root, previous, activity)
    }

    pub(super) fn scan_within(
        limits: Limits,
        root: &Path,
        previous: &Self,
        activity: &Activity,
    ) -> io::Result<TableScan> {
        raise_file_limit();
        let root = activity.run(root, || fs::canonicalize(root))?;
        activity.run(&root, || fs::read_dir(&root).map(drop))?;
        let mut found = walk(
            &root,
            limits,
            Scope::Root,
            activity,
            |_| true,
            Fingerprint::of,
        );
        let mut skipped: Vec<_> = std::mem::take(&mut found.unread)
            .into_iter()
            .map(|(path, why)| SkippedPath {
                path,
                reason: reason(why),
            })
            .collect();
        let mut more_skipped = found.more_unread;
        let mut table = Self::default();
        for (path, fingerprint) in &found.files {
            let Some(name) = name_of(&root, path) else {
                continue;
            };
            let opened = activity.run(path, || open(&root, path, &name, *fingerprint, previous));
            match opened {
                Ok(file) => table.insert(name, file),
                Err(reason) if skipped.len() < limits.problems => skipped.push(SkippedPath {
                    path: path.clone(),
                    reason,
                }),
                Err(_) => more_skipped += 1,
            }
        }
        for alias in &found.aliases {
            if let (Some(link), Some(directory)) = (
                name_of(&root, &alias.link),
                name_of(&root, &alias.directory),
            ) {
                table.insert_alias(link, directory);
            }
        }
        table.keep_unseen(previous, &root, &found, limits.files);
        skipped.sort();
        Ok(TableScan {
            table,
            skipped,
            more_skipped,
            limit: found.limit,
        })
    }

    /// Keeps the files that the scan did not get to see.
    fn keep_unseen(
        &mut self,
        previous: &Self,
        root: &Path,
        found: &Listing<Fingerprint>,
        max_files: usize,
    ) {
        if found.limit.is_none() {
            return;
        }
        for (name, entry) in &previous.files {
            let path = root.join(std::ffi::OsStr::from_bytes(name));
            let is_unseen = !found.files.contains_key(&path) && !found.is_gone(&path);
            if is_unseen && self.len() < max_files {
                self.insert(name.clone(), entry.file.clone());
            }
        }
    }
}

/// Raises the soft limit on open files, which is low for the sake of programs that use `select`.
fn raise_file_limit() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // If this fails, the scan reports each file that can't be opened.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// Returns the name of a path below the root in requests.
fn name_of(root: &Path, path: &Path) -> Option<Vec<u8>> {
    let below = path.strip_prefix(root).ok()?;
    Some(below.as_os_str().as_bytes().to_vec())
}

fn reason(why: Unread) -> String {
    match why {
        Unread::OutsideRoot => ESCAPING_SYMLINK.to_owned(),
        Unread::NotRegular => "neither a file nor a directory".to_owned(),
        other => other.to_string(),
    }
}

fn open(
    root: &Path,
    path: &Path,
    name: &[u8],
    fingerprint: Fingerprint,
    previous: &Table,
) -> Result<Arc<OpenFile>, String> {
    let known = previous
        .files
        .get(name)
        .filter(|entry| entry.file.fingerprint() == fingerprint);
    if let Some(entry) = known {
        return Ok(entry.file.clone());
    }
    let file = open_regular(path, Symlinks::Follow).map_err(|error| error.to_string())?;
    if !is_inside_root(&file, root) {
        return Err("the file was replaced while being opened".to_owned());
    }
    OpenFile::new(file)
        .map(Arc::new)
        .map_err(|error| error.to_string())
}

/// Whether the open file is below the root: a symlink may have changed since the walk.
fn is_inside_root(file: &File, root: &Path) -> bool {
    let opened = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()));
    opened.is_ok_and(|path: PathBuf| path.starts_with(root))
}
