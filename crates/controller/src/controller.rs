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

use crate::finding;
use crate::index::{Index, Step, Write};
use crate::lease::{Candidate, KubeLeases, Tenure, Timing};
use crate::metrics::{Kind, Metrics, Outcome};
use crate::watch::{Follower, Patience, Update};
use crate::writer::{MAX_IN_FLIGHT, Pace, Queue, Written, perform};

use listing::{NO_LISTING, Tracked, track};

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
    /// How long it lasts.
    pub lease: Timing,
    /// The name of this process, which no other has.
    pub identity: String,
    /// Most writes of status a second.
    pub writes_per_second: u32,
    /// How long the API server is waited for.
    pub patience: Patience,
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
    sources: Vec<Tracked>,
    has_started: bool,
    /// How many listings there were.
    listings: u32,
    queue: Queue,
    pace: Pace,
    tenure: Option<Tenure>,
    /// An object whose write has to wait for its turn.
    next: Option<ObjectRef>,
    paused_until: Instant,
    publisher: Arc<Publisher>,
    metrics: Metrics,
    remarks: Arc<Mutex<Vec<String>>>,
}

/// Most objects that are looked at between two looks at what came in.
const LOOKS_AT_ONCE: usize = 500;
/// Most updates that are taken at once, and become one revision of the feed.
const UPDATES_AT_ONCE: usize = 4096;

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
        let (updates, mut incoming) = mpsc::channel(UPDATES_AT_ONCE);
        let mut followers = JoinSet::new();
        let sources = track(&options);
        for (index, tracked) in sources.iter().enumerate() {
            let (source, relist, updates) = (
                tracked.source.clone(),
                tracked.relist.clone(),
                updates.clone(),
            );
            if source.is_profiles {
                followers.spawn(
                    Follower::<crd::Profile>::new(
                        &client,
                        options.patience,
                        source,
                        index,
                        updates,
                    )
                    .run(relist),
                );
            } else {
                followers.spawn(
                    Follower::<crd::Assignment>::new(
                        &client,
                        options.patience,
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
        let (tenures, mut tenure) = watch::channel(None);
        let leases = KubeLeases::new(client.clone(), &options.lease_namespace);
        let answered = Arc::new(Notify::new());
        let candidate = Candidate::new(
            leases,
            &options.lease_name,
            &options.identity,
            options.lease,
        )
        .tells(answered.clone());
        let candidate = tokio::spawn(candidate.run(tenures, candidacy.clone()));

        let mut state = State::new(
            sources,
            publisher,
            Pace::new(options.writes_per_second),
            metrics,
            remarks,
        );
        let mut writes: JoinSet<(Box<Write>, Written)> = JoinSet::new();
        let mut batch = Vec::new();
        loop {
            let wake = state.start_writes(&mut writes, &client, &options.identity);
            tokio::select! {
                () = stop.cancelled() => break,
                count = incoming.recv_many(&mut batch, UPDATES_AT_ONCE) => {
                    if count == 0 {
                        break;
                    }
                    state.take(batch.drain(..));
                }
                Some(done) = writes.join_next(), if !writes.is_empty() => match done {
                    Ok((write, written)) => state.written(&write, written),
                    Err(error) => warn!(%error, "a write ended badly"),
                },
                changed = tenure.changed() => if changed.is_ok() {
                    let now = tenure.borrow_and_update().clone();
                    state.now_holds(now);
                },
                () = confirmed.notified() => state.confirm(),
                () = answered.notified() => state.server_answers(),
                Some(ended) = followers.join_next() => {
                    error!(error = ?ended.err(), "a source is no longer followed: ending, so that all begin anew");
                    break;
                }
                () = sleep_until(wake) => {}
            }
            state.look_again_at_what_is_held();
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
        sources: Vec<Tracked>,
        publisher: Arc<Publisher>,
        pace: Pace,
        metrics: Metrics,
        remarks: Arc<Mutex<Vec<String>>>,
    ) -> Self {
        Self {
            index: Index::new(publisher.clone()),
            sources,
            has_started: false,
            listings: 0,
            queue: Queue::default(),
            pace,
            tenure: None,
            next: None,
            paused_until: Instant::now(),
            publisher,
            metrics,
            remarks,
        }
    }

    /// Takes what came in. Single changes that came together are one revision of the feed.
    fn take(&mut self, updates: impl Iterator<Item = (usize, Update)>) {
        let mut steps = Vec::new();
        for (at, update) in updates {
            if !matches!(update, Update::Trouble(_)) {
                self.heard(at);
            }
            match update {
                Update::Begins => {
                    self.listings += 1;
                    self.sources[at].listing = self.listings;
                    self.sources[at].steps = Some(Vec::new());
                }
                Update::Listed(object) => self.listed(at, object),
                Update::Whole => {
                    self.apply(std::mem::take(&mut steps), NO_LISTING);
                    self.whole(at);
                }
                Update::Changed(object) => {
                    steps.extend(self.changed(at, "changed", Step::Put(object)))
                }
                Update::Gone(name) => steps.extend(self.changed(at, "gone", Step::Gone(name))),
                Update::WentBack => {
                    let source = &self.sources[at].source;
                    self.index.forget_versions(|name| source.has(name));
                }
                Update::Heard => {}
                Update::Trouble(sentence) => self.trouble(at, sentence),
            }
        }
        self.apply(steps, NO_LISTING);
        self.publish_counts();
    }

    /// One object changed: a step for all, unless others are still awaited.
    fn changed(&mut self, at: usize, outcome: &'static str, step: Step) -> Option<Step> {
        self.metrics
            .updates
            .get_or_create(&Outcome { outcome })
            .inc();
        let tracked = &mut self.sources[at];
        tracked.guard.release(step.name());
        if self.has_started {
            return Some(step);
        }
        tracked.initial.get_or_insert_default().push(step);
        None
    }

    fn apply(&mut self, steps: Vec<Step>, listing: u32) {
        if steps.is_empty() {
            return;
        }
        for name in self.index.apply(steps, listing) {
            if self.tenure.is_some() {
                self.queue.push(name);
            }
        }
    }

    fn now_holds(&mut self, tenure: Option<Tenure>) {
        self.metrics.holder.set(i64::from(tenure.is_some()));
        self.tenure = tenure;
        // It is on its way as long as nobody says that it is not, and would never be looked at again.
        if let Some(name) = self.next.take() {
            self.queue.done(&name);
        }
        self.queue.clear();
        self.look_at_all();
    }

    fn look_at_all(&mut self) {
        if self.tenure.is_some() && self.has_started {
            let names: Vec<_> = self.index.names().cloned().collect();
            names.into_iter().for_each(|name| self.queue.push(name));
        }
    }

    /// Starts as many writes as may be on their way. Returns when to ask again.
    fn start_writes(
        &mut self,
        writes: &mut JoinSet<(Box<Write>, Written)>,
        client: &Client,
        instance: &str,
    ) -> Instant {
        let now = Instant::now();
        let idle = now + Duration::from_secs(1);
        let Some(tenure) = self.tenure.clone().filter(Tenure::is_good) else {
            return idle;
        };
        if now < self.paused_until {
            return self.paused_until;
        }
        self.metrics
            .waiting
            .set(i64::try_from(self.queue.len()).unwrap_or(i64::MAX));
        for _ in 0..LOOKS_AT_ONCE {
            if writes.len() >= MAX_IN_FLIGHT {
                return idle;
            }
            let Some(name) = self.next.take().or_else(|| self.queue.pop(now)) else {
                return self.queue.next_due().map_or(idle, |due| due.min(idle));
            };
            let Some(write) = self.index.wanted(&name, Timestamp::now()) else {
                self.queue.done(&name);
                continue;
            };
            let may_be_over = write
                .news
                .iter()
                .any(|news| news.is_warning && news.kind != finding::Kind::Accepted);
            if !self.queue.is_settled(&name, may_be_over, now) {
                continue;
            }
            if let Err(at) = self.pace.next(now) {
                self.next = Some(name);
                return at.min(idle);
            }
            let (client, instance, tenure, write) = (
                client.clone(),
                instance.to_owned(),
                tenure.clone(),
                Box::new(write),
            );
            writes.spawn(async move {
                let written = perform(client, instance, tenure, &write).await;
                (write, written)
            });
        }
        now
    }

    fn written(&mut self, write: &Write, written: Written) {
        let outcome = match written {
            Written::Done { version } => {
                self.index.written(write, &version);
                self.queue.done(&write.name);
                "done"
            }
            Written::Gone => {
                self.queue.done(&write.name);
                "gone"
            }
            Written::NotHolder => {
                // A renewal that was on its way may yet prolong the tenure; a new one looks at all objects anyway.
                self.queue.failed(&write.name, Instant::now());
                "not_holder"
            }
            Written::Overtaken => {
                self.queue.failed(&write.name, Instant::now());
                debug!(name = ?write.name, "changed meanwhile");
                "overtaken"
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
    fn server_answers(&self) {
        if self.has_started && self.sources.iter().all(|tracked| tracked.trouble.is_none()) {
            self.publisher.heard();
        }
    }

    fn heard(&mut self, at: usize) {
        self.publisher.heard();
        let tracked = &mut self.sources[at];
        if tracked.trouble.take().is_some() {
            info!(source = %tracked.source, "followed again");
            self.remark();
        }
    }

    fn trouble(&mut self, at: usize, sentence: String) {
        self.metrics.trouble.inc();
        let tracked = &mut self.sources[at];
        // The same sentence is said once.
        if tracked.trouble.as_ref() != Some(&sentence) {
            warn!(source = %tracked.source, error = sentence, "can't follow for the moment; what is known stays in use");
            tracked.trouble = Some(sentence);
            self.remark();
        }
    }

    fn remark(&self) {
        let mut remarks = Vec::new();
        for Tracked {
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
            self.sources.iter().all(|tracked| tracked.trouble.is_none()),
        ));
        *self.remarks.lock().unwrap_or_else(PoisonError::into_inner) = remarks;
    }

    fn publish_counts(&self) {
        let counts = self.index.counts();
        let held: usize = self
            .sources
            .iter()
            .filter_map(|tracked| tracked.guard.holding())
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
