//! Keeps the last good objects of each file in the state directory.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use feed::{CopyError, FileCopy, FolderCopy};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tracing::{debug, error, info, warn};

use crate::admin::Part;
use manifests::Folder;

/// Writing the copy may take one part in this many of the time.
const WRITE_TIME_DIVISOR: u32 = 20;
/// How long to wait after a failed write, for example because the disk is full.
const RETRY_DELAY: Duration = Duration::from_secs(30);

/// The copy of the last good objects on disk.
pub(super) struct LastGoodCopy {
    copy: FolderCopy,
    /// Whether the copy matches the last scan of the folder.
    pub(super) is_current: bool,
    not_before: Option<Instant>,
    unsaved: UnsavedGauge,
}

/// A gauge that is 1 while the copy can't be written.
#[derive(Clone)]
pub(super) struct UnsavedGauge(Gauge);

impl LastGoodCopy {
    pub(super) fn new(state_dir: &Path, folder: &Path, unsaved: UnsavedGauge) -> Self {
        let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
        Self {
            copy: FolderCopy::new(state_dir, &folder),
            is_current: false,
            not_before: None,
            unsaved,
        }
    }

    /// Reads the copy that an earlier process wrote.
    pub(super) fn read(&mut self) -> Vec<FileCopy> {
        let file = self.copy.path().display();
        match self.copy.read() {
            Ok(Some(files)) => {
                let objects: usize = files
                    .iter()
                    .map(|file| file.profiles.len() + file.assignments.len() + file.machines.len())
                    .sum();
                info!(%file, files = files.len(), objects, "restored the last good objects of the folder");
                return files;
            }
            Ok(None) => {}
            Err(error @ CopyError::WrongSource(_)) => {
                warn!(%file, %error, "the copy in the state directory belongs to another folder; replacing it");
            }
            Err(error) => {
                // Keep the damaged file for analysis.
                let aside = self.copy.path().with_extension("copy.damaged");
                let kept = fs::rename(self.copy.path(), &aside)
                    .map_or(file.to_string(), |()| aside.display().to_string());
                warn!(%error, kept, "the copy of the folder in the state directory is damaged and was ignored; files that are broken now have no last good objects");
            }
        }
        Vec::new()
    }

    /// Makes the next write due at once, because the copy on disk must not be loaded by a restart.
    pub(super) fn write_soon(&mut self) {
        (self.is_current, self.not_before) = (false, None);
    }

    /// Returns the time until the next write is due, if any.
    pub(super) fn pending(&self) -> Option<Duration> {
        self.not_before
            .filter(|_| !self.is_current)
            .map(|until| until.saturating_duration_since(Instant::now()))
    }

    /// Writes the copy if it changed and a write is due.
    pub(super) fn write(&mut self, folder: &Folder) {
        let started = Instant::now();
        if self.is_current || self.not_before.is_some_and(|until| started < until) {
            return;
        }
        let written = self.copy.write(&folder.remember());
        self.is_current = written.is_ok();
        self.not_before = Some(
            Instant::now()
                + if written.is_ok() {
                    started.elapsed() * WRITE_TIME_DIVISOR
                } else {
                    RETRY_DELAY
                },
        );
        let was_unsaved = self.unsaved.0.get() == 1;
        self.unsaved.0.set(i64::from(written.is_err()));
        let file = self.copy.path().display();
        match written {
            Ok(()) if was_unsaved => {
                info!(%file, "the last good objects are written to the state directory again");
            }
            Ok(()) => debug!(%file, "wrote the last good objects"),
            Err(error) if was_unsaved => {
                debug!(%file, %error, "still can't write the last good objects");
            }
            Err(error) => {
                error!(%file, %error, "can't write the last good objects to the state directory; after a restart, broken files get older ones");
            }
        }
    }
}

impl UnsavedGauge {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let unsaved = Gauge::default();
        registry.register(
            "folder_copy_unsaved",
            "1 while the last good objects can't be written to the state directory",
            unsaved.clone(),
        );
        Self(unsaved)
    }
}

impl Part for UnsavedGauge {
    fn remarks(&self) -> Vec<String> {
        let sentence = "can't write the last good objects to --state-dir; after a restart, broken files get older ones";
        (self.0.get() == 1)
            .then(|| sentence.to_owned())
            .into_iter()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use boot::catalog::guard::Limits;

    use super::*;

    #[test]
    fn a_failed_write_raises_the_gauge_and_a_damaged_copy_is_moved_aside() {
        let (state, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let below = state.path().join("below");
        let unsaved = UnsavedGauge(Gauge::default());
        let mut last_good = LastGoodCopy::new(&below, dir.path(), unsaved.clone());
        let folder = Folder::new(dir.path(), Limits::default());
        last_good.write(&folder);
        assert_eq!((unsaved.remarks().len(), last_good.is_current), (1, false));
        assert!(
            last_good
                .pending()
                .is_some_and(|pending| !pending.is_zero()),
            "the retry is delayed"
        );
        fs::create_dir(&below).unwrap();
        last_good.write_soon();
        last_good.write(&folder);
        assert_eq!(
            (
                unsaved.remarks().len(),
                last_good.is_current,
                last_good.pending()
            ),
            (0, true, None)
        );
        fs::write(below.join("folder.copy"), "shaper folder copy 1\nwhat else").unwrap();
        assert!(last_good.read().is_empty());
        assert_eq!(
            fs::read(below.join("folder.copy.damaged")).unwrap(),
            b"shaper folder copy 1\nwhat else"
        );
    }
}
