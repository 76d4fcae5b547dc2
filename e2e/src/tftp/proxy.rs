//! A UDP proxy that loses, duplicates and reorders datagrams between clients and a server.

use anyhow::{Context, Result};
use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// The percentage of datagrams for each fault.
#[derive(Debug, Clone, Copy)]
pub struct Faults {
    /// Dropped.
    pub lost: u64,
    /// Arrive twice.
    pub copied: u64,
    /// Are overtaken by the next one, or come late where there is none.
    pub overtaken: u64,
}

/// A running proxy. It stops on drop.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    stopping: Arc<AtomicBool>,
    counts: Arc<[AtomicU64; 3]>,
}

/// One direction of the proxy.
struct Way {
    faults: Faults,
    random: u64,
    held: Option<Vec<u8>>,
    counts: Arc<[AtomicU64; 3]>,
}

// === impl Proxy ===

impl Proxy {
    /// Starts a proxy in front of this server. The same seed draws the same faults.
    pub fn to(server: SocketAddr, faults: Faults, seed: u64) -> Result<Self> {
        let front = UdpSocket::bind("127.0.0.1:0").context("no free UDP port")?;
        let address = front.local_addr()?;
        let stopping = Arc::new(AtomicBool::new(false));
        let counts = Arc::new([const { AtomicU64::new(0) }; 3]);
        let (is_stopping, all_counts) = (stopping.clone(), counts.clone());
        front.set_read_timeout(Some(Duration::from_millis(20)))?;
        std::thread::spawn(move || {
            let mut backs: HashMap<SocketAddr, (UdpSocket, Way)> = HashMap::new();
            let mut buffer = vec![0; 65_536];
            while !is_stopping.load(Ordering::Relaxed) {
                let Ok((length, client)) = front.recv_from(&mut buffer) else {
                    backs
                        .values_mut()
                        .for_each(|(back, way)| way.release(|packet| drop(back.send(packet))));
                    continue;
                };
                let next = backs.len() as u64;
                let entry = backs.entry(client).or_insert_with(|| {
                    let back = UdpSocket::bind("127.0.0.1:0")
                        .and_then(|back| back.connect(server).map(|()| back))
                        .expect("a free UDP port");
                    let ways = [seed, !seed]
                        .map(|seed| Way::new(faults, seed ^ (next << 32), all_counts.clone()));
                    let [there, home] = ways;
                    pump(&back, &front, client, home, is_stopping.clone());
                    (back, there)
                });
                let (back, way) = entry;
                way.pass(&buffer[..length], |packet| drop(back.send(packet)));
            }
        });
        Ok(Self {
            address,
            stopping,
            counts,
        })
    }

    /// The address that clients send to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The numbers of lost, duplicated and reordered datagrams.
    pub fn counts(&self) -> [u64; 3] {
        [0, 1, 2].map(|index: usize| self.counts[index].load(Ordering::Relaxed))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
    }
}

/// Forwards the server's answers to one client.
fn pump(
    back: &UdpSocket,
    front: &UdpSocket,
    client: SocketAddr,
    mut way: Way,
    stopping: Arc<AtomicBool>,
) {
    let (back, front) = (
        back.try_clone().expect("a socket can be cloned"),
        front.try_clone().expect("a socket can be cloned"),
    );
    std::thread::spawn(move || {
        let mut buffer = vec![0; 65_536];
        back.set_read_timeout(Some(Duration::from_millis(20)))
            .expect("20 ms is a time");
        while !stopping.load(Ordering::Relaxed) {
            match back.recv(&mut buffer) {
                Ok(length) => way.pass(&buffer[..length], |packet| {
                    drop(front.send_to(packet, client));
                }),
                Err(_) => way.release(|packet| drop(front.send_to(packet, client))),
            }
        }
    });
}

// === impl Way ===

impl Way {
    fn new(faults: Faults, seed: u64, counts: Arc<[AtomicU64; 3]>) -> Self {
        Self {
            faults,
            random: seed | 1,
            held: None,
            counts,
        }
    }

    fn pass(&mut self, packet: &[u8], send: impl Fn(&[u8])) {
        if self.draws(self.faults.lost, 0) {
            return;
        }
        if self.held.is_none() && self.draws(self.faults.overtaken, 2) {
            self.held = Some(packet.to_vec());
            return;
        }
        send(packet);
        if self.draws(self.faults.copied, 1) {
            send(packet);
        }
        self.release(send);
    }

    fn release(&mut self, send: impl Fn(&[u8])) {
        if let Some(held) = self.held.take() {
            send(&held);
        }
    }

    /// xorshift64*
    fn draws(&mut self, percent: u64, count: usize) -> bool {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        let drawn = (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % 100 < percent;
        if drawn {
            self.counts[count].fetch_add(1, Ordering::Relaxed);
        }
        drawn
    }
}
