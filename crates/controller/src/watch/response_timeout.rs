//! Timeouts for the API server.

use std::time::Duration;

use kube::Client;
use tokio::time::timeout;

/// Timeouts for the API server.
#[derive(Clone, Copy, Debug)]
pub struct ResponseTimeout {
    /// How long the server may take to start its response.
    pub answer: Duration,
    /// How often to ask the server whether the watch has delivered every change.
    pub probe: Duration,
}

/// The server did not start its response in time.
#[derive(Debug, thiserror::Error)]
#[error("the API server did not start to answer within {0:?}")]
struct Unanswered(Duration);

// === impl ResponseTimeout ===

impl Default for ResponseTimeout {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(30),
            probe: Duration::from_mins(1),
        }
    }
}

impl ResponseTimeout {
    /// Returns a client whose requests fail if no response starts in time. Without it, a watch
    /// waits for the first byte forever: `watcher` only limits the time after that.
    pub(super) fn client(self, client: Client) -> Client {
        let namespace = client.default_namespace().to_owned();
        let answering = tower::service_fn(move |request| {
            let client = client.clone();
            async move {
                match timeout(self.answer, client.send(request)).await {
                    Ok(answer) => answer.map_err(tower::BoxError::from),
                    Err(_) => Err(Unanswered(self.answer).into()),
                }
            }
        });
        Client::new(answering, namespace)
    }

    /// Returns how long a list may deliver nothing: each page has to start and to end.
    pub(super) fn listing(self) -> Duration {
        self.answer * 2
    }
}
