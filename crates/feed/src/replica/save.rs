//! Keeps the copy on disk up to date.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info};

use super::copy::DiskCopy;
use super::link::Link;
use super::merged_catalog::lock;

/// The shortest pause between two writes.
const MIN_INTERVAL: Duration = Duration::from_secs(5);
/// The pause is at least this many times as long as the last write, so that writing takes at most 5
/// % of the time.
const PAUSE_FACTOR: u32 = 20;
/// The pause after a failed write, such as to a full disk.
const RETRY_INTERVAL: Duration = Duration::from_secs(30);

/// Writes the copy after changes until `stop`, and then once more.
pub(super) async fn run(copy: DiskCopy, link: Arc<Link>, stop: CancellationToken) {
    let mut is_saved = true;
    loop {
        let changed = async {
            if is_saved {
                link.changed.notified().await;
            }
        };
        let is_stopping = stop.run_until_cancelled(changed).await.is_none();
        if !lock(link.state()).is_loaded() {
            if is_stopping {
                return;
            }
            continue;
        }
        let started = Instant::now();
        let written = write(&copy, &link).await;
        let pause = if written.is_ok() {
            MIN_INTERVAL.max(started.elapsed() * PAUSE_FACTOR)
        } else {
            RETRY_INTERVAL
        };
        is_saved = written.is_ok();
        report(&copy, &link, written);
        if is_stopping {
            return;
        }
        let _ = stop.run_until_cancelled(sleep(pause)).await;
    }
}

async fn write(copy: &DiskCopy, link: &Arc<Link>) -> io::Result<()> {
    let (copy, link) = (copy.clone(), link.clone());
    let write = move || {
        let (catalog, position, age) = {
            let state = lock(link.state());
            // A position is only valid if a restarted replica could continue from it: objects that
            // are held, kept or incompatible now have to be judged again.
            let matches_controller = state.matches_controller();
            let catalog = boot::Catalog::clone(&link.merged_catalog().shared().load());
            (
                catalog,
                state.position().filter(|_| matches_controller),
                state.age().unwrap_or_default(),
            )
        };
        copy.write(&catalog, position, age)
    };
    tokio::task::spawn_blocking(write)
        .await
        .map_err(io::Error::other)?
}

/// Logs the first failure and the first success after failures, and sets the metric.
fn report(copy: &DiskCopy, link: &Link, written: io::Result<()>) {
    let unsaved = &link.metrics().unsaved;
    let file = copy.path().display();
    let was_unsaved = unsaved.get() == 1;
    unsaved.set(i64::from(written.is_err()));
    match written {
        Ok(()) if was_unsaved => info!(%file, "feed copy written again"),
        Ok(()) => debug!(%file, "feed copy written"),
        Err(error) if was_unsaved => {
            debug!(%file, %error, "still can't write the feed copy");
        }
        Err(error) => {
            error!(%file, %error, "can't write the feed copy; a restart without a controller would serve an older one");
        }
    }
}
