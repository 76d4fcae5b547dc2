//! How long an API server is waited for.

use std::time::Duration;

use kube::Client;
use tokio::time::timeout;

/// How long an API server is waited for.
#[derive(Clone, Copy, Debug)]
pub struct ResponseTimeout {
    /// Within this time an answer must begin.
    pub answer: Duration,
    /// So often the server is asked whether what the watch brought is all that there is.
    pub probe: Duration,
}

/// No answer began.
#[derive(Debug, thiserror::Error)]
#[error("the API server did not begin to answer within {0:?}")]
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
    /// A client whose requests fail where no answer begins: a watch waits for the first byte for ever, as only what follows has a limit in it.
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

    /// How long a listing may bring nothing: each of its pages is an answer that has to begin, and to end.
    pub(super) fn listing(self) -> Duration {
        self.answer * 2
    }
}
