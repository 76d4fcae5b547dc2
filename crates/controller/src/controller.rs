//! The controller's event loop: receives all updates and starts all writes.

mod deletions;
mod events;
mod listing;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use boot::ObjectRef;
use boot::catalog::guard::Limits;
use feed::Publisher;
use jiff::Timestamp;
use kube::Client;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::condition;
use crate::event_limit::EventLimit;
use crate::index::{Index, IndexEvent, StatusPatch};
use crate::lease::{Candidate, KubeLeases, Leadership, LeaseTiming};
use crate::metrics::{Kind, Metrics, Outcome};
use crate::refusals::Refusals;
use crate::rewrites::Rewrites;
use crate::watch::{ResponseTimeout, SourceWatcher, Update};
use crate::write_queue::WriteQueue;
use crate::writer::{
    InFlightLimit, RateLimiter, RecordedEvent, Written, record_events, write_status,
};

use events::contested;
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

/// The maximum number of objects to check before incoming updates are read again.
const CHECKS_PER_TURN: usize = 500;
/// How long all writes pause after the API server failed.
const FAILURE_PAUSE: Duration = Duration::from_secs(1);
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
        for (index, source_state) in sources.iter().enumerate() {
            let (source, relist, updates) = (
                source_state.source.clone(),
                source_state.relist.clone(),
                updates.clone(),
            );
            if source.is_profiles {
                watchers.spawn(
                    SourceWatcher::<crd::Profile>::new(
                        &client,
                        options.response_timeout,
                        source,
                        index,
                        updates,
                    )
                    .run(relist),
                );
            } else {
                watchers.spawn(
                    SourceWatcher::<crd::Assignment>::new(
                        &client,
                        options.response_timeout,
                        source,
                        index,
                        updates,
                    )
                    .run(relist),
                );
            }
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
            let wake = state.start_writes(&mut writes, &client);
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
            if !matches!(update, Update::Failed(_)) {
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

    fn set_leadership(&mut self, leadership: Option<Leadership>) {
        self.metrics.holder.set(i64::from(leadership.is_some()));
        self.leadership = leadership;
        // The object counts as in flight until it is put back. Without this it would never be
        // checked again.
        if let Some(name) = self.next.take() {
            self.queue.done(&name);
        }
        self.queue.clear();
        self.refusals.clear();
        self.queue_all();
    }

    fn queue_all(&mut self) {
        if self.leadership.is_some() && self.has_started {
            let names: Vec<_> = self.index.names().cloned().collect();
            names.into_iter().for_each(|name| self.queue.push(name));
        }
    }

    /// Starts as many writes as are allowed in flight. Returns when to call this again.
    fn start_writes(
        &mut self,
        writes: &mut JoinSet<(Box<StatusPatch>, Written)>,
        client: &Client,
    ) -> Instant {
        let now = Instant::now();
        let idle = now + Duration::from_secs(1);
        let Some(leadership) = self.leadership.clone().filter(Leadership::is_valid) else {
            return idle;
        };
        if now < self.paused_until {
            return self.paused_until;
        }
        self.update_refused();
        self.metrics
            .waiting
            .set(i64::try_from(self.queue.len()).unwrap_or(i64::MAX));
        for _ in 0..CHECKS_PER_TURN {
            if writes.len() >= self.in_flight_limit.get() {
                return idle;
            }
            let Some(name) = self.next.take().or_else(|| self.queue.pop(now)) else {
                return self.queue.next_due().map_or(idle, |due| due.min(idle));
            };
            let Some(write) = self.index.pending_patch(&name, Timestamp::now()) else {
                self.queue.done(&name);
                self.refusals.remove(&name);
                continue;
            };
            let may_be_over = write
                .events
                .iter()
                .filter_map(|event| event.kind.filter(|_| event.is_warning))
                .any(|kind| kind != condition::ConditionType::Accepted);
            if !self.queue.may_write_now(&name, may_be_over, now) {
                continue;
            }
            if let Err(at) = self.rate_limiter.next(now) {
                self.next = Some(name);
                return at.min(idle);
            }
            let (client, leadership, write) = (client.clone(), leadership.clone(), Box::new(write));
            writes.spawn(async move {
                let written = write_status(client, leadership, &write).await;
                (write, written)
            });
        }
        now
    }

    /// Records what became of a write. Returns the events to record about it.
    fn written(&mut self, write: &StatusPatch, written: Written) -> Vec<RecordedEvent> {
        if let Written::Applied { .. } | Written::NotFound = written {
            self.refusals.remove(&write.name);
        }
        let now = Instant::now();
        let mut events = Vec::new();
        let outcome = match written {
            Written::Applied { version } => {
                let uid = write.meta.uid;
                events = self.admitted(&write.name, uid, &write.events, now);
                self.index.written(write, &version);
                self.metrics
                    .replaced_ids
                    .inc_by(u64::try_from(write.replaced_ids).unwrap_or(u64::MAX));
                self.in_flight_limit.succeeded();
                let digest = write.observed.digest;
                if let Some(pause) = self.rewrites.written(&write.name, digest, now) {
                    self.queue.rest(&write.name, now + pause);
                    events.extend(self.admitted(&write.name, uid, &[contested()], now));
                } else {
                    self.queue.done(&write.name);
                }
                "done"
            }
            Written::NotFound => {
                self.queue.done(&write.name);
                "gone"
            }
            Written::NotLeader => {
                // A renewal in flight may still extend the leadership. A new leadership checks all
                // objects anyway.
                self.queue.failed(&write.name, now);
                "not_leader"
            }
            Written::Conflict => {
                self.queue.failed(&write.name, now);
                debug!(object = %write.name, "the object changed concurrently");
                "conflict"
            }
            Written::Refused(reason) => {
                self.queue.failed(&write.name, now);
                self.refusals.insert(&write.name, reason);
                "refused"
            }
            Written::Overloaded(pause) => {
                debug!(object = %write.name, ?pause, "the API server is overloaded");
                self.in_flight_limit.rejected();
                self.paused_until = self.paused_until.max(now + pause);
                self.queue.put_back(&write.name, self.paused_until);
                "overloaded"
            }
            Written::Failed(error) => {
                // A repeated message only once.
                if self.last_failure.as_ref() != Some(&error) {
                    warn!(object = %write.name, error, "status write failed; retrying shortly");
                    self.last_failure = Some(error);
                }
                self.paused_until = self.paused_until.max(now + FAILURE_PAUSE);
                self.queue.put_back(&write.name, self.paused_until);
                "failed"
            }
        };
        if outcome == "done" && self.last_failure.take().is_some() {
            info!("status writes succeed again");
        }
        self.metrics
            .writes
            .get_or_create(&Outcome { outcome })
            .inc();
        events
    }

    /// Records that the API server answered a Lease request. If all watches work too, the objects
    /// are current.
    fn server_answered(&self) {
        if self.has_started
            && self
                .sources
                .iter()
                .all(|source_state| source_state.error.is_none())
        {
            self.publisher.mark_heard();
        }
    }

    fn heard(&mut self, at: usize) {
        self.publisher.mark_heard();
        let source_state = &mut self.sources[at];
        if source_state.error.take().is_some() {
            info!(source = %source_state.source, "watch recovered");
            self.update_remarks();
        }
    }

    fn source_failed(&mut self, at: usize, message: String) {
        self.metrics.watch_errors.inc();
        let source_state = &mut self.sources[at];
        // Log a repeated message only once.
        if source_state.error.as_ref() != Some(&message) {
            warn!(source = %source_state.source, error = message, "watch failed; the known objects stay in use");
            source_state.error = Some(message);
            self.update_remarks();
        }
    }

    /// Shows the objects whose status is refused, if their number has changed.
    fn update_refused(&self) {
        let refused = i64::try_from(self.refusals.len()).unwrap_or(i64::MAX);
        if self.metrics.refused.set(refused) != refused {
            self.update_remarks();
        }
    }

    fn update_remarks(&self) {
        let mut remarks = Vec::from_iter(self.refusals.remark());
        for SourceState {
            source,
            guard,
            deletions,
            error,
            ..
        } in &self.sources
        {
            if deletions.held() > 0 {
                remarks.push(format!(
                    "{} {source} were deleted at once; they are kept until the API server has said that it still knows their kind",
                    deletions.held()
                ));
            }
            if let Some(error) = error {
                remarks.push(format!("{source} can't be watched: {error}"));
            }
            if let Some(hold) = guard.holding() {
                remarks.push(format!(
                    "the guard keeps {} of {} {source} that are missing from the last list; if they were deleted on purpose, POST /guard/confirm with the header X-Shaper-Request: 1 to this port",
                    hold.lost.len(),
                    hold.known
                ));
            }
        }
        self.metrics.connected.set(i64::from(
            self.sources
                .iter()
                .all(|source_state| source_state.error.is_none()),
        ));
        *self.remarks.lock().unwrap_or_else(PoisonError::into_inner) = remarks;
    }

    fn publish_counts(&self) {
        let counts = self.index.counts();
        let held: usize = self
            .sources
            .iter()
            .map(|source_state| {
                let hold = source_state.guard.holding();
                hold.map_or(0, |hold| hold.lost.len()) + source_state.deletions.held()
            })
            .sum();
        let set = |gauge: &Gauge, count: usize| {
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        };
        set(
            &self
                .metrics
                .objects
                .get_or_create(&Kind { kind: "Profile" }),
            counts.profiles,
        );
        set(
            &self
                .metrics
                .objects
                .get_or_create(&Kind { kind: "Assignment" }),
            counts.assignments,
        );
        set(&self.metrics.rejected, counts.rejected);
        set(&self.metrics.unreadable, counts.unreadable);
        set(&self.metrics.conflicted, counts.conflicted);
        set(&self.metrics.guard, usize::from(held > 0));
        set(&self.metrics.held, held);
    }
}
