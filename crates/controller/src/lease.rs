//! Which of several controllers writes: the one that holds a Lease (`coordination.k8s.io/v1`).
//!
//! As Kubernetes' own controllers do it (client-go `tools/leaderelection`), with two differences that keep a paused holder from writing
//! beside its successor. Whether a Lease has run out is measured on the own monotonic clock since the Lease was last seen to change, and
//! never by comparing clocks of two machines. And a [`Leadership`] ends by itself: it is good for [`LeaseTiming::renew_deadline`] from before the
//! renewal was *sent*, which is less than [`LeaseTiming::lease_duration`] from when others saw it.

mod store;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use rand::Rng;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use store::{KubeLeases, Leases, StoreError};

/// How long things take.
#[derive(Clone, Copy, Debug)]
pub struct LeaseTiming {
    /// Others wait so long after the last renewal that they saw before they take the Lease.
    pub lease_duration: Duration,
    /// The holder stops so long after it sent its last successful renewal.
    pub renew_deadline: Duration,
    /// The time between two looks at the Lease.
    pub retry_period: Duration,
}

/// The time for which this process holds the Lease.
#[derive(Clone, Debug)]
pub struct Leadership {
    until: Arc<Mutex<Instant>>,
    ended: CancellationToken,
}

/// A candidate for the Lease.
pub struct Candidate<S> {
    store: S,
    name: String,
    identity: String,
    timing: LeaseTiming,
    /// Told of every answer.
    answered: Arc<Notify>,
    /// The Lease as it was last seen to change, and when that was.
    seen: Option<(Option<String>, Instant)>,
}

/// What came of one look at the Lease.
enum LeaseCheck {
    /// It is held by this process, from what was sent at this time.
    Held(Instant),
    /// It is held by another.
    Another,
}

// === impl LeaseTiming ===

impl Default for LeaseTiming {
    fn default() -> Self {
        Self {
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }
}

// === impl Leadership ===

impl Leadership {
    pub(crate) fn new(until: Instant) -> Self {
        Self {
            until: Arc::new(Mutex::new(until)),
            ended: CancellationToken::new(),
        }
    }

    /// Whether this process may write now. To be asked right before each write: a process that was paused finds out here.
    pub fn is_valid(&self) -> bool {
        !self.ended.is_cancelled() && Instant::now() < self.until()
    }

    fn until(&self) -> Instant {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn extend(&self, until: Instant) {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }
}

// === impl Candidate ===

impl<S: Leases> Candidate<S> {
    /// A candidate who signs with `identity`, which no other may use.
    pub fn new(
        store: S,
        name: impl Into<String>,
        identity: impl Into<String>,
        timing: LeaseTiming,
    ) -> Self {
        Self {
            store,
            name: name.into(),
            identity: identity.into(),
            timing,
            answered: Arc::default(),
            seen: None,
        }
    }

    /// Tells of every answer that the store gives.
    pub fn notify_on_answer(self, answered: Arc<Notify>) -> Self {
        Self { answered, ..self }
    }

    /// Takes the Lease when it is free and keeps it, until `stop`; then gives it back. `leadership` holds a value while it is held.
    pub async fn run(
        mut self,
        leadership: watch::Sender<Option<Leadership>>,
        stop: CancellationToken,
    ) {
        let mut failing = false;
        loop {
            let deadline = leadership.borrow().as_ref().map(Leadership::until);
            // The last look must not outlive the leadership that it is to prolong.
            let allowed = deadline.map_or(self.timing.renew_deadline, |deadline| {
                deadline.saturating_duration_since(Instant::now())
            });
            let looked = stop
                .run_until_cancelled(timeout(allowed, self.check()))
                .await;
            if let Some(Ok(Ok(_))) = &looked {
                self.answered.notify_one();
            }
            match looked {
                None => break,
                Some(Ok(Ok(LeaseCheck::Held(sent)))) => {
                    failing = false;
                    self.held(&leadership, sent + self.timing.renew_deadline);
                }
                Some(Ok(Ok(LeaseCheck::Another))) => {
                    failing = false;
                    end(&leadership, "another controller holds the Lease");
                }
                Some(Ok(Err(error))) => {
                    if !std::mem::replace(&mut failing, true) {
                        warn!(lease = self.name, %error, "can't look at the Lease");
                    }
                }
                Some(Err(_)) => {
                    if !std::mem::replace(&mut failing, true) {
                        warn!(lease = self.name, "no answer about the Lease");
                    }
                }
            }
            if leadership
                .borrow()
                .as_ref()
                .is_some_and(|leadership| !leadership.is_valid())
            {
                end(&leadership, "the Lease could not be renewed in time");
            }
            let pause = self
                .timing
                .retry_period
                .mul_f64(rand::rng().random_range(0.8..1.2));
            let pause = leadership.borrow().as_ref().map_or(pause, |leadership| {
                pause.min(leadership.until().saturating_duration_since(Instant::now()))
            });
            if stop.run_until_cancelled(sleep(pause)).await.is_none() {
                break;
            }
        }
        if leadership.borrow().is_some() {
            end(&leadership, "stopping");
            self.release().await;
        }
    }

    fn held(&self, leadership: &watch::Sender<Option<Leadership>>, until: Instant) {
        if let Some(leadership) = &*leadership.borrow() {
            leadership.extend(until);
            return;
        }
        info!(
            lease = self.name,
            identity = self.identity,
            "holds the Lease: this controller writes status and events"
        );
        leadership.send_replace(Some(Leadership::new(until)));
    }

    async fn check(&mut self) -> Result<LeaseCheck, StoreError> {
        let sent = Instant::now();
        let Some(mut lease) = self.store.get(&self.name).await? else {
            let spec = self.signed(&LeaseSpec::default());
            let metadata = ObjectMeta {
                name: Some(self.name.clone()),
                ..ObjectMeta::default()
            };
            return written(
                self.store
                    .create(&Lease {
                        metadata,
                        spec: Some(spec),
                    })
                    .await,
                sent,
            );
        };
        let version = lease.metadata.resource_version.clone();
        let spec = lease.spec.take().unwrap_or_default();
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        if !holder.is_empty() && holder != self.identity && !self.has_expired(version, &spec) {
            return Ok(LeaseCheck::Another);
        }
        // The resourceVersion goes back with it: of two who take it, one is refused.
        let sent = Instant::now();
        lease.spec = Some(self.signed(&spec));
        written(self.store.replace(&lease).await, sent)
    }

    /// Whether the Lease did not change for as long as its holder said that it `lease_duration`.
    fn has_expired(&mut self, version: Option<String>, spec: &LeaseSpec) -> bool {
        let now = Instant::now();
        match &self.seen {
            Some((seen, since)) if *seen == version => {
                let said = spec
                    .lease_duration_seconds
                    .and_then(|seconds| u64::try_from(seconds).ok())
                    .map(Duration::from_secs);
                now.duration_since(*since)
                    >= said.unwrap_or_default().max(self.timing.lease_duration)
            }
            _ => {
                self.seen = Some((version, now));
                false
            }
        }
    }

    fn signed(&self, before: &LeaseSpec) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        let is_ours = before.holder_identity.as_deref() == Some(&self.identity);
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(
                i32::try_from(self.timing.lease_duration.as_secs()).unwrap_or(i32::MAX),
            ),
            acquire_time: if is_ours {
                before.acquire_time.clone()
            } else {
                Some(now.clone())
            },
            renew_time: Some(now),
            lease_transitions: Some(
                before
                    .lease_transitions
                    .unwrap_or(0)
                    .saturating_add(i32::from(!is_ours)),
            ),
            ..before.clone()
        }
    }

    /// Gives the Lease back, so that another need not wait. If this fails, it waits.
    async fn release(&mut self) {
        let release = async {
            let Some(mut lease) = self.store.get(&self.name).await? else {
                return Ok(());
            };
            let Some(spec) = lease
                .spec
                .as_mut()
                .filter(|spec| spec.holder_identity.as_deref() == Some(&self.identity))
            else {
                return Ok(());
            };
            spec.holder_identity = None;
            spec.renew_time = Some(MicroTime(Timestamp::now()));
            self.store.replace(&lease).await
        };
        match timeout(Duration::from_secs(3), release).await {
            Ok(Ok(())) => info!(lease = self.name, "gave the Lease back"),
            Ok(Err(error)) => {
                warn!(lease = self.name, %error, "could not give the Lease back; it runs out by itself");
            }
            Err(_) => warn!(
                lease = self.name,
                "could not give the Lease back in time; it runs out by itself"
            ),
        }
    }
}

fn written(written: Result<(), StoreError>, sent: Instant) -> Result<LeaseCheck, StoreError> {
    match written {
        Ok(()) => Ok(LeaseCheck::Held(sent)),
        Err(StoreError::Conflict) => Ok(LeaseCheck::Another),
        Err(error) => Err(error),
    }
}

fn end(leadership: &watch::Sender<Option<Leadership>>, why: &'static str) {
    let ended = leadership.send_replace(None);
    if let Some(ended) = ended {
        ended.ended.cancel();
        info!(why, "no longer writes status and events");
    }
}

#[cfg(test)]
mod tests;
