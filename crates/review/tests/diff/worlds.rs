//! Worlds and machines of small domains, so that nearly everything collides.

use std::collections::BTreeMap;

use boot::ObjectKey;
use proptest::prelude::*;

use super::model::{self, RawAssignment, RawProfile, RawSubject, World};

fn key() -> impl Strategy<Value = ObjectKey> {
    let partition = prop_oneof![5 => Just(""), 1 => Just("east")];
    (prop::sample::select(&["n1", "n2"][..]), prop::sample::select(&["a", "b", "c", "d", "e"][..]), partition)
        .prop_map(|(ns, name, partition)| ObjectKey::new(ns, name).in_partition(partition))
}

fn created() -> impl Strategy<Value = Option<i64>> {
    prop::sample::select(vec![None, Some(1), Some(1), Some(2)])
}

fn value() -> impl Strategy<Value = String> {
    prop::sample::select(&["r0", "r1", "r2"][..]).prop_map(str::to_owned)
}

fn pair() -> impl Strategy<Value = (String, String)> {
    let key = prop::sample::select(&["rack", "row", "region"][..]).prop_map(str::to_owned);
    let arch = prop::sample::select(&["x86_64", "amd64", "arm64", "aarch64"][..]).prop_map(str::to_owned);
    prop_oneof![4 => (key, value()), 1 => arch.prop_map(|arch| ("buildarch".to_owned(), arch))]
}

fn expression() -> impl Strategy<Value = model::Expression> {
    let operator = prop::sample::select(&["In", "In", "NotIn", "Exists", "DoesNotExist"][..]);
    let values = prop::collection::vec(value(), 0..3);
    (pair(), operator, values).prop_map(|((key, value), operator, mut values)| {
        if key == "buildarch" {
            values = vec![value];
        }
        model::Expression { key, operator, values }
    })
}

fn profile_label() -> impl Strategy<Value = (String, String)> {
    let prefixed = (prop::sample::select(&["assignment/ipxe-", "assignment/extrinsic-"][..]), pair())
        .prop_map(|(prefix, (k, v))| (format!("{prefix}{k}"), v));
    prop_oneof![2 => prefixed, 1 => Just(("tier".to_owned(), "gold".to_owned()))]
}

fn assignment() -> impl Strategy<Value = RawAssignment> {
    let few = |names: &'static [&'static str]| {
        let listed = prop::collection::vec(prop::sample::select(names).prop_map(str::to_owned), 1..3);
        prop_oneof![2 => Just(Vec::new()), 1 => listed]
    };
    let identities = (few(&model::UUIDS), few(&model::SERIALS), few(&model::MACS));
    let labels = (prop::collection::btree_map(Just("rack".to_owned()), value(), 0..2), prop::collection::vec(expression(), 0..3));
    let profiles = prop_oneof![
        1 => prop::collection::btree_map(Just("tier".to_owned()), Just("gold".to_owned()), 0..2),
        1 => profile_label().prop_map(|label| BTreeMap::from([label]))
    ];
    (key(), created(), identities, labels, (profiles, 0..3_i32)).prop_map(
        |(key, created, (uuids, serials, macs), (match_labels, expressions), (profiles, priority))| RawAssignment {
            key,
            created,
            uuids,
            serials,
            macs,
            match_labels,
            expressions,
            profiles,
            priority,
        },
    )
}

fn profile() -> impl Strategy<Value = RawProfile> {
    let labels = prop::collection::vec(profile_label(), 0..3).prop_map(|labels| labels.into_iter().collect());
    (key(), created(), labels).prop_map(|(key, created, labels)| RawProfile { key, created, labels })
}

/// A change of one thing, as a person makes it.
#[derive(Clone, Debug)]
enum Edit {
    Put(RawAssignment),
    Drop(ObjectKey),
    Priority(ObjectKey, i32),
    Profiles(ObjectKey, BTreeMap<String, String>),
    PutProfile(RawProfile),
    DropProfile(ObjectKey),
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        2 => assignment().prop_map(Edit::Put),
        1 => key().prop_map(Edit::Drop),
        3 => (key(), 0..3_i32).prop_map(|(key, priority)| Edit::Priority(key, priority)),
        1 => (key(), profile_label()).prop_map(|(key, label)| Edit::Profiles(key, BTreeMap::from([label]))),
        2 => profile().prop_map(Edit::PutProfile),
        1 => key().prop_map(Edit::DropProfile),
    ]
}

impl Edit {
    fn apply(self, world: &mut World) {
        match self {
            Self::Put(raw) => drop(world.assignments.insert(raw.key.clone(), raw)),
            Self::Drop(key) => drop(world.assignments.remove(&key)),
            Self::Priority(key, priority) => {
                if let Some(raw) = world.assignments.get_mut(&key) {
                    raw.priority = priority;
                }
            }
            Self::Profiles(key, profiles) => {
                if let Some(raw) = world.assignments.get_mut(&key) {
                    raw.profiles = profiles;
                }
            }
            Self::PutProfile(raw) => drop(world.profiles.insert(raw.key.clone(), raw)),
            Self::DropProfile(key) => drop(world.profiles.remove(&key)),
        }
    }
}

/// A world, and what it becomes.
pub(super) fn two() -> impl Strategy<Value = (World, World)> {
    let assignments = prop::collection::vec(assignment(), 0..10);
    let profiles = prop::collection::vec(profile(), 0..8);
    (assignments, profiles, prop::collection::vec(edit(), 0..6)).prop_map(|(assignments, profiles, edits)| {
        let mut old = World::default();
        assignments.into_iter().for_each(|raw| drop(old.assignments.insert(raw.key.clone(), raw)));
        profiles.into_iter().for_each(|raw| drop(old.profiles.insert(raw.key.clone(), raw)));
        let mut new = old.clone();
        edits.into_iter().for_each(|edit| edit.apply(&mut new));
        (old, new)
    })
}

/// Machines that say one thing, or two.
pub(super) fn plain() -> Vec<RawSubject> {
    let one = |names: &[&str]| -> Vec<Option<String>> {
        let named = names.iter().map(|name| Some((*name).to_owned()));
        std::iter::once(None).chain(named).collect()
    };
    let mut all = Vec::new();
    for uuid in one(&model::PRESENTED_UUIDS) {
        for serial in one(&model::PRESENTED_SERIALS[..3]) {
            for mac in one(&model::PRESENTED_MACS[..2]) {
                let (uuid, serial) = (uuid.clone(), serial.clone());
                all.push(RawSubject { uuid, serial, mac, labels: BTreeMap::new(), extrinsic: BTreeMap::new() });
            }
        }
    }
    all
}

pub(super) fn subject() -> impl Strategy<Value = RawSubject> {
    let one = |names: &'static [&'static str]| prop::option::weighted(0.6, prop::sample::select(names).prop_map(str::to_owned));
    let labels = prop::collection::vec(pair(), 0..4).prop_map(|labels| labels.into_iter().collect());
    let extrinsic = prop::collection::btree_map(prop::sample::select(&["region", "rack"][..]).prop_map(str::to_owned), value(), 0..2);
    (one(&model::PRESENTED_UUIDS), one(&model::PRESENTED_SERIALS), one(&model::PRESENTED_MACS), labels, extrinsic)
        .prop_map(|(uuid, serial, mac, labels, extrinsic)| RawSubject { uuid, serial, mac, labels, extrinsic })
}
