//! Selection with invalid objects: clause 5 of the rule.

use std::collections::BTreeMap;
use std::sync::Arc;

use boot::selection::Outcome;
use boot::{Catalog, Change, ObjectKey, ObjectRef, Partial, Rejected};

use super::model::{self, RawAssignment, RawProfile};
use super::{UUID, catalog, for_uuid, from_query, labelled, named, wanting};

fn invalid_assignment(raw: &RawAssignment) -> Change {
    Change::Rejected(Arc::new(Rejected {
        partial: Partial::Assignment(Arc::new(raw.build())),
        fault: "spec: wrong".into(),
    }))
}

fn invalid_profile(raw: &RawProfile) -> Change {
    Change::Rejected(Arc::new(Rejected {
        partial: Partial::Profile(Arc::new(raw.build_partial())),
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
    assert!(catalog.config(uuid::Uuid::nil()).is_err() && catalog.profile_count() == 1);
}

#[test]
fn an_unreadable_assignment_claims_nothing_and_is_listed() {
    let mut catalog = catalog(&[named("default")], &[labelled("p", &[])]);
    let key = ObjectKey::new("ns", "blind");
    let blind = Rejected {
        partial: Partial::Unreadable {
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
