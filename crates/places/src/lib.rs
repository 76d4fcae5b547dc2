//! Decides which holder is displaced when all places of a server are taken.
//!
//! A *place* is what a server has a limited number of: a connection, a transfer, a stream. Its
//! *holder* is known by an id, and by its [`Source`]: a network prefix (/24 for IPv4, /56 for
//! IPv6) and an address in it. When no place is free, [`Places::yielding`] names the holder that a
//! newcomer displaces:
//!
//! 1. One that has proved nothing for longer than it may ([`Standing::Overdue`]), the oldest.
//! 2. One that has proved nothing yet, if its prefix holds more than the newcomer's.
//! 3. One that has proved itself and does not use its place, the one that has waited longest.
//! 4. One that has proved itself, the slowest, if its prefix (address) holds more than its share and
//!    that of the newcomer less than half of its share.
//! 5. None: the newcomer is refused.
//!
//! In 2 and 4, the holder is one of the address that holds most, in the prefix that holds most. In
//! 1 and 3, such a holder comes first if that address holds more than the newcomer's. If both have
//! the same prefix, addresses are compared instead of prefixes. So a stranger with one address, or
//! one prefix, never keeps others out: the more places it holds, the sooner it loses one. Clients
//! that share an address, behind a NAT, displace each other only where a place is not used.
//!
//! Memory is limited too, and holders take more or less of it. [`yielding_amount`] names those that
//! give theirs back when it runs out: always one of the address that holds most, in the prefix that
//! holds most.
//!
//! The crate does no I/O and reads no clock: the server says what a holder has done.
//!
//! # Example
//!
//! ```
//! use std::net::IpAddr;
//!
//! use places::{Places, Source, Standing};
//!
//! let stranger = Source::from(IpAddr::from([192, 0, 2, 66]));
//! let machine = Source::from(IpAddr::from([198, 51, 100, 1]));
//! let mut places = Places::new(3);
//! for id in 0..3 {
//!     places.insert(stranger, id);
//! }
//! assert!(places.is_full());
//! assert_eq!(places.yielding(machine, |_| Standing::Unproven), Some((stranger, 0)));
//! assert_eq!(places.yielding(stranger, |_| Standing::Unproven), None);
//! ```

mod amounts;
mod counts;
mod queues;
mod source;

use std::collections::BTreeSet;
use std::hash::Hash;
use std::time::Duration;

use ahash::AHashMap;
use counts::Counts;
use queues::Queues;

pub use amounts::{Holding, yielding_amount};
pub use source::Source;

/// A prefix or address that holds less than this part of all places does not count as large, even
/// if it holds most, unless it holds [many times](MANY_TIMES) what the newcomer's does.
const LARGE_PART: usize = 16;
/// A prefix or address that holds at least so many times the places that the newcomer's will hold
/// counts as large: many small ones together may hold all places.
const MANY_TIMES: usize = 8;
/// A holder that waits for less than this may be between two requests. Only a newcomer that holds
/// less displaces it.
const SHORT_WAIT: Duration = Duration::from_secs(5);

/// What a holder has done with its place. The lowest is displaced first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has proved nothing, for longer than it may.
    Overdue,
    /// It has proved nothing, but its time is not over.
    Unproven,
    /// It has proved itself, and does not use its place: it is idle, or takes nothing of what it is
    /// sent. For how long.
    Waiting(Duration),
    /// It makes progress, at this many bytes per second, or at whatever rate the server compares.
    Progressing(u64),
}

/// The places of a server, and who holds them.
#[derive(Debug)]
pub struct Places<K> {
    capacity: usize,
    prefixes: AHashMap<u128, Prefix<K>>,
    by_size: Counts<u128>,
    queues: Queues<(Source, K)>,
}

/// The holders of one prefix.
#[derive(Debug)]
struct Prefix<K> {
    addresses: AHashMap<u128, Holders<K>>,
    by_size: Counts<u128>,
}

/// The holders of one address.
#[derive(Debug)]
struct Holders<K> {
    all: BTreeSet<K>,
    queues: Queues<K>,
}

// === impl Standing ===

impl Standing {
    /// Whether the holder has proved itself.
    pub fn is_proven(self) -> bool {
        matches!(self, Self::Waiting(_) | Self::Progressing(_))
    }

    /// The order in which holders are displaced, the lowest first.
    fn rank(self) -> (u8, u64) {
        match self {
            Self::Overdue => (0, 0),
            Self::Unproven => (1, 0),
            Self::Waiting(time) => {
                let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
                (2, u64::MAX - millis)
            }
            Self::Progressing(rate) => (3, rate),
        }
    }
}

// === impl Places ===

impl<K: Copy + Eq + Hash + Ord> Places<K> {
    /// This many places, all of them free.
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            prefixes: AHashMap::new(),
            by_size: Counts::default(),
            queues: Queues::default(),
        }
    }

    /// How many places are taken.
    pub fn len(&self) -> usize {
        self.by_size.total()
    }

    /// Whether no place is taken.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether all places are taken.
    pub fn is_full(&self) -> bool {
        self.len() >= self.capacity
    }

    /// How many places an address holds.
    pub fn held_by(&self, source: Source) -> usize {
        let prefix = self.prefixes.get(&source.prefix);
        prefix.map_or(0, |prefix| prefix.by_size.of(source.address))
    }

    /// The address that holds most places, in the prefix that holds most, and how many it holds.
    pub fn largest(&self) -> Option<(Source, usize)> {
        let prefix = self.by_size.largest()?;
        let by_address = &self.prefixes.get(&prefix)?.by_size;
        let address = by_address.largest()?;
        Some((Source { prefix, address }, by_address.of(address)))
    }

    /// How many entries are remembered to find a holder to displace, for tests: some are of holders
    /// that are gone.
    #[doc(hidden)]
    pub fn remembered(&self) -> usize {
        let of_addresses = |prefix: &Prefix<K>| -> usize {
            let holders = prefix.addresses.values();
            holders.map(|holders| holders.queues.len()).sum()
        };
        let by_address: usize = self.prefixes.values().map(of_addresses).sum();
        self.queues.len() + by_address
    }

    /// Gives a place to a holder that has none, also if all are taken. Does nothing for one that
    /// has a place.
    ///
    /// A holder that was removed must not be inserted again: give each a number of its own.
    pub fn insert(&mut self, source: Source, holder: K) {
        let prefix = self.prefixes.entry(source.prefix).or_default();
        let holders = prefix.addresses.entry(source.address).or_default();
        if !holders.all.insert(holder) {
            return;
        }
        holders.queues.push(holder);
        prefix.by_size.add(source.address, 1);
        self.by_size.add(source.prefix, 1);
        self.queues.push((source, holder));
        let prefixes = &self.prefixes;
        self.queues
            .compact(self.by_size.total(), |(source, holder)| {
                holds(prefixes, *source, holder)
            });
    }

    /// Takes the place of a holder back. Returns whether it had one.
    pub fn remove(&mut self, source: Source, holder: K) -> bool {
        let Some(prefix) = self.prefixes.get_mut(&source.prefix) else {
            return false;
        };
        let Some(holders) = prefix.addresses.get_mut(&source.address) else {
            return false;
        };
        if !holders.all.remove(&holder) {
            return false;
        }
        if holders.all.is_empty() {
            prefix.addresses.remove(&source.address);
        } else {
            let all = &holders.all;
            holders
                .queues
                .compact(all.len(), |holder| all.contains(holder));
        }
        prefix.by_size.subtract(source.address, 1);
        if prefix.addresses.is_empty() {
            self.prefixes.remove(&source.prefix);
        }
        self.by_size.subtract(source.prefix, 1);
        true
    }

    /// Returns the holder that the newcomer displaces, or `None` if the newcomer must be refused.
    /// See the [crate] for the order. Does not free the place: call [`remove`](Self::remove).
    ///
    /// Looks at a bounded number of holders, whatever the size of the table.
    pub fn yielding(
        &mut self,
        newcomer: Source,
        mut standing: impl FnMut(&K) -> Standing,
    ) -> Option<(Source, K)> {
        let largest = self.by_size.largest()?;
        let prefix = self.prefixes.get_mut(&largest)?;
        let address = prefix.by_size.largest()?;
        let (counts, held, own, places) = if largest == newcomer.prefix {
            let places = prefix.by_size.total();
            (&prefix.by_size, address, newcomer.address, places)
        } else {
            (&self.by_size, largest, newcomer.prefix, self.capacity)
        };
        let share = places / (counts.len() + usize::from(counts.of(own) == 0)).max(1);
        let (held, own) = (counts.of(held), counts.of(own));
        let of_largest = Source {
            prefix: largest,
            address,
        };
        let holders = prefix.addresses.get_mut(&address)?;
        let largest = holders
            .lowest(&mut standing)
            .map(|(holder, standing)| (of_largest, holder, standing));
        let prefixes = &self.prefixes;
        let is_held = |(source, holder): &(Source, K)| holds(prefixes, *source, holder);
        let mut standing = |(_, holder): &(Source, K)| standing(holder);
        let flat = |((source, holder), standing)| (source, holder, standing);
        let oldest = self
            .queues
            .oldest_unproven(is_held, &mut standing)
            .map(flat);
        let waiting = self.queues.sample(is_held, &mut standing).map(flat);
        // A smaller group may be machines that boot together.
        let is_large = held * LARGE_PART >= self.capacity || held >= MANY_TIMES * (own + 1);
        let is_unfair = held > own + 1 && is_large;
        // The rank of a standing; see the crate's documentation. Holders of the largest address
        // come first.
        let order = |standing: Standing, is_of_largest: bool| match standing {
            Standing::Overdue if is_of_largest && is_unfair => Some(0),
            Standing::Overdue => Some(1),
            Standing::Unproven => (is_of_largest && is_unfair).then_some(2),
            Standing::Waiting(_) if is_of_largest && is_unfair => Some(3),
            Standing::Waiting(time) if time >= SHORT_WAIT => Some(4),
            Standing::Waiting(_) | Standing::Progressing(_) => {
                (is_of_largest && held > share && own < share.div_ceil(2)).then_some(5)
            }
        };
        [(oldest, false), (largest, true), (waiting, false)]
            .into_iter()
            .filter_map(|(candidate, is_of_largest)| {
                let (source, holder, standing) = candidate?;
                Some((order(standing, is_of_largest)?, source, holder))
            })
            .min_by_key(|(order, ..)| *order)
            .map(|(_, source, holder)| (source, holder))
    }

    /// The oldest overdue holder of an address, to make room within a limit for that address.
    pub fn overdue_of(
        &mut self,
        source: Source,
        mut standing: impl FnMut(&K) -> Standing,
    ) -> Option<K> {
        let prefix = self.prefixes.get_mut(&source.prefix)?;
        let holders = prefix.addresses.get_mut(&source.address)?;
        let (holder, standing) = holders.lowest(&mut standing)?;
        (standing == Standing::Overdue).then_some(holder)
    }
}

fn holds<K: Copy + Eq + Hash + Ord>(
    prefixes: &AHashMap<u128, Prefix<K>>,
    source: Source,
    holder: &K,
) -> bool {
    prefixes
        .get(&source.prefix)
        .and_then(|prefix| prefix.addresses.get(&source.address))
        .is_some_and(|holders| holders.all.contains(holder))
}

// === impl Prefix ===

impl<K> Default for Prefix<K> {
    fn default() -> Self {
        Self {
            addresses: AHashMap::new(),
            by_size: Counts::default(),
        }
    }
}

// === impl Holders ===

impl<K> Default for Holders<K> {
    fn default() -> Self {
        Self {
            all: BTreeSet::new(),
            queues: Queues::default(),
        }
    }
}

impl<K: Copy + Ord> Holders<K> {
    /// The holder to displace first, as far as a sample of them tells.
    fn lowest(&mut self, standing: &mut impl FnMut(&K) -> Standing) -> Option<(K, Standing)> {
        let is_held = |holder: &K| self.all.contains(holder);
        match self.queues.oldest_unproven(is_held, standing) {
            None => self.queues.sample(is_held, standing),
            oldest => oldest,
        }
    }
}

#[cfg(test)]
mod tests;
