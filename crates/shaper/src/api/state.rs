//! The state directory, which only one process may write to.

use std::fs::{self, File, TryLockError};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// A directory of this process's own, for as long as it lives.
pub(super) struct StateDir {
    path: PathBuf,
    _lock: Option<File>,
}

impl StateDir {
    /// Opens it; it is made if it is not there.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        let unwritable =
            || format!("can't write to the state directory {shown}; name another with --state-dir");
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .with_context(unwritable)?;
        let lock = match File::create(path.join("lock")) {
            Ok(lock) => lock,
            // What is there already may be served all the same.
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
                "another shaper uses the state directory {shown}; name another with --state-dir"
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
