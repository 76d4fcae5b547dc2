//! Pairs of worlds, and the machines that say little.

use std::collections::BTreeMap;

use boot::ObjectKey;
use proptest::prelude::*;

use super::generators::{self, key, profile, profile_label};
use super::model::{self, RawAssignment, RawProfile, RawSubject, World};

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
        2 => generators::assignment(generators::expression()).prop_map(Edit::Put),
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
    let assignments = prop::collection::vec(generators::assignment(generators::expression()), 0..10);
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
