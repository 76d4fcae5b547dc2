//! Lists of the sources, and the objects that they lack.

use std::collections::BTreeSet;
use std::sync::Arc;

use boot::catalog::guard::{Guard, ObjectCounts, Verdict};
use tokio::sync::Notify;
use tracing::{info, warn};

use crate::index::IndexEvent;
use crate::metrics::Outcome;
use crate::object::{Object, ResourceKind};
use crate::watch::Source;

use super::deletions::Deletions;
use super::{Options, State};

/// A source and the progress of its list.
pub(super) struct SourceState {
    pub(super) source: Source,
    pub(super) relist: Arc<Notify>,
    pub(super) guard: Guard,
    pub(super) deletions: Deletions,
    /// The unique number of the list in progress, or of the last one.
    pub(super) listing: u32,
    /// The changes from the list in progress.
    pub(super) steps: Option<Vec<IndexEvent>>,
    /// The first list of this source, while other sources are still being listed.
    pub(super) initial: Option<Vec<IndexEvent>>,
    pub(super) error: Option<String>,
    /// Why the API server does not let this controller watch the source, if that is optional.
    pub(super) refusal: Option<String>,
}

/// Marks an object that did not come from a list.
pub(super) const NO_LISTING: u32 = 0;

pub(super) fn sources_of(options: &Options) -> Vec<SourceState> {
    let namespaces: BTreeSet<Option<String>> = if options.namespaces.is_empty() {
        BTreeSet::from([None])
    } else {
        options.namespaces.iter().cloned().map(Some).collect()
    };
    let sources = namespaces.into_iter().flat_map(|namespace| {
        [ResourceKind::Profile, ResourceKind::Assignment].map(|kind| Source {
            kind,
            namespace: namespace.clone(),
        })
    });
    let machines = Source {
        kind: ResourceKind::Machine,
        namespace: None,
    };
    let states = sources.chain([machines]).map(|source| SourceState {
        source,
        relist: Arc::default(),
        guard: Guard::new(options.guard),
        deletions: Deletions::default(),
        listing: 0,
        steps: None,
        initial: None,
        error: None,
        refusal: None,
    });
    states.collect()
}

// === impl SourceState ===

impl SourceState {
    /// Returns a sentence for the operator if the source is refused.
    pub(super) fn refusal_remark(&self) -> Option<String> {
        let refusal = self.refusal.as_ref()?;
        Some(format!("{} are not followed: {refusal}", self.source))
    }
}

// === impl State ===

impl State {
    pub(super) fn listed(&mut self, at: usize, object: Object) {
        let source_state = &mut self.sources[at];
        if self.index.is_new(&object) {
            self.metrics
                .updates
                .get_or_create(&Outcome { outcome: "listed" })
                .inc();
            source_state
                .steps
                .get_or_insert_default()
                .push(IndexEvent::Put(object));
        } else {
            // Objects that are already known are not stored: a list takes memory only for what it
            // changes.
            self.metrics
                .updates
                .get_or_create(&Outcome {
                    outcome: "unchanged",
                })
                .inc();
            self.index.mark(&object.name, source_state.listing);
        }
    }

    /// Completes a list: the objects that it lacks are removed if the guard believes it.
    pub(super) fn list_complete(&mut self, at: usize) {
        self.metrics.listings.inc();
        let source_state = &mut self.sources[at];
        let mut steps = source_state.steps.take().unwrap_or_default();
        let listing = source_state.listing;
        if !self.has_started {
            source_state.initial = Some(steps);
            self.start_if_all_are_listed();
            if !self.has_started {
                self.ask_again_for_refused();
            }
            return;
        }
        let there: BTreeSet<_> = steps
            .iter()
            .filter_map(|step| {
                if let IndexEvent::Put(object) = step {
                    Some(&object.name)
                } else {
                    None
                }
            })
            .collect();
        let source = source_state.source.clone();
        let mut lost = self.index.unmarked(listing, |name| source.has(name));
        lost.retain(|name| !there.contains(name));
        let known = self.index.count(|name| source.has(name));
        let mut counts = ObjectCounts::default();
        match source.kind {
            ResourceKind::Profile => counts.profiles = known,
            ResourceKind::Assignment => counts.assignments = known,
            ResourceKind::Machine => counts.machines = known,
        }
        let was_held = source_state.guard.holding().is_some();
        let count = lost.len();
        match source_state
            .guard
            .judge(counts, lost, std::time::Instant::now())
        {
            Verdict::Delete(lost) => steps.extend(lost.into_iter().map(IndexEvent::Deleted)),
            Verdict::Hold if was_held => {}
            Verdict::Hold => warn!(
                source = %source, lost = count, known,
                "a list lacks most objects; keeping them until their deletion is confirmed (POST /guard/confirm on the admin port, with the header X-Shaper-Request: 1) or later lists agree"
            ),
        }
        self.apply(steps, listing);
        self.update_remarks();
    }

    /// Publishes the first list of each source once there are all of them.
    fn start_if_all_are_listed(&mut self) {
        let is_listed = |source_state: &SourceState| source_state.initial.is_some();
        if self.sources.iter().all(is_listed) {
            self.start();
        }
    }

    /// Records that an optional source is refused. The controller starts without it if all others
    /// are listed. The known objects stay.
    pub(super) fn source_refused(&mut self, at: usize, message: String) {
        let source_state = &mut self.sources[at];
        source_state.error = None;
        if source_state.refusal.is_none() {
            warn!(source = %source_state.source, reason = message, "Machines are not followed; everything else works, and they are followed as soon as the API server permits it");
        }
        source_state.refusal = Some(message);
        let is_settled = |source_state: &SourceState| {
            source_state.initial.is_some() || source_state.refusal.is_some()
        };
        if !self.has_started && self.sources.iter().all(is_settled) {
            self.start();
        }
        self.update_remarks();
    }

    /// Asks again for refused sources once all others are listed: while an API server starts, it
    /// refuses everything, so that only a later refusal counts.
    fn ask_again_for_refused(&mut self) {
        let (refused, others): (Vec<_>, Vec<_>) = self
            .sources
            .iter()
            .partition(|source_state| source_state.refusal.is_some());
        if others.iter().all(|other| other.initial.is_some()) {
            refused.iter().for_each(|it| it.relist.notify_one());
        }
    }

    fn start(&mut self) {
        self.has_started = true;
        let steps = self
            .sources
            .iter_mut()
            .filter_map(|source_state| source_state.initial.take())
            .flatten()
            .collect();
        self.apply(steps, NO_LISTING);
        self.publisher.set_ready();
        let counts = self.index.counts();
        info!(
            profiles = counts.profiles,
            assignments = counts.assignments,
            machines = counts.machines,
            rejected = counts.rejected,
            "all sources are listed"
        );
        self.update_remarks();
        self.queue_all();
    }

    /// Lists a source again from time to time while the guard holds objects of it.
    pub(super) fn recheck_held_objects(&mut self) {
        let now = std::time::Instant::now();
        for source_state in &mut self.sources {
            let due = source_state
                .guard
                .holding()
                .zip(source_state.guard.relist_interval());
            if due.is_some_and(|(hold, every)| now >= hold.since + every * hold.listings)
                && source_state.steps.is_none()
            {
                source_state.steps = Some(Vec::new());
                source_state.relist.notify_one();
            }
        }
    }

    pub(super) fn confirm(&mut self) {
        for at in 0..self.sources.len() {
            let lost = self.sources[at].guard.confirm();
            if !lost.is_empty() {
                warn!(source = %self.sources[at].source, objects = lost.len(), "mass deletion confirmed");
                self.apply(
                    lost.into_iter().map(IndexEvent::Deleted).collect(),
                    NO_LISTING,
                );
            }
        }
        self.update_remarks();
        self.publish_counts();
    }
}
