//! The state directory, locked so that only one process writes to it.

use std::fs::{self, File, TryLockError};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// A state directory that this process has locked until it ends.
pub(super) struct StateDir {
    path: PathBuf,
    _lock: Option<File>,
}

impl StateDir {
    /// Opens and locks the directory, and creates it if it does not exist.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        let unwritable = || {
            format!("can't write to the state directory {shown}; choose another with --state-dir")
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .with_context(unwritable)?;
        let lock = match File::create(path.join("lock")) {
            Ok(lock) => lock,
            // Even with a full disk, the existing copy can be served.
            Err(error) if error.kind() == std::io::ErrorKind::StorageFull => {
                return Ok(Self {
                    path: path.to_owned(),
                    _lock: None,
                });
            }
            Err(error) => return Err(error).with_context(unwritable),
        };
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                path: path.to_owned(),
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

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}
