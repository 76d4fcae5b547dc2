//! The table of one server's open connections, and its limits.

mod entry;
mod input;
mod reserved;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use places::{Places, Source, Standing};
use prometheus_client::metrics::counter::Counter;
use tokio::sync::Notify;
use tokio::time::timeout;
use tracing::warn;

use crate::accept_errors::AcceptErrors;

use entry::Entry;
pub use entry::{Busy, Connection, Stage};
pub use input::HeldInput;
pub(crate) use input::{MayRead, READ_BYTES};
pub use reserved::{NoRoom, Reserved};

/// How often a newcomer that waits looks whether a connection that is shed must hurry.
const SHED_WAIT: Duration = Duration::from_millis(20);
/// The interval between warnings of the same kind.
const WARNING_INTERVAL: Duration = Duration::from_mins(1);

/// How many connections a server serves, and what happens to more.
///
/// A full server first displaces a connection, see [`places`]; [`WhenFull`] applies if none can be
/// displaced.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections that are served at once.
    pub connections: usize,
    /// What happens to a connection beyond [`connections`](Self::connections).
    pub when_full: WhenFull,
    /// The stage by which a connection has proved itself.
    pub proof: Stage,
    /// After this time without proof, a connection may be displaced by any newcomer.
    pub grace: Duration,
    /// Bytes of all long input that is not whole: TLS handshakes, heads of requests, and what servers
    /// [hold](Connection::held_input). When it is used up, connections end: always one of the
    /// address that holds most, in the prefix that holds most.
    pub input_bytes: usize,
    /// Bytes of all long answers that clients have not read yet; see [`Connection::reserve`].
    pub answer_bytes: usize,
    /// How long connections may take to end once the server stops. Zero closes them at once.
    pub drain: Duration,
}

/// What happens to a connection that a full server accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// It is closed.
    Refuse,
    /// It is admitted with [`is_shed`](Connection::is_shed) set, up to this many at once, so that
    /// its client gets a 503. Further connections wait until one of these is answered. If the
    /// newcomer's address holds fewer, one of the others [must hurry](Connection::must_hurry).
    Shed(usize),
}

/// The open connections of one server. A clone is the same table.
#[derive(Clone, Debug)]
pub struct Connections(Arc<Shared>);

/// The place of an open connection in the table, which is free again once this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    shared: Arc<Shared>,
    id: u64,
    connection: Connection,
    /// The peer of the connection that was closed to make room.
    pub(crate) displaced: Option<SocketAddr>,
}

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
    reserved: reserved::Total,
    /// The bytes that the input of all connections takes.
    held_input: AtomicUsize,
    /// The bytes that the input of connections takes that were closed, until their tasks end.
    closing_input: AtomicUsize,
    /// Counts connections that were closed to make room.
    displaced: Counter,
}

#[derive(Debug)]
struct Table {
    served: Group,
    /// Connections whose clients get a 503.
    shed: Group,
    next_id: u64,
    accept_errors: AcceptErrors,
    warned_of_connections: Option<Instant>,
    warned_of_input: Option<Instant>,
}

/// Connections that share places.
#[derive(Debug)]
struct Group {
    places: Places<u64>,
    entries: HashMap<u64, Arc<Entry>>,
}

// === impl Connections ===

impl Connections {
    /// An empty table for the server of this name, as logs call it. `displaced` counts connections that
    /// are closed to make room for others.
    pub fn new(server: &'static str, limits: Limits, displaced: Counter) -> Self {
        let shed = match limits.when_full {
            WhenFull::Refuse => 0,
            WhenFull::Shed(connections) => connections,
        };
        let table = Table {
            served: Group::new(limits.connections),
            shed: Group::new(shed),
            next_id: 0,
            accept_errors: AcceptErrors::default(),
            warned_of_connections: None,
            warned_of_input: None,
        };
        Self(Arc::new(Shared {
            server,
            limits,
            table: Mutex::new(table),
            freed: Notify::new(),
            reserved: reserved::Total::default(),
            held_input: AtomicUsize::default(),
            closing_input: AtomicUsize::default(),
            displaced,
        }))
    }

    /// How many connections are open, without those that are shed.
    pub fn len(&self) -> usize {
        self.0.table().served.places.len()
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

    /// A place for a connection that was accepted, or `None` if it must be closed. Waits for a
    /// moment while a server that sheds has no place of either kind.
    pub(crate) async fn admit_or_wait(&self, peer: SocketAddr) -> Option<Place> {
        loop {
            let freed = self.0.freed.notified();
            match self.admit(peer) {
                Ok(place) => return Some(place),
                Err(Full::Refuse) => return None,
                // One that is shed may have become overdue.
                Err(Full::Wait) => drop(timeout(SHED_WAIT, freed).await),
            }
        }
    }

    /// A place for a connection that was accepted, if there is one now.
    pub(crate) fn admit(&self, peer: SocketAddr) -> Result<Place, Full> {
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let source = Source::from(peer.ip());
        let limits = &self.0.limits;
        let mut table = self.0.table();
        table.accept_errors.succeeded(self.0.server);
        let now = Instant::now();
        let mut displaced = None;
        let mut is_shed = false;
        if table.served.places.is_full() {
            displaced =
                table
                    .served
                    .make_room(source, |entry| entry.standing(limits, now), Entry::close);
            table.warn_of_shortage(self.0.server, now);
            if displaced.is_some() {
                self.0.displaced.inc();
            } else {
                let WhenFull::Shed(_) = limits.when_full else {
                    return Err(Full::Refuse);
                };
                is_shed = true;
                if table.shed.places.is_full()
                    && table
                        .shed
                        .make_room(source, |entry| entry.standing_of_shed(now), Entry::hurry)
                        .is_none()
                {
                    return Err(Full::Wait);
                }
            }
        }
        let entry = Arc::new(Entry::new(peer, Arc::downgrade(&self.0)));
        let id = table.next_id;
        table.next_id += 1;
        table.group(is_shed).insert(source, id, entry.clone());
        drop(table);
        Ok(Place {
            shared: self.0.clone(),
            id,
            connection: Connection::new(entry, is_shed),
            displaced,
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
    fn group(&mut self, is_shed: bool) -> &mut Group {
        if is_shed {
            &mut self.shed
        } else {
            &mut self.served
        }
    }

    /// Logs now and then that all places are taken, and the address that holds most.
    fn warn_of_shortage(&mut self, server: &'static str, now: Instant) {
        if !is_due(&mut self.warned_of_connections, now) {
            return;
        }
        let connections = self.served.places.len();
        if let Some((source, held)) = self.served.places.largest() {
            warn!(
                server, connections, address = %source, held,
                "all connections are taken; newcomers displace those that have proved least"
            );
        }
    }
}

/// Whether a warning may be logged again. Records that it is.
fn is_due(warned_at: &mut Option<Instant>, now: Instant) -> bool {
    let is_recent = |at| now.saturating_duration_since(at) < WARNING_INTERVAL;
    let is_due = !warned_at.is_some_and(is_recent);
    if is_due {
        *warned_at = Some(now);
    }
    is_due
}

// === impl Group ===

impl Group {
    fn new(capacity: usize) -> Self {
        Self {
            places: Places::new(capacity),
            entries: HashMap::new(),
        }
    }

    fn insert(&mut self, source: Source, id: u64, entry: Arc<Entry>) {
        self.places.insert(source, id);
        self.entries.insert(id, entry);
    }

    fn remove(&mut self, source: Source, id: u64) -> Option<Arc<Entry>> {
        self.places.remove(source, id);
        self.entries.remove(&id)
    }

    /// Ends the connection that a newcomer displaces, and returns its peer.
    fn make_room(
        &mut self,
        newcomer: Source,
        standing: impl Fn(&Entry) -> Standing,
        end: impl FnOnce(&Entry),
    ) -> Option<SocketAddr> {
        let entries = &self.entries;
        let (source, id) = self.places.yielding(newcomer, |id| {
            entries
                .get(id)
                .map_or(Standing::Overdue, |entry| standing(entry))
        })?;
        let entry = self.remove(source, id)?;
        end(&entry);
        Some(entry.peer)
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
        let source = Source::from(self.connection.peer().ip());
        let mut table = self.shared.table();
        // One that was closed to make room is not there any more.
        table
            .group(self.connection.is_shed())
            .remove(source, self.id);
        drop(table);
        self.connection.input_is_freed();
        self.shared.freed.notify_one();
    }
}
