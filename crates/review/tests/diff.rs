//! What a diff says, against the model of selection: no machine that boots otherwise is missing from it.

#[path = "../../boot/tests/selection/generators.rs"]
#[allow(dead_code, reason = "other tests want more of it")]
mod generators;
#[path = "../../boot/tests/selection/model.rs"]
#[allow(dead_code, reason = "other tests ask the model for more")]
mod model;
#[path = "diff/worlds.rs"]
mod worlds;

use std::sync::Arc;

use boot::{Catalog, Change, ObjectKey};
use model::{RawSubject, World};
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

/// The Assignment and the Profile that a machine gets, by the words of the rule.
fn boots(world: &World, subject: &RawSubject) -> (Option<ObjectKey>, Option<ObjectKey>) {
    let Some(winner) = world.matching(subject).into_iter().next() else { return (None, None) };
    let profile = world.profiles_for(winner.assignment, subject).into_iter().next();
    (Some(winner.assignment.key.clone()), profile)
}

fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(250)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_machine_that_boots_otherwise_is_never_missing(
        (old, new) in worlds::two(),
        subjects in prop::collection::vec(generators::subject(), 1..40),
    ) {
        let (a, b) = (catalog(&old), catalog(&new));
        let diff = Diff::between(&a, &b, None);
        for raw in subjects.iter().chain(&worlds::plain()) {
            if boots(&old, raw) != boots(&new, raw) {
                let (before, after) = (boots(&old, raw), boots(&new, raw));
                prop_assert!(diff.speaks_of(&raw.build()), "{raw:?}\nbefore {before:?}\nafter {after:?}\n{:#?}", diff.groups());
            }
        }
    }

    #[test]
    fn each_example_boots_otherwise((old, new) in worlds::two()) {
        let (a, b) = (catalog(&old), catalog(&new));
        let diff = Diff::between(&a, &b, None);
        for example in diff.groups().iter().flat_map(|group| &group.examples) {
            let extrinsic = boot::ExtrinsicLabels::new(&example.extrinsic).unwrap();
            let subject = boot::Subject::from_query(&example.query, &extrinsic).unwrap();
            let of = |catalog: &Catalog| catalog.select(&subject).ok().map(|s| (s.assignment.key.clone(), s.profile.key.clone()));
            prop_assert!(diff.speaks_of(&subject), "{example:?}");
            let is_same = of(&a) == of(&b) && example.old == example.new;
            prop_assert!(!is_same, "{example:?}");
        }
        prop_assert_eq!(diff.unexplored(), 0);
    }

    #[test]
    fn what_stands_in_for_an_object_that_is_wrong_changes_nothing_of_a_diff((old, new) in worlds::two(), (wrong, _) in worlds::two()) {
        let (mut a, mut b) = (catalog(&old), catalog(&new));
        let expected = format!("{:?}", Diff::between(&a, &b, None).groups());
        for raw in wrong.assignments.values() {
            let key = boot::ObjectKey::new("wrong", raw.key.name.clone());
            let claim = boot::Claim::Assignment(Arc::new(boot::Assignment { key, ..raw.build() }));
            let unaccepted = Change::Unaccepted(Arc::new(boot::Unaccepted { claim, fault: "wrong".into() }));
            a.apply(unaccepted.clone());
            b.apply(unaccepted);
        }
        prop_assert_eq!(format!("{:?}", Diff::between(&a, &b, None).groups()), expected);
    }

    #[test]
    fn a_catalog_does_not_differ_from_itself((old, _) in worlds::two()) {
        prop_assert!(Diff::between(&catalog(&old), &catalog(&old), None).is_empty());
    }

    #[test]
    fn what_differs_one_way_differs_the_other_way((old, new) in worlds::two()) {
        let (a, b) = (catalog(&old), catalog(&new));
        prop_assert_eq!(Diff::between(&a, &b, None).is_empty(), Diff::between(&b, &a, None).is_empty());
    }
}
