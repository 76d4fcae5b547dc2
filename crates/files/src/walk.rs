//! Lists the files of a tree within limits.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::fmt;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::Activity;

/// Limits on one walk.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Maximum number of directories.
    pub directories: usize,
    /// Maximum number of directories between the root and a file.
    pub depth: usize,
    /// Maximum number of directory entries, including those of files that are not wanted.
    pub entries: usize,
    /// Maximum number of files.
    pub files: usize,
    /// Maximum number of problems that are listed.
    pub problems: usize,
    /// Maximum duration.
    pub time: Duration,
}

/// Where symlinks may lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Anywhere.
    Everywhere,
    /// Below the root.
    Root,
}

/// The result of a walk, with a `T` for each file.
#[derive(Debug)]
pub struct Listing<T> {
    /// The regular files that are wanted.
    pub files: BTreeMap<PathBuf, T>,
    /// The symlinks to directories that are listed under another path.
    pub aliases: Vec<Alias>,
    /// Paths that could not be read, up to [`Limits::problems`].
    pub unread: BTreeMap<PathBuf, Unread>,
    /// The number of paths that could not be read and are not in `unread`.
    pub more_unread: usize,
    /// The limit at which the walk ended, if any.
    pub limit: Option<String>,
    /// The directories whose entries were all seen, if not all directories were.
    complete: HashSet<PathBuf>,
}

/// A symlink to a directory that is listed under another path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Alias {
    /// The symlink.
    pub link: PathBuf,
    /// The path of the directory in the listing.
    pub directory: PathBuf,
}

/// Why a path was not read.
#[derive(Debug)]
pub enum Unread {
    /// The file system returned an error.
    Failed(io::Error),
    /// A symlink to nothing. A volume that is not mounted looks like this.
    Dangling(PathBuf),
    /// A FIFO, a socket or a device.
    NotRegular,
    /// A symlink out of the root.
    OutsideRoot,
    /// A directory below the deepest that is read.
    TooDeep(usize),
}

struct Walk<'a, T> {
    limits: Limits,
    /// The canonical root, if symlinks may not leave it.
    root: Option<PathBuf>,
    activity: &'a Activity,
    is_wanted: &'a dyn Fn(&Path) -> bool,
    stamp: &'a dyn Fn(&Metadata) -> T,
    deadline: Instant,
    entries: usize,
    listing: Listing<T>,
    /// The directories that were entered, by device and inode.
    entered: HashMap<(u64, u64), PathBuf>,
    /// Directories to enter. Those behind symlinks come last, so that a directory keeps its own
    /// path whatever links to it.
    pending: VecDeque<Pending>,
    linked: VecDeque<Pending>,
}

struct Pending {
    path: PathBuf,
    depth: usize,
}

/// Lists the regular files below `root` that are wanted, following symlinks. Skips dotfiles.
///
/// Visits each directory once: real directories first, then those that symlinks lead to, both in
/// the order of their names.
pub fn walk<T>(
    root: &Path,
    limits: Limits,
    scope: Scope,
    activity: &Activity,
    is_wanted: impl Fn(&Path) -> bool,
    stamp: impl Fn(&Metadata) -> T,
) -> Listing<T> {
    let canonical = match scope {
        Scope::Everywhere => None,
        Scope::Root => Some(
            activity
                .run(root, || fs::canonicalize(root))
                .unwrap_or_else(|_| root.to_owned()),
        ),
    };
    let mut walk = Walk {
        limits,
        root: canonical,
        activity,
        is_wanted: &is_wanted,
        stamp: &stamp,
        deadline: Instant::now() + limits.time,
        entries: 0,
        listing: Listing::default(),
        entered: HashMap::new(),
        pending: VecDeque::from([Pending {
            path: root.to_owned(),
            depth: 0,
        }]),
        linked: VecDeque::new(),
    };
    while walk.listing.limit.is_none()
        && let Some(next) = walk.pending.pop_front().or_else(|| walk.linked.pop_front())
    {
        walk.enter(next);
    }
    walk.end()
}

// === impl Walk ===

impl<T> Walk<'_, T> {
    fn end(self) -> Listing<T> {
        let mut listing = self.listing;
        listing.aliases.sort();
        if listing.limit.is_none() && listing.more_unread > 0 {
            listing.limit = Some(format!(
                "more than {} paths can't be read",
                self.limits.problems
            ));
        }
        if listing.limit.is_none() {
            listing.complete = HashSet::new();
        }
        listing
    }

    fn enter(&mut self, directory: Pending) {
        let Pending { path, depth } = directory;
        let metadata = match self.activity.run(&path, || fs::metadata(&path)) {
            Ok(metadata) => metadata,
            Err(error) if depth > 0 && error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => return self.unread(path, Unread::Failed(error)),
        };
        let id = (metadata.dev(), metadata.ino());
        if let Some(known) = self.entered.get(&id) {
            let directory = known.clone();
            if self.listing.aliases.len() >= self.limits.directories {
                return self.stop_at_symlinks();
            }
            return self.listing.aliases.push(Alias {
                link: path,
                directory,
            });
        }
        if depth > self.limits.depth {
            return self.unread(path, Unread::TooDeep(self.limits.depth));
        }
        if self.entered.len() >= self.limits.directories {
            return self.stop(format!("more than {} directories", self.limits.directories));
        }
        self.entered.insert(id, path.clone());
        let Some(entries) = self.list(&path) else {
            return;
        };
        // What was read of a directory that is too large is used.
        let is_cut = self.listing.limit.is_some();
        let unlisted = self.listing.more_unread;
        for (path, is_symlink) in entries {
            self.visit(path, is_symlink, depth);
            if self.listing.limit.is_some() && !is_cut {
                return;
            }
        }
        if !is_cut && self.listing.more_unread == unlisted {
            self.listing.complete.insert(path);
        }
    }

    /// Returns the entries of a directory in the order of their names, with whether each is a
    /// symlink. Returns `None` if they can't be read.
    fn list(&mut self, directory: &Path) -> Option<Vec<(PathBuf, bool)>> {
        let left = self.limits.entries - self.entries;
        let read = self.activity.run(directory, || {
            let mut entries = Vec::new();
            let mut seen = 0;
            for entry in fs::read_dir(directory)? {
                let entry = entry?;
                seen += 1;
                if seen > left {
                    break;
                }
                if !entry.file_name().as_encoded_bytes().starts_with(b".") {
                    let is_symlink = entry.file_type().is_ok_and(|kind| kind.is_symlink());
                    entries.push((entry.path(), is_symlink));
                }
            }
            Ok::<_, io::Error>((entries, seen))
        });
        match read {
            Ok((mut entries, seen)) => {
                self.entries += seen.min(left);
                if seen > left {
                    self.stop(format!(
                        "more than {} files and directories",
                        self.limits.entries
                    ));
                }
                entries.sort();
                Some(entries)
            }
            Err(error) => {
                self.unread(directory.to_owned(), Unread::Failed(error));
                None
            }
        }
    }

    fn visit(&mut self, path: PathBuf, is_symlink: bool, depth: usize) {
        if Instant::now() >= self.deadline {
            return self.stop(format!(
                "listing them takes more than {} seconds",
                self.limits.time.as_secs()
            ));
        }
        let metadata = match self.activity.run(&path, || fs::metadata(&path)) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Otherwise it was removed since its directory was listed.
                if is_symlink && let Ok(target) = fs::read_link(&path) {
                    self.unread(path, Unread::Dangling(target));
                }
                return;
            }
            Err(error) => return self.unread(path, Unread::Failed(error)),
        };
        if is_symlink
            && (metadata.is_dir() || (self.is_wanted)(&path))
            && let Some(root) = &self.root
        {
            match self.activity.run(&path, || fs::canonicalize(&path)) {
                Ok(canonical) if canonical.starts_with(root) => {}
                Ok(_) => return self.unread(path, Unread::OutsideRoot),
                Err(error) => return self.unread(path, Unread::Failed(error)),
            }
        }
        if metadata.is_dir() {
            let below = Pending {
                path,
                depth: depth + 1,
            };
            if !is_symlink {
                self.pending.push_back(below);
            } else if self.linked.len() < self.limits.directories {
                self.linked.push_back(below);
            } else {
                self.stop_at_symlinks();
            }
            return;
        }
        if !(self.is_wanted)(&path) {
            return;
        }
        if !metadata.is_file() {
            self.unread(path, Unread::NotRegular);
        } else if self.listing.files.len() >= self.limits.files {
            self.stop(format!("more than {} files", self.limits.files));
        } else {
            let stamp = (self.stamp)(&metadata);
            self.listing.files.insert(path, stamp);
        }
    }

    fn unread(&mut self, path: PathBuf, why: Unread) {
        if self.listing.unread.len() < self.limits.problems {
            self.listing.unread.insert(path, why);
        } else {
            self.listing.more_unread += 1;
        }
    }

    fn stop_at_symlinks(&mut self) {
        self.stop(format!(
            "more than {} symlinks to directories",
            self.limits.directories
        ));
    }

    fn stop(&mut self, limit: String) {
        self.listing.limit.get_or_insert(limit);
    }
}

// === impl Listing ===

impl<T> Default for Listing<T> {
    fn default() -> Self {
        Self {
            files: BTreeMap::new(),
            aliases: Vec::new(),
            unread: BTreeMap::new(),
            more_unread: 0,
            limit: None,
            complete: HashSet::new(),
        }
    }
}

impl<T> Listing<T> {
    /// Whether a path that an earlier walk of the same root found is gone now. Returns false if it
    /// may still exist: something above it could not be read, or the walk ended before it.
    pub fn is_gone(&self, path: &Path) -> bool {
        let was_seen = || {
            self.limit.is_none()
                || path
                    .parent()
                    .is_some_and(|parent| self.complete.contains(parent))
        };
        !self.files.contains_key(path)
            && !path
                .ancestors()
                .any(|above| self.unread.contains_key(above))
            && was_seen()
    }
}

// === impl Unread ===

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => error.fmt(f),
            Self::Dangling(target) => write!(
                f,
                "the symlink leads to {}, which does not exist",
                target.display()
            ),
            Self::NotRegular => f.write_str("it is not a regular file"),
            Self::OutsideRoot => {
                f.write_str("it is a symlink out of the root, which is not followed")
            }
            Self::TooDeep(depth) => write!(f, "directories are nested more than {depth} deep"),
        }
    }
}

#[cfg(test)]
mod tests;
