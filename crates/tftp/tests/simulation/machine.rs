//! A client that follows the RFCs: it acknowledges what it has, and repeats its last packet on
//! timeout.

use std::net::SocketAddr;
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use tftp::packet::{Mode, Request};
use tftp::{Options, Packet};

/// Repeats without progress before it gives up.
const MAX_REPEATS: u32 = 40;

/// A machine that fetches a file.
pub(crate) struct Machine {
    address: SocketAddr,
    expected: Vec<u8>,
    asked: Options,
    starts: Duration,
    wait: Duration,
    state: State,
    received: Vec<u8>,
    blksize: usize,
    windowsize: u64,
    /// Received blocks, and acknowledged ones.
    blocks: u64,
    acknowledged: u64,
    last_packet: Option<Vec<u8>>,
    sent_at: Duration,
    repeats: u32,
    unneeded: u32,
    due: bool,
}

#[derive(Debug, PartialEq)]
enum State {
    Asking,
    Receiving,
    Whole,
    GivenUp,
    Refused(String),
}

impl Machine {
    pub(crate) fn new(number: usize, expected: Vec<u8>, rng: &mut StdRng) -> Self {
        let asked = Options {
            blksize: rng.random_bool(0.7).then(|| rng.random_range(8..2_000)),
            timeout: rng.random_bool(0.2).then(|| rng.random_range(1..4)),
            tsize: rng.random_bool(0.5).then_some(0),
            windowsize: rng.random_bool(0.5).then(|| rng.random_range(1..20)),
        };
        // 30 KiB in blocks of 8 bytes would take too long when packets are lost.
        let asked = Options {
            blksize: asked.blksize.map(|blksize| {
                if expected.len() > 3_000 {
                    blksize.max(400)
                } else {
                    blksize
                }
            }),
            ..asked
        };
        let port = u16::try_from(2_000 + number).unwrap();
        Self {
            address: SocketAddr::new([192, 0, 2, 50].into(), port),
            expected,
            asked,
            starts: Duration::from_millis(rng.random_range(0..50)),
            wait: Duration::from_millis(rng.random_range(250..1_500)),
            state: State::Asking,
            received: Vec::new(),
            blksize: 512,
            windowsize: 1,
            blocks: 0,
            acknowledged: 0,
            last_packet: None,
            sent_at: Duration::ZERO,
            repeats: 0,
            unneeded: 0,
            due: false,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn is_done(&self) -> bool {
        !matches!(self.state, State::Asking | State::Receiving)
    }

    /// Packets received more than once.
    pub(crate) fn unneeded(&self) -> u32 {
        self.unneeded
    }

    pub(crate) fn assert_whole(&self, context: &str) {
        assert_eq!(
            self.state,
            State::Whole,
            "{context}: {:?} after {} blocks",
            self.asked,
            self.blocks
        );
        assert!(
            self.received == self.expected,
            "{context}: {:?}: other bytes",
            self.asked
        );
    }

    pub(crate) fn on_datagram(&mut self, datagram: &[u8], now: Duration) {
        if self.is_done() {
            return;
        }
        match Packet::parse(datagram).expect("the server sends valid packets") {
            Packet::OptionAck(granted) if self.state == State::Asking => {
                assert!(granted.blksize.is_none_or(|blksize| {
                    self.asked.blksize.is_some_and(|asked| blksize <= asked)
                }));
                assert!(granted.windowsize.is_none_or(|window| {
                    self.asked.windowsize.is_some_and(|asked| window <= asked)
                }));
                assert!(
                    granted
                        .timeout
                        .is_none_or(|timeout| self.asked.timeout == Some(timeout))
                );
                assert!(granted.tsize.is_none_or(
                    |tsize| self.asked.tsize.is_some() && tsize == self.expected.len() as u64
                ));
                self.blksize = granted.blksize.unwrap_or(512).into();
                self.windowsize = granted.windowsize.unwrap_or(1).into();
                self.state = State::Receiving;
                self.acknowledge(now);
            }
            Packet::Data { block, bytes } => self.on_data(block, bytes, now),
            Packet::Error { code, text } => {
                self.state = State::Refused(format!("{code} {}", String::from_utf8_lossy(text)));
            }
            Packet::OptionAck(_) => self.unneeded += 1,
            other => panic!("a server must not send {other:?}"),
        }
    }

    fn on_data(&mut self, block: u16, bytes: &[u8], now: Duration) {
        // Blocks that overtake the acknowledgement of the options are dropped.
        if self.state == State::Asking && self.asked != Options::default() {
            return;
        }
        self.state = State::Receiving;
        if block != ((self.blocks + 1) & 0xffff) as u16 {
            self.unneeded += 1;
            // A gap is reported once (RFC 7440). So is a duplicate, since its acknowledgement may
            // be lost.
            if self.acknowledged != self.blocks || self.windowsize == 1 {
                self.acknowledge(now);
            }
            return;
        }
        assert!(bytes.len() <= self.blksize);
        self.received.extend(bytes);
        self.blocks += 1;
        self.repeats = 0;
        if bytes.len() < self.blksize {
            self.acknowledge(now);
            self.state = State::Whole;
        } else if self.blocks - self.acknowledged >= self.windowsize {
            self.acknowledge(now);
        }
    }

    fn acknowledge(&mut self, now: Duration) {
        self.acknowledged = self.blocks;
        let mut packet = Vec::new();
        Packet::Ack((self.blocks & 0xffff) as u16).write(&mut packet);
        self.last_packet = Some(packet);
        self.sent_at = now;
        self.due = true;
    }

    /// Returns the packet to send by now, if any.
    pub(crate) fn poll(&mut self, now: Duration) -> Option<Vec<u8>> {
        if std::mem::take(&mut self.due) {
            return self.last_packet.clone();
        }
        if self.is_done() || now < self.starts {
            return None;
        }
        let Some(last) = &self.last_packet else {
            let mut packet = Vec::new();
            Packet::Read(Request {
                file: b"boot.ipxe",
                mode: Mode::Octet,
                options: self.asked,
            })
            .write(&mut packet);
            self.last_packet = Some(packet.clone());
            self.sent_at = now;
            return Some(packet);
        };
        if now < self.sent_at + self.wait {
            return None;
        }
        self.repeats += 1;
        if self.repeats > MAX_REPEATS {
            self.state = State::GivenUp;
            return None;
        }
        self.sent_at = now;
        // On timeout, acknowledge the part of the window that has arrived.
        if self.state == State::Receiving && self.acknowledged != self.blocks {
            self.acknowledge(now);
            self.due = false;
            return self.last_packet.clone();
        }
        Some(last.clone())
    }
}
