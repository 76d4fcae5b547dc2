//! When to look at a folder again.

use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
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
    signs: Receiver<()>,
    /// Kept alive; without it, only the clock tells.
    _watcher: Option<RecommendedWatcher>,
    woken: Option<Instant>,
}

impl Follow {
    /// Watches a folder, and the one that it is in: it may be a link that is replaced.
    pub fn new(dir: &Path) -> Self {
        let (sender, signs) = channel();
        let heard = move |event: notify::Result<notify::Event>| match event {
            // Reading the files ourselves is no change.
            Ok(event) if matches!(event.kind, EventKind::Access(_)) => {}
            Ok(_) => {
                // Nobody waits any more when the process ends.
                let _ = sender.send(());
            }
            Err(error) => {
                debug!(%error, "the watch of the folder complains");
                let _ = sender.send(());
            }
        };
        let watch = |dir: &Path| {
            let mut watcher = notify::recommended_watcher(heard)?;
            watcher.watch(dir, RecursiveMode::Recursive)?;
            // Relative names have an empty parent.
            let above = std::path::absolute(dir).ok().and_then(|dir| dir.parent().map(Path::to_owned));
            if let Some(above) = above {
                let _ = watcher.watch(&above, RecursiveMode::NonRecursive);
            }
            Ok::<_, notify::Error>(watcher)
        };
        let watcher = watch(dir)
            .inspect_err(|error| warn!(%error, "the folder can't be watched; changes are found by looking every few seconds"))
            .ok();
        Self { signs, _watcher: watcher, woken: None }
    }

    /// Returns when the folder has changed, or could have. The time between two calls is taken for that of a look.
    pub fn wait(&mut self) {
        let look = self.woken.map_or(Duration::ZERO, |woken| woken.elapsed());
        match self.signs.recv_timeout(RESCAN.max(look * IDLE_SHARE)) {
            Ok(()) => self.settle(),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => std::thread::sleep(RESCAN),
        }
        self.woken = Some(Instant::now());
    }

    /// One save makes several signs, and a checkout thousands.
    fn settle(&self) {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until && self.signs.recv_timeout(QUIET).is_ok() {}
        while self.signs.try_recv().is_ok() {}
    }
}
