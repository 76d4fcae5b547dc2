//! Each clause of the selection rule.

use std::collections::BTreeMap;
use std::sync::Arc;

use boot::catalog::NoConfig;
use boot::selection::Outcome;
use boot::{Catalog, Change, ObjectKey};
use uuid::Uuid;

use super::model::{self, RawAssignment, RawProfile};
use super::{UUID, catalog, for_uuid, from_query, labelled, named, wanting};

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

/// A Profile in whose status all these configs have one id.
fn with_one_id(name: &str, created: i64, id: Uuid, configs: &[&str]) -> boot::Profile {
    let mut profile = RawProfile {
        created: Some(created),
        ..labelled(name, &[])
    }
    .build_with_config("config0");
    for config in configs {
        profile.ids.insert(config.parse().unwrap(), id);
    }
    profile
}

#[test]
fn an_id_that_two_profiles_have_serves_neither() {
    let id = UUID.parse().unwrap();
    let with_id = |name, created| {
        let profile = with_one_id(name, created, id, &["config0"]);
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
        let error = catalog.config(id).unwrap_err().to_string();
        assert!(
            error.starts_with(
                "config config0 of Profile ns/old and config config0 of Profile ns/young have the same id"
            ),
            "{error}"
        );
        assert!(!error.contains(UUID), "{error}");
        let young = catalog.profile(&ObjectKey::new("ns", "young")).unwrap();
        assert_eq!(catalog.duplicate_id_of(young).unwrap().to_string(), error);
        assert_eq!(catalog.describe_duplicate_ids(1), [error]);
        catalog.apply(Change::ProfileDeleted(ObjectKey::new("ns", "old")));
        let (profile, name) = catalog.config(id).unwrap();
        assert_eq!((&*profile.key.name, name.as_str()), ("young", "config0"));
        assert_eq!(catalog.duplicate_id_of(profile), None);
        catalog.apply(Change::ProfileDeleted(ObjectKey::new("ns", "young")));
        assert_eq!(catalog.config(id).unwrap_err(), NoConfig::Unknown);
        assert_eq!(catalog.index_size(), 0);
    }
}

#[test]
fn an_id_that_two_configs_of_one_profile_have_serves_neither() {
    let id = UUID.parse().unwrap();
    let mut catalog = Catalog::new();
    let both = with_one_id("p", 1, id, &["config0", "config1"]);
    catalog.apply(Change::Profile(Arc::new(both)));
    assert!(matches!(catalog.config(id), Err(NoConfig::Duplicate(_))));
    let one = with_one_id("p", 1, id, &["config1"]);
    catalog.apply(Change::Profile(Arc::new(one)));
    let (_, name) = catalog.config(id).unwrap();
    assert_eq!(
        (name.as_str(), catalog.duplicate_id_count()),
        ("config1", 0)
    );
}

#[test]
fn the_id_of_an_invalid_profile_is_a_duplicate_too() {
    let id = UUID.parse().unwrap();
    let mut catalog = Catalog::new();
    let valid = with_one_id("valid", 2, id, &["config0"]);
    catalog.apply(Change::Profile(Arc::new(valid)));
    let key = ObjectKey::new("other", "invalid");
    let partial = boot::Profile::partial(key.clone(), None, &BTreeMap::new())
        .with_ids(BTreeMap::from([("config0".parse().unwrap(), id)]));
    catalog.apply(Change::Rejected(Arc::new(boot::Rejected {
        partial: boot::Partial::Profile(Arc::new(partial)),
        fault: "it does not parse".into(),
    })));
    assert!(matches!(catalog.config(id), Err(NoConfig::Duplicate(_))));
    catalog.apply(Change::ProfileDeleted(key));
    assert!(catalog.config(id).is_ok());
}
