//! Reports a read of the file system that does not return.
//!
//! The server of a network file system may be down, or the file may be a FIFO without a writer. The
//! reading thread then blocks, and changes are not picked up; what was read before is still served.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use files::Activity;
use prometheus_client::metrics::gauge::Gauge;
use tracing::{info, warn};

use crate::admin::Part;

/// How long one operation may take. Reading a large file from a slow disk takes seconds.
const STALLED_AFTER: Duration = Duration::from_secs(20);
/// How often the log reports a change.
const INTERVAL: Duration = Duration::from_secs(5);

/// Watches what a reading thread waits for.
pub(crate) struct StallWatch {
    /// What is not followed meanwhile.
    subject: &'static str,
    activity: Activity,
    /// 1 while a read does not return.
    gauge: Gauge,
    is_logged: AtomicBool,
}

// === impl StallWatch ===

impl StallWatch {
    /// Starts a thread that logs when reads stall and when they continue.
    pub(crate) fn spawn(
        subject: &'static str,
        activity: Activity,
        gauge: Gauge,
    ) -> anyhow::Result<Arc<Self>> {
        let watch = Arc::new(Self::new(subject, activity, gauge));
        let logging = watch.clone();
        let log = move || {
            // Ends when nobody else has the watch any more.
            while Arc::strong_count(&logging) > 1 {
                std::thread::sleep(INTERVAL);
                logging.log(STALLED_AFTER);
            }
        };
        std::thread::Builder::new()
            .name("stalls".to_owned())
            .spawn(log)
            .context("can't start the thread that reports stalled reads")?;
        Ok(watch)
    }

    fn new(subject: &'static str, activity: Activity, gauge: Gauge) -> Self {
        Self {
            subject,
            activity,
            gauge,
            is_logged: AtomicBool::new(false),
        }
    }

    fn log(&self, stalled_after: Duration) {
        let stalled = self.activity.stalled_for(stalled_after);
        let was_logged = self.is_logged.swap(stalled.is_some(), Ordering::Relaxed);
        match stalled {
            Some((path, since)) if !was_logged => warn!(
                path = %path.display(), seconds = since.as_secs(), not_followed = self.subject,
                "a read does not return; what was read before is still served. Is the file system available?"
            ),
            None if was_logged => {
                info!(followed = self.subject, "reads return again");
            }
            _ => {}
        }
    }

    fn describe(&self, stalled_after: Duration) -> Option<String> {
        let (path, since) = self.activity.stalled_for(stalled_after)?;
        Some(format!(
            "reading {} has not returned for {} seconds, so {} is not followed; what was read before is still served. Is the file system available?",
            path.display(),
            since.as_secs(),
            self.subject
        ))
    }
}

impl Part for StallWatch {
    fn remarks(&self) -> Vec<String> {
        self.describe(STALLED_AFTER).into_iter().collect()
    }

    fn refresh(&self) {
        let is_stalled = self.activity.stalled_for(STALLED_AFTER).is_some();
        self.gauge.set(i64::from(is_stalled));
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_read_that_does_not_return_is_reported_once_and_so_is_its_end() {
        let activity = Activity::default();
        let watch = StallWatch::new("the folder", activity.clone(), Gauge::default());
        let log = crate::logs::capture(|| {
            watch.log(Duration::ZERO);
            activity.run(Path::new("/mnt/a.yaml"), || {
                watch.log(Duration::from_hours(1));
                watch.log(Duration::ZERO);
                watch.log(Duration::ZERO);
                let remark = watch.describe(Duration::ZERO).unwrap();
                assert!(
                    remark.starts_with("reading /mnt/a.yaml has not returned for "),
                    "{remark}"
                );
            });
            watch.log(Duration::ZERO);
            watch.log(Duration::ZERO);
        });
        let lines: Vec<_> = log.lines().collect();
        let [stalled, again] = lines[..] else {
            panic!("not two lines: {log}")
        };
        assert!(
            stalled.contains("a read does not return") && stalled.contains("/mnt/a.yaml"),
            "{log}"
        );
        assert!(
            again.contains("reads return again") && again.contains("the folder"),
            "{log}"
        );
    }
}
