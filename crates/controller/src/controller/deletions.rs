//! Deletions in a burst.
//!
//! Who deletes a `CustomResourceDefinition` deletes all of its objects, and may not have meant that:
//! an uninstall, or a tool that prunes. The watch then delivers each deletion like any other. So the
//! API server is asked whether it still knows the resource before many deletions are believed.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use boot::ObjectRef;
use boot::catalog::guard::Limits;
use kube::Client;
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use crate::index::IndexEvent;

use super::State;
use super::listing::NO_LISTING;

/// Deletions within this time are one burst.
const WINDOW: Duration = Duration::from_secs(10);
/// When the API server is asked: so long after a burst has begun, and after each answer.
const PAUSE: Duration = Duration::from_secs(3);
/// How often in a row it must say that it knows the resource. The first answer may be older than
/// the deletion of the definition.
const ANSWERS: u32 = 2;
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// The last deletions of one source.
#[derive(Debug, Default)]
pub(super) struct Deletions {
    recent: VecDeque<Instant>,
    /// Number of objects before the burst.
    known: usize,
    /// The objects that are kept until it is known whether the resource still exists.
    held: BTreeSet<ObjectRef>,
    next_question: Option<Instant>,
    /// Number of answers in a row that the resource exists.
    answers: u32,
}

/// What the API server says about a resource. `None`: it did not say.
pub(super) type Answer = (usize, Option<bool>);

// === impl Deletions ===

impl Deletions {
    /// Returns the objects that are kept for now.
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    /// Stops keeping an object, because it exists again.
    pub(super) fn release(&mut self, name: &ObjectRef) {
        self.held.remove(name);
        if self.held.is_empty() {
            self.next_question = None;
        }
    }

    /// Records deletions. Returns whether they are part of a burst that is not believed yet.
    fn is_burst(
        &mut self,
        count: usize,
        known: impl FnOnce() -> usize,
        limits: &Limits,
        now: Instant,
    ) -> bool {
        while self
            .recent
            .front()
            .is_some_and(|at| now.duration_since(*at) > WINDOW)
        {
            self.recent.pop_front();
        }
        if self.recent.is_empty() && self.held.is_empty() {
            self.known = known();
        }
        self.recent.extend(std::iter::repeat_n(now, count));
        !self.held.is_empty() || limits.exceeded(self.known, self.recent.len())
    }

    fn hold(&mut self, names: BTreeSet<ObjectRef>, now: Instant) {
        self.held.extend(names);
        self.next_question.get_or_insert(now + PAUSE);
    }

    /// Ends the burst. Returns the objects that were kept, and the number before the burst.
    fn end(&mut self) -> (BTreeSet<ObjectRef>, usize) {
        let Self { held, known, .. } = std::mem::take(self);
        (held, known)
    }
}

// === impl State ===

impl State {
    /// Takes deletions out of `steps` that are part of a burst.
    pub(super) fn hold_bursts(&mut self, steps: &mut Vec<IndexEvent>) {
        let now = Instant::now();
        for source_state in &mut self.sources {
            let source = &source_state.source;
            let mut deleted = BTreeSet::new();
            for step in &*steps {
                match step {
                    IndexEvent::Deleted(name) if source.has(name) => {
                        deleted.insert(name.clone());
                    }
                    // It was created again.
                    IndexEvent::Put(object) => {
                        deleted.remove(&object.name);
                    }
                    IndexEvent::Deleted(_) => {}
                }
            }
            if deleted.is_empty() {
                continue;
            }
            let index = &self.index;
            let known = || index.count(|name| source.has(name));
            let deletions = &mut source_state.deletions;
            let was_held = deletions.held();
            if !deletions.is_burst(deleted.len(), known, source_state.guard.limits(), now) {
                continue;
            }
            if was_held == 0 {
                warn!(%source, "many objects are deleted at once; they are kept until the API server has said that it still knows their kind");
            }
            steps.retain(
                |step| !matches!(step, IndexEvent::Deleted(name) if deleted.contains(name)),
            );
            deletions.hold(deleted, now);
        }
    }

    /// Returns the sources about which the API server is to be asked now, with the plural of their
    /// resource.
    pub(super) fn questions(&mut self) -> Vec<(usize, &'static str)> {
        let now = Instant::now();
        let sources = self.sources.iter_mut().enumerate();
        sources
            .filter_map(|(at, source_state)| {
                let next = &mut source_state.deletions.next_question;
                next.take_if(|due| *due <= now)?;
                Some((at, source_state.source.kind.plural()))
            })
            .collect()
    }

    /// Applies the deletions of a burst, or hands them to the guard.
    pub(super) fn answered(&mut self, (at, is_known): Answer) {
        let source_state = &mut self.sources[at];
        let deletions = &mut source_state.deletions;
        if deletions.held.is_empty() {
            return;
        }
        let source = source_state.source.clone();
        match is_known {
            Some(true) if deletions.answers + 1 >= ANSWERS => {
                let (held, _) = deletions.end();
                info!(%source, objects = held.len(), "the API server knows the kind of the deleted objects; they are removed");
                let steps = held.into_iter().map(IndexEvent::Deleted).collect();
                self.apply(steps, NO_LISTING);
            }
            Some(false) => {
                let (held, known) = deletions.end();
                warn!(%source, objects = held.len(), "the API server does not know the kind of the deleted objects any more; they are kept until their deletion is confirmed (POST /guard/confirm on the admin port, with the header X-Shaper-Request: 1)");
                source_state
                    .guard
                    .hold(held, known, std::time::Instant::now());
            }
            answer => {
                deletions.answers = if answer.is_some() {
                    deletions.answers + 1
                } else {
                    0
                };
                deletions.next_question = Some(Instant::now() + PAUSE);
            }
        }
        self.update_remarks();
        self.publish_counts();
    }
}

/// Asks the API server whether objects of this resource can be created. While a definition is being
/// deleted, they can't (`apiextensions-apiserver`, discovery of terminating definitions).
pub(super) async fn ask(client: Client, at: usize, plural: &'static str) -> Answer {
    let answer = timeout(
        ANSWER_TIMEOUT,
        client.list_api_group_resources(crd::API_VERSION),
    )
    .await;
    let is_known = match answer {
        Ok(Ok(list)) => Some(list.resources.iter().any(|resource| {
            resource.name == plural && resource.verbs.iter().any(|verb| verb == "create")
        })),
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => Some(false),
        _ => None,
    };
    (at, is_known)
}
