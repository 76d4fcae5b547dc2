//! What operators are told: remarks and metrics.

use std::sync::PoisonError;

use prometheus_client::metrics::gauge::Gauge;
use tracing::{info, warn};

use crate::metrics::Kind;
use crate::object::ResourceKind;

use super::State;
use super::listing::SourceState;

// === impl State ===

impl State {
    /// Records that the API server answered a Lease request. If all watches work too, the objects
    /// are current.
    pub(super) fn server_answered(&self) {
        if self.has_started
            && self
                .sources
                .iter()
                .all(|source_state| source_state.error.is_none())
        {
            self.publisher.mark_heard();
        }
    }

    pub(super) fn heard(&mut self, at: usize) {
        self.publisher.mark_heard();
        let source_state = &mut self.sources[at];
        let was_refused = source_state.refusal.take().is_some();
        let had_failed = source_state.error.take().is_some();
        if was_refused {
            info!(source = %source_state.source, "the API server permits this watch now");
        } else if had_failed {
            info!(source = %source_state.source, "watch recovered");
        }
        if was_refused || had_failed {
            self.update_remarks();
        }
    }

    pub(super) fn source_failed(&mut self, at: usize, message: String) {
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
    pub(super) fn update_refused(&self) {
        let refused = i64::try_from(self.refusals.len()).unwrap_or(i64::MAX);
        if self.metrics.refused.set(refused) != refused {
            self.update_remarks();
        }
    }

    pub(super) fn update_remarks(&self) {
        let mut remarks = Vec::from_iter(self.refusals.remark());
        for source_state in &self.sources {
            let SourceState {
                source,
                guard,
                deletions,
                error,
                ..
            } = source_state;
            remarks.extend(source_state.refusal_remark());
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
        let is_followed = |source_state: &SourceState| {
            source_state.source.kind != ResourceKind::Machine || source_state.refusal.is_none()
        };
        let machines_followed = self.has_started && self.sources.iter().all(is_followed);
        self.metrics
            .machines_followed
            .set(i64::from(machines_followed));
        *self.remarks.lock().unwrap_or_else(PoisonError::into_inner) = remarks;
    }

    pub(super) fn publish_counts(&self) {
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
        set(
            &self
                .metrics
                .objects
                .get_or_create(&Kind { kind: "Machine" }),
            counts.machines,
        );
        set(&self.metrics.rejected, counts.rejected);
        set(&self.metrics.unreadable, counts.unreadable);
        set(&self.metrics.conflicted, counts.conflicted);
        set(&self.metrics.guard, usize::from(held > 0));
        set(&self.metrics.held, held);
    }
}
