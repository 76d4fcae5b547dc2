//! The state directory, locked so that only one process writes to it.

use std::fs::{self, File, Metadata, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use files::create_regular;
use tracing::warn;

use crate::admin::Part;

/// The user id of root.
const ROOT: u32 = 0;

/// A state directory that this process has locked until it ends.
pub(crate) struct StateDir {
    path: PathBuf,
    doubts: Vec<String>,
    _lock: Option<File>,
}

impl StateDir {
    /// Opens and locks the directory, and creates it if it does not exist. A symlink is refused unless
    /// root made it, as systemd does for `DynamicUser=`. Logs what lets other users of the host replace
    /// its files.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        // With a slash at the end, a symlink would look like its target.
        let path: &Path = &path.components().collect::<PathBuf>();
        let shown = path.display();
        let unusable = |what: &str| {
            format!(
                "can't {what} the state directory {shown}; choose another with --state-dir, or set StateDirectory=shaper in the systemd unit"
            )
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .with_context(|| unusable("create"))?;
        let given = fs::symlink_metadata(path).with_context(|| unusable("open"))?;
        if given.is_symlink() && given.uid() != ROOT {
            bail!(
                "the state directory {shown} is a symlink of user {}, and only those of root are followed; pass the directory that it leads to",
                given.uid()
            );
        }
        // Symlinks in the path are resolved now, and not again if somebody changes them later.
        let resolved = fs::canonicalize(path).with_context(|| unusable("open"))?;
        let metadata = fs::symlink_metadata(&resolved).with_context(|| unusable("open"))?;
        let is_same = (given.dev(), given.ino()) == (metadata.dev(), metadata.ino());
        if !is_same && !given.is_symlink() {
            bail!("the state directory {shown} was replaced while it was opened; start again");
        }
        let doubts = doubts(&resolved, &metadata);
        for doubt in &doubts {
            warn!(
                doubt,
                "other users may be able to replace files in the state directory"
            );
        }
        let lock = match create_regular(&resolved.join("lock")) {
            Ok(lock) => lock,
            // Even with a full disk, what was written before can be served.
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                return Ok(Self {
                    path: resolved,
                    doubts,
                    _lock: None,
                });
            }
            Err(error) => {
                return Err(error).with_context(|| format!("lock: {}", unusable("write to")));
            }
        };
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                path: resolved,
                doubts,
                _lock: Some(lock),
            }),
            Err(TryLockError::WouldBlock) => bail!(
                "another shaper uses the state directory {shown}; choose another with --state-dir"
            ),
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("can't lock the state directory {shown}"))
            }
        }
    }

    /// The directory, without symlinks.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns a part that reports the doubts about the directory.
    pub(crate) fn part(&self) -> StateDirDoubts {
        StateDirDoubts(self.doubts.clone())
    }
}

/// Reports a state directory that other users can change.
pub(crate) struct StateDirDoubts(Vec<String>);

impl Part for StateDirDoubts {
    fn remarks(&self) -> Vec<String> {
        self.0.clone()
    }
}

/// Returns what lets others replace files in the directory.
fn doubts(resolved: &Path, metadata: &Metadata) -> Vec<String> {
    let own = fs::metadata("/proc/self").map_or(ROOT, |process| process.uid());
    let mut doubts = Vec::new();
    if ![own, ROOT].contains(&metadata.uid()) {
        doubts.push(format!(
            "the state directory {} belongs to user {}",
            resolved.display(),
            metadata.uid()
        ));
    }
    // A volume of a pod is writable by everybody in the pod, and nobody else reaches it.
    let is_pod = std::env::var_os("KUBERNETES_SERVICE_HOST").is_some();
    if metadata.mode() & 0o002 != 0 && !is_pod {
        doubts.push(format!(
            "the state directory {} is writable by every user; run chmod 700 on it",
            resolved.display()
        ));
    }
    doubts
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, lchown, symlink};

    use super::*;

    fn error(path: &Path) -> String {
        format!("{:#}", StateDir::open(path).err().expect("it is refused"))
    }

    #[test]
    fn two_processes_do_not_share_a_state_directory() {
        let directory = tempfile::tempdir().unwrap();
        let _first = StateDir::open(directory.path()).unwrap();
        let error = error(directory.path());
        assert!(error.contains("another shaper"), "{error}");
    }

    #[test]
    fn a_lock_that_is_a_symlink_or_a_pipe_is_refused_and_not_touched() {
        let (directory, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let victim = outside.path().join("victim");
        fs::write(&victim, "x").unwrap();
        let lock = directory.path().join("lock");
        symlink(&victim, &lock).unwrap();
        let of_link = error(directory.path());
        assert!(of_link.contains("it is a symlink"), "{of_link}");
        assert_eq!(fs::read(&victim).unwrap(), b"x");
        fs::remove_file(&lock).unwrap();
        let made = std::process::Command::new("mkfifo").arg(&lock).status();
        assert!(made.unwrap().success());
        let of_pipe = error(directory.path());
        assert!(of_pipe.contains("not a regular file"), "{of_pipe}");
    }

    #[test]
    fn a_state_directory_that_others_can_change_is_reported() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("state");
        let private = StateDir::open(&path).unwrap();
        assert_eq!(private.part().remarks(), Vec::<String>::new());
        drop(private);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        let log = crate::logs::capture(|| {
            let state = StateDir::open(&path).unwrap();
            let remarks = state.part().remarks();
            assert!(remarks[0].contains("writable by every user"), "{remarks:?}");
        });
        assert_eq!(log.matches("WARN").count(), 1, "{log}");
    }

    #[test]
    fn a_state_directory_that_is_a_symlink_is_refused_unless_root_made_it() {
        let parent = tempfile::tempdir().unwrap();
        let (real, link) = (parent.path().join("real"), parent.path().join("link"));
        fs::create_dir(&real).unwrap();
        symlink(&real, &link).unwrap();
        if fs::symlink_metadata(&link).unwrap().uid() == ROOT {
            // As systemd makes it.
            let state = StateDir::open(&link).unwrap();
            assert_eq!(state.path(), fs::canonicalize(&real).unwrap());
            drop(state);
            fs::remove_file(real.join("lock")).unwrap();
            lchown(&link, Some(12_345), None).unwrap();
        }
        for path in [link.clone(), link.join("")] {
            let error = error(&path);
            assert!(error.contains("only those of root are followed"), "{error}");
        }
        assert_eq!(fs::read_dir(&real).unwrap().count(), 0);
    }

    #[test]
    fn a_state_directory_that_is_a_pipe_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let pipe = parent.path().join("state");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        let error = error(&pipe);
        assert!(
            error.contains("can't create the state directory"),
            "{error}"
        );
    }
}
