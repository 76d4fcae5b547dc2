//! The controller's event loop: receives all updates and starts all writes.

mod deletions;
mod evaluation;
mod events;
mod health;
mod listing;
#[cfg(test)]
mod tests;
mod writes;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use boot::ObjectRef;
use boot::catalog::guard::Limits;
use feed::Publisher;
use kube::Client;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::event_limit::EventLimit;
use crate::index::{Index, IndexEvent, StatusPatch};
use crate::lease::{Candidate, KubeLeases, Leadership, LeaseTiming};
use crate::metrics::{Metrics, Outcome};
use crate::object::{ResourceKind, WatchedResource};
use crate::refusals::Refusals;
use crate::rewrites::Rewrites;
use crate::watch::{ResponseTimeout, SourceWatcher, Update};
use crate::write_queue::WriteQueue;
use crate::writer::{InFlightLimit, RateLimiter, Written, record_events};

use evaluation::Pace;
use listing::{NO_LISTING, SourceState, sources_of};

/// The configuration of a controller.
#[derive(Clone, Debug)]
pub struct Options {
    /// The namespaces to watch. Empty: all namespaces.
    pub namespaces: Vec<String>,
    /// When a list that lacks known objects is not believed.
    pub guard: Limits,
    /// The namespace of the Lease.
    pub lease_namespace: String,
    /// The name of the Lease.
    pub lease_name: String,
    /// The timing of leader election.
    pub lease: LeaseTiming,
    /// The unique identity of this process.
    pub identity: String,
    /// The maximum number of status writes per second.
    pub writes_per_second: u32,
    /// How long to wait for the API server.
    pub response_timeout: ResponseTimeout,
}

/// Watches a cluster, publishes its objects to the feed, and writes their status.
pub struct Controller {
    client: Client,
    publisher: Arc<Publisher>,
    options: Options,
    metrics: Metrics,
    remarks: Arc<Mutex<Vec<String>>>,
    confirmed: Arc<Notify>,
}

/// The operator's view of a running controller.
#[derive(Clone)]
pub struct Handle {
    publisher: Arc<Publisher>,
    metrics: Metrics,
    remarks: Arc<Mutex<Vec<String>>>,
    confirmed: Arc<Notify>,
}

struct State {
    index: Index,
    sources: Vec<SourceState>,
    has_started: bool,
    /// The number of lists started so far.
    listings: u32,
    queue: WriteQueue,
    evaluation_pace: Pace,
    rate_limiter: RateLimiter,
    in_flight_limit: InFlightLimit,
    leadership: Option<Leadership>,
    /// An object whose write waits for the rate limiter.
    next: Option<ObjectRef>,
    paused_until: Instant,
    refusals: Refusals,
    rewrites: Rewrites,
    event_limit: EventLimit,
    /// Whether the last event could be recorded.
    is_recording: bool,
    /// Why the last write failed, if none has succeeded since.
    last_failure: Option<String>,
    publisher: Arc<Publisher>,
    metrics: Metrics,
    remarks: Arc<Mutex<Vec<String>>>,
}

/// The maximum number of updates to apply at once, as one revision of the feed.
const MAX_UPDATES_PER_BATCH: usize = 4096;

// === impl Handle ===

impl Handle {
    /// Returns what an operator should know: sources that can't be watched, objects that the guard
    /// holds.
    pub fn remarks(&self) -> Vec<String> {
        self.remarks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Returns whether all sources have been listed.
    pub fn is_ready(&self) -> bool {
        self.publisher.is_ready()
    }

    /// Updates the metrics that depend on the current time.
    pub fn refresh(&self) {
        self.metrics
            .heard
            .set(self.publisher.heard_ago().as_secs_f64());
    }

    /// Confirms the deletion of the objects that the guard holds, and returns their number.
    pub fn confirm(&self) -> usize {
        self.confirmed.notify_one();
        usize::try_from(self.metrics.held.get()).unwrap_or(0)
    }
}

// === impl Controller ===

impl Controller {
    /// Creates a controller for the cluster that `client` connects to.
    pub fn new(
        client: Client,
        publisher: Arc<Publisher>,
        options: Options,
        metrics: Metrics,
    ) -> Self {
        Self {
            client,
            publisher,
            options,
            metrics,
            remarks: Arc::default(),
            confirmed: Arc::default(),
        }
    }

    /// Returns a handle to this controller.
    pub fn handle(&self) -> Handle {
        Handle {
            publisher: self.publisher.clone(),
            metrics: self.metrics.clone(),
            remarks: self.remarks.clone(),
            confirmed: self.confirmed.clone(),
        }
    }

    /// Watches and writes until `stop`, then finishes the writes in flight and releases the Lease.
    pub async fn run(self, stop: CancellationToken) {
        let Self {
            client,
            publisher,
            options,
            metrics,
            remarks,
            confirmed,
        } = self;
        let (updates, mut incoming) = mpsc::channel(MAX_UPDATES_PER_BATCH);
        let mut watchers = JoinSet::new();
        let sources = sources_of(&options);
        for source in sources.iter().enumerate() {
            let spawn = match source.1.source.kind {
                ResourceKind::Profile => spawn_watcher::<crd::Profile>,
                ResourceKind::Assignment => spawn_watcher::<crd::Assignment>,
                ResourceKind::Machine => spawn_watcher::<crd::Machine>,
            };
            spawn(
                &mut watchers,
                &client,
                options.response_timeout,
                source,
                updates.clone(),
            );
        }
        drop(updates);
        let candidacy = CancellationToken::new();
        let (leaderships, mut leadership) = watch::channel(None);
        let leases = KubeLeases::new(client.clone(), &options.lease_namespace);
        let answered = Arc::new(Notify::new());
        let candidate = Candidate::new(
            leases,
            &options.lease_name,
            &options.identity,
            options.lease,
        )
        .notify_on_answer(answered.clone());
        let candidate = tokio::spawn(candidate.run(leaderships, candidacy.clone()));

        let mut state = State::new(
            sources,
            publisher,
            RateLimiter::new(options.writes_per_second),
            metrics,
            remarks,
        );
        let mut writes: JoinSet<(Box<StatusPatch>, Written)> = JoinSet::new();
        let mut recordings = JoinSet::new();
        let mut questions = JoinSet::new();
        let mut batch = Vec::new();
        loop {
            let wake = state
                .evaluate(Instant::now())
                .min(state.start_writes(&mut writes, &client));
            for (at, plural) in state.questions() {
                questions.spawn(deletions::ask(client.clone(), at, plural));
            }
            tokio::select! {
                () = stop.cancelled() => break,
                count = incoming.recv_many(&mut batch, MAX_UPDATES_PER_BATCH) => {
                    if count == 0 {
                        break;
                    }
                    state.apply_updates(batch.drain(..));
                }
                Some(done) = writes.join_next(), if !writes.is_empty() => match done {
                    Ok((write, written)) => {
                        let uid = write.meta.uid;
                        let events = state.written(&write, written);
                        if let Some(leadership) = state.leadership.clone().filter(|_| !events.is_empty()) {
                            recordings.spawn(record_events(
                                client.clone(),
                                options.identity.clone(),
                                leadership,
                                uid,
                                events,
                            ));
                        }
                    }
                    Err(error) => warn!(%error, "status write task panicked"),
                },
                Some(recorded) = recordings.join_next(), if !recordings.is_empty() => {
                    state.recorded(recorded.unwrap_or(Ok(())));
                }
                Some(answer) = questions.join_next(), if !questions.is_empty() => {
                    if let Ok(answer) = answer {
                        state.answered(answer);
                    }
                }
                changed = leadership.changed() => if changed.is_ok() {
                    let now = leadership.borrow_and_update().clone();
                    state.set_leadership(now);
                },
                () = confirmed.notified() => state.confirm(),
                () = answered.notified() => state.server_answered(),
                Some(ended) = watchers.join_next() => {
                    error!(error = ?ended.err(), "watch task ended; stopping the controller so that it restarts");
                    break;
                }
                () = sleep_until(wake) => {}
            }
            state.recheck_held_objects();
        }
        let finish = async {
            while writes.join_next().await.is_some() {}
            while recordings.join_next().await.is_some() {}
        };
        if timeout(Duration::from_secs(5), finish).await.is_err() {
            warn!(
                writes = writes.len(),
                "status writes did not finish in time"
            );
        }
        candidacy.cancel();
        let _ = candidate.await;
    }
}

/// Starts to watch one source.
fn spawn_watcher<K: WatchedResource>(
    watchers: &mut JoinSet<()>,
    client: &Client,
    response_timeout: ResponseTimeout,
    (index, source_state): (usize, &SourceState),
    updates: mpsc::Sender<(usize, Update)>,
) {
    let source = source_state.source.clone();
    let watcher = SourceWatcher::<K>::new(client, response_timeout, source, index, updates);
    watchers.spawn(watcher.run(source_state.relist.clone()));
}

// === impl State ===

impl State {
    fn new(
        sources: Vec<SourceState>,
        publisher: Arc<Publisher>,
        rate_limiter: RateLimiter,
        metrics: Metrics,
        remarks: Arc<Mutex<Vec<String>>>,
    ) -> Self {
        Self {
            index: Index::new(publisher.clone()),
            sources,
            has_started: false,
            listings: 0,
            queue: WriteQueue::default(),
            evaluation_pace: Pace::default(),
            rate_limiter,
            in_flight_limit: InFlightLimit::default(),
            leadership: None,
            next: None,
            paused_until: Instant::now(),
            refusals: Refusals::default(),
            rewrites: Rewrites::default(),
            event_limit: EventLimit::default(),
            is_recording: true,
            last_failure: None,
            publisher,
            metrics,
            remarks,
        }
    }

    /// Applies a batch of updates. Consecutive changes become one revision of the feed.
    fn apply_updates(&mut self, updates: impl Iterator<Item = (usize, Update)>) {
        let mut steps = Vec::new();
        for (at, update) in updates {
            // The list has yet to be answered.
            let is_answer = !matches!(
                update,
                Update::ListStarted | Update::Failed(_) | Update::Refused(_)
            );
            if is_answer {
                self.heard(at);
            }
            match update {
                Update::ListStarted => {
                    self.listings += 1;
                    self.sources[at].listing = self.listings;
                    self.sources[at].steps = Some(Vec::new());
                }
                Update::Listed(object) => self.listed(at, object),
                Update::ListComplete => {
                    self.hold_bursts(&mut steps);
                    self.apply(std::mem::take(&mut steps), NO_LISTING);
                    self.list_complete(at);
                }
                Update::Changed(object) => {
                    steps.extend(self.changed(at, "changed", IndexEvent::Put(object)));
                }
                Update::Deleted(name) => {
                    steps.extend(self.changed(at, "gone", IndexEvent::Deleted(name)));
                }
                Update::HistoryReset => {
                    let source = &self.sources[at].source;
                    self.index.forget_versions(|name| source.has(name));
                }
                Update::Alive => {}
                Update::Failed(message) => self.source_failed(at, message),
                Update::Refused(message) => self.source_refused(at, message),
            }
        }
        self.hold_bursts(&mut steps);
        self.apply(steps, NO_LISTING);
        self.publish_counts();
    }

    /// Returns the event for a changed object, or `None` until all sources are listed.
    fn changed(
        &mut self,
        at: usize,
        outcome: &'static str,
        step: IndexEvent,
    ) -> Option<IndexEvent> {
        self.metrics
            .updates
            .get_or_create(&Outcome { outcome })
            .inc();
        let source_state = &mut self.sources[at];
        source_state.guard.release(step.name());
        if matches!(step, IndexEvent::Put(_)) {
            source_state.deletions.release(step.name());
        }
        if self.has_started {
            return Some(step);
        }
        source_state.initial.get_or_insert_default().push(step);
        None
    }

    fn apply(&mut self, steps: Vec<IndexEvent>, listing: u32) {
        if steps.is_empty() {
            return;
        }
        for name in self.index.apply(steps, listing) {
            if self.leadership.is_some() {
                self.queue.push(name);
            }
        }
    }
}
