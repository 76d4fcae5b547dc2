//! A UDP socket, and sending many packets in one system call.

use std::io::{self, IoSlice};
use std::iter;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use nix::cmsg_space;
use nix::errno::Errno;
use nix::libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo};
use nix::sys::socket::{
    ControlMessage, MsgFlags, MultiHeaders, SockaddrStorage, sendmmsg, sendmsg, setsockopt, sockopt,
};
use socket2::{Domain, Protocol, SockAddr, Type};
use tracing::debug;

use super::BindError;
use crate::metrics::Metrics;
use crate::outbox::{Outbox, Route, Transmission};

/// Most packets in one call.
const BATCH: usize = 64;
/// Most packets, and most bytes, that the kernel segments from one buffer (`UDP_SEGMENT`).
const MAX_SEGMENTS: usize = 64;
const MAX_SEGMENTED_BYTES: usize = 65_000;
/// Holds the answers of a whole rack.
const RECEIVE_BUFFER: usize = 4 * 1024 * 1024;
const SEND_BUFFER: usize = 4 * 1024 * 1024;

/// A bound socket.
pub(super) struct Socket {
    socket: socket2::Socket,
    is_ipv6: bool,
}

/// Sends the transmissions of an outbox.
pub(super) struct Sender {
    /// One set of headers per control message size, since the kernel parses the whole control
    /// buffer.
    v4: MultiHeaders<SockaddrStorage>,
    v6: MultiHeaders<SockaddrStorage>,
    /// Whether to wait for a full queue at all.
    waits_when_full: bool,
    /// Flags for the rest of the current outbox, which waits for a full queue at most once.
    flags: MsgFlags,
    metrics: Metrics,
}

/// The source address of a packet, as a control message.
enum Source {
    V4(in_pktinfo),
    V6(in6_pktinfo),
}

// === impl Socket ===

impl Socket {
    /// Binds a socket. `[::]` covers IPv4 as well, also where the system has no IPv6.
    pub(super) fn bind(address: SocketAddr) -> Result<Self, BindError> {
        let opened = match Self::open(address) {
            Err(_) if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && !has_ipv6() => {
                Self::open(SocketAddr::new(
                    Ipv4Addr::UNSPECIFIED.into(),
                    address.port(),
                ))
            }
            opened => opened,
        };
        opened.map_err(|source| match source.kind() {
            io::ErrorKind::PermissionDenied => BindError::Privilege {
                port: address.port(),
            },
            io::ErrorKind::AddrInUse => BindError::InUse(address),
            _ => BindError::Other { address, source },
        })
    }

    /// Opens more sockets at the same address, up to `count` in all; the kernel gives all datagrams
    /// of a peer to the same one. Returns all of them, or only this one if the kernel can't share a
    /// port.
    pub(super) fn split(self, count: usize) -> Vec<Self> {
        match self.open_others(count) {
            Ok(others) => iter::once(self).chain(others).collect(),
            Err(error) => {
                debug!(%error, "all threads share one socket");
                if let Err(error) = self.socket.set_reuse_port(false) {
                    debug!(%error, "can't make the port exclusive again");
                }
                vec![self]
            }
        }
    }

    fn open_others(&self, count: usize) -> io::Result<Vec<Self>> {
        if count < 2 {
            return Ok(Vec::new());
        }
        let address = self.local_addr()?;
        // Not before it is bound: else it would share the port with the socket of another server
        // that does the same.
        self.socket.set_reuse_port(true)?;
        let open = |_| {
            let other = Self::prepare(address)?;
            other.socket.set_reuse_port(true)?;
            other.socket.bind(&SockAddr::from(address))?;
            Ok(other)
        };
        (1..count).map(open).collect()
    }

    fn open(address: SocketAddr) -> io::Result<Self> {
        let opened = Self::prepare(address)?;
        opened.socket.bind(&SockAddr::from(address))?;
        Ok(opened)
    }

    /// Opens a socket with all options set, not bound yet.
    fn prepare(address: SocketAddr) -> io::Result<Self> {
        let socket = socket2::Socket::new(
            Domain::for_address(address),
            Type::DGRAM,
            Some(Protocol::UDP),
        )?;
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
            setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
        } else {
            setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
        }
        // The kernel silently limits the sizes.
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        socket.set_send_buffer_size(SEND_BUFFER)?;
        // A blocked network must not delay the peers on others.
        socket.set_write_timeout(Some(Duration::from_millis(100)))?;
        Ok(Self {
            socket,
            is_ipv6: address.is_ipv6(),
        })
    }

    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket
            .local_addr()?
            .as_socket()
            .ok_or_else(|| io::Error::other("the socket has no IP address"))
    }

    /// Sets how long receiving waits for a datagram.
    pub(super) fn set_receive_timeout(&self, patience: Duration) {
        if let Err(error) = self.socket.set_read_timeout(Some(patience)) {
            debug!(%error, "failed to set the receive timeout");
        }
    }

    /// Buffer for the control message with the local address of a datagram.
    pub(super) fn control_space(&self) -> Vec<u8> {
        if self.is_ipv6 {
            cmsg_space!(in6_pktinfo)
        } else {
            cmsg_space!(in_pktinfo)
        }
    }

    pub(super) fn raw(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// The peer's address in this socket's family.
    fn address(&self, peer: SocketAddr) -> SockaddrStorage {
        match peer {
            SocketAddr::V4(peer) if self.is_ipv6 => {
                SocketAddr::new(peer.ip().to_ipv6_mapped().into(), peer.port()).into()
            }
            peer => peer.into(),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn has_ipv6() -> bool {
    let any: SocketAddr = (Ipv6Addr::UNSPECIFIED, 0).into();
    std::net::UdpSocket::bind(any).is_ok()
}

// === impl Source ===

impl Source {
    /// Uses an IPv4 message also on a dual-stack socket: it is smaller, and the kernel allocates
    /// nothing for it.
    fn of(route: Route) -> Option<Self> {
        match route.local {
            local if local.is_unspecified() => None,
            IpAddr::V4(local) => {
                let address = in_addr {
                    s_addr: u32::from_ne_bytes(local.octets()),
                };
                Some(Self::V4(in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: address,
                    ipi_addr: in_addr { s_addr: 0 },
                }))
            }
            IpAddr::V6(local) => {
                // A link-local address is ambiguous without its interface.
                let link = if local.is_unicast_link_local() {
                    scope(route.peer)
                } else {
                    0
                };
                Some(Self::V6(in6_pktinfo {
                    ipi6_addr: in6_addr {
                        s6_addr: local.octets(),
                    },
                    ipi6_ifindex: link,
                }))
            }
        }
    }

    fn message(&self) -> ControlMessage<'_> {
        match self {
            Self::V4(info) => ControlMessage::Ipv4PacketInfo(info),
            Self::V6(info) => ControlMessage::Ipv6PacketInfo(info),
        }
    }
}

// === impl Sender ===

impl Sender {
    /// A sender that waits a little for a full queue.
    pub(super) fn new(metrics: Metrics) -> Self {
        Self {
            waits_when_full: true,
            ..Self::non_blocking(metrics)
        }
    }

    /// A sender that never waits.
    pub(super) fn non_blocking(metrics: Metrics) -> Self {
        let v4 = MultiHeaders::preallocate(BATCH, Some(cmsg_space!(in_pktinfo)));
        let v6 = MultiHeaders::preallocate(BATCH, Some(cmsg_space!(in6_pktinfo)));
        Self {
            v4,
            v6,
            waits_when_full: false,
            flags: MsgFlags::empty(),
            metrics,
        }
    }

    /// Sends an outbox. Packets that the kernel does not accept are lost, as on any network, and
    /// counted.
    pub(super) fn send(&mut self, sockets: &[Socket], outbox: &Outbox) {
        self.flags = if self.waits_when_full {
            MsgFlags::empty()
        } else {
            MsgFlags::MSG_DONTWAIT
        };
        let mut transmissions = outbox.transmissions();
        while let [first, ..] = transmissions {
            let socket = &sockets[first.route.socket];
            if !first.is_single_packet() {
                self.send_window(socket, outbox, first);
                transmissions = &transmissions[1..];
                continue;
            }
            // Send consecutive packets of the same socket and source address in one call.
            let shares_source = |send: &&Transmission| {
                let (ours, theirs) = (first.route, send.route);
                let has_same_source =
                    ours.local == theirs.local && scope(ours.peer) == scope(theirs.peer);
                ours.socket == theirs.socket && has_same_source && send.is_single_packet()
            };
            let count = transmissions
                .iter()
                .take(BATCH)
                .take_while(shares_source)
                .count();
            let (batch, rest) = transmissions.split_at(count);
            let packets: Vec<_> = batch
                .iter()
                .flat_map(|send| {
                    outbox
                        .packets_of(send)
                        .map(|packet| (send.route.peer, packet))
                })
                .collect();
            self.send_packets(socket, first.route, &packets);
            transmissions = rest;
        }
    }

    /// Sends a window to one peer in as few calls as possible.
    fn send_window(&mut self, socket: &Socket, outbox: &Outbox, send: &Transmission) {
        let at_once =
            (MAX_SEGMENTED_BYTES / send.packet_size).clamp(1, MAX_SEGMENTS) * send.packet_size;
        let mut slices = Vec::new();
        let mut room = at_once;
        for mut piece in outbox.segments(send) {
            while !piece.is_empty() {
                let (now, later) = piece.split_at(piece.len().min(room));
                slices.push(now);
                // Only the very last packet may be shorter, so `room` never underflows before the
                // end.
                room = room.saturating_sub(now.len());
                piece = later;
                if room == 0 {
                    self.send_segmented(socket, send, &slices);
                    slices.clear();
                    room = at_once;
                }
            }
        }
        if !slices.is_empty() {
            self.send_segmented(socket, send, &slices);
        }
    }

    /// Sends packets to one peer, segmented by the kernel.
    fn send_segmented(&mut self, socket: &Socket, send: &Transmission, pieces: &[&[u8]]) {
        let peer = socket.address(send.route.peer);
        let source = Source::of(send.route);
        let segment = u16::try_from(send.packet_size).unwrap_or(u16::MAX);
        let mut control: Vec<_> = source.iter().map(Source::message).collect();
        if pieces.iter().map(|piece| piece.len()).sum::<usize>() > send.packet_size {
            control.push(ControlMessage::UdpGsoSegments(&segment));
        }
        let slices: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
        if let Err(error) = sendmsg(socket.raw(), &slices, &control, self.flags, Some(&peer)) {
            self.note_full_queue(error);
            // Not every kernel and network card supports segmentation.
            debug!(%error, "segmentation failed; sending packet by packet");
            let packets: Vec<_> = pieces
                .iter()
                .flat_map(|piece| piece.chunks(send.packet_size))
                .map(|packet| (send.route.peer, packet))
                .collect();
            for packets in packets.chunks(BATCH) {
                self.send_packets(socket, send.route, packets);
            }
        }
    }

    /// Sends packets from one source address to several peers.
    fn send_packets(&mut self, socket: &Socket, route: Route, mut packets: &[(SocketAddr, &[u8])]) {
        let source = Source::of(route);
        while !packets.is_empty() {
            let sent = match &source {
                Some(source) => {
                    let slices: Vec<_> = packets
                        .iter()
                        .map(|(_, packet)| [IoSlice::new(packet)])
                        .collect();
                    let peers: Vec<_> = packets
                        .iter()
                        .map(|(peer, _)| Some(socket.address(*peer)))
                        .collect();
                    let control = [source.message()];
                    let headers = if matches!(source, Source::V4(_)) {
                        &mut self.v4
                    } else {
                        &mut self.v6
                    };
                    sendmmsg(socket.raw(), headers, &slices, &peers, control, self.flags)
                        .map(Iterator::count)
                }
                None => {
                    let (peer, packet) = packets[0];
                    sendmsg(
                        socket.raw(),
                        &[IoSlice::new(packet)],
                        &[],
                        self.flags,
                        Some(&socket.address(peer)),
                    )
                    .map(|_| 1)
                }
            };
            match sent {
                Ok(count) => packets = &packets[count.max(1)..],
                Err(Errno::EINTR) => {}
                Err(error) => {
                    // The error concerns the first packet: no route, or a full queue.
                    debug!(%error, peer = %packets[0].0, "failed to send a packet");
                    self.metrics.send_errors.inc();
                    self.note_full_queue(error);
                    packets = &packets[1..];
                }
            }
        }
    }

    /// After a full queue, doesn't wait again for the rest of this outbox.
    fn note_full_queue(&mut self, error: Errno) {
        if error == Errno::EAGAIN {
            self.flags = MsgFlags::MSG_DONTWAIT;
        }
    }
}

fn scope(peer: SocketAddr) -> u32 {
    match peer {
        SocketAddr::V4(_) => 0,
        SocketAddr::V6(peer) => peer.scope_id(),
    }
}
