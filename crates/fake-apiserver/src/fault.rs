//! How it fails, and when.

use std::sync::Weak;
use std::time::Duration;

use crate::ServerState;
use crate::call::{Call, Verb};

/// A way to fail.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// The answer is this status, with `Retry-After` in seconds if given: 429, 500, 503, ...
    Status(u16, Option<u32>),
    /// The answer comes so much later.
    Delay(Duration),
    /// There is no answer, and the connection stays open.
    Hang,
    /// The connection is closed without an answer; a watch that runs is broken off in the middle of a line.
    CloseConnection,
    /// A list has only so many of its objects, and says nothing about it: after a restore, a change of permissions, or of clusters.
    TruncateList(usize),
    /// A watch is told 410 in its stream, whatever revision it goes on from, and ended.
    Gone,
    /// A watch sends nothing any more, not even bookmarks, and is not closed either.
    StallWatch,
    /// A watch sends something that is no event.
    InvalidEvent,
}

/// Which requests fail.
#[derive(Clone, Debug, Default)]
pub struct When {
    verbs: Vec<Verb>,
    plural: Option<String>,
    times: Option<usize>,
}

/// A fault that lasts as long as this value.
#[derive(Debug)]
pub struct InjectedFault {
    id: u64,
    shared: Weak<ServerState>,
}

#[derive(Debug, Default)]
pub(crate) struct Faults {
    next: u64,
    all: Vec<(u64, When, Fault)>,
}

// === impl When ===

impl When {
    /// Any request.
    pub fn any() -> Self {
        Self::default()
    }

    /// Lists. The list with which a watch can begin belongs to the watch.
    pub fn lists() -> Self {
        Self::verbs([Verb::List])
    }

    /// Watches.
    pub fn watches() -> Self {
        Self::verbs([Verb::Watch])
    }

    /// Whatever changes something.
    pub fn writes() -> Self {
        Self::verbs([Verb::Create, Verb::Update, Verb::Patch, Verb::Delete])
    }

    /// Requests of these verbs.
    pub fn verbs(verbs: impl IntoIterator<Item = Verb>) -> Self {
        Self {
            verbs: verbs.into_iter().collect(),
            ..Self::default()
        }
    }

    /// Only those about the kind with this plural.
    pub fn of(mut self, plural: &str) -> Self {
        self.plural = Some(plural.to_owned());
        self
    }

    /// Only the first so many.
    pub fn times(mut self, times: usize) -> Self {
        self.times = Some(times);
        self
    }

    fn matches(&self, call: &Call) -> bool {
        let is_verb = self.verbs.is_empty() || self.verbs.contains(&call.verb);
        is_verb
            && self
                .plural
                .as_ref()
                .is_none_or(|plural| *plural == call.plural)
            && self.times != Some(0)
    }
}

// === impl InjectedFault ===

impl InjectedFault {
    pub(crate) fn new(id: u64, shared: Weak<ServerState>) -> Self {
        Self { id, shared }
    }

    /// Ends the fault, as dropping this does.
    pub fn end(self) {}
}

impl Drop for InjectedFault {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.state().faults.all.retain(|(id, ..)| *id != self.id);
            shared.notify_watches();
        }
    }
}

// === impl Faults ===

impl Faults {
    pub(crate) fn add(&mut self, when: When, fault: Fault) -> u64 {
        self.next += 1;
        self.all.push((self.next, when, fault));
        self.next
    }

    /// The fault that a request meets, which counts as one time; `can` says which faults mean anything to it.
    pub(crate) fn trigger(
        &mut self,
        call: &Call,
        applies: impl Fn(Fault) -> bool,
    ) -> Option<(u64, Fault)> {
        let (id, when, fault) = self
            .all
            .iter_mut()
            .find(|(_, when, fault)| applies(*fault) && when.matches(call))?;
        when.times = when.times.map(|times| times - 1);
        Some((*id, *fault))
    }

    /// Whether a fault that was met has not ended yet.
    pub(crate) fn is_active(&self, id: u64) -> bool {
        self.all.iter().any(|(one, ..)| *one == id)
    }
}

// === impl Fault ===

impl Fault {
    /// Whether it is about an answer, rather than about what a list or a watch holds.
    pub(crate) fn affects_responses(self) -> bool {
        matches!(
            self,
            Self::Status(..) | Self::Delay(_) | Self::Hang | Self::CloseConnection
        )
    }

    /// Whether a watch that runs can meet it.
    pub(crate) fn affects_streams(self) -> bool {
        matches!(
            self,
            Self::CloseConnection | Self::Gone | Self::StallWatch | Self::InvalidEvent
        )
    }
}
