//! The TFTP root directory: reads its files and follows their changes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use arc_swap::ArcSwap;
use files::Activity;
use tftp::{Metrics, SkippedPath, Table, TableScan};
use tracing::{debug, error, info, warn};

use crate::admin::Remarks;
use manifests::{Follow, Waker};

/// The minimum time between two log lines at INFO about changed files: while an image is being
/// copied, the directory changes ten times a second.
const LOG_INTERVAL: Duration = Duration::from_secs(5);

/// The files below a directory, and those that can't be served.
pub(super) struct TftpRoot {
    path: Option<PathBuf>,
    activity: Activity,
    table: Arc<ArcSwap<Table>>,
    metrics: Metrics,
    remarks: Remarks,
    skipped: BTreeSet<SkippedPath>,
    /// Problems of the last scan that concern no single path.
    general: Vec<String>,
    is_unreadable: bool,
    /// The names of the files when they were last logged at INFO, and when that was.
    logged: Option<(BTreeSet<Vec<u8>>, Instant)>,
}

// === impl TftpRoot ===

impl TftpRoot {
    /// Reads the directory, which must exist.
    pub(super) fn open(
        root: Option<&Path>,
        activity: Activity,
        metrics: Metrics,
        remarks: Remarks,
    ) -> anyhow::Result<Self> {
        let mut this = Self {
            path: root.map(Path::to_owned),
            activity,
            table: Arc::default(),
            metrics,
            remarks,
            skipped: BTreeSet::new(),
            general: Vec::new(),
            is_unreadable: false,
            logged: None,
        };
        match this.path.clone() {
            Some(root) => this
                .read(&root)
                .with_context(|| format!("can't read --tftp-root {}", root.display()))?,
            None => info!("no --tftp-root; serving only autoexec.ipxe and boot.ipxe over TFTP"),
        }
        Ok(this)
    }

    /// The current table.
    pub(super) fn table(&self) -> Arc<ArcSwap<Table>> {
        self.table.clone()
    }

    /// Starts a thread that re-reads the directory whenever it changes. Returns a handle that makes
    /// it read at once, if there is a directory.
    pub(super) fn follow(mut self) -> anyhow::Result<Option<Waker>> {
        let Some(root) = self.path.clone() else {
            return Ok(None);
        };
        let mut follow = Follow::new(&root, self.activity.clone());
        let waker = follow.waker();
        let serve = move || {
            loop {
                follow.wait(None);
                match self.read(&root) {
                    Ok(()) if self.is_unreadable => {
                        self.is_unreadable = false;
                        info!(root = %root.display(), "the TFTP root is readable again");
                    }
                    Ok(()) => {}
                    // Files that are already open can still be sent.
                    Err(error) if !self.is_unreadable => {
                        self.is_unreadable = true;
                        error!(root = %root.display(), %error, "can't read the TFTP root; its last known files are still served");
                    }
                    Err(_) => {}
                }
            }
        };
        std::thread::Builder::new()
            .name("tftp-files".to_owned())
            .spawn(serve)
            .context("can't start the thread that follows the TFTP root")?;
        Ok(Some(waker))
    }

    fn read(&mut self, root: &Path) -> std::io::Result<()> {
        let started = Instant::now();
        let previous = self.table.load_full();
        let TableScan {
            table,
            skipped,
            more_skipped,
            limit,
        } = Table::scan(root, &previous, &self.activity)?;
        let skipped: BTreeSet<_> = skipped.into_iter().collect();
        self.metrics
            .set_table(table.len(), skipped.len() + more_skipped);
        self.metrics.set_scan_incomplete(limit.is_some());
        let limit = limit.map(|limit| {
            format!("not all of the TFTP root is read: {limit}; files that were not seen stay as they were; remove files or symlinks")
        });
        let more = (more_skipped > 0)
            .then(|| format!("{more_skipped} more paths are not served over TFTP"));
        let general: Vec<_> = limit.into_iter().chain(more).collect();
        for sentence in general.iter().filter(|new| !self.general.contains(new)) {
            warn!(root = %root.display(), "{sentence}");
        }
        for file in skipped.difference(&self.skipped) {
            warn!(path = %file.path.display(), reason = file.reason, "not served over TFTP");
        }
        if skipped != self.skipped || general != self.general {
            let sentences = skipped.iter().map(|file| {
                format!(
                    "not served over TFTP: {}: {}",
                    file.path.display(),
                    file.reason
                )
            });
            *self.remarks.lock().unwrap_or_else(PoisonError::into_inner) =
                general.iter().cloned().chain(sentences).collect();
        }
        (self.skipped, self.general) = (skipped, general);
        let is_changed = !table.is_same_as(&previous);
        let files = table.len();
        let took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        if self.is_worth_logging(&table, started) {
            info!(root = %root.display(), files, took_ms, "files for TFTP loaded");
        } else if is_changed {
            debug!(root = %root.display(), files, took_ms, "files for TFTP loaded");
        }
        if is_changed {
            self.table.store(Arc::new(table));
        }
        Ok(())
    }

    /// Whether the set of files differs from the one that was last logged, and enough time has
    /// passed since then. A change that comes too early is logged by a later scan.
    fn is_worth_logging(&mut self, table: &Table, now: Instant) -> bool {
        if let Some((names, at)) = &self.logged {
            let is_same =
                names.len() == table.len() && table.names().all(|name| names.contains(name));
            if is_same || now < *at + LOG_INTERVAL {
                return false;
            }
        }
        self.logged = Some((table.names().map(<[u8]>::to_vec).collect(), now));
        true
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use prometheus_client::registry::Registry;

    use super::*;

    fn open(dir: &Path) -> TftpRoot {
        let metrics = Metrics::register(&mut Registry::default());
        TftpRoot::open(Some(dir), Activity::default(), metrics, Remarks::default()).unwrap()
    }

    #[test]
    fn a_file_that_grows_is_logged_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ipxe.efi");
        fs::write(&file, "").unwrap();
        let log = crate::logs::capture(|| {
            let mut root = open(dir.path());
            for len in 1..10 {
                fs::write(&file, "x".repeat(len)).unwrap();
                root.read(dir.path()).unwrap();
            }
        });
        assert_eq!(log.matches("files for TFTP loaded").count(), 1, "{log}");
    }

    #[test]
    fn changed_files_are_logged_when_their_names_change_and_not_too_often() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("ipxe.efi"), "one").unwrap();
        let mut root = open(dir.path());
        let (_, opened) = root.logged.clone().expect("the first table is logged");
        let scan = |root: &TftpRoot| {
            Table::scan(dir.path(), &root.table.load_full(), &root.activity)
                .unwrap()
                .table
        };

        let later = opened + 2 * LOG_INTERVAL;
        fs::write(dir.path().join("ipxe.efi"), "other content").unwrap();
        let table = scan(&root);
        assert!(
            !root.is_worth_logging(&table, later),
            "the names are the same"
        );

        fs::write(dir.path().join("undionly.kpxe"), "two").unwrap();
        let table = scan(&root);
        assert!(
            !root.is_worth_logging(&table, opened + LOG_INTERVAL / 2),
            "too early"
        );
        assert!(
            root.is_worth_logging(&table, later),
            "the change is made up for"
        );
        assert!(
            !root.is_worth_logging(&table, later + LOG_INTERVAL),
            "it is logged once"
        );

        fs::remove_file(dir.path().join("ipxe.efi")).unwrap();
        fs::write(dir.path().join("snponly.efi"), "one").unwrap();
        let table = scan(&root);
        assert!(
            root.is_worth_logging(&table, later + LOG_INTERVAL),
            "as many files, other names"
        );
    }
}
