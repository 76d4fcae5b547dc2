//! Leader election with a Lease (`coordination.k8s.io/v1`): only the holder writes.
//!
//! This follows client-go's `tools/leaderelection`, with two differences that keep a paused holder
//! from writing at the same time as its successor:
//!
//! - A candidate decides that a Lease has expired by its own monotonic clock, counted from when it
//!   last saw the Lease change. It never compares the clocks of two machines.
//! - A [`Leadership`] ends by itself, [`LeaseTiming::renew_deadline`] after the last successful
//!   renewal was *sent*. That is earlier than the end of the [`LeaseTiming::lease_duration`] that
//!   others count from when they saw the renewal.

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

/// The durations of leader election.
#[derive(Clone, Copy, Debug)]
pub struct LeaseTiming {
    /// How long others wait after the last renewal they saw before they take the Lease.
    pub lease_duration: Duration,
    /// How long after sending its last successful renewal the holder stops writing.
    pub renew_deadline: Duration,
    /// The time between two attempts to acquire or renew the Lease.
    pub retry_period: Duration,
}

/// The right to write, for as long as this process holds the Lease.
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
    /// Notified of every answer from the store.
    answered: Arc<Notify>,
    /// The version of the Lease when it was last seen to change, and the time of that.
    seen: Option<(Option<String>, Instant)>,
}

/// The result of one attempt to acquire or renew the Lease.
enum LeaseCheck {
    /// This process holds the Lease; the request was sent at this time.
    Held(Instant),
    /// Another process holds the Lease.
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

    /// Returns whether this process may write now. Check right before each write: this is how a
    /// process that was paused finds out that its leadership has ended.
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
    /// Creates a candidate with a unique `identity`.
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

    /// Notifies `answered` of every answer from the store.
    pub fn notify_on_answer(self, answered: Arc<Notify>) -> Self {
        Self { answered, ..self }
    }

    /// Acquires and renews the Lease until `stop`, then releases it. `leadership` holds a value
    /// while the Lease is held.
    pub async fn run(
        mut self,
        leadership: watch::Sender<Option<Leadership>>,
        stop: CancellationToken,
    ) {
        let mut failing = false;
        loop {
            let deadline = leadership.borrow().as_ref().map(Leadership::until);
            // The attempt must not take longer than the leadership that it extends.
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
                        warn!(lease = self.name, %error, "can't read or renew the Lease");
                    }
                }
                Some(Err(_)) => {
                    if !std::mem::replace(&mut failing, true) {
                        warn!(
                            lease = self.name,
                            "the API server did not answer a Lease request in time"
                        );
                    }
                }
            }
            if leadership
                .borrow()
                .as_ref()
                .is_some_and(|leadership| !leadership.is_valid())
            {
                end(&leadership, "the Lease was not renewed in time");
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
            "acquired the Lease; writing status and events"
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
        // The write carries the resourceVersion, so of two candidates that write at once, one gets
        // a conflict.
        let sent = Instant::now();
        lease.spec = Some(self.signed(&spec));
        written(self.store.replace(&lease).await, sent)
    }

    /// Returns whether the Lease has not changed for the duration that its holder set.
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

    /// Releases the Lease so that another candidate need not wait. If this fails, the Lease
    /// expires.
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
            Ok(Ok(())) => info!(lease = self.name, "released the Lease"),
            Ok(Err(error)) => {
                warn!(lease = self.name, %error, "failed to release the Lease; it will expire");
            }
            Err(_) => warn!(
                lease = self.name,
                "failed to release the Lease in time; it will expire"
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
        info!(why, "lost the Lease; no longer writing status and events");
    }
}

#[cfg(test)]
mod tests;
