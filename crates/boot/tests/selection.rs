//! Compares selection with a slow, obvious model that filters and sorts a list of all objects,
//! clause by clause.

#[path = "selection/agreement.rs"]
mod agreement;
#[path = "selection/generators.rs"]
#[allow(dead_code, reason = "other tests want more of it")]
mod generators;
#[path = "selection/model.rs"]
mod model;

use std::collections::BTreeMap;
use std::sync::Arc;

use boot::selection::Outcome;
use boot::{Catalog, Change, Claim, ObjectKey, ObjectRef, Rejected};
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
            catalog.apply(name.clone().gone());
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

// === each clause of the rule ===

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

/// The Assignment and the Profile that a query gets, as text.
fn boots(catalog: &Catalog, query: &str) -> String {
    match catalog.select(&from_query(query)) {
        Ok(selection) => format!(
            "{} {}",
            selection.assignment.key.name, selection.profile.key.name
        ),
        Err(error) => error.to_string(),
    }
}

/// The Assignment that wins between two, in either order of insertion.
fn winner(a: RawAssignment, b: RawAssignment, query: &str) -> String {
    let profiles = [labelled("p", &[])];
    let one = boots(&catalog(&[a.clone(), b.clone()], &profiles), query);
    assert_eq!(one, boots(&catalog(&[b, a], &profiles), query));
    one.strip_suffix(" p").expect("it boots p").to_owned()
}

#[test]
fn any_identity_and_all_labels_must_match() {
    let raw = RawAssignment {
        uuids: vec![UUID.into()],
        serials: vec!["S1".into()],
        match_labels: BTreeMap::from([("rack".into(), "r1".into())]),
        ..named("a")
    };
    let catalog = catalog(&[raw], &[labelled("p", &[])]);
    assert_eq!(boots(&catalog, "serial=S1&rack=r1"), "a p");
    assert_eq!(boots(&catalog, &format!("uuid={UUID}&rack=r1")), "a p");
    for query in [
        format!("uuid={UUID}&rack=r2"),
        format!("uuid={UUID}"),
        "rack=r1".to_owned(),
        String::new(),
    ] {
        assert!(
            boots(&catalog, &query).starts_with("no Assignment matches"),
            "{query}"
        );
    }
}

#[test]
fn priority_outranks_identity() {
    let default = RawAssignment {
        priority: 1,
        ..named("default")
    };
    assert_eq!(
        winner(default, for_uuid("machine"), &format!("uuid={UUID}")),
        "default"
    );
}

#[test]
fn uuid_outranks_serial_then_mac_then_labels() {
    let query = format!("uuid={UUID}&serial=S1&mac=52:54:00:00:00:01&rack=r1&row=r2");
    let serial = RawAssignment {
        serials: vec!["S1".into()],
        ..named("b-serial")
    };
    let mac = RawAssignment {
        macs: vec!["52:54:00:00:00:01".into()],
        ..named("a-mac")
    };
    let labels = BTreeMap::from([
        ("rack".to_owned(), "r1".to_owned()),
        ("row".to_owned(), "r2".to_owned()),
    ]);
    let labels = RawAssignment {
        match_labels: labels,
        created: Some(1),
        ..named("a-labels")
    };
    assert_eq!(winner(for_uuid("c-uuid"), serial.clone(), &query), "c-uuid");
    assert_eq!(winner(serial, mac.clone(), &query), "b-serial");
    assert_eq!(winner(mac, labels, &query), "a-mac");
}

#[test]
fn the_exact_uuid_outranks_its_other_byte_order() {
    let swapped = RawAssignment {
        uuids: vec!["33221100-5544-7766-8899-aabbccddeeff".into()],
        created: Some(1),
        ..named("a-swapped")
    };
    assert_eq!(
        winner(
            for_uuid("b-exact"),
            swapped.clone(),
            &format!("uuid={UUID}")
        ),
        "b-exact"
    );
    assert_eq!(
        boots(
            &catalog(&[swapped], &[labelled("p", &[])]),
            &format!("uuid={UUID}")
        ),
        "a-swapped p"
    );
}

#[test]
fn ties_break_by_label_requirements_then_age_then_name() {
    let rack = BTreeMap::from([("rack".to_owned(), "r1".to_owned())]);
    let specific = RawAssignment {
        match_labels: rack,
        ..named("z")
    };
    assert_eq!(
        winner(
            specific,
            RawAssignment {
                created: Some(1),
                ..named("a")
            },
            "rack=r1"
        ),
        "z"
    );
    assert_eq!(
        winner(
            RawAssignment {
                created: Some(1),
                ..named("z")
            },
            RawAssignment {
                created: Some(2),
                ..named("a")
            },
            ""
        ),
        "z"
    );
    assert_eq!(
        winner(
            RawAssignment {
                created: Some(2),
                ..named("z")
            },
            named("a"),
            ""
        ),
        "z"
    );
    assert_eq!(winner(named("b"), named("a"), ""), "a");
}

#[test]
fn a_conflict_is_a_tie_broken_by_age_or_name() {
    let conflict = |a, b| match catalog(&[a, b], &[labelled("p", &[])])
        .explain(&from_query(&format!("uuid={UUID}")))
        .outcome
    {
        Outcome::Boots { conflict, .. } => conflict,
        other => panic!("{other:?}"),
    };
    assert!(conflict(for_uuid("a"), for_uuid("b")));
    assert!(conflict(
        RawAssignment {
            created: Some(1),
            ..for_uuid("a")
        },
        for_uuid("b")
    ));
    assert!(!conflict(
        RawAssignment {
            priority: 1,
            ..for_uuid("a")
        },
        for_uuid("b")
    ));
    assert!(!conflict(for_uuid("a"), named("b")));
}

#[test]
fn an_assignment_matching_twice_ranks_once_by_the_stronger_identity() {
    let raw = RawAssignment {
        macs: vec!["52:54:00:00:00:01".into()],
        ..for_uuid("a")
    };
    let explained =
        catalog(&[raw], &[]).explain(&from_query(&format!("uuid={UUID}&mac=525400000001")));
    assert_eq!(explained.candidates.len(), 1);
    assert_eq!(explained.candidates[0].matched_by, boot::MatchedBy::Uuid);
}

#[test]
fn a_placeholder_matches_label_selectors_only() {
    let nil = "00000000-0000-0000-0000-000000000000";
    let by_uuid = RawAssignment {
        uuids: vec![nil.into()],
        serials: vec!["None".into()],
        macs: vec!["000000000000".into()],
        ..named("a")
    };
    let catalog = catalog(&[by_uuid], &[labelled("p", &[])]);
    let query = format!("uuid={nil}&serial=None&mac=00:00:00:00:00:00");
    assert!(boots(&catalog, &query).starts_with("no Assignment matches"));
    assert_eq!(
        catalog.explain(&from_query(&query)).placeholders,
        ["uuid", "serial", "mac"]
    );
    let by_label = RawAssignment {
        match_labels: BTreeMap::from([("serial".into(), "None".into())]),
        ..named("b")
    };
    assert_eq!(winner(by_label, named("default"), &query), "b");
}

#[test]
fn a_winner_without_a_profile_never_falls_through() {
    let machine = RawAssignment {
        uuids: vec![UUID.into()],
        ..wanting("machine", &[("tier", "gould")])
    };
    let catalog = catalog(
        &[machine, named("default")],
        &[labelled("p", &[("tier", "gold")])],
    );
    assert_eq!(
        boots(&catalog, &format!("uuid={UUID}")),
        "Assignment ns/machine matches this machine, but no Profile in namespace ns has labels tier=gould; fix profileSelectors or label a Profile"
    );
    assert_eq!(boots(&catalog, ""), "default p");
}

#[test]
fn a_profile_in_another_namespace_is_not_selected() {
    let elsewhere = RawProfile {
        key: ObjectKey::new("other", "p"),
        ..labelled("p", &[])
    };
    assert!(
        boots(&catalog(&[named("a")], &[elsewhere]), "").contains("no Profile in namespace ns")
    );
}

#[test]
fn a_profile_in_another_partition_is_not_selected() {
    let in_partition = |partition: &str| {
        let profile = RawProfile {
            key: ObjectKey::new("ns", "p").in_partition(partition),
            ..labelled("p", &[("in", partition)])
        };
        let assignment = RawAssignment {
            key: ObjectKey::new("ns", "a").in_partition(partition),
            ..for_uuid("a")
        };
        (assignment, profile)
    };
    let ((_, elsewhere), (assignment, local)) = (in_partition("east"), in_partition("west"));
    let query = format!("uuid={UUID}");
    assert!(
        boots(
            &catalog(
                std::slice::from_ref(&assignment),
                std::slice::from_ref(&elsewhere)
            ),
            &query
        )
        .contains("no Profile in namespace ns")
    );
    let both = catalog(&[assignment], &[elsewhere, local]);
    assert_eq!(
        &*both
            .select(&from_query(&query))
            .unwrap()
            .profile
            .key
            .partition,
        "west"
    );
}

#[test]
fn equal_names_in_two_partitions_conflict_and_the_partition_decides() {
    let [east, west] = ["east", "west"].map(|partition| RawAssignment {
        key: ObjectKey::new("ns", "a").in_partition(partition),
        ..for_uuid("a")
    });
    let profiles = ["east", "west"].map(|partition| RawProfile {
        key: ObjectKey::new("ns", "p").in_partition(partition),
        ..labelled("p", &[])
    });
    for assignments in [[east.clone(), west.clone()], [west, east]] {
        let explained =
            catalog(&assignments, &profiles).explain(&from_query(&format!("uuid={UUID}")));
        assert!(
            matches!(&explained.outcome, Outcome::Boots { assignment, conflict: true, .. } if &*assignment.partition == "east")
        );
        assert_eq!(
            explained
                .candidates
                .iter()
                .map(|candidate| candidate.assignment.to_string())
                .collect::<Vec<_>>(),
            ["east:ns/a", "west:ns/a"]
        );
    }
}

#[test]
fn a_profile_that_contradicts_the_subject_is_dropped() {
    let arm = labelled("arm", &[("assignment/ipxe-buildarch", "aarch64")]);
    let any = labelled("any", &[]);
    let both = catalog(&[named("a")], &[arm.clone(), any]);
    assert_eq!(boots(&both, "buildarch=arm64"), "a arm");
    assert_eq!(boots(&both, "buildarch=x86_64"), "a any");
    assert_eq!(
        boots(&both, ""),
        "a any",
        "an absent label counts for nothing"
    );
    assert_eq!(
        boots(&catalog(&[named("a")], &[arm]), "buildarch=amd64"),
        "Assignment ns/a matches this machine, but none of the 1 Profiles that it selects fits: arm requires buildarch=arm64, but the machine has x86_64"
    );
}

#[test]
fn an_architecture_is_selected_by_any_of_its_names() {
    let profile = labelled("p", &[("assignment/ipxe-buildarch", "aarch64")]);
    let catalog = catalog(
        &[wanting("a", &[("assignment/ipxe-buildarch", "arm64")])],
        &[profile],
    );
    assert_eq!(boots(&catalog, "buildarch=aarch64"), "a p");
}

#[test]
fn extrinsic_labels_come_from_the_operator_and_intrinsic_ones_from_the_machine() {
    let here = labelled("here", &[("assignment/extrinsic-region", "us-cal")]);
    let claimed = labelled("claimed", &[("assignment/ipxe-region", "us-cal")]);
    let there = labelled("there", &[("assignment/extrinsic-region", "eu")]);
    let catalog = catalog(&[named("a")], &[there, claimed, here]);
    assert_eq!(boots(&catalog, "region=eu"), "a here");
}

#[test]
fn profiles_rank_by_fit_then_age_then_name() {
    let young = RawProfile {
        created: Some(2),
        ..labelled("a", &[])
    };
    let old = labelled("b", &[]);
    assert_eq!(
        boots(&catalog(&[named("x")], &[young.clone(), old.clone()]), ""),
        "x b"
    );
    assert_eq!(
        boots(
            &catalog(&[named("x")], &[labelled("c", &[]), old.clone()]),
            ""
        ),
        "x b"
    );
    let better = RawProfile {
        created: None,
        ..labelled("z", &[("assignment/ipxe-rack", "r1")])
    };
    assert_eq!(
        boots(&catalog(&[named("x")], &[young, old, better]), "rack=r1"),
        "x z"
    );
}

#[test]
fn an_empty_value_list_matches_nothing_and_leaves_the_index_clean() {
    let raw = |name, rack: &[&str]| RawAssignment {
        expressions: vec![model::Expression {
            key: "rack".into(),
            operator: "In",
            values: rack.iter().map(|v| (*v).to_owned()).collect(),
        }],
        ..named(name)
    };
    let mut catalog = catalog(
        &[raw("none", &[]), raw("one", &["r1"]), raw("no", &[])],
        &[labelled("p", &[])],
    );
    assert_eq!(boots(&catalog, "rack=r1"), "one p");
    assert!(catalog.apply(Change::AssignmentDeleted(ObjectKey::new("ns", "none"))));
    assert_eq!(boots(&catalog, "rack=r1"), "one p");
    for name in ["one", "no"] {
        assert!(catalog.apply(Change::AssignmentDeleted(ObjectKey::new("ns", name))));
    }
    assert!(catalog.apply(Change::ProfileDeleted(ObjectKey::new("ns", "p"))));
    assert_eq!(catalog.index_size(), 0);
}

#[test]
fn a_duplicate_config_id_serves_the_older_profile() {
    let id = UUID.parse().unwrap();
    let with_id = |name: &str, created| {
        let mut profile = RawProfile {
            created: Some(created),
            ..labelled(name, &[])
        }
        .build_with_config("config0");
        profile.ids.insert("config0".parse().unwrap(), id);
        profile.ids.insert("config1".parse().unwrap(), id);
        Change::Profile(Arc::new(profile))
    };
    for changes in [
        [with_id("old", 1), with_id("young", 2)],
        [with_id("young", 2), with_id("old", 1)],
    ] {
        let mut catalog = Catalog::new();
        changes
            .into_iter()
            .for_each(|change| assert!(catalog.apply(change)));
        let serves = |catalog: &Catalog| {
            catalog
                .config(id)
                .map(|(profile, name)| format!("{} {name}", profile.key.name))
        };
        assert_eq!(serves(&catalog).as_deref(), Some("old config0"));
        catalog.apply(Change::ProfileDeleted(ObjectKey::new("ns", "young")));
        assert_eq!(serves(&catalog).as_deref(), Some("old config0"));
        catalog.apply(Change::ProfileDeleted(ObjectKey::new("ns", "old")));
        assert_eq!((serves(&catalog), catalog.index_size()), (None, 0));
    }
}

// === invalid objects ===

fn invalid_assignment(raw: &RawAssignment) -> Change {
    Change::Rejected(Arc::new(Rejected {
        claim: Claim::Assignment(Arc::new(raw.build())),
        fault: "spec: wrong".into(),
    }))
}

fn invalid_profile(raw: &RawProfile) -> Change {
    Change::Rejected(Arc::new(Rejected {
        claim: Claim::Profile(Arc::new(raw.build_claim())),
        fault: "spec: wrong".into(),
    }))
}

/// The object that a machine waits for, or the Profile that it boots.
fn answer(catalog: &Catalog, query: &str) -> String {
    match catalog.select(&from_query(query)) {
        Ok(selection) => selection.profile.key.name.to_string(),
        Err(boot::NotSelected::NotAccepted { object, .. }) => format!("waits for {object}"),
        Err(error) => format!("{error:?}"),
    }
}

fn for_rack(name: &str, priority: i32) -> RawAssignment {
    let rack = BTreeMap::from([("rack".to_owned(), "7".to_owned())]);
    RawAssignment {
        match_labels: rack,
        priority,
        ..named(name)
    }
}

#[test]
fn the_last_valid_version_is_used_until_the_object_is_deleted() {
    let mut catalog = catalog(&[for_uuid("own"), named("default")], &[labelled("p", &[])]);
    assert!(catalog.apply(invalid_assignment(&RawAssignment {
        uuids: Vec::new(),
        priority: 9,
        ..for_uuid("own")
    })));
    let query = format!("uuid={UUID}");
    assert_eq!(
        catalog
            .select(&from_query(&query))
            .unwrap()
            .assignment
            .key
            .name
            .as_ref(),
        "own"
    );
    assert_eq!(
        catalog
            .select(&from_query(""))
            .unwrap()
            .assignment
            .key
            .name
            .as_ref(),
        "default"
    );
    assert!(
        catalog.explain(&from_query(&query)).candidates[0]
            .reason
            .contains("its last valid version is used, the newest is invalid: spec: wrong")
    );
    assert!(catalog.apply(Change::AssignmentDeleted(ObjectKey::new("ns", "own"))));
    assert_eq!(
        (
            catalog
                .select(&from_query(&query))
                .unwrap()
                .assignment
                .key
                .name
                .as_ref(),
            catalog.rejected_count()
        ),
        ("default", 0)
    );
}

#[test]
fn the_valid_version_of_a_deleted_namesake_is_not_used() {
    let mut catalog = catalog(
        &[RawAssignment {
            created: Some(1),
            ..for_uuid("own")
        }],
        &[labelled("p", &[])],
    );
    catalog.apply(invalid_assignment(&RawAssignment {
        created: Some(2),
        ..for_rack("own", 0)
    }));
    assert!(answer(&catalog, &format!("uuid={UUID}")).contains("NoAssignment"));
    assert_eq!(answer(&catalog, "rack=7"), "waits for Assignment ns/own");
}

#[test]
fn a_machine_named_by_an_invalid_assignment_waits_instead_of_getting_a_default() {
    let mut catalog = catalog(&[named("default")], &[labelled("p", &[])]);
    catalog.apply(invalid_assignment(&for_uuid("own")));
    assert_eq!(
        answer(&catalog, &format!("uuid={UUID}")),
        "waits for Assignment ns/own"
    );
    assert_eq!(answer(&catalog, "serial=other"), "p");
    let explained = catalog.explain(&from_query(&format!("uuid={UUID}")));
    let Outcome::NotAccepted { reason, .. } = &explained.outcome else {
        panic!("{:?}", explained.outcome)
    };
    assert_eq!(
        reason,
        "Assignment ns/own is invalid, so this machine waits until it is fixed: spec: wrong"
    );
    catalog.apply(Change::Assignment(Arc::new(for_uuid("own").build())));
    assert_eq!(answer(&catalog, &format!("uuid={UUID}")), "p");
}

#[test]
fn an_invalid_assignment_never_outranks_a_more_specific_valid_one() {
    let mut catalog = catalog(
        &[for_uuid("own"), for_rack("rack", 0), named("default")],
        &[labelled("p", &[])],
    );
    catalog.apply(invalid_assignment(&RawAssignment {
        priority: 99,
        ..named("everything")
    }));
    assert_eq!(
        answer(&catalog, &format!("uuid={UUID}")),
        "p",
        "it is named"
    );
    assert_eq!(answer(&catalog, "rack=7"), "p", "its rack is");
    assert_eq!(
        answer(&catalog, "rack=8"),
        "waits for Assignment ns/everything",
        "or else another default would install it"
    );
    // An invalid Assignment that lists the machine, or is as specific, ranks as if it were valid.
    catalog.apply(invalid_assignment(&for_rack("other-rack", 1)));
    assert_eq!(
        answer(&catalog, "rack=7"),
        "waits for Assignment ns/other-rack"
    );
    catalog.apply(invalid_assignment(&RawAssignment {
        macs: vec![model::MACS[0].into()],
        priority: 1,
        ..named("card")
    }));
    assert_eq!(
        answer(&catalog, &format!("uuid={UUID}&mac={}", model::MACS[0])),
        "waits for Assignment ns/card"
    );
}

#[test]
fn a_younger_invalid_default_changes_no_selection() {
    let mut catalog = catalog(
        &[RawAssignment {
            created: Some(1),
            ..named("default")
        }],
        &[labelled("p", &[])],
    );
    catalog.apply(invalid_assignment(&RawAssignment {
        created: Some(2),
        ..named("a-default")
    }));
    assert_eq!(answer(&catalog, "rack=7"), "p");
    let explained = catalog.explain(&from_query("rack=7"));
    assert!(
        matches!(
            explained.outcome,
            Outcome::Boots {
                conflict: false,
                ..
            }
        ),
        "an invalid object conflicts with nothing"
    );
}

#[test]
fn an_invalid_profile_does_not_yield_to_a_worse_fit() {
    let (plain, special) = (
        labelled("plain", &[("tier", "gold")]),
        labelled(
            "special",
            &[("tier", "gold"), ("assignment/ipxe-rack", "7")],
        ),
    );
    let mut catalog = catalog(&[wanting("default", &[("tier", "gold")])], &[plain]);
    catalog.apply(invalid_profile(&special));
    assert_eq!(answer(&catalog, "rack=7"), "waits for Profile ns/special");
    assert_eq!(answer(&catalog, "rack=8"), "plain");
    let younger = RawProfile {
        created: Some(2),
        ..labelled("younger", &[("tier", "gold")])
    };
    catalog.apply(invalid_profile(&younger));
    assert_eq!(
        answer(&catalog, "rack=8"),
        "plain",
        "the older suits as well"
    );
    assert!(catalog.config(uuid::Uuid::nil()).is_none() && catalog.profile_count() == 1);
}

#[test]
fn an_unreadable_assignment_claims_nothing_and_is_listed() {
    let mut catalog = catalog(&[named("default")], &[labelled("p", &[])]);
    let key = ObjectKey::new("ns", "blind");
    let blind = Rejected {
        claim: Claim::Nothing {
            key: key.clone(),
            created: None,
        },
        fault: "it has another shape".into(),
    };
    assert!(catalog.apply(Change::Rejected(Arc::new(blind.clone()))));
    assert!(
        !catalog.apply(Change::Rejected(Arc::new(blind))),
        "the same object again changes nothing"
    );
    assert_eq!(answer(&catalog, &format!("uuid={UUID}")), "p");
    assert!(
        catalog
            .names()
            .any(|name| name == ObjectRef::Assignment(key.clone()))
    );
}
