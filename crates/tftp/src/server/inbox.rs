//! Receives many datagrams in one system call.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg};

use super::socket::Socket;

/// Most datagrams received in one call.
const MAX_BATCH: usize = 64;
const MIN_BATCH: usize = 4;
/// Buffer for a datagram; longer ones are not valid requests.
const DATAGRAM_SIZE: usize = 2_048;

/// The datagrams of one call.
pub(super) struct Inbox {
    headers: MultiHeaders<SockaddrStorage>,
    buffers: Vec<[u8; DATAGRAM_SIZE]>,
    received: Vec<Received>,
    /// How many datagrams the next call asks for: a lone client should not pay for a large batch.
    count: usize,
    unspecified: IpAddr,
}

/// A received datagram.
#[derive(Clone, Copy, Debug)]
pub(super) struct Received {
    pub(super) peer: SocketAddr,
    pub(super) local: IpAddr,
    pub(super) is_truncated: bool,
    buffer: usize,
    length: usize,
}

// === impl Inbox ===

impl Inbox {
    /// An inbox for sockets of the same address family as `like`.
    pub(super) fn new(like: &Socket) -> Self {
        Self {
            headers: MultiHeaders::preallocate(MAX_BATCH, Some(like.control_space())),
            buffers: vec![[0; DATAGRAM_SIZE]; MAX_BATCH],
            received: Vec::with_capacity(MAX_BATCH),
            count: MIN_BATCH,
            unspecified: Ipv4Addr::UNSPECIFIED.into(),
        }
    }

    /// The datagrams that the last call received.
    pub(super) fn received(&self) -> &[Received] {
        &self.received
    }

    /// The content of a datagram.
    pub(super) fn datagram(&self, received: &Received) -> &[u8] {
        &self.buffers[received.buffer][..received.length]
    }

    /// Receives what has arrived. If `waits` is true, blocks until a datagram arrives or the
    /// socket's receive timeout expires.
    pub(super) fn receive(&mut self, socket: &Socket, waits: bool) -> io::Result<()> {
        self.received.clear();
        let mut slices: Vec<_> = self
            .buffers
            .iter_mut()
            .take(self.count)
            .map(|buffer| [IoSliceMut::new(buffer)])
            .collect();
        let flags = if waits {
            MsgFlags::MSG_WAITFORONE
        } else {
            MsgFlags::MSG_DONTWAIT
        };
        let mut total = 0;
        for (buffer, message) in
            recvmmsg(socket.raw(), &mut self.headers, &mut slices, flags, None)?.enumerate()
        {
            total += 1;
            let Some(peer) = message.address.as_ref().and_then(peer) else {
                continue;
            };
            let local = message
                .cmsgs()
                .ok()
                .and_then(|mut all| all.find_map(|one| local(&one)));
            self.received.push(Received {
                peer,
                local: local.unwrap_or(self.unspecified),
                is_truncated: message.flags.contains(MsgFlags::MSG_TRUNC),
                buffer,
                length: message.bytes.min(DATAGRAM_SIZE),
            });
        }
        if total == self.count {
            self.count = (self.count * 2).min(MAX_BATCH);
        } else if total < self.count / 4 {
            self.count = (self.count / 2).max(MIN_BATCH);
        }
        Ok(())
    }
}

/// The sender's address; IPv4-mapped addresses become IPv4.
fn peer(address: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v6) = address.as_sockaddr_in6() {
        let v6 = SocketAddrV6::from(*v6);
        return Some(match v6.ip().to_ipv4_mapped() {
            Some(v4) => SocketAddr::V4(SocketAddrV4::new(v4, v6.port())),
            None => SocketAddr::V6(v6),
        });
    }
    address
        .as_sockaddr_in()
        .map(|v4| SocketAddr::V4((*v4).into()))
}

/// The local address that the datagram was sent to.
fn local(message: &ControlMessageOwned) -> Option<IpAddr> {
    match message {
        ControlMessageOwned::Ipv4PacketInfo(info) => {
            let [to, ours] = [info.ipi_addr, info.ipi_spec_dst]
                .map(|address| Ipv4Addr::from(address.s_addr.to_ne_bytes()));
            // If the kernel would answer from another address, this one was a broadcast address.
            let was_all = to != ours && !ours.is_unspecified();
            Some(if was_all { Ipv4Addr::BROADCAST } else { to }.into())
        }
        ControlMessageOwned::Ipv6PacketInfo(info) => {
            Some(IpAddr::from(info.ipi6_addr.s6_addr).to_canonical())
        }
        _ => None,
    }
}
