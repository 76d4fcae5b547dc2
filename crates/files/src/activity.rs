//! What a thread waits for while it reads files.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The file system operation that a reading thread is in. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Activity(Arc<Mutex<Option<Operation>>>);

#[derive(Debug)]
struct Operation {
    path: PathBuf,
    since: Instant,
}

// === impl Activity ===

impl Activity {
    /// Runs an operation on a path, which may block for ever.
    pub fn run<T>(&self, path: &Path, operation: impl FnOnce() -> T) -> T {
        self.set(Some(Operation {
            path: path.to_owned(),
            since: Instant::now(),
        }));
        let done = operation();
        self.set(None);
        done
    }

    /// Returns the path and the age of the current operation if it is at least this old.
    pub fn stalled_for(&self, at_least: Duration) -> Option<(PathBuf, Duration)> {
        let current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let operation = current.as_ref()?;
        let age = operation.since.elapsed();
        (age >= at_least).then(|| (operation.path.clone(), age))
    }

    fn set(&self, operation: Option<Operation>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = operation;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_visible_to_other_threads_until_it_returns() {
        let activity = Activity::default();
        let seen = activity.run(Path::new("/mnt/a.yaml"), || {
            let observer = activity.clone();
            let seen = std::thread::spawn(move || observer.stalled_for(Duration::ZERO));
            assert!(activity.stalled_for(Duration::from_hours(1)).is_none());
            seen.join().unwrap()
        });
        assert_eq!(seen.unwrap().0, Path::new("/mnt/a.yaml"));
        assert!(activity.stalled_for(Duration::ZERO).is_none());
    }
}
