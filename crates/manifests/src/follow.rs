//! When to look at a folder again.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tracing::{debug, warn};

/// After the first sign of a change, until no more comes for so long.
const QUIET: Duration = Duration::from_millis(80);
/// ... but no longer than this.
const PATIENCE: Duration = Duration::from_millis(400);
/// The shortest time between looks where nothing is heard: NFS and the targets of links tell nothing.
const RESCAN: Duration = Duration::from_secs(5);
/// The share of its time that looking may take, one in so many.
const IDLE_SHARE: u32 = 20;

/// Says when to look at a folder again.
pub struct Follow {
    dir: PathBuf,
    /// Kept here too, so that the channel never closes.
    sender: Sender<()>,
    signs: Receiver<()>,
    /// Kept alive; without it, only the clock tells.
    watcher: Option<RecommendedWatcher>,
    /// The folder that is watched, by device and inode: behind a link, it may become another.
    watched: Option<(u64, u64)>,
    woken: Option<Instant>,
}

/// Makes whoever waits look at once.
#[derive(Clone)]
pub struct Waker(Sender<()>);

impl Waker {
    /// Wakes it.
    pub fn wake(&self) {
        // Nobody waits any more when the process ends.
        let _ = self.0.send(());
    }
}

// === impl Follow ===

impl Follow {
    /// Watches a folder, and the one that it is in: it may be a link that is replaced.
    pub fn new(dir: &Path) -> Self {
        let (sender, signs) = channel();
        let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
        let mut follow = Self {
            dir,
            sender,
            signs,
            watcher: None,
            watched: None,
            woken: None,
        };
        follow.watch();
        follow
    }

    /// What makes [`wait`](Self::wait) return.
    pub fn waker(&self) -> Waker {
        Waker(self.sender.clone())
    }

    /// Returns when the folder has changed, or could have, or after so long a time. The time between two calls is taken for that of a look.
    pub fn wait(&mut self, at_most: Option<Duration>) {
        let look = self.woken.map_or(Duration::ZERO, |woken| woken.elapsed());
        // What changed before the new watch was set was not heard.
        let is_another = identity(&self.dir) != self.watched && self.watch();
        if !is_another {
            match self.signs.recv_timeout(
                RESCAN
                    .max(look * IDLE_SHARE)
                    .min(at_most.unwrap_or(Duration::MAX)),
            ) {
                Ok(()) => self.settle(),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
        }
        self.woken = Some(Instant::now());
    }

    /// One save makes several signs, and a checkout thousands.
    fn settle(&self) {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until && self.signs.recv_timeout(QUIET).is_ok() {}
        while self.signs.try_recv().is_ok() {}
    }

    /// Watches what the folder is now. False where there is nothing new to be watched.
    fn watch(&mut self) -> bool {
        let identity = identity(&self.dir);
        let is_another = identity.is_some() && identity != self.watched;
        self.watched = identity;
        let watcher = watcher(&self.dir, self.sender.clone());
        let watcher =
            watcher.inspect_err(|error| warn!(%error, "the folder can't be watched; changes are found by looking every few seconds"));
        self.watcher = watcher.ok();
        is_another
    }
}

fn identity(dir: &Path) -> Option<(u64, u64)> {
    fs::metadata(dir)
        .ok()
        .map(|metadata| (metadata.dev(), metadata.ino()))
}

fn watcher(dir: &Path, sender: Sender<()>) -> notify::Result<RecommendedWatcher> {
    let below = dir.to_owned();
    // The folder above may be a busy one, of which only our own is meant.
    let is_meant = move |event: &notify::Event| {
        event.need_rescan() || event.paths.iter().any(|path| path.starts_with(&below))
    };
    let mut watcher =
        notify::recommended_watcher(move |event: notify::Result<notify::Event>| match event {
            // Reading the files ourselves is no change.
            Ok(event) if matches!(event.kind, EventKind::Access(_)) => {}
            Ok(event) if !is_meant(&event) => {}
            heard => {
                if let Err(error) = heard {
                    debug!(%error, "the watch of the folder complains");
                }
                // Nobody waits any more when the process ends.
                let _ = sender.send(());
            }
        })?;
    if let Some(above) = dir.parent() {
        watcher.watch(above, RecursiveMode::NonRecursive)?;
    }
    // A folder that is not there yet is seen when it is made.
    match watcher.watch(dir, RecursiveMode::Recursive) {
        Err(error) if !matches!(error.kind, notify::ErrorKind::PathNotFound) && dir.exists() => {
            Err(error)
        }
        _ => Ok(watcher),
    }
}

#[cfg(test)]
mod tests;
