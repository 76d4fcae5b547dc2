//! The TFTP root directory: reads its files and follows their changes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use anyhow::Context;
use arc_swap::ArcSwap;
use tftp::{Metrics, SkippedPath, Table};
use tracing::{error, info, warn};

use crate::admin::Remarks;
use manifests::Follow;

/// The files below a directory, and those that can't be served.
pub(super) struct TftpRoot {
    path: Option<PathBuf>,
    table: Arc<ArcSwap<Table>>,
    metrics: Metrics,
    remarks: Remarks,
    skipped: BTreeSet<SkippedPath>,
    is_unreadable: bool,
}

// === impl TftpRoot ===

impl TftpRoot {
    /// Reads the directory, which must exist.
    pub(super) fn open(
        root: Option<&Path>,
        metrics: Metrics,
        remarks: Remarks,
    ) -> anyhow::Result<Self> {
        let mut this = Self {
            path: root.map(Path::to_owned),
            table: Arc::default(),
            metrics,
            remarks,
            skipped: BTreeSet::new(),
            is_unreadable: false,
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

    /// Starts a thread that re-reads the directory whenever it changes.
    pub(super) fn follow(mut self) -> anyhow::Result<()> {
        let Some(root) = self.path.clone() else {
            return Ok(());
        };
        let mut follow = Follow::new(&root);
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
        Ok(())
    }

    fn read(&mut self, root: &Path) -> std::io::Result<()> {
        let started = Instant::now();
        let previous = self.table.load_full();
        let (table, skipped) = Table::scan(root, &previous)?;
        let skipped: BTreeSet<_> = skipped.into_iter().collect();
        self.metrics.set_table(table.len(), skipped.len());
        for file in skipped.difference(&self.skipped) {
            warn!(path = %file.path.display(), reason = file.reason, "not served over TFTP");
        }
        if skipped != self.skipped {
            let sentences = skipped.iter().map(|file| {
                format!(
                    "not served over TFTP: {}: {}",
                    file.path.display(),
                    file.reason
                )
            });
            *self.remarks.lock().unwrap_or_else(PoisonError::into_inner) = sentences.collect();
        }
        self.skipped = skipped;
        if !table.is_same_as(&previous) {
            let took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            info!(root = %root.display(), files = table.len(), took_ms, "files for TFTP");
            self.table.store(Arc::new(table));
        }
        Ok(())
    }
}
