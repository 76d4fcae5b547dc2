//! The memory that answers take until their clients have read them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use places::{Source, Standing};

use super::Shared;
use super::entry::Entry;

/// A client that has read nothing for this long may be disconnected for any other.
const SLOW: Duration = Duration::from_secs(1);
/// The fraction of the memory that is freed at once, so that one scan of all connections serves
/// many answers.
const FREED_PART: usize = 16;

/// Room for an answer, which is free again once this is dropped.
#[derive(Debug)]
pub struct Reserved {
    entry: Arc<Entry>,
    shared: Weak<Shared>,
    bytes: usize,
}

/// The memory for answers is used up, and all clients that hold it are reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRoom;

/// The bytes that all connections of a table have reserved.
#[derive(Debug, Default)]
pub(super) struct Total(AtomicUsize);

// === impl Reserved ===

impl Reserved {
    pub(super) fn new(
        entry: &Arc<Entry>,
        shared: &Weak<Shared>,
        bytes: usize,
    ) -> Result<Self, NoRoom> {
        if let Some(shared) = shared.upgrade() {
            let before = shared.reserved.0.fetch_add(bytes, Ordering::Relaxed);
            let limit = shared.limits.answer_bytes;
            if before + bytes > limit && !shared.free_answers(entry.source(), bytes) {
                shared.reserved.0.fetch_sub(bytes, Ordering::Relaxed);
                return Err(NoRoom);
            }
        }
        entry.reserved.fetch_add(bytes, Ordering::Relaxed);
        Ok(Self {
            entry: entry.clone(),
            shared: shared.clone(),
            bytes,
        })
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.entry.reserved.fetch_sub(self.bytes, Ordering::Relaxed);
        if let Some(shared) = self.shared.upgrade() {
            shared.reserved.0.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}

// === impl NoRoom ===

impl fmt::Display for NoRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("too many clients are still reading long answers")
    }
}

impl std::error::Error for NoRoom {}

// === impl Shared ===

impl Shared {
    /// Disconnects clients that hold unread answers until `needed` bytes will be free. Returns
    /// whether they will be: the thread that served a connection frees its memory a moment later.
    ///
    /// Clients of the prefix, then of the address, that holds most bytes are first. Clients that
    /// are reading are included if the newcomer's prefix (address) holds less than half as much.
    fn free_answers(&self, newcomer: Source, needed: usize) -> bool {
        let now = Instant::now();
        let mut table = self.table();
        let mut by_prefix: BTreeMap<u128, usize> = BTreeMap::new();
        let mut by_address: BTreeMap<u128, usize> = BTreeMap::new();
        let mut holders = Vec::new();
        for (id, entry) in &table.served.entries {
            let bytes = entry.reserved.load(Ordering::Relaxed);
            if bytes > 0 {
                let source = entry.source();
                *by_prefix.entry(source.prefix()).or_default() += bytes;
                *by_address.entry(source.address()).or_default() += bytes;
                let waits = match entry.standing(&self.limits, now) {
                    Standing::Waiting(time) => time,
                    _ => Duration::ZERO,
                };
                holders.push((*id, source, bytes, waits));
            }
        }
        let held = |map: &BTreeMap<u128, usize>, key| map.get(&key).copied().unwrap_or_default();
        let size = |source: Source| {
            (
                held(&by_prefix, source.prefix()),
                held(&by_address, source.address()),
            )
        };
        let own = size(newcomer);
        let may_yield = |source: Source, waits: Duration| {
            let (prefix, address) = size(source);
            let (held, own) = if source.prefix() == newcomer.prefix() {
                (address, own.1)
            } else {
                (prefix, own.0)
            };
            waits >= SLOW || own + needed <= held / 2
        };
        holders.retain(|(_, source, _, waits)| may_yield(*source, *waits));
        holders.sort_by_key(|(_, source, _, waits)| std::cmp::Reverse((size(*source), *waits)));
        let wanted = needed.max(self.limits.answer_bytes / FREED_PART);
        let available: usize = holders.iter().map(|(_, _, bytes, _)| bytes).sum();
        if available < needed {
            return false;
        }
        let mut freed = 0;
        for (id, source, bytes, _) in holders {
            if freed >= wanted {
                break;
            }
            if let Some(entry) = table.served.remove(source, id) {
                entry.close();
                freed += bytes;
            }
        }
        true
    }
}
