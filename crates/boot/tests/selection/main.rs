//! Compares selection with a slow, obvious model that filters and sorts a list of all objects,
//! clause by clause.

mod agreement;
#[allow(dead_code, reason = "other tests use more of it")]
mod generators;
mod invalid_objects;
mod model;
mod rule;

use std::sync::Arc;

use boot::{Catalog, Change, ObjectKey, ObjectRef};
use proptest::prelude::*;

use agreement::{assert_agrees, step};
use generators::subject;
use model::{RawAssignment, RawProfile, World};

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn selection_matches_the_model_after_any_changes(
        before in prop::collection::vec(step(), 0..25),
        after in prop::collection::vec(step(), 0..25),
        subjects in prop::collection::vec(subject(), 1..8),
    ) {
        let (mut catalog, mut world) = (Catalog::new(), World::default());
        before.iter().for_each(|step| step.apply(&mut catalog, &mut world));
        let (snapshot, snapshot_world) = (catalog.clone(), world.clone());
        after.iter().for_each(|step| step.apply(&mut catalog, &mut world));
        for subject in &subjects {
            assert_agrees(&catalog, &world, subject);
            // A reader that loaded the catalog earlier still gets the answers of then.
            assert_agrees(&snapshot, &snapshot_world, subject);
        }

        // The same objects, inserted in order of name instead of history.
        let mut sorted = Catalog::new();
        for raw in world.profiles.values() {
            sorted.apply(Change::Profile(Arc::new(raw.build())));
        }
        for raw in world.assignments.values() {
            sorted.apply(Change::Assignment(Arc::new(raw.build())));
        }
        for rejected in world.faults.values() {
            sorted.apply(Change::Rejected(Arc::new(rejected.clone())));
        }
        subjects.iter().for_each(|subject| assert_agrees(&sorted, &world, subject));
        let mut names: Vec<_> = catalog.names().collect();
        names.sort();
        let mut expected: Vec<_> = world.assignments.keys().cloned().map(ObjectRef::Assignment).collect();
        expected.extend(world.profiles.keys().cloned().map(ObjectRef::Profile));
        expected.extend(world.faults.keys().cloned());
        expected.sort();
        expected.dedup();
        prop_assert_eq!(names, expected);
        prop_assert_eq!(catalog.rejected_count(), world.faults.len());
        prop_assert_eq!(sorted.index_size(), catalog.index_size());

        for name in world.faults.keys() {
            catalog.apply(name.clone().deletion());
        }
        for key in world.assignments.keys() {
            catalog.apply(Change::AssignmentDeleted(key.clone()));
        }
        for key in world.profiles.keys() {
            catalog.apply(Change::ProfileDeleted(key.clone()));
        }
        prop_assert_eq!((catalog.assignment_count(), catalog.profile_count(), catalog.index_size()), (0, 0, 0));
    }
}

/// Few enough for a debug build to take seconds. `PROPTEST_CASES` overrides it.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(400)
}

const UUID: &str = "00112233-4455-6677-8899-aabbccddeeff";

fn named(name: &str) -> RawAssignment {
    RawAssignment {
        key: ObjectKey::new("ns", name),
        ..RawAssignment::default()
    }
}

fn for_uuid(name: &str) -> RawAssignment {
    RawAssignment {
        uuids: vec![UUID.into()],
        ..named(name)
    }
}

fn labelled(name: &str, labels: &[(&str, &str)]) -> RawProfile {
    let labels = labels
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    RawProfile {
        key: ObjectKey::new("ns", name),
        created: Some(1),
        labels,
    }
}

fn wanting(name: &str, labels: &[(&str, &str)]) -> RawAssignment {
    RawAssignment {
        profiles: labelled("", labels).labels,
        ..named(name)
    }
}

fn catalog(assignments: &[RawAssignment], profiles: &[RawProfile]) -> Catalog {
    let mut catalog = Catalog::new();
    for raw in assignments {
        assert!(catalog.apply(Change::Assignment(Arc::new(raw.build()))));
    }
    for raw in profiles {
        assert!(catalog.apply(Change::Profile(Arc::new(raw.build()))));
    }
    catalog
}

fn from_query(query: &str) -> boot::Subject {
    let extrinsic = boot::ExtrinsicLabels::new([("region", "us-cal")]).unwrap();
    boot::Subject::from_query(query, &extrinsic).unwrap()
}
