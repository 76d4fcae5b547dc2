//! Decides when to scan a folder again.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use files::Activity;
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tracing::{debug, warn};

/// How long no further event must arrive after the first one.
const QUIET: Duration = Duration::from_millis(80);
/// The longest wait for that.
const PATIENCE: Duration = Duration::from_millis(400);
/// The shortest interval between scans without events: NFS and the targets of symlinks send none.
const RESCAN: Duration = Duration::from_secs(5);
/// Bounds the time spent scanning to one part in this many.
const IDLE_SHARE: u32 = 20;

/// Watches a folder and tells when to scan it again.
pub struct Follow {
    dir: PathBuf,
    activity: Activity,
    /// Kept here too, so that the channel never closes.
    sender: Sender<()>,
    events: Receiver<()>,
    /// Kept alive. Without it, only the timer triggers scans.
    watcher: Option<RecommendedWatcher>,
    /// The watched folder, by device and inode: a symlink may come to lead to another.
    watched: Option<(u64, u64)>,
    woken: Option<Instant>,
}

/// Triggers a scan at once.
#[derive(Clone)]
pub struct Waker(Sender<()>);

impl Waker {
    /// Triggers it.
    pub fn wake(&self) {
        // The receiver is gone when the process ends.
        let _ = self.0.send(());
    }
}

// === impl Follow ===

impl Follow {
    /// Watches a folder and its parent: the folder may be a symlink that is replaced. Changes
    /// behind symlinks in the folder are noticed by the timer.
    pub fn new(dir: &Path, activity: Activity) -> Self {
        let (sender, events) = channel();
        let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
        let mut follow = Self {
            dir,
            activity,
            sender,
            events,
            watcher: None,
            watched: None,
            woken: None,
        };
        follow.watch();
        follow
    }

    /// Returns a handle that makes [`wait`](Self::wait) return.
    pub fn waker(&self) -> Waker {
        Waker(self.sender.clone())
    }

    /// Blocks until the folder changed, or may have changed, or until the time is over. Takes the
    /// time between two calls for the duration of a scan.
    pub fn wait(&mut self, at_most: Option<Duration>) {
        let scan = self.woken.map_or(Duration::ZERO, |woken| woken.elapsed());
        // Events before the new watch was set are lost.
        let is_another = self.identity() != self.watched && self.watch();
        if !is_another {
            match self.events.recv_timeout(
                RESCAN
                    .max(scan * IDLE_SHARE)
                    .min(at_most.unwrap_or(Duration::MAX)),
            ) {
                Ok(()) => self.settle(),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
        }
        self.woken = Some(Instant::now());
    }

    /// Waits for events to cease: one save causes several, and a checkout thousands.
    fn settle(&self) {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until && self.events.recv_timeout(QUIET).is_ok() {}
        while self.events.try_recv().is_ok() {}
    }

    /// Watches the current folder. Returns false if there is nothing new to watch.
    fn watch(&mut self) -> bool {
        let identity = self.identity();
        let is_another = identity.is_some() && identity != self.watched;
        self.watched = identity;
        let watcher = self
            .activity
            .run(&self.dir, || watcher(&self.dir, self.sender.clone()));
        let watcher = watcher.inspect_err(
            |error| warn!(%error, "can't watch the folder; scanning it every few seconds instead"),
        );
        self.watcher = watcher.ok();
        is_another
    }

    /// Returns the folder's device and inode.
    fn identity(&self) -> Option<(u64, u64)> {
        self.activity
            .run(&self.dir, || fs::metadata(&self.dir))
            .ok()
            .map(|metadata| (metadata.dev(), metadata.ino()))
    }
}

fn watcher(dir: &Path, sender: Sender<()>) -> notify::Result<RecommendedWatcher> {
    let below = dir.to_owned();
    // The parent may be busy; only events about this folder count.
    let is_meant = move |event: &notify::Event| {
        event.need_rescan() || event.paths.iter().any(|path| path.starts_with(&below))
    };
    let on_event = move |event: notify::Result<notify::Event>| match event {
        // Reading the files causes access events, which are not changes.
        Ok(event) if matches!(event.kind, EventKind::Access(_)) => {}
        Ok(event) if !is_meant(&event) => {}
        heard => {
            if let Err(error) = heard {
                debug!(%error, "folder watch error");
            }
            // The receiver is gone when the process ends.
            let _ = sender.send(());
        }
    };
    // Symlinks are not followed: folders that link to each other have endless paths.
    let config = notify::Config::default().with_follow_symlinks(false);
    let mut watcher = RecommendedWatcher::new(on_event, config)?;
    if let Some(above) = dir.parent() {
        watcher.watch(above, RecursiveMode::NonRecursive)?;
    }
    // A folder that does not exist yet is noticed when it is created.
    // The dot follows the folder itself if it is a symlink.
    match watcher.watch(&dir.join("."), RecursiveMode::Recursive) {
        Err(error) if !matches!(error.kind, notify::ErrorKind::PathNotFound) && dir.exists() => {
            Err(error)
        }
        _ => Ok(watcher),
    }
}

#[cfg(test)]
mod tests;
