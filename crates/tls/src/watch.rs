//! When the files of a directory change.

use std::path::Path;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::debug;

/// Watches a directory, not its files: the kubelet replaces a link beside them.
pub(crate) struct Watch {
    events: mpsc::Receiver<()>,
    /// None where the system can't watch; then only time tells.
    _watcher: Option<RecommendedWatcher>,
}

impl Watch {
    pub(crate) fn new(directory: &Path) -> Self {
        // One event waiting is as good as a thousand.
        let (sender, events) = mpsc::channel(1);
        let told = move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| !event.kind.is_access()) {
                let _ = sender.try_send(());
            }
        };
        let watcher = notify::recommended_watcher(told).and_then(|mut watcher| {
            watcher.watch(directory, RecursiveMode::NonRecursive)?;
            Ok(watcher)
        });
        let watcher = watcher
            .inspect_err(
                |error| debug!(%error, "can't watch for changes; looking every few seconds"),
            )
            .ok();
        Self {
            events,
            _watcher: watcher,
        }
    }

    /// Waits for a change and then until nothing has changed for `quiet`; or for `poll`, whichever comes first.
    pub(crate) async fn changed(&mut self, quiet: Duration, poll: Duration) {
        let deadline = Instant::now() + poll;
        if timeout(poll, self.events.recv())
            .await
            .ok()
            .flatten()
            .is_none()
        {
            // Nothing is told any more once the watcher is gone.
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
