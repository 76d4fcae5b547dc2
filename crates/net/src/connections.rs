//! The table of one server's open connections, and its limits.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::accept_errors::AcceptErrors;

/// How many connections a server serves, and what becomes of more.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections that are served at once.
    pub connections: usize,
    /// Connections that are served at once for one address; more are refused. `None` for no
    /// limit.
    pub per_peer: Option<usize>,
    /// What becomes of a connection beyond [`connections`](Self::connections).
    pub when_full: WhenFull,
    /// How long connections may take to end once the server stops. Zero closes them at once.
    pub drain: Duration,
}

/// What becomes of a connection that a full server accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// It is closed.
    Refuse,
    /// It takes the place of the oldest connection that is not [busy](Connection::busy), which is
    /// closed. If all are busy, it is refused.
    CloseOldestIdle,
    /// It is admitted with [`is_shed`](Connection::is_shed) set, up to this many at once, so that
    /// its client can be told to come back. Beyond, the server stops accepting, and clients wait
    /// in the kernel's queue.
    Shed(usize),
}

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

/// The open connections of one server. A clone is the same table.
#[derive(Clone, Debug)]
pub struct Connections(Arc<Shared>);

/// What is known of one connection. A clone is the same connection.
#[derive(Clone, Debug)]
pub struct Connection {
    entry: Arc<Entry>,
    is_shed: bool,
}

/// The place of an open connection in the table, which is free again once this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    shared: Arc<Shared>,
    id: u64,
    connection: Connection,
}

/// A request that is being answered; its connection is busy until this is dropped.
#[derive(Debug)]
pub struct Busy(Arc<Entry>);

/// Why there is no place for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// It is to be closed.
    Refuse,
    /// It may wait for a place.
    Wait,
}

#[derive(Debug)]
struct Shared {
    server: &'static str,
    limits: Limits,
    table: Mutex<Table>,
    /// Notified when a place becomes free.
    freed: Notify,
}

#[derive(Debug, Default)]
struct Table {
    /// By the order in which they were accepted, the oldest first.
    served: BTreeMap<u64, Arc<Entry>>,
    /// How many connections are being shed.
    shed: usize,
    /// How many are served for each address, if that is limited.
    by_peer: HashMap<IpAddr, usize>,
    next_id: u64,
    accept_errors: AcceptErrors,
}

/// What is known of a connection.
#[derive(Debug)]
struct Entry {
    peer: SocketAddr,
    accepted: Instant,
    stage: AtomicU8,
    /// How many requests are being answered.
    busy: AtomicUsize,
    task: Mutex<Task>,
}

#[derive(Debug, Default)]
enum Task {
    #[default]
    NotStarted,
    Started(AbortHandle),
    Closed,
}

// === impl Connections ===

impl Connections {
    /// An empty table for the server of this name, as logs call it.
    pub fn new(server: &'static str, limits: Limits) -> Self {
        Self(Arc::new(Shared {
            server,
            limits,
            table: Mutex::default(),
            freed: Notify::new(),
        }))
    }

    /// How many connections are open, without those that are shed.
    pub fn len(&self) -> usize {
        self.0.table().served.len()
    }

    /// Whether no connection is open.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn server(&self) -> &'static str {
        self.0.server
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.0.limits
    }

    pub(crate) fn accept_failed(&self, error: &io::Error) {
        let mut table = self.0.table();
        table.accept_errors.failed(self.0.server, error);
    }

    /// A place for a connection that was accepted, or `None` if it must be closed. Waits while a
    /// server that sheds has no place of either kind.
    pub(crate) async fn admit_or_wait(&self, peer: SocketAddr) -> Option<Place> {
        loop {
            match self.admit(peer) {
                Ok(place) => return Some(place),
                Err(Full::Refuse) => return None,
                Err(Full::Wait) => self.0.freed.notified().await,
            }
        }
    }

    /// A place for a connection that was accepted, if there is one now.
    pub(crate) fn admit(&self, peer: SocketAddr) -> Result<Place, Full> {
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let limits = &self.0.limits;
        let mut table = self.0.table();
        table.accept_errors.succeeded(self.0.server);
        if let Some(limit) = limits.per_peer
            && table.by_peer.get(&peer.ip()).is_some_and(|n| *n >= limit)
        {
            return Err(Full::Refuse);
        }
        let mut is_shed = false;
        if table.served.len() >= limits.connections {
            match limits.when_full {
                WhenFull::Refuse => return Err(Full::Refuse),
                WhenFull::CloseOldestIdle => {
                    table.close_oldest_idle(limits).ok_or(Full::Refuse)?;
                }
                WhenFull::Shed(limit) if table.shed < limit => is_shed = true,
                WhenFull::Shed(_) => return Err(Full::Wait),
            }
        }
        let entry = Arc::new(Entry::new(peer));
        let id = table.next_id;
        table.next_id += 1;
        if is_shed {
            table.shed += 1;
        } else {
            table.served.insert(id, entry.clone());
            if limits.per_peer.is_some() {
                *table.by_peer.entry(peer.ip()).or_default() += 1;
            }
        }
        drop(table);
        Ok(Place {
            shared: self.0.clone(),
            id,
            connection: Connection { entry, is_shed },
        })
    }
}

// === impl Shared ===

impl Shared {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Table ===

impl Table {
    /// Closes the oldest connection that is not busy, so that a client which holds many
    /// connections open can't keep others out. `None` if all are busy.
    fn close_oldest_idle(&mut self, limits: &Limits) -> Option<()> {
        let is_idle = |entry: &Entry| entry.busy.load(Ordering::Relaxed) == 0;
        let (&id, _) = self.served.iter().find(|(_, entry)| is_idle(entry))?;
        let entry = self.remove(id, limits)?;
        entry.close();
        Some(())
    }

    fn remove(&mut self, id: u64, limits: &Limits) -> Option<Arc<Entry>> {
        let entry = self.served.remove(&id)?;
        if limits.per_peer.is_some()
            && let Some(count) = self.by_peer.get_mut(&entry.peer.ip())
        {
            *count -= 1;
            if *count == 0 {
                self.by_peer.remove(&entry.peer.ip());
            }
        }
        Some(entry)
    }
}

// === impl Connection ===

impl Connection {
    /// A connection that no table counts, for a stream that was not accepted by
    /// [`serve`](crate::serve).
    pub fn uncounted(peer: SocketAddr) -> Self {
        Self {
            entry: Arc::new(Entry::new(peer)),
            is_shed: false,
        }
    }

    /// The address of the peer. An IPv4 address is one, also on a socket for both families.
    pub fn peer(&self) -> SocketAddr {
        self.entry.peer
    }

    /// How long ago it was accepted.
    pub fn age(&self) -> Duration {
        self.entry.accepted.elapsed()
    }

    /// Whether its client is only to be told to come back; see [`WhenFull::Shed`].
    pub fn is_shed(&self) -> bool {
        self.is_shed
    }

    /// What it has proved so far.
    pub fn stage(&self) -> Stage {
        match self.entry.stage.load(Ordering::Relaxed) {
            0 => Stage::Accepted,
            1 => Stage::Handshaken,
            _ => Stage::HeadRead,
        }
    }

    /// Records that it has proved this. A stage is never taken back.
    pub fn reached(&self, stage: Stage) {
        let stage = stage as u8;
        // A load is cheaper than a write, and this is called for every request.
        if self.entry.stage.load(Ordering::Relaxed) < stage {
            self.entry.stage.fetch_max(stage, Ordering::Relaxed);
        }
    }

    /// Marks it as busy with a request, so that [`WhenFull::CloseOldestIdle`] spares it.
    pub fn busy(&self) -> Busy {
        self.entry.busy.fetch_add(1, Ordering::Relaxed);
        Busy(self.entry.clone())
    }

    /// Records the task that serves it. If another thread has closed it meanwhile, the task is
    /// aborted.
    pub(crate) fn set_task(&self, handle: AbortHandle) {
        let mut task = self.entry.task();
        match *task {
            Task::Closed => handle.abort(),
            _ => *task = Task::Started(handle),
        }
    }
}

// === impl Place ===

impl Place {
    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut table = self.shared.table();
        if self.connection.is_shed {
            table.shed -= 1;
        } else {
            // One that was closed to make room is not there any more.
            table.remove(self.id, &self.shared.limits);
        }
        drop(table);
        self.shared.freed.notify_one();
    }
}

// === impl Busy ===

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

// === impl Entry ===

impl Entry {
    fn new(peer: SocketAddr) -> Self {
        Self {
            peer,
            accepted: Instant::now(),
            stage: AtomicU8::new(Stage::Accepted as u8),
            busy: AtomicUsize::default(),
            task: Mutex::default(),
        }
    }

    /// Aborts the task that serves it.
    fn close(&self) {
        if let Task::Started(handle) = std::mem::replace(&mut *self.task(), Task::Closed) {
            handle.abort();
        }
    }

    fn task(&self) -> MutexGuard<'_, Task> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connections(limit: usize, per_peer: Option<usize>, when_full: WhenFull) -> Connections {
        let limits = Limits {
            connections: limit,
            per_peer,
            when_full,
            drain: Duration::ZERO,
        };
        Connections::new("test", limits)
    }

    fn peer(last: u8) -> SocketAddr {
        ([192, 0, 2, last], 4000).into()
    }

    #[test]
    fn a_full_server_refuses_until_a_connection_is_dropped() {
        let table = connections(2, None, WhenFull::Refuse);
        let first = table.admit(peer(1)).unwrap();
        let _second = table.admit(peer(1)).unwrap();
        assert!(table.admit(peer(2)).is_err());
        drop(first);
        assert!(table.admit(peer(2)).is_ok());
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn one_address_is_limited_and_leaves_room_for_others() {
        let table = connections(10, Some(2), WhenFull::Refuse);
        let first = table.admit(peer(1)).unwrap();
        // The same address on a socket for both families.
        let mapped = "[::ffff:192.0.2.1]:5000".parse().unwrap();
        let _second = table.admit(mapped).unwrap();
        assert!(table.admit(peer(1)).is_err());
        let _other = table.admit(peer(2)).unwrap();
        drop(first);
        assert!(table.admit(peer(1)).is_ok());
    }

    #[test]
    fn the_oldest_idle_connection_makes_room() {
        let table = connections(2, None, WhenFull::CloseOldestIdle);
        let oldest = table.admit(peer(1)).unwrap();
        let idle = table.admit(peer(2)).unwrap();
        let busy = oldest.connection.busy();
        let newest = table.admit(peer(3)).unwrap();
        assert!(matches!(*idle.connection.entry.task(), Task::Closed));
        let _also_busy = newest.connection.busy();
        assert!(table.admit(peer(4)).is_err(), "all are busy");
        drop(busy);
        assert!(table.admit(peer(4)).is_ok());
        // A closed connection gives back its place once.
        drop((idle, oldest));
        assert_eq!(table.len(), 1);
    }

    #[tokio::test]
    async fn a_server_that_sheds_waits_when_it_can_not_shed_more() {
        let table = connections(1, None, WhenFull::Shed(1));
        let served = table.admit_or_wait(peer(1)).await.unwrap();
        let shed = table.admit_or_wait(peer(2)).await.unwrap();
        assert!(!served.connection.is_shed() && shed.connection.is_shed());
        let waiting = tokio::spawn({
            let table = table.clone();
            async move {
                table
                    .admit_or_wait(peer(3))
                    .await
                    .unwrap()
                    .connection
                    .is_shed()
            }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(served);
        assert!(!waiting.await.unwrap());
    }

    #[test]
    fn stages_only_rise() {
        let connection = Connection::uncounted(peer(1));
        assert_eq!(connection.stage(), Stage::Accepted);
        connection.reached(Stage::HeadRead);
        connection.reached(Stage::Handshaken);
        assert_eq!(connection.stage(), Stage::HeadRead);
    }
}
