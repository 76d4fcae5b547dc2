//! The memory that input takes until it is whole: a TLS handshake, or the head of a request.
//!
//! Every connection counts the bytes that it has read since its last whole input. Short input,
//! which is nearly all, costs no more than that. Longer input takes room within
//! [`Limits::input_bytes`](super::Limits::input_bytes), which all connections of a server share.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use places::{Holding, Standing, yielding_amount};
use tracing::warn;

use super::entry::Entry;
use super::{Group, Shared, is_due};

/// Input up to this size takes no room: the limit on connections bounds it. A request of a machine
/// is shorter, and so is a `ClientHello` with a post-quantum key share.
const UNCOUNTED_BYTES: usize = 2 * 1024;
/// Bytes that are read at once while input is counted. A read may bring the end of one input and the
/// start of the next, so this is how much may be missed.
pub(crate) const READ_BYTES: usize = 4 * 1024;
/// Room is taken in steps of this size, that of a page.
const STEP: usize = 4 * 1024;
/// How much of a long input may be the start of the next one: a TLS record, and a read.
const CARRIED_BYTES: usize = 20 * 1024;
/// Limit of a TLS handshake. One with six intermediate certificates is half as long.
const MAX_HANDSHAKE_BYTES: usize = 32 * 1024;
/// The fraction of the room that is freed at once, so that one scan of all connections serves many
/// reads.
const FREED_PART: usize = 16;

/// Room for input that a server holds itself, such as the body of a request. It is given back once
/// this is dropped.
#[derive(Debug)]
pub struct HeldInput {
    entry: Arc<Entry>,
    bytes: usize,
}

/// How much a connection may read at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MayRead {
    /// All that has arrived, since it is not counted.
    All,
    /// [`READ_BYTES`].
    Some,
    /// Nothing, until connections that were closed have ended.
    Later,
    /// Nothing, since it was closed itself.
    Nothing,
}

/// A TLS handshake is longer than any that is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HandshakeTooLong;

// === impl HeldInput ===

impl HeldInput {
    pub(super) fn new(entry: Arc<Entry>) -> Self {
        Self { entry, bytes: 0 }
    }

    /// Takes room for more bytes. If there is none, connections end, and this one may be among them.
    pub fn add(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.entry.hold_more_input(bytes);
    }
}

impl Drop for HeldInput {
    fn drop(&mut self) {
        self.entry.release_input(self.bytes);
    }
}

// === impl HandshakeTooLong ===

impl From<HandshakeTooLong> for io::Error {
    fn from(_: HandshakeTooLong) -> Self {
        let text = format!("the handshake is longer than {MAX_HANDSHAKE_BYTES} bytes");
        Self::new(io::ErrorKind::InvalidData, text)
    }
}

// === impl Entry ===

impl Entry {
    /// How much its next read may return.
    pub(super) fn may_read(&self) -> MayRead {
        if !self.counts_input.load(Ordering::Relaxed) {
            MayRead::All
        } else if self.input.load(Ordering::Relaxed) <= UNCOUNTED_BYTES {
            MayRead::Some
        } else {
            self.may_read_more()
        }
    }

    /// How much the next read may return for input that takes room.
    #[cold]
    fn may_read_more(&self) -> MayRead {
        if self.closing_input.load(Ordering::Relaxed) > 0 {
            return MayRead::Nothing;
        }
        let is_over = self.shared.upgrade().is_some_and(|shared| {
            let closing = shared.closing_input.load(Ordering::Relaxed);
            let held = shared.held_input.load(Ordering::Relaxed);
            closing > 0 && held + closing > shared.limits.input_bytes
        });
        if is_over {
            MayRead::Later
        } else {
            MayRead::Some
        }
    }

    /// Counts bytes that were read.
    pub(super) fn input_arrived(&self, bytes: usize) -> Result<(), HandshakeTooLong> {
        let input = self.input.load(Ordering::Relaxed) + bytes;
        self.input.store(input, Ordering::Relaxed);
        if input <= UNCOUNTED_BYTES || !self.counts_input.load(Ordering::Relaxed) {
            return Ok(());
        }
        if self.is_in_handshake.load(Ordering::Relaxed) && input > MAX_HANDSHAKE_BYTES {
            return Err(HandshakeTooLong);
        }
        self.hold_input(input.next_multiple_of(STEP));
        Ok(())
    }

    /// Records that the head of a request is whole.
    ///
    /// Its buffer keeps its size as long as the connection is open, and so does the room that it
    /// takes.
    pub(super) fn head_is_whole(&self) {
        let input = self.input.load(Ordering::Relaxed);
        let carried = if input <= UNCOUNTED_BYTES {
            0
        } else {
            input.min(CARRIED_BYTES)
        };
        self.input.store(carried, Ordering::Relaxed);
    }

    /// Records that the handshake is whole. Its buffers are freed.
    pub(super) fn handshake_is_whole(&self) {
        self.is_in_handshake.store(false, Ordering::Relaxed);
        self.input.store(0, Ordering::Relaxed);
        self.release_input(usize::MAX);
    }

    /// Ends the connection to free its input. The room is free for others once its task has ended.
    fn close_to_free_input(&self, shared: &Shared) {
        let held = self.held_input.swap(0, Ordering::Relaxed);
        self.closing_input.fetch_add(held, Ordering::Relaxed);
        shared.closing_input.fetch_add(held, Ordering::Relaxed);
        shared.held_input.fetch_sub(held, Ordering::Relaxed);
        self.close();
    }

    /// Gives back all room, at the end of the connection's task.
    pub(super) fn input_is_freed(&self) {
        self.release_input(usize::MAX);
        let closing = self.closing_input.swap(0, Ordering::Relaxed);
        if closing > 0
            && let Some(shared) = self.shared.upgrade()
        {
            shared.closing_input.fetch_sub(closing, Ordering::Relaxed);
        }
    }

    /// Counts no further input, and gives back the room that it took.
    pub(super) fn stop_counting_input(&self) {
        self.counts_input.store(false, Ordering::Relaxed);
        self.release_input(usize::MAX);
    }

    /// Takes room for `bytes` in total, if its input takes less.
    #[cold]
    fn hold_input(&self, bytes: usize) {
        let held = self.held_input.load(Ordering::Relaxed);
        if bytes > held {
            self.hold_more_input(bytes - held);
        }
    }

    fn hold_more_input(&self, bytes: usize) {
        if let Some(shared) = self.shared.upgrade() {
            self.held_input.fetch_add(bytes, Ordering::Relaxed);
            let total = shared.held_input.fetch_add(bytes, Ordering::Relaxed) + bytes;
            if total > shared.limits.input_bytes {
                shared.free_input();
            }
        }
    }

    /// Gives back the room for this many bytes, or for all if its input takes less.
    fn release_input(&self, bytes: usize) {
        let held = self.held_input.load(Ordering::Relaxed);
        if held == 0 {
            return;
        }
        let rest = |held: usize| Some(held.saturating_sub(bytes));
        let before = self
            .held_input
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, rest);
        let released = before.unwrap_or_default().min(bytes);
        if let Some(shared) = self.shared.upgrade() {
            shared.held_input.fetch_sub(released, Ordering::Relaxed);
        }
    }
}

// === impl Shared ===

impl Shared {
    /// Ends connections until the input of all others takes less room than there is: each time, one
    /// of the address that holds most in the prefix that holds most, the one that has proved least.
    fn free_input(&self) {
        let now = Instant::now();
        let mut table = self.table();
        let (held, limit) = (
            self.held_input.load(Ordering::Relaxed),
            self.limits.input_bytes,
        );
        if held <= limit {
            // Another thread was faster.
            return;
        }
        let served = holdings(&table.served, |entry| entry.standing(&self.limits, now));
        let shed = holdings(&table.shed, |entry| entry.standing_of_shed(now));
        let yielding = yielding_amount(served.chain(shed), held - limit + limit / FREED_PART);
        if let Some(first) = yielding.first()
            && is_due(&mut table.warned_of_input, now)
        {
            warn!(
                server = self.server, address = %first.source, closed = yielding.len(),
                "unfinished requests and handshakes use up their memory; closed those that have proved least"
            );
        }
        for Holding { source, holder, .. } in yielding {
            let served = table.served.remove(source, holder);
            if let Some(entry) = served.or_else(|| table.shed.remove(source, holder)) {
                entry.close_to_free_input(self);
                self.displaced.inc();
            }
        }
    }
}

/// The connections of a group whose input takes room.
fn holdings(
    group: &Group,
    standing: impl Fn(&Entry) -> Standing,
) -> impl Iterator<Item = Holding<u64>> {
    group.entries.iter().filter_map(move |(id, entry)| {
        let amount = entry.held_input.load(Ordering::Relaxed);
        (amount > 0).then(|| Holding {
            source: entry.source(),
            holder: *id,
            amount,
            standing: standing(entry),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{connections, peer, stranger};
    use super::super::{Connections, Place, Stage, WhenFull};
    use super::*;

    const KIB: usize = 1024;

    fn held(table: &Connections) -> usize {
        table.0.held_input.load(Ordering::Relaxed)
    }

    fn is_closed(place: &Place) -> bool {
        place.connection.entry().is_closed()
    }

    fn read(place: &Place, bytes: usize) {
        place.connection.entry().input_arrived(bytes).unwrap();
    }

    #[test]
    fn short_input_takes_no_room_and_long_input_takes_it_until_the_connection_ends() {
        let table = connections(10, WhenFull::Refuse);
        let place = table.admit(peer(1)).unwrap();
        for _ in 0..100 {
            read(&place, 1_500);
            read(&place, 500);
            assert_eq!(held(&table), 0);
            place.connection.reached(Stage::HeadRead);
        }
        read(&place, 3_000);
        assert_eq!(held(&table), 4 * KIB);
        read(&place, 3_000);
        assert_eq!(held(&table), 8 * KIB);
        place.connection.reached(Stage::HeadRead);
        assert_eq!(held(&table), 8 * KIB, "the buffer keeps its size");
        drop(place);
        assert_eq!(held(&table), 0);
    }

    #[test]
    fn a_client_that_repeats_long_heads_does_not_take_more_and_more() {
        let table = connections(10, WhenFull::Refuse);
        let place = table.admit(peer(1)).unwrap();
        for _ in 0..100 {
            read(&place, 4 * KIB);
            place.connection.reached(Stage::HeadRead);
        }
        assert_eq!(held(&table), CARRIED_BYTES + 4 * KIB);
    }

    #[test]
    fn the_start_of_a_head_that_came_with_a_whole_one_is_counted() {
        let table = connections(10, WhenFull::Refuse);
        let place = table.admit(peer(1)).unwrap();
        // A record that holds a request and most of the next head.
        read(&place, 16 * KIB);
        place.connection.reached(Stage::HeadRead);
        read(&place, 16 * KIB);
        assert_eq!(held(&table), 32 * KIB);
    }

    #[test]
    fn a_handshake_gives_its_room_back_and_has_a_limit() {
        let table = connections(10, WhenFull::Refuse);
        let place = table.admit(peer(1)).unwrap();
        let entry = place.connection.entry();
        place.connection.handshake_starts();
        assert_eq!(entry.input_arrived(MAX_HANDSHAKE_BYTES), Ok(()));
        assert_eq!(held(&table), MAX_HANDSHAKE_BYTES);
        assert_eq!(entry.input_arrived(1), Err(HandshakeTooLong));
        place.connection.handshake_succeeded();
        assert_eq!(held(&table), 0);
        // A head has no such limit here.
        assert_eq!(entry.input_arrived(2 * MAX_HANDSHAKE_BYTES), Ok(()));
    }

    #[test]
    fn input_that_is_not_counted_any_more_takes_no_room() {
        let table = connections(10, WhenFull::Refuse);
        let place = table.admit(peer(1)).unwrap();
        read(&place, 8 * KIB);
        place.connection.stop_counting_input();
        read(&place, 80 * KIB);
        assert_eq!(held(&table), 0);
    }

    #[test]
    fn held_input_takes_room_until_it_is_dropped_also_if_its_connection_ends_before() {
        let table = connections(10, WhenFull::Refuse);
        let [first, second] = [peer(1), stranger(1)].map(|peer| table.admit(peer).unwrap());
        let mut bodies = [&first, &second].map(|place| place.connection.held_input());
        bodies.iter_mut().for_each(|body| body.add(30 * KIB));
        assert_eq!(held(&table), 60 * KIB);
        bodies[1].add(30 * KIB);
        assert!(is_closed(&second) && !is_closed(&first));
        assert_eq!(held(&table), 30 * KIB);
        bodies[1].add(10 * KIB);
        drop(bodies);
        assert_eq!(held(&table), 0);
    }

    #[test]
    fn strangers_whose_heads_use_up_the_room_are_closed_and_others_are_not() {
        // Room for eight times 8 KiB; see `connections`.
        let table = connections(100, WhenFull::Refuse);
        let machine = table.admit(peer(1)).unwrap();
        read(&machine, 8 * KIB);
        let strangers: Vec<_> = (0..20)
            .map(|_| {
                let place = table.admit(stranger(1)).unwrap();
                read(&place, 8 * KIB);
                assert!(held(&table) <= 64 * KIB, "{}", held(&table));
                place
            })
            .collect();
        assert!(!is_closed(&machine));
        let closed: Vec<_> = strangers.iter().map(is_closed).collect();
        assert_eq!(closed[..14], [true; 14], "the oldest");
        assert_eq!(closed[14..], [false; 6]);
        assert_eq!(table.0.displaced.get(), 14);
        let may_read = |place: &Place| place.connection.may_read();
        assert_eq!(may_read(&strangers[0]), MayRead::Nothing);
        // The memory of those that were closed is not free yet.
        assert_eq!(may_read(&machine), MayRead::Later);
        drop(strangers);
        assert_eq!(may_read(&machine), MayRead::Some);
        drop(machine);
        assert_eq!((held(&table), table.len()), (0, 0));
        assert_eq!(table.0.closing_input.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_connection_that_is_shed_gives_its_room_back_too() {
        let table = connections(1, WhenFull::Shed(100));
        let served = table.admit(peer(1)).unwrap();
        served.connection.reached(Stage::HeadRead);
        let busy = served.connection.busy();
        let shed: Vec<_> = (0..20)
            .map(|_| {
                let place = table.admit(stranger(1)).unwrap();
                assert!(place.connection.is_shed());
                read(&place, 8 * KIB);
                assert!(held(&table) <= 64 * KIB, "{}", held(&table));
                place
            })
            .collect();
        assert_eq!(shed.iter().filter(|place| is_closed(place)).count(), 12);
        drop((busy, served, shed));
        assert_eq!(held(&table), 0);
    }
}
