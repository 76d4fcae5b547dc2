use std::collections::BTreeMap;
use std::net::IpAddr;

use proptest::prelude::*;

use super::*;

fn source(text: &str) -> Source {
    Source::from(text.parse::<IpAddr>().unwrap())
}

/// A full table: the holders of each address, in order, with ids from 0.
fn full(holders: &[(&str, usize)]) -> Places<u64> {
    let mut places = Places::new(holders.iter().map(|(_, count)| count).sum());
    let mut id = 0;
    for (address, count) in holders {
        for _ in 0..*count {
            places.insert(source(address), id);
            id += 1;
        }
    }
    assert!(places.is_full());
    places
}

fn yielding(
    places: &mut Places<u64>,
    newcomer: &str,
    standing: impl FnMut(&u64) -> Standing,
) -> Option<u64> {
    places
        .yielding(source(newcomer), standing)
        .map(|(_, holder)| holder)
}

const IDLE: Standing = Standing::Waiting(Duration::from_secs(6));
const SLOW: Standing = Standing::Progressing(10);
const FAST: Standing = Standing::Progressing(1_000_000);

#[test]
fn silent_strangers_give_way_to_all_prefixes_oldest_first() {
    let mut places = full(&[("192.0.2.66", 10), ("198.51.100.1", 2)]);
    for newcomer in ["203.0.113.1", "192.0.2.1", "2001:db8::1"] {
        let given = yielding(&mut places, newcomer, |_| Standing::Unproven);
        assert_eq!(given, Some(0), "{newcomer}");
    }
    assert!(places.remove(source("192.0.2.66"), 0));
    let given = yielding(&mut places, "203.0.113.1", |_| Standing::Unproven);
    assert_eq!(given, Some(1));
}

#[test]
fn clients_of_one_address_do_not_displace_each_other_before_their_time_is_over() {
    let mut places = full(&[("192.0.2.66", 10)]);
    for standing in [
        Standing::Unproven,
        Standing::Waiting(Duration::from_millis(900)),
        SLOW,
        FAST,
    ] {
        assert_eq!(yielding(&mut places, "192.0.2.66", |_| standing), None);
    }
    assert!(yielding(&mut places, "192.0.2.66", |_| Standing::Overdue).is_some());
    assert!(yielding(&mut places, "192.0.2.66", |_| IDLE).is_some());
}

#[test]
fn silent_strangers_of_many_prefixes_give_way_before_a_crowd_of_one_that_boots() {
    let many: Vec<String> = (0..50).map(|net| format!("10.1.{net}.1")).collect();
    let mut holders = vec![("192.0.2.1", 500)];
    holders.extend(many.iter().map(|address| (address.as_str(), 1)));
    let mut places = full(&holders);
    let standing = |id: &u64| if *id < 500 { FAST } else { Standing::Overdue };
    for newcomer in ["192.0.2.1", "203.0.113.1"] {
        // All are looked at in turn.
        let given: Vec<_> = (0..10)
            .filter_map(|_| yielding(&mut places, newcomer, standing))
            .collect();
        assert!(!given.is_empty() && given.iter().all(|id| *id >= 500 || newcomer != "192.0.2.1"));
    }
}

#[test]
fn silent_strangers_of_many_prefixes_that_hold_little_each_give_way_to_one_that_holds_less() {
    let many: Vec<String> = (0..64).map(|net| format!("10.1.{net}.1")).collect();
    let holders: Vec<_> = many.iter().map(|address| (address.as_str(), 20)).collect();
    let mut places = full(&holders);
    let newcomer = source("203.0.113.1");
    for standing in [
        Standing::Unproven,
        Standing::Waiting(Duration::from_millis(900)),
    ] {
        let (yields, id) = places.yielding(newcomer, |_| standing).expect("one yields");
        assert!(places.remove(yields, id));
        places.insert(newcomer, 2_000 + id);
    }
    // Machines that boot together take turns with a part of their number.
    let machines: Vec<String> = (0..64).map(|net| format!("10.1.{net}.1")).collect();
    let holders: Vec<_> = machines
        .iter()
        .map(|address| (address.as_str(), 7))
        .collect();
    let mut places = full(&holders);
    assert_eq!(
        yielding(&mut places, "203.0.113.1", |_| Standing::Unproven),
        None
    );
}

#[test]
fn prefixes_that_hold_little_more_than_their_share_and_ask_often_give_way() {
    let many: Vec<String> = (0..19).map(|net| format!("10.1.{net}.1")).collect();
    let holders: Vec<_> = many.iter().map(|address| (address.as_str(), 7)).collect();
    let mut places = full(&holders);
    for standing in [Standing::Waiting(Duration::from_secs(1)), FAST] {
        let mut held = 0;
        while let Some((source, id)) = places.yielding(source("203.0.113.1"), |_| standing) {
            assert!(places.remove(source, id));
            held += 1;
            places.insert(
                "203.0.113.1".parse::<IpAddr>().map(Source::from).unwrap(),
                1_000 + held,
            );
        }
        assert!(held >= 3 || standing == FAST, "{held}");
    }
}

#[test]
fn one_that_waits_gives_way_before_one_that_makes_progress() {
    let mut places = full(&[("192.0.2.1", 5), ("198.51.100.1", 5)]);
    let standing = |id: &u64| if *id == 7 { IDLE } else { FAST };
    assert_eq!(yielding(&mut places, "192.0.2.1", standing), Some(7));
}

#[test]
fn the_slowest_of_a_prefix_beyond_its_share_gives_way_to_one_below_half_of_its_own() {
    let mut places = full(&[("192.0.2.66", 60), ("198.51.100.1", 4)]);
    let standing = |id: &u64| match id {
        40 => SLOW,
        _ => FAST,
    };
    assert_eq!(yielding(&mut places, "198.51.100.1", standing), Some(40));
    assert_eq!(yielding(&mut places, "203.0.113.1", standing), Some(40));
    let mut fair = full(&[("192.0.2.66", 60), ("198.51.100.1", 40)]);
    assert_eq!(yielding(&mut fair, "198.51.100.1", standing), None);
}

#[test]
fn a_holder_that_has_left_is_never_named() {
    let mut places = full(&[("192.0.2.66", 100)]);
    for id in 0..99 {
        assert!(places.remove(source("192.0.2.66"), id));
        assert!(!places.remove(source("192.0.2.66"), id));
    }
    assert_eq!(places.len(), 1);
    let given = yielding(&mut places, "203.0.113.1", |_| Standing::Overdue);
    assert_eq!(given, Some(99));
}

proptest! {
    /// Whatever happens, the counts are right, and one that has a place is named or none.
    #[test]
    fn counts_follow_what_happens(steps in prop::collection::vec((0..4_u8, 0..6_u8, 0..40_u64, 0..4_u8), 0..300)) {
        let mut places = Places::new(10);
        let mut held: BTreeMap<(u8, u64), Source> = BTreeMap::new();
        for (what, address, id, standing) in steps {
            let source = Source::from(IpAddr::from([192, 0, address % 3, address]));
            // Ids are unique for an address, as those of connections are.
            let id = id * 10 + u64::from(address);
            match what {
                0 | 1 => {
                    places.insert(source, id);
                    held.insert((address, id), source);
                }
                2 => {
                    let had = held.remove(&(address, id)).is_some();
                    prop_assert_eq!(places.remove(source, id), had);
                }
                _ => {
                    let standing = match standing {
                        0 => Standing::Overdue,
                        1 => Standing::Unproven,
                        2 => IDLE,
                        _ => FAST,
                    };
                    let given = places.yielding(source, |holder| {
                        assert!(held.keys().any(|(_, id)| id == holder), "it left");
                        standing
                    });
                    if matches!(standing, Standing::Overdue) {
                        prop_assert_eq!(given.is_some(), !held.is_empty());
                    }
                    if let Some((source, holder)) = given {
                        prop_assert!(held.iter().any(|((_, id), of)| *id == holder && *of == source));
                    }
                }
            }
            prop_assert_eq!(places.len(), held.len());
            let most = held.values().map(|source| source.prefix()).fold(
                BTreeMap::<u128, usize>::new(),
                |mut counts, prefix| {
                    *counts.entry(prefix).or_default() += 1;
                    counts
                },
            );
            let largest = places.largest().map(|(source, _)| most[&source.prefix()]);
            prop_assert_eq!(largest, most.values().max().copied());
        }
    }
}
