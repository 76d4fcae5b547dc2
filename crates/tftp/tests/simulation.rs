//! Server and clients on a simulated network that loses, duplicates and reorders datagrams. The
//! clock is simulated as well, so a seed determines the run.

#[path = "simulation/machine.rs"]
mod machine;
#[path = "simulation/network.rs"]
mod network;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::registry::Registry;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tftp::{Arrival, Library, Limits, Metrics, Outbox, Outcome, Route, Table, Transfers};

use machine::Machine;
use network::{Faults, Network};

const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The largest UDP payload of an Ethernet packet.
const LARGEST: usize = 1_472;

struct World {
    transfers: Transfers,
    metrics: Metrics,
    network: Network,
    machines: Vec<Machine>,
    now: Duration,
    ticked: Duration,
    outbox: Outbox,
}

impl World {
    fn new(seed: u64, faults: Faults, machines: usize) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let metrics = Metrics::register(&mut Registry::default());
        let length: u32 = rng.random_range(0..30_000);
        let script: String = (0..length)
            .map(|i| char::from_u32(u32::from('a') + i % 23).expect("a letter"))
            .collect();
        let expected = script.clone().into_bytes();
        let library = Library {
            table: Arc::new(Arc::new(Table::default()).into()),
            bootstrap: Arc::new(move |_| script.clone()),
        };
        let limits = Limits {
            transfers: 64,
            unproven_bytes: 1 << 20,
            ..Limits::default()
        };
        let machines = (0..machines)
            .map(|number| Machine::new(number, expected.clone(), &mut rng))
            .collect();
        Self {
            transfers: Transfers::new(limits, library, metrics.clone(), 0),
            metrics,
            network: Network::new(rng, faults),
            machines,
            now: Duration::ZERO,
            ticked: Duration::ZERO,
            outbox: Outbox::default(),
        }
    }

    /// Runs until every machine has finished or given up.
    fn run(&mut self) {
        while self.machines.iter().any(|machine| !machine.is_done()) {
            assert!(
                self.now < Duration::from_secs(1_000),
                "a machine never finishes"
            );
            self.step();
        }
    }

    fn step(&mut self) {
        while let Some((from, to, datagram)) = self.network.next(self.now) {
            if to == server() {
                let route = Route {
                    socket: 0,
                    peer: from,
                    local: SERVER.into(),
                };
                self.transfers.on_datagram(
                    &Arrival {
                        route,
                        datagram: &datagram,
                        is_truncated: false,
                    },
                    self.now,
                    &mut self.outbox,
                );
                assert!(
                    self.outbox.transmissions().len() <= 1,
                    "one datagram causes packets for at most one peer"
                );
                self.send();
            } else if let Some(machine) = self
                .machines
                .iter_mut()
                .find(|machine| machine.address() == to)
            {
                machine.on_datagram(&datagram, self.now);
            }
        }
        for machine in &mut self.machines {
            if let Some(datagram) = machine.poll(self.now) {
                self.network
                    .send(machine.address(), server(), datagram, self.now);
            }
        }
        if self.now >= self.ticked + Duration::from_millis(50) {
            self.ticked = self.now;
            self.transfers.on_clock(self.now, &mut self.outbox);
            self.send();
        }
        // Advance faster while nothing is in flight.
        self.now += Duration::from_millis(if self.network.is_quiet(self.now) {
            10
        } else {
            1
        });
    }

    fn send(&mut self) {
        for (route, packet) in self.outbox.packets() {
            assert!(
                packet.len() <= LARGEST,
                "a packet of {} bytes",
                packet.len()
            );
            self.network
                .send(server(), route.peer, packet.to_vec(), self.now);
        }
        self.outbox.clear();
    }
}

fn server() -> SocketAddr {
    (SERVER, 69).into()
}

#[test]
fn files_arrive_complete_when_every_tenth_datagram_is_lost_duplicated_or_delayed() {
    for seed in 0..3_000 {
        let mut world = World::new(
            seed,
            Faults {
                lost: 0.1,
                copied: 0.1,
                delayed: 0.1,
            },
            3,
        );
        world.run();
        for machine in &world.machines {
            machine.assert_whole(&format!("seed {seed}"));
        }
    }
}

#[test]
fn a_network_without_faults_causes_no_retransmissions() {
    for seed in 0..200 {
        let mut world = World::new(seed, Faults::default(), 4);
        world.run();
        for _ in 0..10 {
            world.step();
        }
        assert_eq!(
            world.metrics.outcome_count(Outcome::Completed),
            4,
            "seed {seed}"
        );
        for machine in &world.machines {
            machine.assert_whole(&format!("seed {seed}"));
            assert_eq!(machine.unneeded(), 0, "seed {seed}");
        }
    }
}

#[test]
fn transfers_end_and_are_forgotten_when_nearly_all_datagrams_are_lost() {
    for seed in 0..200 {
        let mut world = World::new(
            seed,
            Faults {
                lost: 0.9,
                copied: 0.3,
                delayed: 0.3,
            },
            8,
        );
        world.run();
        // The machines have given up; the server does so within three minutes.
        for _ in 0..3_600 {
            world.now += Duration::from_millis(50);
            world.transfers.on_clock(world.now, &mut world.outbox);
            world.outbox.clear();
        }
        assert_eq!(world.transfers.active(), 0, "seed {seed}");
    }
}
