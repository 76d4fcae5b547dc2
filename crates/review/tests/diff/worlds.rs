//! Generates pairs of worlds, and machines that present few labels.

use std::collections::BTreeMap;

use boot::ObjectKey;
use proptest::prelude::*;

use super::generators::{self, key, profile, profile_label};
use super::model::{self, Expression, RawAssignment, RawProfile, RawSubject, World};

/// A single change, such as a person makes.
#[derive(Clone, Debug)]
enum Edit {
    Put(RawAssignment),
    Drop(ObjectKey),
    Priority(ObjectKey, i32),
    /// Names only this machine, or none any more.
    Name(ObjectKey, Option<&'static str>),
    Profiles(ObjectKey, BTreeMap<String, String>),
    PutProfile(RawProfile),
    DropProfile(ObjectKey),
}

fn edit(expression: impl Strategy<Value = Expression>) -> impl Strategy<Value = Edit> {
    prop_oneof![
        2 => generators::assignment(expression).prop_map(Edit::Put),
        1 => key().prop_map(Edit::Drop),
        3 => (key(), 0..3_i32).prop_map(|(key, priority)| Edit::Priority(key, priority)),
        2 => (key(), prop::option::of(prop::sample::select(&model::UUIDS[..]))).prop_map(|(key, uuid)| Edit::Name(key, uuid)),
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
            Self::Name(key, uuid) => {
                if let Some(raw) = world.assignments.get_mut(&key) {
                    (raw.serials, raw.macs) = (Vec::new(), Vec::new());
                    raw.uuids = uuid.into_iter().map(str::to_owned).collect();
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

/// Generates a requirement on an identity, as if it were an ordinary label.
fn of_an_identity() -> impl Strategy<Value = Expression> {
    let one = prop::sample::select(vec![
        ("uuid", vec![model::UUIDS[0], model::UUIDS[2]]),
        ("serial", vec!["S1", "S2", "S3"]),
        ("mac", vec![model::MACS[0], model::MACS[1]]),
    ]);
    let operator = prop::sample::select(&["In", "NotIn", "Exists", "DoesNotExist"][..]);
    (one, operator).prop_flat_map(|((key, values), operator)| {
        prop::sample::subsequence(values.clone(), 1..=values.len()).prop_map(move |values| {
            Expression {
                key: key.to_owned(),
                operator,
                values: values.into_iter().map(str::to_owned).collect(),
            }
        })
    })
}

/// Generates a world and its changed version.
pub(super) fn two() -> impl Strategy<Value = (World, World)> {
    two_of(generators::expression)
}

/// Like [`two`], with selectors that match identities as labels, too.
pub(super) fn two_by_labels() -> impl Strategy<Value = (World, World)> {
    two_of(|| prop_oneof![1 => generators::expression(), 3 => of_an_identity()])
}

fn two_of<S: Strategy<Value = Expression>>(
    expression: impl Fn() -> S,
) -> impl Strategy<Value = (World, World)> {
    let assignments = prop::collection::vec(generators::assignment(expression()), 0..10);
    let profiles = prop::collection::vec(profile(), 0..8);
    (
        assignments,
        profiles,
        prop::collection::vec(edit(expression()), 0..6),
    )
        .prop_map(|(assignments, profiles, edits)| {
            let mut old = World::default();
            assignments
                .into_iter()
                .for_each(|raw| drop(old.assignments.insert(raw.key.clone(), raw)));
            profiles
                .into_iter()
                .for_each(|raw| drop(old.profiles.insert(raw.key.clone(), raw)));
            let mut new = old.clone();
            edits.into_iter().for_each(|edit| edit.apply(&mut new));
            (old, new)
        })
}

/// Returns machines with every combination of some identities, and no labels.
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
                all.push(RawSubject {
                    uuid,
                    serial,
                    mac,
                    labels: BTreeMap::new(),
                    extrinsic: BTreeMap::new(),
                });
            }
        }
    }
    all
}
