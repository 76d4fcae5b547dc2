//! Faults and the requests that they affect.

use std::sync::Weak;
use std::time::Duration;

use crate::ServerState;
use crate::call::{Call, Verb};

/// A fault to inject.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// Responds with this status, and `Retry-After` in seconds if given: 429, 500, 503, ...
    Status(u16, Option<u32>),
    /// Delays the response.
    Delay(Duration),
    /// Sends no response and keeps the connection open.
    Hang,
    /// Closes the connection without a response; a running watch is cut off in the middle of a
    /// line.
    CloseConnection,
    /// Silently returns only this many objects in a list, as after a restore, a change of
    /// permissions, or a change of cluster.
    TruncateList(usize),
    /// Sends 410 in the stream of a watch, regardless of its revision, and ends it.
    Gone,
    /// Answers a write with 200 and the object as it is, without storing anything.
    Discard,
    /// Stops a watch from sending anything, including bookmarks, without closing it.
    StallWatch,
    /// Sends something in a watch that is not an event.
    InvalidEvent,
}

/// Selects the requests that fail.
#[derive(Clone, Debug, Default)]
pub struct When {
    verbs: Vec<Verb>,
    plural: Option<String>,
    namespace: Option<String>,
    times: Option<usize>,
}

/// An active fault, which ends when this value is dropped.
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
    /// All requests.
    pub fn any() -> Self {
        Self::default()
    }

    /// List requests. The initial list of a watch is part of the watch.
    pub fn lists() -> Self {
        Self::verbs([Verb::List])
    }

    /// Watch requests.
    pub fn watches() -> Self {
        Self::verbs([Verb::Watch])
    }

    /// Requests that change something.
    pub fn writes() -> Self {
        Self::verbs([Verb::Create, Verb::Update, Verb::Patch, Verb::Delete])
    }

    /// Requests with these verbs.
    pub fn verbs(verbs: impl IntoIterator<Item = Verb>) -> Self {
        Self {
            verbs: verbs.into_iter().collect(),
            ..Self::default()
        }
    }

    /// Limits the selection to the kind with this plural.
    pub fn of(mut self, plural: &str) -> Self {
        self.plural = Some(plural.to_owned());
        self
    }

    /// Limits the selection to one namespace.
    pub fn in_namespace(mut self, namespace: &str) -> Self {
        self.namespace = Some(namespace.to_owned());
        self
    }

    /// Limits the selection to the first `times` requests.
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
            && (self.namespace.is_none() || self.namespace == call.namespace)
            && self.times != Some(0)
    }
}

// === impl InjectedFault ===

impl InjectedFault {
    pub(crate) fn new(id: u64, shared: Weak<ServerState>) -> Self {
        Self { id, shared }
    }

    /// Ends the fault, as dropping it does.
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

    /// Returns the first fault that matches the request and for which `applies` is true, and counts
    /// it.
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

    /// Whether a triggered fault has not ended yet.
    pub(crate) fn is_active(&self, id: u64) -> bool {
        self.all.iter().any(|(one, ..)| *one == id)
    }
}

// === impl Fault ===

impl Fault {
    /// Whether the fault affects responses as such, rather than the content of a list or watch.
    pub(crate) fn affects_responses(self) -> bool {
        matches!(
            self,
            Self::Status(..) | Self::Delay(_) | Self::Hang | Self::CloseConnection | Self::Discard
        )
    }

    /// Whether the fault affects running watches.
    pub(crate) fn affects_streams(self) -> bool {
        matches!(
            self,
            Self::CloseConnection | Self::Gone | Self::StallWatch | Self::InvalidEvent
        )
    }
}
