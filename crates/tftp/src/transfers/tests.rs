use super::*;
use std::net::Ipv4Addr;
use std::path::Path;

/// Three blocks of 512 bytes, the last one short.
const LENGTH: usize = 1_300;
const REQUEST: &[u8] = b"\0\x01boot.ipxe\0octet\0";
const SIZED: &[u8] = b"\0\x01boot.ipxe\0octet\0tsize\x000\0";
const PATIENT: Limits = Limits {
    transfers: 2,
    transfers_per_peer: 2,
    mtu: 1_500,
    windowsize: 64,
    unproven_bytes: 1_000_000,
    drain: Duration::ZERO,
};

/// Transfers with a simulated clock.
struct World {
    transfers: Transfers,
    metrics: Metrics,
    now: Duration,
}

fn peer(number: u8) -> SocketAddr {
    (Ipv4Addr::new(192, 0, 2, number), 2_000).into()
}

fn ack(block: u8) -> [u8; 4] {
    [0, 4, 0, block]
}

/// A short name for a packet.
fn name(packet: &[u8]) -> String {
    match Packet::parse(packet).unwrap() {
        Packet::Data { block, .. } => format!("DATA {block}"),
        Packet::OptionAck(_) => "OACK".to_owned(),
        Packet::Error { code, .. } => format!("ERROR {code}"),
        other => panic!("a server must not send {other:?}"),
    }
}

impl World {
    fn new() -> Self {
        Self::of(Table::default())
    }

    fn of(table: Table) -> Self {
        let table = Arc::new(ArcSwap::from_pointee(table));
        let library = Library {
            table,
            bootstrap: Arc::new(|_| "x".repeat(LENGTH)),
        };
        let metrics = Metrics::default();
        Self {
            transfers: Transfers::new(PATIENT, library, metrics.clone(), 0),
            metrics,
            now: Duration::ZERO,
        }
    }

    /// Delivers a datagram from a peer; returns the packets sent in response.
    fn say(&mut self, peer: SocketAddr, datagram: &[u8]) -> Vec<String> {
        let mut out = Outbox::default();
        let route = Route {
            socket: 0,
            peer,
            local: Ipv4Addr::new(192, 0, 2, 254).into(),
        };
        self.transfers.on_datagram(
            &Arrival {
                route,
                datagram,
                is_truncated: false,
            },
            self.now,
            &mut out,
        );
        out.packets().map(|(_, packet)| name(packet)).collect()
    }

    /// Advances the clock; returns the packets sent meanwhile.
    fn wait(&mut self, seconds: u64) -> Vec<String> {
        let mut left = Vec::new();
        for _ in 0..seconds * 20 {
            self.now += Duration::from_millis(50);
            let mut out = Outbox::default();
            self.transfers.on_clock(self.now, &mut out);
            left.extend(out.packets().map(|(_, packet)| name(packet)));
        }
        left
    }

    /// Returns the number of finished transfers, and that of those with `outcome`.
    fn ended(&self, outcome: Outcome) -> (u64, u64) {
        (
            Outcome::ALL
                .map(|outcome| self.metrics.outcome_count(outcome))
                .iter()
                .sum(),
            self.metrics.outcome_count(outcome),
        )
    }

    /// Returns the number of refused datagrams, and that of those with `refusal`.
    fn refused(&self, refusal: Refusal) -> (u64, u64) {
        (
            Refusal::ALL
                .map(|refusal| self.metrics.refusal_count(refusal))
                .iter()
                .sum(),
            self.metrics.refusal_count(refusal),
        )
    }

    /// Acknowledges the blocks after `from` up to the end.
    fn finish(&mut self, peer: SocketAddr, from: u8) {
        for block in from..3 {
            assert_eq!(self.say(peer, &ack(block)), [format!("DATA {}", block + 1)]);
        }
        assert_eq!(self.say(peer, &ack(3)), [""; 0]);
    }
}

#[test]
fn a_transfer_is_completed_when_all_blocks_are_acknowledged() {
    let mut world = World::new();
    assert_eq!(world.say(peer(1), SIZED), ["OACK"]);
    world.finish(peer(1), 0);
    assert_eq!(world.ended(Outcome::Completed), (1, 1));
    assert_eq!(world.transfers.active(), 0);
}

#[test]
fn a_repeated_request_restarts_a_stalled_transfer() {
    let mut world = World::new();
    world.say(peer(1), SIZED);
    world.say(peer(1), &ack(0));
    assert_eq!(world.say(peer(1), &ack(1)), ["DATA 2"]);
    // This soon, it is a duplicate made by the network.
    assert_eq!(world.say(peer(1), SIZED), [""; 0]);
    assert_eq!(world.refused(Refusal::Stray), (1, 1));
    world.wait(3);
    assert_eq!(world.ended(Outcome::Restarted), (0, 0));
    assert_eq!(world.say(peer(1), SIZED), ["OACK"]);
    assert_eq!(world.ended(Outcome::Restarted), (1, 1));
    assert_eq!(world.transfers.active(), 1);
    world.finish(peer(1), 0);
    assert_eq!(world.ended(Outcome::Completed), (2, 1));
}

#[test]
fn a_different_request_from_the_same_port_restarts_at_once() {
    let mut world = World::new();
    world.say(peer(1), SIZED);
    world.say(peer(1), &ack(0));
    assert_eq!(world.say(peer(1), REQUEST), ["DATA 1"]);
    assert_eq!(world.ended(Outcome::Restarted), (1, 1));
    world.finish(peer(1), 1);
    assert_eq!(world.ended(Outcome::Completed), (2, 1));
}

#[test]
fn a_silent_peer_is_timed_out_or_unconfirmed_if_all_was_sent() {
    let mut world = World::new();
    world.say(peer(1), SIZED);
    world.say(peer(1), &ack(0));
    assert_eq!(
        world.wait(120),
        ["DATA 1"; 5],
        "the maximum number of repeats"
    );
    assert_eq!(world.ended(Outcome::TimedOut), (1, 1));
    world.say(peer(1), SIZED);
    for block in 0..3 {
        world.say(peer(1), &ack(block));
    }
    assert_eq!(world.wait(120), ["DATA 3"; 5]);
    assert_eq!(world.ended(Outcome::Unconfirmed), (2, 1));
    assert_eq!(world.transfers.active(), 0);
}

#[test]
fn a_peer_that_sends_only_a_request_is_unanswered() {
    let mut world = World::new();
    assert_eq!(world.say(peer(1), SIZED), ["OACK"]);
    let repeats = world.wait(29);
    assert!(
        repeats.len() <= 1 && repeats.iter().all(|repeat| repeat == "OACK"),
        "{repeats:?}"
    );
    assert_eq!(world.ended(Outcome::Unanswered), (0, 0));
    assert_eq!(world.wait(1), [""; 0]);
    assert_eq!(world.ended(Outcome::Unanswered), (1, 1));
}

#[test]
fn an_error_from_the_peer_aborts_the_transfer() {
    let mut world = World::new();
    world.say(peer(1), SIZED);
    assert_eq!(world.say(peer(1), b"\0\x05\0\x08\0"), [""; 0]);
    assert_eq!(world.ended(Outcome::Aborted), (1, 1));
}

#[test]
fn truncating_a_file_fails_its_transfer_with_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let cut = |path: &Path, length| {
        std::fs::File::create(path)
            .unwrap()
            .set_len(length)
            .unwrap();
    };
    // Larger than files that are kept in memory.
    let path = folder.path().join("large");
    cut(&path, 5 << 20);
    let scan = Table::scan(
        folder.path(),
        &Table::default(),
        &files::Activity::default(),
    );
    let table = scan.unwrap().table;
    let mut world = World::of(table);
    assert_eq!(
        world.say(
            peer(1),
            b"\0\x01large\0octet\0blksize\x001468\0windowsize\x0064\0"
        ),
        ["OACK"]
    );
    assert_eq!(world.say(peer(1), &ack(0)).len(), 64);
    cut(&path, 10);
    assert_eq!(world.say(peer(1), &ack(64)), ["ERROR 0"]);
    assert_eq!(world.ended(Outcome::Failed), (1, 1));
    assert_eq!(world.transfers.active(), 0);
}

#[test]
fn stopping_ends_the_transfers_that_remain() {
    let mut world = World::new();
    world.say(peer(1), SIZED);
    world.say(peer(2), SIZED);
    world.transfers.stop(world.now);
    assert_eq!(world.ended(Outcome::Stopped), (2, 2));
    assert_eq!(world.transfers.active(), 0);
}

#[test]
fn draining_refuses_new_transfers_and_completes_running_ones() {
    let mut world = World::new();
    world.say(peer(1), SIZED);
    world.transfers.drain();
    assert_eq!(world.say(peer(2), SIZED), [""; 0]);
    assert_eq!(world.refused(Refusal::Stopping), (1, 1));
    world.finish(peer(1), 0);
    assert_eq!(world.ended(Outcome::Completed), (1, 1));
}

#[test]
fn unexpected_acknowledgements_are_strays() {
    let mut world = World::new();
    world.say(peer(1), SIZED);
    // Not of the options, then twice of the future and once of the past.
    assert_eq!(world.say(peer(1), &ack(1)), [""; 0]);
    world.say(peer(1), &ack(0));
    world.say(peer(1), &ack(1));
    for block in [3, 200, 0] {
        assert_eq!(world.say(peer(1), &ack(block)), [""; 0]);
    }
    assert_eq!(world.refused(Refusal::Stray), (4, 4));
    world.finish(peer(1), 2);
}

#[test]
fn a_full_server_evicts_the_oldest_unproven_peer_or_stays_silent() {
    let mut world = World::new();
    for number in 1..=2 {
        world.say(peer(number), SIZED);
    }
    assert_eq!(world.say(peer(3), SIZED), ["OACK"]);
    assert_eq!(world.ended(Outcome::Evicted), (1, 1));
    assert_eq!(
        world.say(peer(1), &ack(0)),
        [""; 0],
        "the oldest was evicted"
    );
    for number in 2..=3 {
        assert_eq!(world.say(peer(number), &ack(0)), ["DATA 1"]);
    }
    assert_eq!(world.say(peer(4), SIZED), [""; 0]);
    assert_eq!(world.metrics.refusal_count(Refusal::TooMany), 1);
    assert_eq!(
        (world.ended(Outcome::Evicted), world.transfers.active()),
        ((1, 1), 2)
    );
    world.finish(peer(2), 1);
    assert_eq!(world.say(peer(4), SIZED), ["OACK"]);
}

#[test]
fn restarts_of_one_peer_are_not_remembered_and_the_newest_is_not_the_oldest() {
    let mut world = World::new();
    let files = [SIZED, REQUEST];
    world.say(peer(2), SIZED);
    for number in 0..1_000 {
        world.say(peer(1), files[number % 2]);
    }
    assert!(world.transfers.places.remembered() < 300);
    assert_eq!(world.say(peer(3), SIZED), ["OACK"]);
    assert_eq!(world.say(peer(2), &ack(0)), [""; 0], "it was the oldest");
}

#[test]
fn slow_transfers_of_a_few_addresses_give_way_to_machines() {
    let mut world = World::new();
    world.transfers.places = Places::new(60);
    world.transfers.limits.transfers_per_peer = 60;
    let slow = |number: u16| -> SocketAddr {
        let address = Ipv4Addr::new(198, 51, 100, u8::try_from(number % 6).unwrap());
        (address, 3_000 + number).into()
    };
    // Each acknowledges a block now and then, with a request of many blocks.
    let small = b"\0\x01boot.ipxe\0octet\0blksize\x008\0";
    for number in 0..60 {
        assert_eq!(world.say(slow(number), small), ["OACK"]);
        assert_eq!(world.say(slow(number), &ack(0)), ["DATA 1"]);
    }
    for block in 1..=10 {
        // Some wait, others have just acknowledged: none of them is spared.
        for number in 0..60 {
            if number % 2 == u16::from(block % 2) {
                world.say(slow(number), &ack(block));
            }
        }
        world.wait(1);
        let machine = peer(block);
        assert_eq!(world.say(machine, SIZED), ["OACK"], "{block}");
        world.finish(machine, 0);
    }
    assert_eq!(world.metrics.outcome_count(Outcome::Completed), 10);
}

#[test]
fn transfers_per_address_are_limited() {
    let mut world = World::new();
    let port = |port| SocketAddr::new(peer(1).ip(), port);
    world.transfers.places = Places::new(10);
    for number in 1..=2 {
        assert_eq!(world.say(port(number), SIZED), ["OACK"]);
    }
    // Unproven transfers, which may be forged, lock nobody out.
    assert_eq!(world.say(port(4), SIZED), ["OACK"]);
    assert_eq!(world.say(port(1), SIZED), ["OACK"]);
    assert_eq!(world.ended(Outcome::Evicted), (2, 2));
    for number in [4, 1] {
        assert_eq!(world.say(port(number), &ack(0)), ["DATA 1"]);
    }
    assert_eq!(world.say(port(3), SIZED), [""; 0]);
    assert_eq!(world.refused(Refusal::TooManyFromPeer), (1, 1));
    assert_eq!(world.say(peer(2), SIZED), ["OACK"], "another address");
    world.finish(port(1), 1);
    assert_eq!(world.say(port(3), SIZED), ["OACK"]);
}
