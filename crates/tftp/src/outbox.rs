//! What is to be sent, gathered so that it leaves in few system calls, and where it is already in memory, without a copy.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;

/// Packets for peers, in order.
#[derive(Debug, Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    segments: Vec<Segment>,
    transmissions: Vec<Transmission>,
    /// Where the draft begins: what is appended for one peer before it is known that it leaves.
    draft: Draft,
}

/// Between which two addresses packets travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Which of the server's sockets.
    pub socket: usize,
    /// The other side.
    pub peer: SocketAddr,
    /// The address of ours that the other side knows.
    pub local: IpAddr,
}

/// Packets for one peer.
#[derive(Clone, Debug)]
pub struct Transmission {
    /// Where to.
    pub route: Route,
    segments: Range<usize>,
    /// Of all its packets, in bytes.
    length: usize,
    /// The size of each packet but the last, which may be shorter.
    pub packet_size: usize,
}

/// SharedFile packets that lie in one segment.
#[derive(Debug)]
enum Segment {
    /// Among the outbox's own bytes.
    Own(Range<usize>),
    /// In memory that others use as well.
    Shared(Arc<Vec<u8>>, Range<usize>),
}

#[derive(Clone, Copy, Debug, Default)]
struct Draft {
    byte: usize,
    segment: usize,
}

// === impl Outbox ===

impl Outbox {
    /// All that is to be sent.
    pub fn transmissions(&self) -> &[Transmission] {
        &self.transmissions
    }

    /// The bytes of a send, in segments of whole packets, one packet after the other.
    pub fn segments(&self, send: &Transmission) -> impl Iterator<Item = &[u8]> {
        self.segments[send.segments.clone()]
            .iter()
            .map(|segment| match segment {
                Segment::Own(range) => &self.bytes[range.clone()],
                Segment::Shared(bytes, range) => &bytes[range.clone()],
            })
    }

    /// Each packet alone.
    pub fn packets(&self) -> impl Iterator<Item = (Route, &[u8])> {
        self.transmissions
            .iter()
            .flat_map(|send| self.packets_of(send).map(|packet| (send.route, packet)))
    }

    /// Each packet of a send.
    pub fn packets_of(&self, send: &Transmission) -> impl Iterator<Item = &[u8]> {
        self.segments(send)
            .flat_map(|segment| segment.chunks(send.packet_size))
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.segments.clear();
        self.transmissions.clear();
        self.draft = Draft::default();
    }

    /// Appends one packet, written by `write`, to the draft.
    pub(crate) fn push_packet(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        write(&mut self.bytes);
        self.segments.push(Segment::Own(start..self.bytes.len()));
    }

    /// Appends packets that lie there to the draft.
    pub(crate) fn push_shared(&mut self, bytes: Arc<Vec<u8>>, packets: Range<usize>) {
        self.segments.push(Segment::Shared(bytes, packets));
    }

    /// How many bytes the draft has.
    pub(crate) fn draft_len(&self) -> usize {
        let length = |segment: &Segment| match segment {
            Segment::Own(range) | Segment::Shared(_, range) => range.len(),
        };
        self.segments[self.draft.segment..].iter().map(length).sum()
    }

    /// Forgets the draft.
    pub(crate) fn discard_draft(&mut self) {
        self.bytes.truncate(self.draft.byte);
        self.segments.truncate(self.draft.segment);
    }

    /// The draft goes there, as packets of this size. Gives how many bytes that is.
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
    /// Whether it is one packet.
    pub(crate) fn is_single_packet(&self) -> bool {
        self.length <= self.packet_size
    }
}
