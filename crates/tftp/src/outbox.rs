//! What is to be sent, gathered so that it leaves in few system calls, and where it is already in memory, without a copy.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;

/// Packets for peers, in order.
#[derive(Debug, Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    pieces: Vec<Piece>,
    sends: Vec<Send>,
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
pub struct Send {
    /// Where to.
    pub route: Route,
    pieces: Range<usize>,
    /// Of all its packets, in bytes.
    length: usize,
    /// The size of each packet but the last, which may be shorter.
    pub packet: usize,
}

/// Whole packets that lie in one piece.
#[derive(Debug)]
enum Piece {
    /// Among the outbox's own bytes.
    Own(Range<usize>),
    /// In memory that others use as well.
    Shared(Arc<Vec<u8>>, Range<usize>),
}

#[derive(Clone, Copy, Debug, Default)]
struct Draft {
    byte: usize,
    piece: usize,
}

// === impl Outbox ===

impl Outbox {
    /// All that is to be sent.
    pub fn sends(&self) -> &[Send] {
        &self.sends
    }

    /// The bytes of a send, in pieces of whole packets, one packet after the other.
    pub fn pieces(&self, send: &Send) -> impl Iterator<Item = &[u8]> {
        self.pieces[send.pieces.clone()]
            .iter()
            .map(|piece| match piece {
                Piece::Own(range) => &self.bytes[range.clone()],
                Piece::Shared(bytes, range) => &bytes[range.clone()],
            })
    }

    /// Each packet alone.
    pub fn packets(&self) -> impl Iterator<Item = (Route, &[u8])> {
        self.sends
            .iter()
            .flat_map(|send| self.packets_of(send).map(|packet| (send.route, packet)))
    }

    /// Each packet of a send.
    pub fn packets_of(&self, send: &Send) -> impl Iterator<Item = &[u8]> {
        self.pieces(send)
            .flat_map(|piece| piece.chunks(send.packet))
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.pieces.clear();
        self.sends.clear();
        self.draft = Draft::default();
    }

    /// Appends one packet, written by `write`, to the draft.
    pub(crate) fn write(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        write(&mut self.bytes);
        self.pieces.push(Piece::Own(start..self.bytes.len()));
    }

    /// Appends packets that lie there to the draft.
    pub(crate) fn share(&mut self, bytes: Arc<Vec<u8>>, packets: Range<usize>) {
        self.pieces.push(Piece::Shared(bytes, packets));
    }

    /// How many bytes the draft has.
    pub(crate) fn drafted(&self) -> usize {
        let length = |piece: &Piece| match piece {
            Piece::Own(range) | Piece::Shared(_, range) => range.len(),
        };
        self.pieces[self.draft.piece..].iter().map(length).sum()
    }

    /// Forgets the draft.
    pub(crate) fn discard(&mut self) {
        self.bytes.truncate(self.draft.byte);
        self.pieces.truncate(self.draft.piece);
    }

    /// The draft goes there, as packets of this size. Gives how many bytes that is.
    pub(crate) fn close(&mut self, route: Route, packet: usize) -> usize {
        let length = self.drafted();
        if length > 0 {
            self.sends.push(Send {
                route,
                pieces: self.draft.piece..self.pieces.len(),
                length,
                packet,
            });
        }
        self.draft = Draft {
            byte: self.bytes.len(),
            piece: self.pieces.len(),
        };
        length
    }
}

// === impl Send ===

impl Send {
    /// Whether it is one packet.
    pub(crate) fn is_one(&self) -> bool {
        self.length <= self.packet
    }
}
