//! What has received, many datagrams in one call.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg};

use super::socket::Socket;

/// Most datagrams in one call.
const MAX_BATCH: usize = 64;
const MIN_BATCH: usize = 4;
/// Room for a datagram. What is longer is no request that anybody means.
const DATAGRAM_SIZE: usize = 2_048;

/// Datagrams that have received.
pub(super) struct Inbox {
    headers: MultiHeaders<SockaddrStorage>,
    buffers: Vec<[u8; DATAGRAM_SIZE]>,
    received: Vec<Received>,
    /// How many the next call asks for: one client alone does not pay for many.
    count: usize,
    unspecified: IpAddr,
}

/// One of them.
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
    /// For sockets of the same family as this one.
    pub(super) fn new(like: &Socket) -> Self {
        Self {
            headers: MultiHeaders::preallocate(MAX_BATCH, Some(like.control_space())),
            buffers: vec![[0; DATAGRAM_SIZE]; MAX_BATCH],
            received: Vec::with_capacity(MAX_BATCH),
            count: MIN_BATCH,
            unspecified: Ipv4Addr::UNSPECIFIED.into(),
        }
    }

    /// What the last call brought.
    pub(super) fn received(&self) -> &[Received] {
        &self.received
    }

    /// The bytes of one of them.
    pub(super) fn datagram(&self, received: &Received) -> &[u8] {
        &self.buffers[received.buffer][..received.length]
    }

    /// Takes what is there. `waits`: until there is something, or the socket's patience ends.
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

/// The sender's address; of IPv4, as one of IPv4.
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

/// The address of ours to which it was sent.
fn local(message: &ControlMessageOwned) -> Option<IpAddr> {
    match message {
        ControlMessageOwned::Ipv4PacketInfo(info) => {
            let [to, ours] = [info.ipi_addr, info.ipi_spec_dst]
                .map(|address| Ipv4Addr::from(address.s_addr.to_ne_bytes()));
            // Where the kernel would answer from another address, this one is that of a whole network.
            let was_all = to != ours && !ours.is_unspecified();
            Some(if was_all { Ipv4Addr::BROADCAST } else { to }.into())
        }
        ControlMessageOwned::Ipv6PacketInfo(info) => {
            Some(IpAddr::from(info.ipi6_addr.s6_addr).to_canonical())
        }
        _ => None,
    }
}
