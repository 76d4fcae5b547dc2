//! Collects outgoing packets, so that few system calls send them, without copying what is already
//! in memory.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;

/// Packets to send, in order.
#[derive(Debug, Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    segments: Vec<Segment>,
    transmissions: Vec<Transmission>,
    /// The start of the draft: packets appended for a peer before it is decided whether they are
    /// sent.
    draft: Draft,
}

/// The addresses that packets travel between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The index of the server's socket.
    pub socket: usize,
    /// The peer's address.
    pub peer: SocketAddr,
    /// The server's address, as the peer knows it.
    pub local: IpAddr,
}

/// Packets for one peer.
#[derive(Clone, Debug)]
pub struct Transmission {
    /// The addresses to use.
    pub route: Route,
    segments: Range<usize>,
    /// The total length in bytes.
    length: usize,
    /// The size of each packet but the last, which may be shorter.
    pub packet_size: usize,
}

/// Contiguous whole packets.
#[derive(Debug)]
enum Segment {
    /// A range of the outbox's buffer.
    Own(Range<usize>),
    /// A range of a shared buffer.
    Shared(Arc<Vec<u8>>, Range<usize>),
}

#[derive(Clone, Copy, Debug, Default)]
struct Draft {
    byte: usize,
    segment: usize,
}

// === impl Outbox ===

impl Outbox {
    /// The transmissions, in order.
    pub fn transmissions(&self) -> &[Transmission] {
        &self.transmissions
    }

    /// The bytes of a transmission, in segments of whole packets.
    pub fn segments(&self, send: &Transmission) -> impl Iterator<Item = &[u8]> {
        self.segments[send.segments.clone()]
            .iter()
            .map(|segment| match segment {
                Segment::Own(range) => &self.bytes[range.clone()],
                Segment::Shared(bytes, range) => &bytes[range.clone()],
            })
    }

    /// All packets, one by one.
    pub fn packets(&self) -> impl Iterator<Item = (Route, &[u8])> {
        self.transmissions
            .iter()
            .flat_map(|send| self.packets_of(send).map(|packet| (send.route, packet)))
    }

    /// The packets of a transmission, one by one.
    pub fn packets_of(&self, send: &Transmission) -> impl Iterator<Item = &[u8]> {
        self.segments(send)
            .flat_map(|segment| segment.chunks(send.packet_size))
    }

    /// Removes everything.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.segments.clear();
        self.transmissions.clear();
        self.draft = Draft::default();
    }

    /// Appends a packet, written by `write`, to the draft.
    pub(crate) fn push_packet(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        write(&mut self.bytes);
        self.segments.push(Segment::Own(start..self.bytes.len()));
    }

    /// Appends packets of a shared buffer to the draft.
    pub(crate) fn push_shared(&mut self, bytes: Arc<Vec<u8>>, packets: Range<usize>) {
        self.segments.push(Segment::Shared(bytes, packets));
    }

    /// The length of the draft in bytes.
    pub(crate) fn draft_len(&self) -> usize {
        let length = |segment: &Segment| match segment {
            Segment::Own(range) | Segment::Shared(_, range) => range.len(),
        };
        self.segments[self.draft.segment..].iter().map(length).sum()
    }

    /// Discards the draft.
    pub(crate) fn discard_draft(&mut self) {
        self.bytes.truncate(self.draft.byte);
        self.segments.truncate(self.draft.segment);
    }

    /// Turns the draft into a transmission of packets of this size. Returns its length in bytes.
    pub(crate) fn commit(&mut self, route: Route, packet_size: usize) -> usize {
        let length = self.draft_len();
        if length > 0 {
            self.transmissions.push(Transmission {
                route,
                segments: self.draft.segment..self.segments.len(),
                length,
                packet_size,
            });
        }
        self.draft = Draft {
            byte: self.bytes.len(),
            segment: self.segments.len(),
        };
        length
    }
}

// === impl Transmission ===

impl Transmission {
    /// Whether it consists of one packet.
    pub(crate) fn is_single_packet(&self) -> bool {
        self.length <= self.packet_size
    }
}
