//! How long a connection may stay without a request.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

use super::connection::Progress;

/// A connection that ends when no request comes for too long.
///
/// One timer serves all requests of a connection: it is set anew only where it rings too early. hyper's own `header_read_timeout` makes one
/// for each request, and reads once more for it.
pub(super) struct Timed<'p, C> {
    pub(super) connection: C,
    progress: &'p Progress,
    limit: Duration,
    timer: Pin<Box<Sleep>>,
    /// While a request is waited for: after how many answers, and until when.
    waiting: Option<(usize, Instant)>,
}

/// Why a connection ended that did not end well.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error("no request came in time")]
    Silent,
    #[error(transparent)]
    Http(#[from] hyper::Error),
}

// === impl Timed ===

impl<'p, C> Timed<'p, C> {
    /// From the end of one answer, or from now, to the end of the next request's head.
    pub(super) fn new(connection: C, limit: Duration, progress: &'p Progress) -> Self {
        Self {
            connection,
            progress,
            limit,
            timer: Box::pin(sleep(limit)),
            waiting: None,
        }
    }

    /// Ready when a request was waited for too long.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.progress.is_ours.is_set() {
            // While an answer is on its way, `Patience` looks at the clock.
            self.waiting = None;
            return Poll::Pending;
        }
        let answers = self.progress.answers();
        let until = match self.waiting {
            Some((after, until)) if after == answers => until,
            waiting => {
                // Where nothing was waited for but requests, the last answer was taken as it was made: no need to look at the clock.
                let ended = waiting.map_or_else(Instant::now, |_| self.progress.answered_at());
                let until = ended + self.limit;
                self.waiting = Some((answers, until));
                until
            }
        };
        loop {
            ready!(self.timer.as_mut().poll(cx));
            if Instant::now() >= until {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(until);
        }
    }
}

impl<C: Future<Output = hyper::Result<()>> + Unpin> Future for Timed<'_, C> {
    type Output = Result<(), Broken>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(ended) = Pin::new(&mut self.connection).poll(cx) {
            return Poll::Ready(ended.map_err(Broken::Http));
        }
        self.poll_silence(cx).map(|()| Err(Broken::Silent))
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(15);

    #[tokio::test(start_paused = true)]
    async fn a_connection_ends_when_the_next_request_is_late_and_not_while_an_answer_is_taken() {
        let progress = Progress::new();
        let started = Instant::now();
        let connection = async {
            for answer_takes in [0, 40, 0] {
                sleep(Duration::from_secs(10)).await;
                progress.answer(Instant::now());
                sleep(Duration::from_secs(answer_takes)).await;
                progress.is_ours.clear();
            }
            pending().await
        };
        let ended = Timed::new(Box::pin(connection), LIMIT, &progress).await;
        assert!(matches!(ended, Err(Broken::Silent)), "{ended:?}");
        assert_eq!(
            started.elapsed().as_secs(),
            10 + 10 + 40 + 10 + LIMIT.as_secs()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_taken_as_it_is_made_ends_the_wait_when_it_was_made() {
        let progress = Progress::new();
        let started = Instant::now();
        let connection = async {
            for _ in 0..3 {
                sleep(Duration::from_secs(10)).await;
                progress.answer(Instant::now() - Duration::from_secs(1));
                progress.is_ours.clear();
            }
            pending().await
        };
        let ended = Timed::new(Box::pin(connection), LIMIT, &progress).await;
        assert!(matches!(ended, Err(Broken::Silent)), "{ended:?}");
        assert_eq!(
            started.elapsed().as_secs(),
            10 + 10 + 10 - 1 + LIMIT.as_secs()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_first_request_that_never_comes_is_not_waited_for() {
        let progress = Progress::new();
        let started = Instant::now();
        let ended = Timed::new(pending(), LIMIT, &progress).await;
        assert!(matches!(ended, Err(Broken::Silent)), "{ended:?}");
        assert_eq!(started.elapsed().as_secs(), LIMIT.as_secs());
    }
}
