//! Permits for work that costs more than a connection: a stream, or a request that is being read.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use places::{Places, Source, Standing};
use tokio_util::sync::CancellationToken;

/// A limited number of permits. A clone shares them.
///
/// If all are taken, a newcomer displaces a holder: see [`places`].
#[derive(Clone, Debug)]
pub struct Permits(Arc<Shared>);

/// A permit, which is free again once this is dropped.
#[derive(Debug)]
pub struct Permit {
    shared: Arc<Shared>,
    source: Source,
    id: u64,
    state: Arc<State>,
}

#[derive(Debug)]
struct Shared {
    /// After this time without proof, a holder may be displaced by any newcomer.
    grace: Duration,
    table: Mutex<Table>,
}

#[derive(Debug)]
struct Table {
    places: Places<u64>,
    states: HashMap<u64, Arc<State>>,
    next_id: u64,
}

#[derive(Debug)]
struct State {
    since: Instant,
    is_proven: AtomicBool,
    revoked: CancellationToken,
}

// === impl Permits ===

impl Permits {
    /// This many permits. A holder that has not [proved itself](Permit::proved) after `grace` may
    /// be displaced by any newcomer.
    pub fn new(count: usize, grace: Duration) -> Self {
        let table = Table {
            places: Places::new(count),
            states: HashMap::new(),
            next_id: 0,
        };
        Self(Arc::new(Shared {
            grace,
            table: Mutex::new(table),
        }))
    }

    /// Returns a permit, if one is free or a holder can be displaced.
    pub fn try_acquire(&self, source: Source) -> Option<Permit> {
        let mut table = self.0.table();
        let Table { places, states, .. } = &mut *table;
        if places.is_full() {
            let standing = |id: &u64| {
                states
                    .get(id)
                    .map_or(Standing::Overdue, |state| state.standing(self.0.grace))
            };
            let (of, id) = places.yielding(source, standing)?;
            places.remove(of, id);
            if let Some(state) = states.remove(&id) {
                state.revoked.cancel();
            }
        }
        let state = Arc::new(State {
            since: Instant::now(),
            is_proven: AtomicBool::default(),
            revoked: CancellationToken::new(),
        });
        let id = table.next_id;
        table.next_id += 1;
        table.places.insert(source, id);
        table.states.insert(id, state.clone());
        drop(table);
        Some(Permit {
            shared: self.0.clone(),
            source,
            id,
            state,
        })
    }
}

// === impl Permit ===

impl Permit {
    /// Records that the holder has proved itself.
    pub fn proved(&self) {
        self.state.is_proven.store(true, Ordering::Relaxed);
    }

    /// Returns once the permit was given to another.
    pub async fn revoked(&self) {
        self.state.revoked.cancelled().await;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut table = self.shared.table();
        table.places.remove(self.source, self.id);
        table.states.remove(&self.id);
    }
}

// === impl Shared ===

impl Shared {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl State ===

impl State {
    fn standing(&self, grace: Duration) -> Standing {
        if self.is_proven.load(Ordering::Relaxed) {
            Standing::Progressing(0)
        } else if self.since.elapsed() > grace {
            Standing::Overdue
        } else {
            Standing::Unproven
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn address(last: u8) -> Source {
        Source::from(IpAddr::from([192, 0, 2, last]))
    }

    #[tokio::test]
    async fn one_address_with_all_permits_loses_one_to_another() {
        let permits = Permits::new(4, Duration::from_mins(1));
        let held: Vec<_> = (0..4)
            .map(|_| permits.try_acquire(address(66)).unwrap())
            .collect();
        assert!(permits.try_acquire(address(66)).is_none());
        held.iter().for_each(Permit::proved);
        let _other = permits.try_acquire(address(1)).unwrap();
        let is_revoked = |permit: &&Permit| permit.state.revoked.is_cancelled();
        assert_eq!(held.iter().filter(is_revoked).count(), 1);
        held.iter().find(is_revoked).unwrap().revoked().await;
        drop(held);
        assert_eq!(permits.0.table().places.len(), 1);
    }

    #[test]
    fn one_that_proves_nothing_in_time_gives_way_to_its_own_address() {
        let permits = Permits::new(2, Duration::ZERO);
        let proven = permits.try_acquire(address(1)).unwrap();
        proven.proved();
        let silent = permits.try_acquire(address(1)).unwrap();
        std::thread::sleep(Duration::from_millis(5));
        let _next = permits.try_acquire(address(1)).unwrap();
        assert!(silent.state.revoked.is_cancelled() && !proven.state.revoked.is_cancelled());
    }
}
