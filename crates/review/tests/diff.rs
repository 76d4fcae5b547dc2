//! Compares `Diff` with the model of selection: it must list every machine whose boot changes.

#[path = "../../boot/tests/selection/generators.rs"]
#[allow(dead_code, reason = "other tests want more of it")]
mod generators;
#[path = "../../boot/tests/selection/model.rs"]
#[allow(dead_code, reason = "other tests ask the model for more")]
mod model;
#[path = "diff/worlds.rs"]
mod worlds;

use std::collections::BTreeMap;
use std::sync::Arc;

use boot::{Catalog, Change, NotSelected, ObjectKey, Subject};
use model::{RawAssignment, RawProfile, RawSubject, World};
use proptest::prelude::*;
use review::Diff;

fn catalog(world: &World) -> Catalog {
    let mut catalog = Catalog::new();
    for raw in world.profiles.values() {
        catalog.apply(Change::Profile(Arc::new(raw.build())));
    }
    for raw in world.assignments.values() {
        catalog.apply(Change::Assignment(Arc::new(raw.build())));
    }
    catalog
}

/// Returns the Assignment and the Profile that a machine gets according to the model.
fn boots(world: &World, subject: &RawSubject) -> (Option<ObjectKey>, Option<ObjectKey>) {
    let Some(winner) = world.matching(subject).into_iter().next() else {
        return (None, None);
    };
    let profile = world
        .profiles_for(winner.assignment, subject)
        .into_iter()
        .next();
    (Some(winner.assignment.key.clone()), profile)
}

fn assignment(name: &str, priority: i32) -> RawAssignment {
    RawAssignment {
        key: ObjectKey::new("n1", name),
        created: None,
        uuids: Vec::new(),
        serials: Vec::new(),
        macs: Vec::new(),
        match_labels: BTreeMap::new(),
        expressions: Vec::new(),
        profiles: BTreeMap::new(),
        priority,
    }
}

fn world(
    assignments: impl IntoIterator<Item = RawAssignment>,
    profiles: impl IntoIterator<Item = RawProfile>,
) -> World {
    let assignments = assignments
        .into_iter()
        .map(|raw| (raw.key.clone(), raw))
        .collect();
    World {
        assignments,
        profiles: profiles
            .into_iter()
            .map(|raw| (raw.key.clone(), raw))
            .collect(),
        ..World::default()
    }
}

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

#[test]
fn an_identity_pair_is_reported_when_one_identity_covers_only_some_machines() {
    let by_serial = RawAssignment {
        serials: vec!["S1".to_owned()],
        profiles: labels(&[("tier", "gold")]),
        ..assignment("a", 0)
    };
    let by_mac = |priority| RawAssignment {
        macs: vec![model::MACS[0].to_owned()],
        ..assignment("c", priority)
    };
    let profile = RawProfile {
        key: ObjectKey::new("n1", "a"),
        created: None,
        labels: labels(&[("assignment/extrinsic-rack", "r0")]),
    };
    let (old, new) = (
        world([by_serial.clone(), by_mac(1)], []),
        world([by_serial, by_mac(0)], [profile]),
    );
    let diff = Diff::between(&catalog(&old), &catalog(&new), None);
    let in_rack = |serial: Option<&str>, rack| RawSubject {
        uuid: None,
        serial: serial.map(str::to_owned),
        mac: Some(model::MACS[0].to_owned()),
        labels: BTreeMap::new(),
        extrinsic: labels(&[("rack", rack)]),
    };
    // By its MAC alone, a machine gets a Profile in r0 and none in r1, as before; with the serial
    // number, it moves from c to a in both.
    for (machine, is_other) in [
        (in_rack(None, "r0"), true),
        (in_rack(None, "r1"), false),
        (in_rack(Some("S1"), "r0"), true),
        (in_rack(Some("S1"), "r1"), true),
    ] {
        assert_eq!(
            diff.covers(&machine.build()),
            is_other,
            "{machine:?} {:#?}",
            diff.groups()
        );
    }
    let twice = diff
        .groups()
        .iter()
        .map(|group| group.by_identity_pairs)
        .sum::<usize>();
    assert_eq!(twice, 1, "in r0, the MAC tells it: {:#?}", diff.groups());
}

/// Returns the same from the catalog, which distinguishes identities from other labels.
fn selected(catalog: &Catalog, subject: &Subject) -> (Option<ObjectKey>, Option<ObjectKey>) {
    match catalog.select(subject) {
        Ok(selection) => (
            Some(selection.assignment.key.clone()),
            Some(selection.profile.key.clone()),
        ),
        Err(NotSelected::NoAssignment) => (None, None),
        Err(
            NotSelected::NoProfile { assignment, .. } | NotSelected::NotAccepted { assignment, .. },
        ) => (Some(assignment.key.clone()), None),
    }
}

#[test]
fn an_identity_pair_is_reported_when_a_default_starts_to_name_machines() {
    let named = |name, uuid: usize| RawAssignment {
        uuids: vec![model::UUIDS[uuid].to_owned()],
        ..assignment(name, 0)
    };
    let by_mac = RawAssignment {
        macs: vec![model::MACS[0].to_owned()],
        ..assignment("a", 0)
    };
    let old = world([by_mac.clone(), assignment("d", 0)], []);
    // The two differ only in where d was before: its machine keeps it, and that of e gets another.
    let new = world([by_mac, named("d", 0), named("e", 2)], []);
    let machine = |uuid: Option<usize>, is_mac: bool| RawSubject {
        uuid: uuid.map(|uuid| model::UUIDS[uuid].to_owned()),
        serial: None,
        mac: is_mac.then(|| model::MACS[0].to_owned()),
        labels: BTreeMap::new(),
        extrinsic: BTreeMap::new(),
    };
    for (old, new) in [(&old, &new), (&new, &old)] {
        let diff = Diff::between(&catalog(old), &catalog(new), None);
        for (uuid, is_mac, is_other) in [
            (Some(0), false, false),
            (Some(2), false, true),
            (None, true, false),
            (Some(0), true, true),
        ] {
            let machine = machine(uuid, is_mac);
            assert_eq!(boots(old, &machine) != boots(new, &machine), is_other);
            let told = diff
                .groups()
                .iter()
                .flat_map(|group| &group.examples)
                .any(|example| example.query == machine.build().to_query());
            assert_eq!(told, is_other, "{machine:?} {:#?}", diff.groups());
        }
        assert!(diff.covers(&machine(Some(0), true).build()));
    }
}

fn cases() -> u32 {
    std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(250)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_machine_that_boots_differently_is_covered(
        (old, new) in worlds::two(),
        subjects in prop::collection::vec(generators::subject(), 1..40),
    ) {
        let (a, b) = (catalog(&old), catalog(&new));
        let diff = Diff::between(&a, &b, None);
        for raw in subjects.iter().chain(&worlds::plain()) {
            if boots(&old, raw) != boots(&new, raw) {
                let (before, after) = (boots(&old, raw), boots(&new, raw));
                prop_assert!(diff.covers(&raw.build()), "{raw:?}\nbefore {before:?}\nafter {after:?}\n{:#?}", diff.groups());
            }
        }
    }

    #[test]
    fn every_changed_machine_is_covered_when_selectors_match_identities_as_labels(
        (old, new) in worlds::two_by_labels(),
        subjects in prop::collection::vec(generators::subject(), 1..40),
    ) {
        let (a, b) = (catalog(&old), catalog(&new));
        let diff = Diff::between(&a, &b, None);
        // As a label, a serial number surrounded by spaces is a different value, which the diff
        // does not examine.
        let is_plain = |raw: &&RawSubject| raw.serial.as_ref().is_none_or(|serial| serial.trim() == serial);
        for raw in subjects.iter().chain(&worlds::plain()).filter(is_plain) {
            let subject = raw.build();
            let (before, after) = (selected(&a, &subject), selected(&b, &subject));
            let is_told = before == after || diff.covers(&subject);
            prop_assert!(is_told, "{raw:?}\nbefore {before:?}\nafter {after:?}\n{:#?}", diff.groups());
        }
    }

    #[test]
    fn each_example_boots_differently((old, new) in worlds::two()) {
        let (a, b) = (catalog(&old), catalog(&new));
        let diff = Diff::between(&a, &b, None);
        for example in diff.groups().iter().flat_map(|group| &group.examples) {
            let extrinsic = boot::ExtrinsicLabels::new(&example.extrinsic).unwrap();
            let subject = boot::Subject::from_query(&example.query, &extrinsic).unwrap();
            let of = |catalog: &Catalog| catalog.select(&subject).ok().map(|s| (s.assignment.key.clone(), s.profile.key.clone()));
            prop_assert!(diff.covers(&subject), "{example:?}");
            let is_same = of(&a) == of(&b) && example.old == example.new;
            prop_assert!(!is_same, "{example:?}");
        }
        prop_assert_eq!(diff.unexplored(), 0);
    }

    #[test]
    fn rejected_objects_do_not_affect_a_diff((old, new) in worlds::two(), (wrong, _) in worlds::two()) {
        let (mut a, mut b) = (catalog(&old), catalog(&new));
        let expected = format!("{:?}", Diff::between(&a, &b, None).groups());
        for raw in wrong.assignments.values() {
            let key = boot::ObjectKey::new("wrong", raw.key.name.clone());
            let partial = boot::Partial::Assignment(Arc::new(boot::Assignment { key, ..raw.build() }));
            let rejected = Change::Rejected(Arc::new(boot::Rejected { partial, fault: "wrong".into() }));
            a.apply(rejected.clone());
            b.apply(rejected);
        }
        prop_assert_eq!(format!("{:?}", Diff::between(&a, &b, None).groups()), expected);
    }

    #[test]
    fn a_catalog_does_not_differ_from_itself((old, _) in worlds::two()) {
        prop_assert!(Diff::between(&catalog(&old), &catalog(&old), None).is_empty());
    }

    #[test]
    fn a_diff_is_empty_in_both_directions_or_neither((old, new) in worlds::two()) {
        let (a, b) = (catalog(&old), catalog(&new));
        prop_assert_eq!(Diff::between(&a, &b, None).is_empty(), Diff::between(&b, &a, None).is_empty());
    }
}
