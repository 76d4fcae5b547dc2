//! Properties that hold for arbitrary bytes. `hostile.rs` checks them with some thousand random
//! inputs, fuzzing for hours.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tftp::{Arrival, Library, Limits, Metrics, Outbox, Packet, Route, Table, Transfers};

const TRANSFERS: usize = 6;
const PER_PEER: usize = 3;
const UNPROVEN_BYTES: u32 = 4_096;
const WINDOWSIZE: u16 = 8;
/// The largest UDP payload of an Ethernet packet.
const LARGEST: usize = 1_472;

/// A valid packet survives a round trip.
pub(crate) fn packet(bytes: &[u8]) {
    if let Ok(packet) = Packet::parse(bytes) {
        let mut written = Vec::new();
        packet.write(&mut written);
        assert_eq!(Packet::parse(&written).as_ref(), Ok(&packet));
    }
}

/// Input bytes as a script of events: the first byte of an event selects its kind and peer, some
/// events take more.
struct Script<'a>(&'a [u8]);

struct World {
    transfers: Transfers,
    outbox: Outbox,
    now: Duration,
    /// The last block that each peer received.
    blocks: [u16; 8],
    /// Peers that have sent something other than requests.
    proven: BTreeSet<usize>,
    /// Bytes sent to the others, headers included.
    unproven_bytes: usize,
}

/// For any sequence of events, the server respects its limits and sends only what it may.
pub(crate) fn transfers(bytes: &[u8]) {
    let mut script = Script(bytes);
    let mut world = World::new();
    while let Some(event) = script.byte() {
        world.happen(event, &mut script);
    }
    // Silent peers are forgotten.
    for _ in 0..70 {
        world.wait(Duration::from_secs(5));
    }
    assert_eq!(world.transfers.active(), 0);
}

impl Script<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn take(&mut self, count: u8) -> &[u8] {
        let (taken, rest) = self.0.split_at(self.0.len().min(count.into()));
        self.0 = rest;
        taken
    }
}

impl World {
    fn new() -> Self {
        let library = Library {
            table: Arc::new(Arc::new(Table::default()).into()),
            bootstrap: Arc::new(|local| {
                format!(
                    "#!ipxe\n# for {local}\n{}",
                    "echo and so on\n".repeat(1_000)
                )
            }),
        };
        let limits = Limits {
            transfers: TRANSFERS,
            transfers_per_peer: PER_PEER,
            windowsize: WINDOWSIZE,
            unproven_bytes: UNPROVEN_BYTES,
            ..Limits::default()
        };
        let transfers = Transfers::new(limits, library, Metrics::default(), 0);
        Self {
            transfers,
            outbox: Outbox::default(),
            now: Duration::ZERO,
            blocks: [0; 8],
            proven: BTreeSet::new(),
            unproven_bytes: 0,
        }
    }

    fn happen(&mut self, event: u8, script: &mut Script<'_>) {
        let peer = usize::from(event >> 5);
        let more = script.byte().unwrap_or_default();
        let ack = |block: u16| [[0, 4], block.to_be_bytes()].concat();
        match event & 0x1f {
            0..=7 => self.receive(peer, &request(more), false),
            8..=15 => self.receive(peer, &ack(self.blocks[peer]), false),
            16..=18 => self.receive(
                peer,
                &ack(self.blocks[peer].wrapping_add(more.into()).wrapping_sub(8)),
                false,
            ),
            19 => self.receive(peer, &[0, 5, 0, more], false),
            20 => self.receive(peer, &[0, more & 7], false),
            21..=24 => {
                let datagram = script.take(more).to_vec();
                self.receive(peer, &datagram, false);
            }
            25 => self.receive(peer, &request(more), true),
            26..=28 => self.wait(Duration::from_millis(u64::from(more))),
            29 => self.wait(Duration::from_millis(u64::from(more) * 50)),
            30 => self.wait(Duration::ZERO),
            _ => self.receive(
                peer,
                &[[0, 1].as_slice(), script.take(more)].concat(),
                false,
            ),
        }
    }

    fn receive(&mut self, peer: usize, datagram: &[u8], is_truncated: bool) {
        if !datagram.starts_with(&[0, 1]) {
            self.proven.insert(peer);
        }
        let route = Route {
            socket: 0,
            peer: address(peer),
            local: Ipv4Addr::new(192, 0, 2, 1).into(),
        };
        self.transfers.on_datagram(
            &Arrival {
                route,
                datagram,
                is_truncated,
            },
            self.now,
            &mut self.outbox,
        );
        assert!(
            self.outbox
                .transmissions()
                .iter()
                .all(|send| send.route == route),
            "an answer to another peer"
        );
        assert!(
            self.outbox.transmissions().len() <= 1,
            "more than one answer"
        );
        self.send();
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.transfers.on_clock(self.now, &mut self.outbox);
        assert!(self.outbox.transmissions().len() <= TRANSFERS);
        self.send();
    }

    fn send(&mut self) {
        assert!(self.transfers.active() <= TRANSFERS);
        for send in self.outbox.transmissions() {
            let packets = self.outbox.packets_of(send).count();
            assert!(
                (1..=usize::from(WINDOWSIZE)).contains(&packets),
                "{packets} packets at once"
            );
        }
        for (route, packet) in self.outbox.packets() {
            assert!(
                packet.len() <= LARGEST,
                "a packet of {} bytes",
                packet.len()
            );
            let peer = usize::from(route.peer.port() - 2_000);
            match Packet::parse(packet) {
                Ok(Packet::Data { block, .. }) => self.blocks[peer] = block,
                Ok(Packet::OptionAck(_)) => self.blocks[peer] = 0,
                Ok(Packet::Error { .. }) => {}
                other => panic!("a server must not send {other:?}"),
            }
            if !self.proven.contains(&peer) {
                self.unproven_bytes += packet.len() + 28;
            }
        }
        self.outbox.clear();
        // All peers have the same network prefix.
        let allowed = f64::from(UNPROVEN_BYTES) * (2.0 + self.now.as_secs_f64());
        assert!(
            self.unproven_bytes as f64 <= allowed,
            "{} bytes to unproven peers",
            self.unproven_bytes
        );
    }
}

/// Five addresses, some with more than one port.
fn address(peer: usize) -> SocketAddr {
    let host = if peer < 4 {
        9
    } else {
        6 + u8::try_from(peer).expect("there are few peers")
    };
    (
        Ipv4Addr::new(192, 0, 2, host),
        u16::try_from(2_000 + peer).expect("there are few peers"),
    )
        .into()
}

/// Builds a request with various options, most of them valid.
fn request(kind: u8) -> Vec<u8> {
    let mut packet = b"\0\x01boot.ipxe\0octet\0".to_vec();
    let blksize: &[u8] = match kind & 7 {
        0 | 1 => b"",
        2 => b"blksize\x008\0",
        3 => b"blksize\x001432\0",
        4 => b"blksize\x0065464\0",
        5 => b"BLKSIZE\x00512\0",
        6 => b"blksize\x000\0",
        _ => b"blksize\0",
    };
    let others: &[u8] = match (kind >> 3) & 7 {
        0 | 1 => b"",
        2 => b"windowsize\x004\0",
        3 => b"windowsize\x0065535\0tsize\x000\0",
        4 => b"timeout\x001\0",
        5 => b"timeout\x00255\0windowsize\x002\0",
        6 => b"tsize\x000\0",
        _ => b"tsize\x0099999999999999999999\0",
    };
    packet.extend([others, blksize].concat());
    match kind >> 6 {
        0 => packet[2] = b'x',
        1 => packet[1] = 2,
        _ => {}
    }
    packet
}
