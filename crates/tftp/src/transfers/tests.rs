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

/// Transfers, and the time.
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

/// What a packet is, in short.
fn name(packet: &[u8]) -> String {
    match Packet::parse(packet).unwrap() {
        Packet::Data { block, .. } => format!("DATA {block}"),
        Packet::OptionAck(_) => "OACK".to_owned(),
        Packet::Error { code, .. } => format!("ERROR {code}"),
        other => panic!("a server does not say {other:?}"),
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

    /// A datagram comes from this peer; gives what it gets.
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

    /// Time goes by; gives what leaves meanwhile.
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

    /// How many transfers ended, and how many of them so.
    fn ended(&self, outcome: Outcome) -> (u64, u64) {
        (
            Outcome::ALL
                .map(|outcome| self.metrics.outcome_count(outcome))
                .iter()
                .sum(),
            self.metrics.outcome_count(outcome),
        )
    }

    /// How many datagrams were refused, and how many of them so.
    fn refused(&self, refusal: Refusal) -> (u64, u64) {
        (
            Refusal::ALL
                .map(|refusal| self.metrics.refusal_count(refusal))
                .iter()
                .sum(),
            self.metrics.refusal_count(refusal),
        )
    }

    /// Fetches what is left after block `from`.
    fn finish(&mut self, peer: SocketAddr, from: u8) {
        for block in from..3 {
            assert_eq!(self.say(peer, &ack(block)), [format!("DATA {}", block + 1)]);
        }
        assert_eq!(self.say(peer, &ack(3)), [""; 0]);
    }
}

#[test]
fn a_transfer_whose_blocks_are_all_acknowledged_is_completed() {
    let mut world = World::new();
    assert_eq!(world.say(peer(1), SIZED), ["OACK"]);
    world.finish(peer(1), 0);
    assert_eq!(world.ended(Outcome::Completed), (1, 1));
    assert_eq!(world.transfers.active(), 0);
}

#[test]
fn a_request_that_comes_again_when_nothing_moves_restarts_its_transfer() {
    let mut world = World::new();
    world.say(peer(1), SIZED);
    world.say(peer(1), &ack(0));
    assert_eq!(world.say(peer(1), &ack(1)), ["DATA 2"]);
    // At once, it is the network's copy of the first.
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
fn another_request_from_the_same_port_restarts_at_once() {
    let mut world = World::new();
    world.say(peer(1), SIZED);
    world.say(peer(1), &ack(0));
    assert_eq!(world.say(peer(1), REQUEST), ["DATA 1"]);
    assert_eq!(world.ended(Outcome::Restarted), (1, 1));
    world.finish(peer(1), 1);
    assert_eq!(world.ended(Outcome::Completed), (2, 1));
}

#[test]
fn a_peer_that_falls_silent_is_timed_out_and_unconfirmed_where_all_was_sent() {
    let mut world = World::new();
    world.say(peer(1), SIZED);
    world.say(peer(1), &ack(0));
    assert_eq!(
        world.wait(120),
        ["DATA 1"; 5],
        "as many repeats as are allowed"
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
fn a_request_that_nothing_follows_is_unanswered() {
    let mut world = World::new();
    assert_eq!(world.say(peer(1), SIZED), ["OACK"]);
    let repeats = world.wait(29);
    assert!(
        repeats.len() <= 3 && repeats.iter().all(|repeat| repeat == "OACK"),
        "{repeats:?}"
    );
    assert_eq!(world.ended(Outcome::Unanswered), (0, 0));
    assert_eq!(world.wait(1), [""; 0]);
    assert_eq!(world.ended(Outcome::Unanswered), (1, 1));
}

#[test]
fn an_error_of_the_peer_aborts() {
    let mut world = World::new();
    world.say(peer(1), SIZED);
    assert_eq!(world.say(peer(1), b"\0\x05\0\x08\0"), [""; 0]);
    assert_eq!(world.ended(Outcome::Aborted), (1, 1));
}

#[test]
fn a_file_that_is_cut_while_it_is_sent_fails_with_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let cut = |path: &Path, length| {
        std::fs::File::create(path)
            .unwrap()
            .set_len(length)
            .unwrap()
    };
    // Larger than what is kept in memory.
    let path = folder.path().join("large");
    cut(&path, 5 << 20);
    let (table, _) = Table::scan(folder.path(), &Table::default()).unwrap();
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
fn what_is_left_in_the_end_is_stopped() {
    let mut world = World::new();
    world.say(peer(1), SIZED);
    world.say(peer(2), SIZED);
    world.transfers.stop(world.now);
    assert_eq!(world.ended(Outcome::Stopped), (2, 2));
    assert_eq!(world.transfers.active(), 0);
}

#[test]
fn a_server_that_stops_begins_nothing_and_brings_what_runs_to_its_end() {
    let mut world = World::new();
    world.say(peer(1), SIZED);
    world.transfers.drain();
    assert_eq!(world.say(peer(2), SIZED), [""; 0]);
    assert_eq!(world.refused(Refusal::Stopping), (1, 1));
    world.finish(peer(1), 0);
    assert_eq!(world.ended(Outcome::Completed), (1, 1));
}

#[test]
fn acknowledgements_that_do_not_fit_are_strays() {
    let mut world = World::new();
    world.say(peer(1), SIZED);
    // Not of the options, of the future twice, and of the past.
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
fn beyond_the_limit_there_is_silence_unless_somebody_makes_room_who_proved_nothing() {
    let mut world = World::new();
    for number in 1..=2 {
        world.say(peer(number), SIZED);
    }
    assert_eq!(world.say(peer(3), SIZED), ["OACK"]);
    assert_eq!(world.ended(Outcome::Evicted), (1, 1));
    assert_eq!(world.say(peer(1), &ack(0)), [""; 0], "the oldest made room");
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
fn one_address_has_its_own_limit() {
    let mut world = World::new();
    let port = |port| SocketAddr::new(peer(1).ip(), port);
    world.transfers.limits.transfers = 10;
    for number in 1..=2 {
        assert_eq!(world.say(port(number), SIZED), ["OACK"]);
    }
    assert_eq!(world.say(port(3), SIZED), [""; 0]);
    assert_eq!(world.refused(Refusal::TooManyFromPeer), (1, 1));
    assert_eq!(world.say(peer(2), SIZED), ["OACK"], "another address");
    world.finish(port(1), 0);
    assert_eq!(world.say(port(3), SIZED), ["OACK"]);
}
