//! From a folder to the table.

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

/// Most files of a table. Each is kept open.
const MAX_FILES: usize = 16_384;
/// Deepest folder below the root.
const MAX_DEPTH: usize = 32;

/// Said of a link.
const ESCAPING_SYMLINK: &str =
    "a link that leaves the folder is not followed; copy what it leads to";

struct Scan<'a> {
    root: PathBuf,
    previous: &'a Table,
    table: Table,
    skipped: Vec<SkippedPath>,
    /// The folders on the way down, so that a link can't lead back into one of them.
    ancestors: HashSet<PathBuf>,
}

impl Table {
    /// Opens the regular files below `root`. What `previous` has, and is unchanged, stays open. Names that start with a dot are passed over;
    /// what can't be served for another reason is among the skipped. Fails only where the root itself can't be read.
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

/// Open files and transfers are many; the soft limit is low for the sake of programs that use `select`.
fn raise_file_limit() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // Where it can't be raised, what can't be opened is told one by one.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

// === impl Scan ===

impl Scan<'_> {
    fn visit_dir(&mut self, dir: &Path, prefix: &[u8], depth: usize) {
        if depth > MAX_DEPTH {
            return self.skip(
                dir,
                format!("folders are nested more than {MAX_DEPTH} deep"),
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
            return self.skip(dir, "a link to a folder that it is in".to_owned());
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
                        format!("there are more than {MAX_FILES} files; this one is not served"),
                    ),
                    Err(reason) => self.skip(path, reason),
                }
            }
            Ok(_) => self.skip(path, "neither a file nor a folder".to_owned()),
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
        // A link may have been turned elsewhere, so the way is looked at in any case; only opening is spared.
        let canonical = fs::canonicalize(path).map_err(|error| error.to_string())?;
        if !canonical.starts_with(&self.root) {
            return Err(ESCAPING_SYMLINK.to_owned());
        }
        if let Some(entry) = known {
            return Ok(entry.file.clone());
        }
        // Should it have become a pipe or a device in between, opening it must not wait.
        let flags = (OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits();
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(flags)
            .open(path)
            .map_err(|error| error.to_string())?;
        if !self.is_inside_root(&file) {
            return Err("it was replaced while it was opened".to_owned());
        }
        OpenFile::new(file)
            .map(Arc::new)
            .map_err(|error| error.to_string())
    }

    /// Whether what was opened is a regular file below the root: between looking and opening, a link may have been turned elsewhere.
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
