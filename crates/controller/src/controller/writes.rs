//! Starts status writes, and records what became of them.

use std::time::Duration;

use jiff::Timestamp;
use kube::Client;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::condition;
use crate::index::StatusPatch;
use crate::lease::Leadership;
use crate::metrics::Outcome;
use crate::writer::{RecordedEvent, Written, write_status};

use super::State;
use super::events::contested;

/// The maximum number of objects to check before incoming updates are read again.
const CHECKS_PER_TURN: usize = 500;
/// How long all writes pause after the API server failed.
const FAILURE_PAUSE: Duration = Duration::from_secs(1);

// === impl State ===

impl State {
    pub(super) fn set_leadership(&mut self, leadership: Option<Leadership>) {
        self.metrics.holder.set(i64::from(leadership.is_some()));
        self.leadership = leadership;
        self.index.stop_evaluation();
        // The object counts as in flight until it is put back. Without this it would never be
        // checked again.
        if let Some(name) = self.next.take() {
            self.queue.done(&name);
        }
        self.queue.clear();
        self.refusals.clear();
        self.queue_all();
    }

    pub(super) fn queue_all(&mut self) {
        if self.leadership.is_some() && self.has_started {
            self.index.start_evaluation();
            let names: Vec<_> = self.index.names().cloned().collect();
            names.into_iter().for_each(|name| self.queue.push(name));
        }
    }

    /// Starts as many writes as are allowed in flight. Returns when to call this again.
    pub(super) fn start_writes(
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
    pub(super) fn written(&mut self, write: &StatusPatch, written: Written) -> Vec<RecordedEvent> {
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
}
