//! A thread of the server, with a listening socket of its own.

use std::io;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use socket2::Socket;
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use super::{Shared, listen};

/// Accepts connections and serves them, on the thread that runs it.
pub(super) struct Worker {
    pub(super) socket: Socket,
    pub(super) shared: Arc<Shared>,
}

// === impl Worker ===

impl Worker {
    /// Serves until `stop`, then until its connections have ended.
    pub(super) async fn run(self, stop: CancellationToken) -> io::Result<()> {
        let listener = TcpListener::from_std(self.socket.into())?;
        let shared = self.shared;
        let tasks = TaskTracker::new();
        while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
            match accepted {
                Ok((stream, remote)) => {
                    shared
                        .trouble
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .is_over();
                    if let Some(place) = stop.run_until_cancelled(shared.place()).await {
                        shared.clone().take(stream, remote, place, &tasks, &stop);
                    }
                }
                Err(error) => {
                    shared.metrics.accept_errors.inc();
                    if !listen::is_about_one_connection(&error) {
                        shared
                            .trouble
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .tell(&error);
                        sleep(Duration::from_millis(100)).await;
                    }
                }
            }
        }
        // Whoever the system has let in already would be reset.
        while let Ok(Ok((stream, remote))) = timeout(Duration::ZERO, listener.accept()).await {
            let Some(place) = shared.free_place() else {
                break;
            };
            shared.clone().take(stream, remote, place, &tasks, &stop);
        }
        drop(listener);
        tasks.close();
        if timeout(shared.limits.drain, tasks.wait()).await.is_err() {
            warn!(
                connections = tasks.len(),
                "some clients did not take their answer in time"
            );
        }
        Ok(())
    }
}
