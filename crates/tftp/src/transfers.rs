//! All running transfers, and what a datagram means to them.
//!
//! It does no I/O: the server, the simulation and the fuzzer pass in datagrams and the time.

mod refusal_log;
mod repeats;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ahash::AHashMap;
use arc_swap::ArcSwap;
use places::{Places, Source, Standing};
use tracing::{debug, info, warn};

use crate::content::Content;
use crate::limits::{Limits, PrefixBudgets};
use crate::metrics::{Metrics, Outcome, Refusal};
use crate::outbox::{Outbox, Route};
use crate::packet::{Mode, Packet, Request};
use crate::table::{Lookup, Table};
use crate::transfer::{Action, EndReason, Transfer, TransferBounds};
use refusal_log::RefusalLog;
use repeats::Repeats;

/// Renders the bootstrap script for a machine that reached the server at this address.
pub type Bootstrap = dyn Fn(IpAddr) -> String + Send + Sync;

/// What the server serves.
#[derive(Clone)]
pub struct Library {
    /// The files. A new table can be stored at any time.
    pub table: Arc<ArcSwap<Table>>,
    /// Renders `autoexec.ipxe` and `boot.ipxe`, unless files have these names.
    pub bootstrap: Arc<Bootstrap>,
}

/// A received datagram.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// Its source, and the local address and socket that received it.
    pub route: Route,
    /// The content.
    pub datagram: &'a [u8],
    /// Whether the datagram was longer than `datagram`.
    pub is_truncated: bool,
}

/// All running transfers.
pub struct Transfers {
    limits: Limits,
    library: Library,
    metrics: Metrics,
    running: AHashMap<SocketAddr, ActiveTransfer>,
    /// By the number of the transfer, which is never used again: a peer may start several in turn.
    places: Places<(u64, SocketAddr)>,
    prefixes: PrefixBudgets,
    /// The number of sockets that transfers take turns to use, or 0 to answer from the socket that
    /// received the request.
    ports: usize,
    started: u64,
    is_draining: bool,
    refusal_log: RefusalLog,
    repeats: Repeats,
}

struct ActiveTransfer {
    transfer: Transfer,
    route: Route,
    file: Arc<str>,
    /// The request, to recognize a repeat of it.
    request: Box<[u8]>,
    number: u64,
    started_at: Duration,
}

// === impl Transfers ===

impl Transfers {
    /// Starts without transfers. If `ports` is not 0, answers are sent from sockets 1 to `ports` in
    /// turn instead of the one that received the request.
    pub fn new(limits: Limits, library: Library, metrics: Metrics, ports: usize) -> Self {
        Self {
            limits,
            library,
            metrics,
            running: AHashMap::new(),
            places: Places::new(limits.transfers),
            prefixes: PrefixBudgets::new(limits.unproven_bytes),
            ports,
            started: 0,
            is_draining: false,
            refusal_log: RefusalLog::default(),
            repeats: Repeats::default(),
        }
    }

    /// The number of running transfers.
    pub fn active(&self) -> usize {
        self.running.len()
    }

    /// Refuses new transfers from now on.
    pub fn drain(&mut self) {
        self.is_draining = true;
    }

    /// Ends all running transfers.
    pub fn stop(&mut self, now: Duration) {
        for peer in self.running.keys().copied().collect::<Vec<_>>() {
            self.end(peer, Outcome::Stopped, None, now);
        }
    }

    /// Handles a datagram.
    pub fn on_datagram(&mut self, arrival: &Arrival<'_>, now: Duration, out: &mut Outbox) {
        let Route { peer, local, .. } = arrival.route;
        if !can_be_answered(peer, local) {
            return self.metrics.record_refusal(Refusal::Address);
        }
        let is_request = arrival.datagram.starts_with(&[0, 1]);
        if arrival.is_truncated {
            return self.refuse(arrival, Refusal::Oversized, is_request, now, out);
        }
        match Packet::parse(arrival.datagram) {
            Ok(Packet::Ack(block)) => self.on_ack(arrival.route, block, now, out),
            Ok(Packet::Read(request)) => self.on_request(arrival, &request, now, out),
            Ok(Packet::Error { code, text }) => self.on_error(arrival.route, code, text, now),
            Ok(Packet::Write) => self.refuse(arrival, Refusal::Write, true, now, out),
            Ok(Packet::Data { .. } | Packet::OptionAck(_)) => {
                self.metrics.record_refusal(Refusal::NotForServers);
            }
            Err(_) => self.refuse(arrival, Refusal::Malformed, is_request, now, out),
        }
    }

    /// Handles the passage of time.
    pub fn on_clock(&mut self, now: Duration, out: &mut Outbox) {
        let mut finished = Vec::new();
        for (peer, running) in &mut self.running {
            let before = running.transfer.retransmits();
            let prefixes = &mut self.prefixes;
            let action =
                running
                    .transfer
                    .on_clock(now, |bytes| prefixes.charge(peer.ip(), bytes, now), out);
            self.metrics
                .retransmits
                .inc_by(running.transfer.retransmits() - before);
            match action {
                Action::Send { packet_size } => {
                    let bytes = out.commit(running.route, packet_size);
                    self.metrics.sent_bytes.inc_by(bytes as u64);
                }
                Action::Finish(end) => finished.push((*peer, end)),
                Action::Wait | Action::Stray => {}
            }
        }
        for (peer, end) in finished {
            self.finish(peer, end, now, out);
        }
        self.refusal_log.on_clock(now);
    }

    fn on_ack(&mut self, route: Route, block: u16, now: Duration, out: &mut Outbox) {
        let running = self
            .running
            .get_mut(&route.peer)
            .filter(|running| running.route.socket == route.socket);
        let Some(running) = running else {
            return self.metrics.record_refusal(Refusal::UnknownTransfer);
        };
        let before = running.transfer.retransmits();
        let action = running.transfer.on_ack(block, now, out);
        self.metrics
            .retransmits
            .inc_by(running.transfer.retransmits() - before);
        match action {
            Action::Send { packet_size } => {
                let bytes = out.commit(running.route, packet_size);
                self.metrics.sent_bytes.inc_by(bytes as u64);
            }
            Action::Finish(end) => self.finish(route.peer, end, now, out),
            Action::Stray => self.metrics.record_refusal(Refusal::Stray),
            Action::Wait => {}
        }
    }

    fn on_error(&mut self, route: Route, code: u16, text: &[u8], now: Duration) {
        if self
            .running
            .get(&route.peer)
            .is_none_or(|running| running.route.socket != route.socket)
        {
            return self.metrics.record_refusal(Refusal::UnknownTransfer);
        }
        let detail = format!(
            "{code} {}",
            String::from_utf8_lossy(&text[..text.len().min(80)])
        );
        self.end(route.peer, Outcome::Aborted, Some(&detail), now);
    }

    fn on_request(
        &mut self,
        arrival: &Arrival<'_>,
        request: &Request<'_>,
        now: Duration,
        out: &mut Outbox,
    ) {
        let peer = arrival.route.peer;
        if arrival.route.socket != 0 {
            return self.metrics.record_refusal(Refusal::UnknownTransfer);
        }
        if let Some(running) = self.running.get_mut(&peer) {
            let is_same = *running.request == *arrival.datagram;
            if is_same && running.transfer.is_duplicate_request(now) {
                return self.metrics.record_refusal(Refusal::Stray);
            }
            if is_same && running.transfer.repeats_first_answer(now) {
                running.transfer.on_request_again(arrival.datagram.len());
                return self.answer(peer, now, out);
            }
        }
        if self.is_draining {
            return self.metrics.record_refusal(Refusal::Stopping);
        }
        if request.mode == Mode::Other {
            return self.refuse(arrival, Refusal::Mode, true, now, out);
        }
        let Some((file, mut content)) = self.find(request.file, arrival.route.local) else {
            return self.refuse(arrival, Refusal::NoSuchFile, true, now, out);
        };
        // A restarted transfer takes the place of its predecessor.
        if !self.running.contains_key(&peer)
            && let Err(refusal) = self.make_room(peer.ip(), now)
        {
            // Stay silent, since an ERROR would be final: a machine without an answer asks again,
            // when others may have finished.
            return self.refuse(arrival, refusal, false, now, out);
        }
        if request.mode == Mode::Netascii {
            match content.to_netascii() {
                Ok(Some(text)) => content = text,
                Ok(None) => return self.refuse(arrival, Refusal::Mode, true, now, out),
                // The next scan of the folder reports it.
                Err(_) => return self.refuse(arrival, Refusal::NoSuchFile, true, now, out),
            }
        }
        let bounds = TransferBounds {
            blksize: self.limits.blksize(peer.ip()),
            windowsize: self.limits.windowsize,
        };
        let mut transfer = Transfer::new(
            content,
            &request.options,
            bounds,
            arrival.datagram.len(),
            now,
        );
        if let Some(previous) = self.running.get(&peer) {
            transfer.inherit_budget(&previous.transfer, now);
            self.end(peer, Outcome::Restarted, None, now);
        }
        self.started += 1;
        let route = Route {
            socket: self.reply_socket(),
            ..arrival.route
        };
        let request = arrival.datagram.into();
        self.running.insert(
            peer,
            ActiveTransfer {
                transfer,
                route,
                file,
                request,
                number: self.started,
                started_at: now,
            },
        );
        self.places
            .insert(Source::from(peer.ip()), (self.started, peer));
        self.metrics.active.inc();
        self.answer(peer, now, out);
    }

    /// Sends the first answer to a request, or repeats it.
    fn answer(&mut self, peer: SocketAddr, now: Duration, out: &mut Outbox) {
        let Some(running) = self.running.get_mut(&peer) else {
            return;
        };
        let prefixes = &mut self.prefixes;
        match running
            .transfer
            .answer(now, |bytes| prefixes.charge(peer.ip(), bytes, now), out)
        {
            Action::Send { packet_size } => {
                let bytes = out.commit(running.route, packet_size);
                self.metrics.sent_bytes.inc_by(bytes as u64);
            }
            Action::Finish(end) => self.finish(peer, end, now, out),
            Action::Wait => self.metrics.record_refusal(Refusal::PrefixBudget),
            Action::Stray => self.metrics.record_refusal(Refusal::Stray),
        }
    }

    fn find(&self, name: &[u8], local: IpAddr) -> Option<(Arc<str>, Content)> {
        match self.library.table.load().lookup(name)? {
            Lookup::File(entry) => Some((entry.name, Content::File(entry.file))),
            Lookup::Bootstrap(name) => Some((
                name,
                Content::Bytes((self.library.bootstrap)(local).into_bytes().into()),
            )),
        }
    }

    /// Makes room for another transfer, by ending one that it displaces.
    fn make_room(&mut self, peer: IpAddr, now: Duration) -> Result<(), Refusal> {
        let source = Source::from(peer);
        let running = &self.running;
        let standing = |(_, peer): &(u64, SocketAddr)| {
            running
                .get(peer)
                .map_or(Standing::Overdue, |running| running.transfer.standing(now))
        };
        if self.places.held_by(source) >= self.limits.transfers_per_peer {
            // Its unproven transfers may be forged: they must not lock the address out.
            let oldest = self.places.overdue_of(source, standing);
            let (_, oldest) = oldest.ok_or(Refusal::TooManyFromPeer)?;
            self.end(oldest, Outcome::Evicted, None, now);
        } else if self.places.is_full() {
            let yielding = self.places.yielding(source, standing);
            let (_, (_, yielding)) = yielding.ok_or(Refusal::TooMany)?;
            self.end(yielding, Outcome::Evicted, None, now);
        }
        Ok(())
    }

    fn reply_socket(&self) -> usize {
        match self.ports {
            0 => 0,
            ports => 1 + usize::try_from(self.started).unwrap_or_default() % ports,
        }
    }

    /// Counts a refused datagram and answers it with an ERROR, if one is due.
    fn refuse(
        &mut self,
        arrival: &Arrival<'_>,
        refusal: Refusal,
        may_answer: bool,
        now: Duration,
        out: &mut Outbox,
    ) {
        let peer = arrival.route.peer;
        self.metrics.record_refusal(refusal);
        // A peer in the middle of a transfer would take an ERROR for the end of it.
        let is_busy = self
            .running
            .get(&peer)
            .is_some_and(|running| running.transfer.is_proven());
        let Some((code, text)) = refusal.error().filter(|_| may_answer && !is_busy) else {
            debug!(peer = %peer, reason = refusal.name(), "datagram ignored");
            return;
        };
        let text = text.as_bytes();
        // The size is IP and UDP headers, the TFTP header, the text and its NUL.
        if !self
            .prefixes
            .charge(peer.ip(), 28 + 4 + text.len() + 1, now)
        {
            return self.metrics.record_refusal(Refusal::PrefixBudget);
        }
        self.refusal_log.refused(arrival, refusal, now);
        out.push_packet(|bytes| Packet::Error { code, text }.write(bytes));
        let bytes = out.commit(
            Route {
                socket: 0,
                ..arrival.route
            },
            usize::MAX,
        );
        self.metrics.sent_bytes.inc_by(bytes as u64);
    }

    /// Ends a transfer for a reason that the transfer itself found.
    fn finish(&mut self, peer: SocketAddr, end: EndReason, now: Duration, out: &mut Outbox) {
        let is_all_sent = self
            .running
            .get(&peer)
            .is_some_and(|running| running.transfer.is_all_sent());
        match end {
            EndReason::Completed => self.end(peer, Outcome::Completed, None, now),
            EndReason::Unanswered => self.end(peer, Outcome::Unanswered, None, now),
            EndReason::TimedOut if is_all_sent => self.end(peer, Outcome::Unconfirmed, None, now),
            EndReason::TimedOut => self.end(peer, Outcome::TimedOut, None, now),
            EndReason::Failed(error) => {
                if let Some(running) = self.running.get(&peer) {
                    out.push_packet(|bytes| {
                        Packet::Error {
                            code: 0,
                            text: b"The file can no longer be read",
                        }
                        .write(bytes);
                    });
                    out.commit(running.route, usize::MAX);
                }
                self.end(peer, Outcome::Failed, Some(&error.to_string()), now);
            }
        }
    }

    fn end(&mut self, peer: SocketAddr, outcome: Outcome, detail: Option<&str>, now: Duration) {
        let Some(running) = self.running.remove(&peer) else {
            return;
        };
        self.places
            .remove(Source::from(peer.ip()), (running.number, peer));
        self.metrics.active.dec();
        self.metrics.record_outcome(outcome);
        running.log(outcome, detail, now);
        if outcome == Outcome::Completed && self.repeats.completed(peer.ip(), &running.file, now) {
            warn!(
                file = &*running.file, peer = %peer.ip(),
                "a machine fetched the same file several times within a minute; if it boots in a loop, have DHCP name boot.ipxe to \
                 clients that are iPXE already (option 175, or user class iPXE)"
            );
        }
    }
}

/// Whether an answer can reach a single peer, from an address that is ours alone.
fn can_be_answered(peer: SocketAddr, local: IpAddr) -> bool {
    let is_single_packet = match peer.ip() {
        IpAddr::V4(ip) => !ip.is_broadcast() && !ip.is_multicast() && !ip.is_unspecified(),
        IpAddr::V6(ip) => !ip.is_multicast() && !ip.is_unspecified(),
    };
    let was_all =
        matches!(local, IpAddr::V4(local) if local.is_broadcast()) || local.is_multicast();
    is_single_packet && !was_all && peer.port() != 0
}

// === impl ActiveTransfer ===

impl ActiveTransfer {
    /// Logs the end of the transfer. Peers that may be spoofed, and firmware that only asked for
    /// the size, are logged at debug level.
    fn log(&self, outcome: Outcome, detail: Option<&str>, now: Duration) {
        let transfer = &self.transfer;
        let options = transfer.granted();
        let took_ms =
            u64::try_from((now.saturating_sub(self.started_at)).as_millis()).unwrap_or(u64::MAX);
        macro_rules! line {
            ($level:ident) => {
                $level!(
                    file = &*self.file, peer = %self.route.peer, local = %self.route.local, bytes = transfer.delivered(), took_ms,
                    blksize = options.blksize, windowsize = options.windowsize, timeout = options.timeout, tsize = options.tsize,
                    retransmits = transfer.retransmits(), outcome = outcome.name(), detail, "tftp"
                )
            };
        }
        match outcome {
            Outcome::Failed => line!(warn),
            Outcome::Unanswered | Outcome::Evicted => line!(debug),
            Outcome::Aborted | Outcome::Restarted if transfer.delivered() == 0 => line!(debug),
            _ => line!(info),
        }
    }
}

#[cfg(test)]
mod tests;
