//! Builds the table from a directory.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::OFlag;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::{SkippedPath, Table};
use crate::content::{Fingerprint, OpenFile};

/// Most files in a table; each is kept open.
const MAX_FILES: usize = 16_384;
/// Deepest directory below the root.
const MAX_DEPTH: usize = 32;

/// The reason for skipping a symlink out of the root.
const ESCAPING_SYMLINK: &str =
    "symlinks out of the served directory are not followed; copy the target instead";

struct Scan<'a> {
    root: PathBuf,
    previous: &'a Table,
    table: Table,
    skipped: Vec<SkippedPath>,
    /// The directories from the root to the current one, to detect symlink loops.
    ancestors: HashSet<PathBuf>,
}

impl Table {
    /// Opens the regular files below `root`.
    ///
    /// Unchanged files of `previous` stay open. Dotfiles are ignored; other paths that can't be
    /// served are returned with the reason. Fails only if `root` itself can't be read.
    pub fn scan(root: &Path, previous: &Self) -> io::Result<(Self, Vec<SkippedPath>)> {
        raise_file_limit();
        let root = fs::canonicalize(root)?;
        fs::read_dir(&root)?;
        let mut scan = Scan {
            root: root.clone(),
            previous,
            table: Self::default(),
            skipped: Vec::new(),
            ancestors: HashSet::new(),
        };
        scan.visit_dir(&root, &[], 0);
        scan.skipped.sort();
        Ok((scan.table, scan.skipped))
    }
}

/// Raises the soft limit on open files, which is low for the sake of programs that use `select`.
fn raise_file_limit() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // If this fails, the scan reports each file that can't be opened.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

// === impl Scan ===

impl Scan<'_> {
    fn visit_dir(&mut self, dir: &Path, prefix: &[u8], depth: usize) {
        if depth > MAX_DEPTH {
            return self.skip(
                dir,
                format!("directories are nested more than {MAX_DEPTH} deep"),
            );
        }
        let canonical = match fs::canonicalize(dir) {
            Ok(canonical) => canonical,
            Err(error) => return self.skip(dir, error.to_string()),
        };
        if !canonical.starts_with(&self.root) {
            return self.skip(dir, ESCAPING_SYMLINK.to_owned());
        }
        if !self.ancestors.insert(canonical.clone()) {
            return self.skip(dir, "a symlink to a directory that contains it".to_owned());
        }
        match fs::read_dir(dir) {
            Ok(entries) => {
                let mut paths: Vec<_> = entries
                    .filter_map(|entry| entry.map(|entry| entry.path()).ok())
                    .collect();
                paths.sort();
                for path in paths {
                    self.visit(&path, prefix, depth);
                }
            }
            Err(error) => self.skip(dir, error.to_string()),
        }
        self.ancestors.remove(&canonical);
    }

    fn visit(&mut self, path: &Path, prefix: &[u8], depth: usize) {
        let Some(own) = path
            .file_name()
            .map(OsStrExt::as_bytes)
            .filter(|own| !own.starts_with(b"."))
        else {
            return;
        };
        let name = if prefix.is_empty() {
            own.to_vec()
        } else {
            [prefix, b"/", own].concat()
        };
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => self.visit_dir(path, &name, depth + 1),
            Ok(metadata) if metadata.is_file() => {
                match self.open(path, &name, Fingerprint::of(&metadata)) {
                    Ok(file) if self.table.len() < MAX_FILES => self.table.insert(name, file),
                    Ok(_) => self.skip(
                        path,
                        format!("more than {MAX_FILES} files; this one is not served"),
                    ),
                    Err(reason) => self.skip(path, reason),
                }
            }
            Ok(_) => self.skip(path, "neither a file nor a directory".to_owned()),
            Err(error) => self.skip(path, error.to_string()),
        }
    }

    fn open(
        &self,
        path: &Path,
        name: &[u8],
        fingerprint: Fingerprint,
    ) -> Result<Arc<OpenFile>, String> {
        let known = self
            .previous
            .files
            .get(name)
            .filter(|entry| entry.file.fingerprint() == fingerprint);
        // Resolve the path even if the file is known: a symlink may have changed.
        let canonical = fs::canonicalize(path).map_err(|error| error.to_string())?;
        if !canonical.starts_with(&self.root) {
            return Err(ESCAPING_SYMLINK.to_owned());
        }
        if let Some(entry) = known {
            return Ok(entry.file.clone());
        }
        // Don't block if the file was replaced by a pipe or device in the meantime.
        let flags = (OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits();
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(flags)
            .open(path)
            .map_err(|error| error.to_string())?;
        if !self.is_inside_root(&file) {
            return Err("the file was replaced while being opened".to_owned());
        }
        OpenFile::new(file)
            .map(Arc::new)
            .map_err(|error| error.to_string())
    }

    /// Whether the open file is a regular file below the root: a symlink may have changed since the
    /// path was resolved.
    fn is_inside_root(&self, file: &File) -> bool {
        let is_file = file.metadata().is_ok_and(|metadata| metadata.is_file());
        let opened = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()));
        is_file && opened.is_ok_and(|path| path.starts_with(&self.root))
    }

    fn skip(&mut self, path: &Path, reason: String) {
        self.skipped.push(SkippedPath {
            path: path.to_owned(),
            reason,
        });
    }
}
