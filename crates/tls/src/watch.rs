//! Notices changes to the files of a directory.

use std::path::Path;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::debug;

/// Watches directories rather than their files, since the kubelet replaces a symlink next to them.
pub(crate) struct Watch {
    events: mpsc::Receiver<()>,
    /// `None` where the system can't watch; then only polling notices changes.
    _watcher: Option<RecommendedWatcher>,
}

impl Watch {
    pub(crate) fn new<'p>(directories: impl IntoIterator<Item = &'p Path>) -> Self {
        // Capacity 1: one pending notification is enough.
        let (sender, events) = mpsc::channel(1);
        let told = move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| !event.kind.is_access()) {
                let _ = sender.try_send(());
            }
        };
        let watcher = notify::recommended_watcher(told).and_then(|mut watcher| {
            for directory in directories {
                watcher.watch(directory, RecursiveMode::NonRecursive)?;
            }
            Ok(watcher)
        });
        let watcher = watcher
            .inspect_err(|error| debug!(%error, "can't watch the directory; polling instead"))
            .ok();
        Self {
            events,
            _watcher: watcher,
        }
    }

    /// Waits for a change followed by `quiet` without further changes, or for `poll`, whichever
    /// ends first.
    pub(crate) async fn changed(&mut self, quiet: Duration, poll: Duration) {
        let deadline = Instant::now() + poll;
        if timeout(poll, self.events.recv())
            .await
            .ok()
            .flatten()
            .is_none()
        {
            // Without a watcher the channel is closed at once, so wait for the rest of `poll`.
            sleep_until(deadline).await;
            return;
        }
        while let Ok(Some(())) = timeout(quiet, self.events.recv()).await {
            if Instant::now() > deadline {
                return;
            }
        }
    }
}
