//! What is known of one open connection.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use places::{Source, Standing};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::input::{HandshakeTooLong, HeldInput, MayRead};
use super::reserved::{NoRoom, Reserved};
use super::{Limits, Shared};

/// A client that has taken nothing of its answer for this long does not use its place.
const STALL: Duration = Duration::from_secs(1);

/// After this time, a connection that is shed must hurry for any newcomer. Most requests arrive
/// within a round trip.
const SHED_GRACE: Duration = Duration::from_millis(250);

/// What a connection has proved so far, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Stage {
    /// Nothing but its address.
    Accepted,
    /// A finished TLS handshake.
    Handshaken,
    /// A whole head of a request, or a stream.
    HeadRead,
}

/// What is known of one connection. A clone is the same connection.
#[derive(Clone, Debug)]
pub struct Connection {
    entry: Arc<Entry>,
    is_shed: bool,
}

/// A request that is being answered; its connection is busy until this is dropped.
#[derive(Debug)]
pub struct Busy(Arc<Entry>);

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) peer: SocketAddr,
    /// The table that has it. None if no table counts it.
    pub(super) shared: Weak<Shared>,
    accepted: Instant,
    stage: AtomicU8,
    /// How many requests are being answered.
    busy: AtomicUsize,
    /// Whether the client has not taken all of an answer.
    is_writing: AtomicBool,
    /// When the client last sent a request or took a part of an answer, in milliseconds since the
    /// connection was accepted.
    active_at: AtomicU64,
    /// Bytes that were sent after the client's window had been full.
    taken: AtomicU64,
    /// Whether the task that serves it waits for `hurry`.
    can_hurry: AtomicBool,
    /// Notified when it must be answered without its request.
    hurry: Notify,
    /// Bytes of long answers; see [`Connection::reserve`].
    pub(super) reserved: AtomicUsize,
    /// Bytes that were read since its last whole input, and at least those that are held.
    pub(super) input: AtomicUsize,
    /// Bytes of [`Limits::input_bytes`] that its input takes.
    pub(super) held_input: AtomicUsize,
    /// The same, once it was closed to free them.
    pub(super) closing_input: AtomicUsize,
    pub(super) counts_input: AtomicBool,
    /// Whether its input is a TLS handshake.
    pub(super) is_in_handshake: AtomicBool,
    task: Mutex<Task>,
}

#[derive(Debug, Default)]
enum Task {
    #[default]
    NotStarted,
    Started(AbortHandle),
    /// It was told to end.
    Hurried,
    /// It was aborted, or is to be once it starts.
    Closed,
}

// === impl Connection ===

impl Connection {
    pub(super) fn new(entry: Arc<Entry>, is_shed: bool) -> Self {
        Self { entry, is_shed }
    }

    /// A connection that no table counts, for a stream that was not accepted by
    /// [`serve`](crate::serve).
    pub fn uncounted(peer: SocketAddr) -> Self {
        Self::new(Arc::new(Entry::new(peer, Weak::new())), false)
    }

    /// The address of the peer. An IPv4 address is one, also on a socket for both families.
    pub fn peer(&self) -> SocketAddr {
        self.entry.peer
    }

    /// How long ago it was accepted.
    pub fn age(&self) -> Duration {
        self.entry.accepted.elapsed()
    }

    /// Whether its client only gets a 503; see [`WhenFull::Shed`](super::WhenFull::Shed).
    pub fn is_shed(&self) -> bool {
        self.is_shed
    }

    /// Declares that its task waits for [`must_hurry`](Self::must_hurry). From now on, a connection
    /// that is displaced before its head has been read is answered instead of aborted.
    pub fn can_hurry(&self) {
        // The lock orders this before or after `close`.
        let _task = self.entry.task();
        self.entry.can_hurry.store(true, Ordering::Relaxed);
    }

    /// Returns when the connection must be answered now, without its request, because a newcomer
    /// displaces it: one that is [shed](Self::is_shed), or one that [can hurry](Self::can_hurry).
    pub async fn must_hurry(&self) {
        self.entry.hurry.notified().await;
    }

    /// What it has proved so far.
    pub fn stage(&self) -> Stage {
        self.entry.stage()
    }

    /// Records that it has proved this, now. A stage is never taken back.
    pub fn reached(&self, stage: Stage) {
        // A load is cheaper than a write, and this is called for every request.
        if self.entry.stage.load(Ordering::Relaxed) < stage as u8 {
            self.entry.stage.fetch_max(stage as u8, Ordering::Relaxed);
        }
        self.entry.is_active();
        if stage == Stage::HeadRead {
            self.entry.head_is_whole();
        }
    }

    /// Declares that its input is a TLS handshake from now on.
    pub(crate) fn handshake_starts(&self) {
        self.entry.is_in_handshake.store(true, Ordering::Relaxed);
    }

    /// Records that the handshake has succeeded.
    pub(crate) fn handshake_succeeded(&self) {
        self.entry.handshake_is_whole();
        self.reached(Stage::Handshaken);
    }

    /// Counts bytes that were read. If input takes up all of [`Limits::input_bytes`], connections
    /// end: always one of the address that holds most, in the prefix that holds most.
    pub(crate) fn input_arrived(&self, bytes: usize) -> Result<(), HandshakeTooLong> {
        self.entry.input_arrived(bytes)
    }

    /// How much its next read may return.
    pub(crate) fn may_read(&self) -> MayRead {
        self.entry.may_read()
    }

    /// Records that its buffers are freed, at the end of its task.
    pub(super) fn input_is_freed(&self) {
        self.entry.input_is_freed();
    }

    /// Returns room for input that the server itself holds, such as the body of a request.
    pub fn held_input(&self) -> HeldInput {
        HeldInput::new(self.entry.clone())
    }

    /// Declares that its protocol bounds all further input. From now on, only
    /// [`held_input`](Self::held_input) takes room.
    pub fn stop_counting_input(&self) {
        self.entry.stop_counting_input();
    }

    /// Marks it as busy with a request until the guard is dropped: it makes progress.
    pub fn busy(&self) -> Busy {
        self.entry.busy.fetch_add(1, Ordering::Relaxed);
        Busy(self.entry.clone())
    }

    /// Records that the client's window is full, so that the rest of an answer waits.
    pub fn window_is_full(&self) {
        if !self.entry.is_writing.swap(true, Ordering::Relaxed) {
            self.entry.is_active();
        }
    }

    /// Records that the client took this many bytes after its window was full.
    pub fn took(&self, bytes: usize) {
        self.entry.taken.fetch_add(bytes as u64, Ordering::Relaxed);
        self.entry.is_active();
    }

    /// Records that the client took the whole answer.
    pub fn took_all(&self) {
        self.entry.is_writing.store(false, Ordering::Relaxed);
        self.entry.is_active();
    }

    /// Reserves room for an answer of this many bytes until the client has taken it.
    ///
    /// If all of [`Limits::answer_bytes`] is taken, clients that take nothing are disconnected,
    /// those of the prefix first that holds most. An error if there are none. A connection that no
    /// table counts has no limit.
    pub fn reserve(&self, bytes: usize) -> Result<Reserved, NoRoom> {
        Reserved::new(&self.entry, &self.entry.shared, bytes)
    }

    #[cfg(test)]
    pub(super) fn entry(&self) -> &Entry {
        &self.entry
    }

    /// Records the task that serves it. If another thread has closed it meanwhile, the task is
    /// aborted.
    pub(crate) fn set_task(&self, handle: AbortHandle) {
        let mut task = self.entry.task();
        match *task {
            Task::Hurried => {}
            Task::Closed => handle.abort(),
            Task::NotStarted | Task::Started(_) => *task = Task::Started(handle),
        }
    }
}

// === impl Busy ===

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.is_active();
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

// === impl Entry ===

impl Entry {
    pub(super) fn new(peer: SocketAddr, shared: Weak<Shared>) -> Self {
        Self {
            peer,
            shared,
            accepted: Instant::now(),
            stage: AtomicU8::new(Stage::Accepted as u8),
            busy: AtomicUsize::default(),
            is_writing: AtomicBool::default(),
            active_at: AtomicU64::default(),
            taken: AtomicU64::default(),
            can_hurry: AtomicBool::default(),
            hurry: Notify::new(),
            reserved: AtomicUsize::default(),
            input: AtomicUsize::default(),
            held_input: AtomicUsize::default(),
            closing_input: AtomicUsize::default(),
            counts_input: AtomicBool::new(true),
            is_in_handshake: AtomicBool::default(),
            task: Mutex::default(),
        }
    }

    pub(super) fn source(&self) -> Source {
        Source::from(self.peer.ip())
    }

    /// What the connection does with its place.
    pub(super) fn standing(&self, limits: &Limits, now: Instant) -> Standing {
        let age = now.saturating_duration_since(self.accepted);
        if self.stage() < limits.proof {
            return unproven(age, limits.grace);
        }
        let active_at = Duration::from_millis(self.active_at.load(Ordering::Relaxed));
        let waits = age.saturating_sub(active_at);
        let is_writing = self.is_writing.load(Ordering::Relaxed);
        if self.busy.load(Ordering::Relaxed) > 0 && !is_writing || is_writing && waits < STALL {
            let taken = self.taken.load(Ordering::Relaxed);
            Standing::Progressing(taken / age.as_secs().max(1))
        } else {
            Standing::Waiting(waits)
        }
    }

    /// What a connection that is shed does with its place.
    pub(super) fn standing_of_shed(&self, now: Instant) -> Standing {
        unproven(now.saturating_duration_since(self.accepted), SHED_GRACE)
    }

    /// Asks the task that serves it to answer now.
    pub(super) fn hurry(&self) {
        self.hurry.notify_one();
    }

    /// Ends the connection. If no request has arrived and its task can hurry, the task ends by
    /// itself, so that a client whose request is on its way gets an answer. Otherwise it is
    /// aborted.
    pub(super) fn close(&self) {
        let mut task = self.task();
        if self.stage() < Stage::HeadRead && self.can_hurry.load(Ordering::Relaxed) {
            *task = Task::Hurried;
            self.hurry();
        } else if let Task::Started(handle) = std::mem::replace(&mut *task, Task::Closed) {
            handle.abort();
        }
    }

    #[cfg(test)]
    pub(super) fn is_closed(&self) -> bool {
        matches!(*self.task(), Task::Closed)
    }

    fn stage(&self) -> Stage {
        match self.stage.load(Ordering::Relaxed) {
            0 => Stage::Accepted,
            1 => Stage::Handshaken,
            _ => Stage::HeadRead,
        }
    }

    fn is_active(&self) {
        let millis = u64::try_from(self.accepted.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.active_at.store(millis, Ordering::Relaxed);
    }

    fn task(&self) -> MutexGuard<'_, Task> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the standing of a connection of this age that has proved nothing.
fn unproven(age: Duration, grace: Duration) -> Standing {
    if age > grace {
        Standing::Overdue
    } else {
        Standing::Unproven
    }
}
