//! What is to be sent, gathered so that it leaves in few system calls.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

/// Packets for peers, in order.
#[derive(Debug, Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    sends: Vec<Send>,
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
    range: Range<usize>,
    /// The size of each packet but the last, which may be shorter.
    pub packet: usize,
}

// === impl Outbox ===

impl Outbox {
    /// All that is to be sent.
    pub fn sends(&self) -> &[Send] {
        &self.sends
    }

    /// The bytes of a send, one packet after the other.
    pub fn bytes(&self, send: &Send) -> &[u8] {
        &self.bytes[send.range.clone()]
    }

    /// Each packet alone.
    pub fn packets(&self) -> impl Iterator<Item = (Route, &[u8])> {
        self.sends.iter().flat_map(|send| self.bytes(send).chunks(send.packet).map(|packet| (send.route, packet)))
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.sends.clear();
    }

    /// Where packets are to be appended before [`close`](Self::close).
    pub(crate) fn open(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// What was appended goes there, as packets of this size.
    pub(crate) fn close(&mut self, route: Route, packet: usize) -> usize {
        let start = self.sends.last().map_or(0, |send| send.range.end);
        let range = start..self.bytes.len();
        let length = range.len();
        if length > 0 {
            self.sends.push(Send { route, range, packet });
        }
        length
    }
}
