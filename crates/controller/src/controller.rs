//! The loop of a controller: everything comes in here, one after the other, and goes out from here.

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
use crate::index::{Index, IndexEvent, StatusPatch};
use crate::lease::{Candidate, KubeLeases, Leadership, LeaseTiming};
use crate::metrics::{Kind, Metrics, Outcome};
use crate::watch::{ResponseTimeout, SourceWatcher, Update};
use crate::writer::{MAX_IN_FLIGHT, RateLimiter, WriteQueue, Written, write_status};

use listing::{NO_LISTING, SourceState, sources_of};

/// How a controller works.
#[derive(Clone, Debug)]
pub struct Options {
    /// The namespaces to follow. Empty: all.
    pub namespaces: Vec<String>,
    /// When a listing that lacks objects is not believed.
    pub guard: Limits,
    /// Where the Lease is.
    pub lease_namespace: String,
    /// Its name.
    pub lease_name: String,
    /// How long it `lease_duration`.
    pub lease: LeaseTiming,
    /// The name of this process, which no other has.
    pub identity: String,
    /// Most writes of status a second.
    pub writes_per_second: u32,
    /// How long the API server is waited for.
    pub response_timeout: ResponseTimeout,
}

/// Follows a cluster and writes back what it found out.
pub struct Controller {
    client: Client,
    publisher: Arc<Publisher>,
    options: Options,
    metrics: Metrics,
    remarks: Arc<Mutex<Vec<String>>>,
    confirmed: Arc<Notify>,
}

/// What an operator may ask of a running controller.
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
    /// How many listings there were.
    listings: u32,
    queue: WriteQueue,
    rate_limiter: RateLimiter,
    leadership: Option<Leadership>,
    /// An object whose write has to wait for its turn.
    next: Option<ObjectRef>,
    paused_until: Instant,
    publisher: Arc<Publisher>,
    metrics: Metrics,
    remarks: Arc<Mutex<Vec<String>>>,
}

/// Most objects that are looked at between two looks at what came in.
const CHECKS_PER_TURN: usize = 500;
/// Most updates that are taken at once, and become one revision of the feed.
const MAX_UPDATES_PER_BATCH: usize = 4096;

// === impl Handle ===

impl Handle {
    /// What an operator should know: what can't be followed, what the guard holds.
    pub fn remarks(&self) -> Vec<String> {
        self.remarks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Whether all objects are known.
    pub fn is_ready(&self) -> bool {
        self.publisher.is_ready()
    }

    /// Brings metrics that tell the time up to date.
    pub fn refresh(&self) {
        self.metrics
            .heard
            .set(self.publisher.heard_ago().as_secs_f64());
    }

    /// An operator says that what the guard holds is gone indeed. Tells how many objects that were.
    pub fn confirm(&self) -> usize {
        self.confirmed.notify_one();
        usize::try_from(self.metrics.held.get()).unwrap_or(0)
    }
}

// === impl Controller ===

impl Controller {
    /// A controller of what `client` reaches.
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

    /// What an operator may ask while it runs.
    pub fn handle(&self) -> Handle {
        Handle {
            publisher: self.publisher.clone(),
            metrics: self.metrics.clone(),
            remarks: self.remarks.clone(),
            confirmed: self.confirmed.clone(),
        }
    }

    /// Follows and writes until `stop`. Writes that are on their way are finished, then the Lease is given back.
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
        let mut batch = Vec::new();
        loop {
            let wake = state.start_writes(&mut writes, &client, &options.identity);
            tokio::select! {
                () = stop.cancelled() => break,
                count = incoming.recv_many(&mut batch, MAX_UPDATES_PER_BATCH) => {
                    if count == 0 {
                        break;
                    }
                    state.apply_updates(batch.drain(..));
                }
                Some(done) = writes.join_next(), if !writes.is_empty() => match done {
                    Ok((write, written)) => state.written(&write, written),
                    Err(error) => warn!(%error, "a write ended badly"),
                },
                changed = leadership.changed() => if changed.is_ok() {
                    let now = leadership.borrow_and_update().clone();
                    state.set_leadership(now);
                },
                () = confirmed.notified() => state.confirm(),
                () = answered.notified() => state.server_answered(),
                Some(ended) = watchers.join_next() => {
                    error!(error = ?ended.err(), "a source is no longer followed: ending, so that all begin anew");
                    break;
                }
                () = sleep_until(wake) => {}
            }
            state.recheck_held_objects();
        }
        let finish = async { while writes.join_next().await.is_some() {} };
        if timeout(Duration::from_secs(5), finish).await.is_err() {
            warn!(
                writes = writes.len(),
                "some writes of status did not end in time"
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
            leadership: None,
            next: None,
            paused_until: Instant::now(),
            publisher,
            metrics,
            remarks,
        }
    }

    /// Takes what came in. Single changes that came together are one revision of the feed.
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
        self.apply(steps, NO_LISTING);
        self.publish_counts();
    }

    /// One object changed: a step for all, unless others are still awaited.
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
        // It is on its way as long as nobody says that it is not, and would never be looked at again.
        if let Some(name) = self.next.take() {
            self.queue.done(&name);
        }
        self.queue.clear();
        self.queue_all();
    }

    fn queue_all(&mut self) {
        if self.leadership.is_some() && self.has_started {
            let names: Vec<_> = self.index.names().cloned().collect();
            names.into_iter().for_each(|name| self.queue.push(name));
        }
    }

    /// Starts as many writes as may be on their way. Returns when to ask again.
    fn start_writes(
        &mut self,
        writes: &mut JoinSet<(Box<StatusPatch>, Written)>,
        client: &Client,
        instance: &str,
    ) -> Instant {
        let now = Instant::now();
        let idle = now + Duration::from_secs(1);
        let Some(leadership) = self.leadership.clone().filter(Leadership::is_valid) else {
            return idle;
        };
        if now < self.paused_until {
            return self.paused_until;
        }
        self.metrics
            .waiting
            .set(i64::try_from(self.queue.len()).unwrap_or(i64::MAX));
        for _ in 0..CHECKS_PER_TURN {
            if writes.len() >= MAX_IN_FLIGHT {
                return idle;
            }
            let Some(name) = self.next.take().or_else(|| self.queue.pop(now)) else {
                return self.queue.next_due().map_or(idle, |due| due.min(idle));
            };
            let Some(write) = self.index.pending_patch(&name, Timestamp::now()) else {
                self.queue.done(&name);
                continue;
            };
            let may_be_over = write
                .events
                .iter()
                .any(|event| event.is_warning && event.kind != condition::ConditionType::Accepted);
            if !self.queue.may_write_now(&name, may_be_over, now) {
                continue;
            }
            if let Err(at) = self.rate_limiter.next(now) {
                self.next = Some(name);
                return at.min(idle);
            }
            let (client, instance, leadership, write) = (
                client.clone(),
                instance.to_owned(),
                leadership.clone(),
                Box::new(write),
            );
            writes.spawn(async move {
                let written = write_status(client, instance, leadership, &write).await;
                (write, written)
            });
        }
        now
    }

    fn written(&mut self, write: &StatusPatch, written: Written) {
        let outcome = match written {
            Written::Applied { version } => {
                self.index.written(write, &version);
                self.queue.done(&write.name);
                "done"
            }
            Written::NotFound => {
                self.queue.done(&write.name);
                "gone"
            }
            Written::NotLeader => {
                // A renewal that was on its way may yet prolong the leadership; a new one looks at all objects anyway.
                self.queue.failed(&write.name, Instant::now());
                "not_leader"
            }
            Written::Conflict => {
                self.queue.failed(&write.name, Instant::now());
                debug!(name = ?write.name, "changed meanwhile");
                "conflict"
            }
            Written::Failed(error) => {
                warn!(name = ?write.name, error, "could not write a status; trying again");
                self.queue.failed(&write.name, Instant::now());
                self.paused_until = Instant::now() + Duration::from_secs(1);
                "failed"
            }
        };
        self.metrics
            .writes
            .get_or_create(&Outcome { outcome })
            .inc();
    }

    /// The API server answers, if not about objects. Where watches work as well, what is known is current.
    fn server_answered(&self) {
        if self.has_started
            && self
                .sources
                .iter()
                .all(|source_state| source_state.trouble.is_none())
        {
            self.publisher.heard();
        }
    }

    fn heard(&mut self, at: usize) {
        self.publisher.heard();
        let source_state = &mut self.sources[at];
        if source_state.trouble.take().is_some() {
            info!(source = %source_state.source, "followed again");
            self.update_remarks();
        }
    }

    fn source_failed(&mut self, at: usize, message: String) {
        self.metrics.trouble.inc();
        let source_state = &mut self.sources[at];
        // The same message is said once.
        if source_state.trouble.as_ref() != Some(&message) {
            warn!(source = %source_state.source, error = message, "can't follow for the moment; what is known stays in use");
            source_state.trouble = Some(message);
            self.update_remarks();
        }
    }

    fn update_remarks(&self) {
        let mut remarks = Vec::new();
        for SourceState {
            source,
            guard,
            trouble,
            ..
        } in &self.sources
        {
            if let Some(trouble) = trouble {
                remarks.push(format!("{source} can't be followed: {trouble}"));
            }
            if let Some(hold) = guard.holding() {
                remarks.push(format!(
                    "the guard keeps {} of {} {source} that the last listing lacks; if they are meant to be gone, POST /guard/confirm to this port",
                    hold.lost.len(),
                    hold.known
                ));
            }
        }
        self.metrics.connected.set(i64::from(
            self.sources
                .iter()
                .all(|source_state| source_state.trouble.is_none()),
        ));
        *self.remarks.lock().unwrap_or_else(PoisonError::into_inner) = remarks;
    }

    fn publish_counts(&self) {
        let counts = self.index.counts();
        let held: usize = self
            .sources
            .iter()
            .filter_map(|source_state| source_state.guard.holding())
            .map(|hold| hold.lost.len())
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
        set(&self.metrics.refused, counts.refused);
        set(&self.metrics.unclaimed, counts.unclaimed);
        set(&self.metrics.conflicted, counts.conflicted);
        set(&self.metrics.guard, usize::from(held > 0));
        set(&self.metrics.held, held);
    }
}
