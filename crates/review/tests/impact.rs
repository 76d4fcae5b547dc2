//! Tests the findings about what a single change does to machines.

mod named;

use std::collections::BTreeMap;
use std::sync::Arc;

use boot::{
    Assignment, Catalog, Change, LabelSelector, ObjectKey, ObjectRef, Operator, Partial, Profile,
    Rejected, Requirement, SubjectSelectors,
};
use review::Disclosure;
use review::impact::{self, Limits};

fn profile(name: &str, labels: &[(&str, &str)]) -> Change {
    let labels = labels
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    Change::Profile(Arc::new(
        Profile::compile(
            ObjectKey::new("n", name),
            None,
            &labels,
            "#!ipxe",
            &BTreeMap::new(),
        )
        .unwrap(),
    ))
}

/// Creates an Assignment with these serial numbers and labels that selects Profiles with `os=OS`.
fn assignment(
    name: &str,
    serials: &[&str],
    labels: &[(&str, &str)],
    priority: i32,
    os: &str,
) -> Change {
    let profiles = [("os", os)].into_iter().collect();
    Change::Assignment(Arc::new(Assignment {
        profiles,
        ..named::assignment(name, serials, labels, priority)
    }))
}

fn catalog(changes: impl IntoIterator<Item = Change>) -> Catalog {
    let mut catalog = Catalog::with_selector_index();
    for change in changes {
        catalog.apply(change);
    }
    catalog
}

fn gone(change: &Change) -> Change {
    change.name().deletion()
}

fn said(catalog: &Catalog, change: &Change) -> Vec<String> {
    let all = impact::of(catalog, change, &Disclosure::All, Limits::default());
    all.into_iter()
        .map(|finding| format!("{}: {}", finding.rule.id, finding.message))
        .collect()
}

#[test]
fn a_deletion_reports_machines_that_lose_or_change_their_profile() {
    let web = assignment("web", &["S1"], &[], 0, "linux");
    let linux = profile("linux", &[("os", "linux")]);
    let mut all = catalog([linux.clone(), web.clone()]);
    assert_eq!(
        said(&all, &gone(&web)),
        [
            "loses-profile: the machine with serial number S1 would boot nothing instead of Profile n/linux"
        ]
    );
    assert_eq!(
        said(&all, &gone(&linux)),
        [
            "loses-profile: the machine with serial number S1 would boot nothing instead of Profile n/linux"
        ]
    );
    all.apply(profile("rescue", &[("os", "rescue")]));
    all.apply(assignment("default", &[], &[], 0, "rescue"));
    assert_eq!(
        said(&all, &gone(&web)),
        [
            "moves-machines: the machine with serial number S1 would boot Profile n/rescue instead of Profile n/linux"
        ]
    );
    let default = ObjectRef::Assignment(ObjectKey::new("n", "default")).deletion();
    assert_eq!(
        said(&all, &default),
        [
            "loses-profile: machines that no other Assignment matches would boot nothing instead of Profile n/rescue"
        ]
    );
}

#[test]
fn a_profile_label_change_moves_machines_of_every_assignment_that_selects_it() {
    let rack: Vec<Change> = (0..5)
        .rev()
        .map(|n| assignment(&format!("m{n}"), &[&format!("S{n}")], &[], 0, "linux"))
        .collect();
    let all = catalog(rack.into_iter().chain([
        profile("linux", &[("os", "linux")]),
        assignment("row", &[], &[("row", "7")], 0, "linux"),
    ]));
    let said_of = said(&all, &profile("linux", &[("os", "linus")]));
    assert_eq!(said_of.len(), 1, "{said_of:?}");
    // They are found in the order of arrival, which differs after a restart.
    assert_eq!(
        said_of[0],
        "loses-profile: machines with 5 serial numbers, and machines with row=7 would boot nothing instead of Profile n/linux, \
         such as serial number S0, serial number S1, serial number S2"
    );
    assert!(said(&all, &profile("linux", &[("os", "linux"), ("team", "a")])).is_empty());
}

#[test]
fn a_better_matching_profile_takes_machines_of_its_architecture() {
    let all = catalog([
        profile("any", &[("os", "linux")]),
        assignment("a", &["S1"], &[], 0, "linux"),
    ]);
    assert_eq!(
        said(
            &all,
            &profile(
                "arm",
                &[("os", "linux"), ("assignment/ipxe-buildarch", "aarch64")]
            )
        ),
        [
            "moves-machines: the machine with serial number S1 would boot Profile n/arm instead of Profile n/any where buildarch=arm64 is presented"
        ]
    );
}

#[test]
fn a_high_priority_default_takes_named_machines() {
    let all = catalog([
        profile("linux", &[("os", "linux")]),
        profile("wipe", &[("os", "wipe")]),
        assignment("a", &["S1"], &[], 0, "linux"),
        assignment("b", &["S2"], &[], 5, "linux"),
    ]);
    assert_eq!(
        said(&all, &assignment("default", &[], &[], 1, "wipe")),
        [
            "moves-machines: the machine with serial number S1 would boot Profile n/wipe instead of Profile n/linux"
        ]
    );
    assert!(said(&all, &assignment("default", &[], &[], 0, "wipe")).is_empty());
}

#[test]
fn a_new_assignment_reports_no_named_machines_and_a_changed_one_reports_dropped_ones() {
    let mut all = catalog([
        profile("linux", &[("os", "linux")]),
        profile("rescue", &[("os", "rescue")]),
        assignment("default", &[], &[], 0, "rescue"),
    ]);
    let web = assignment("web", &["S1", "S2"], &[], 0, "linux");
    assert!(said(&all, &web).is_empty());
    all.apply(web.clone());
    assert!(said(&all, &web).is_empty());
    assert_eq!(
        said(&all, &assignment("web", &["S2"], &[], 0, "linux")),
        [
            "moves-machines: the machine with serial number S1 would boot Profile n/rescue instead of Profile n/linux"
        ]
    );
    assert_eq!(
        said(&all, &assignment("web", &["S1", "S2"], &[], 0, "linus")),
        [
            "loses-profile: machines with 2 serial numbers would boot nothing instead of Profile n/linux: serial number S1, serial number S2"
        ]
    );
}

#[test]
fn machines_held_back_are_reported_when_another_assignment_gets_them() {
    let mut all = catalog([
        profile("wipe", &[("os", "wipe")]),
        assignment("default", &[], &[], 0, "wipe"),
    ]);
    let held = assignment("held", &["S1", "S2"], &[], 0, "nothing");
    all.apply(held.clone());
    let both = "moves-machines: machines with 2 serial numbers, which boot nothing now, would boot Profile n/wipe: \
        serial number S1, serial number S2";
    assert_eq!(said(&all, &gone(&held)), [both]);
    assert_eq!(
        said(&all, &assignment("held", &["S2"], &[], 0, "nothing")),
        [
            "moves-machines: the machine with serial number S1, which boots nothing now, would boot Profile n/wipe"
        ]
    );
    assert_eq!(
        said(&all, &assignment("default", &[], &[], 1, "wipe")),
        [both]
    );
    assert_eq!(
        said(&all, &assignment("other", &[], &[], 1, "wipe")),
        [both]
    );
    // The change fixes the machines' own Assignment.
    assert!(said(&all, &assignment("held", &["S1", "S2"], &[], 0, "wipe")).is_empty());
    // The change lowers an Assignment that holds machines back by its priority.
    all.apply(assignment("first", &[], &[], 2, "nothing"));
    let lowered = said(&all, &assignment("first", &[], &[], -1, "nothing"));
    assert_eq!(
        lowered,
        [
            "moves-machines: machines that no other Assignment matches, which boot nothing now, would boot Profile n/wipe"
        ]
    );
}

#[test]
fn an_invalid_assignment_holds_its_machines_until_it_is_removed() {
    let mut all = catalog([
        profile("wipe", &[("os", "wipe")]),
        assignment("default", &[], &[], 0, "wipe"),
    ]);
    let Change::Assignment(claimed) = assignment("held", &["S1"], &[], 0, "wipe") else {
        unreachable!()
    };
    let name = ObjectRef::Assignment(claimed.key.clone());
    all.apply(Change::Rejected(Arc::new(Rejected {
        partial: Partial::Assignment(claimed.clone()),
        fault: "a fault".into(),
    })));
    let says = "moves-machines: the machine with serial number S1, which boots nothing now, would boot Profile n/wipe";
    assert_eq!(said(&all, &name.deletion()), [says]);
    assert_eq!(
        said(&all, &assignment("held", &["S9"], &[], 0, "wipe")),
        [says]
    );
    assert_eq!(
        said(&all, &assignment("default", &[], &[], 5, "wipe")),
        [says]
    );
    // The fixed version claims the same machines.
    assert!(said(&all, &Change::Assignment(claimed)).is_empty());
}

#[test]
fn an_unassigned_machine_that_is_named_is_not_reported() {
    let mut all = catalog([
        profile("linux", &[("os", "linux")]),
        profile("linus", &[("os", "linus")]),
    ]);
    assert!(said(&all, &assignment("web", &["S1"], &[], 0, "linux")).is_empty());
    assert!(said(&all, &assignment("default", &[], &[], 0, "linux")).is_empty());
    all.apply(assignment("web", &["S1"], &[], 0, "linux"));
    assert!(said(&all, &assignment("web", &["S1", "S2"], &[], 0, "linux")).is_empty());
    all.apply(assignment("row", &[], &[("row", "7")], 0, "linux"));
    assert_eq!(
        said(&all, &assignment("row", &[], &[], 0, "linux")),
        [
            "moves-machines: machines that no other Assignment matches, which boot nothing now, would boot Profile n/linux"
        ]
    );
    // A machine that waits for a Profile and is named gets it as intended; one matched by labels
    // may be any.
    all.apply(assignment("waits", &["S3"], &[], 0, "later"));
    assert!(said(&all, &profile("new", &[("os", "later")])).is_empty());
    assert!(said(&all, &profile("linus", &[("os", "later")])).is_empty());
    all.apply(assignment("rack", &[], &[("rack", "1")], 0, "later"));
    assert!(said(&all, &profile("new", &[("os", "later")])).is_empty());
    assert_eq!(
        said(&all, &profile("linus", &[("os", "later")])),
        [
            "moves-machines: machines with rack=1, which boot nothing now, would boot Profile n/linus"
        ]
    );
}

#[test]
fn every_allowed_value_is_tried() {
    let rows = |values: &[&str]| {
        let Change::Assignment(rows) = assignment("rows", &[], &[], 0, "linux") else {
            unreachable!()
        };
        let operator = Operator::In(values.iter().map(|value| Box::from(*value)).collect());
        let labels = LabelSelector::new(
            &BTreeMap::new(),
            [Requirement {
                key: "row".into(),
                operator,
            }],
        );
        Change::Assignment(Arc::new(Assignment {
            subjects: SubjectSelectors {
                labels,
                ..SubjectSelectors::default()
            },
            ..(*rows).clone()
        }))
    };
    let mut all = catalog([
        profile("linux", &[("os", "linux")]),
        profile("rescue", &[("os", "rescue")]),
        assignment("default", &[], &[], 0, "rescue"),
        rows(&["7", "8"]),
    ]);
    let (what, then) = (
        "moves-machines: machines with",
        "would boot Profile n/rescue instead of Profile n/linux",
    );
    assert_eq!(
        said(&all, &gone(&rows(&[]))),
        [format!("{what} row in (7,8) {then}")]
    );
    assert_eq!(said(&all, &rows(&["7"])), [format!("{what} row=8 {then}")]);
    all.apply(assignment("first", &[], &[("row", "7")], 5, "rescue"));
    assert_eq!(
        said(&all, &gone(&rows(&[]))),
        [format!("{what} row=8 {then}")]
    );
    let many: Vec<_> = (0..600).map(|n| format!("r{n}")).collect();
    all.apply(rows(&many.iter().map(String::as_str).collect::<Vec<_>>()));
    let said_of = said(&all, &gone(&rows(&[])));
    assert!(
        said_of.len() == 1 && said_of[0].contains("at least 497 other kinds of machines"),
        "{said_of:?}"
    );
}

#[test]
fn a_machine_is_tried_with_each_architecture_that_profiles_want() {
    let web = assignment("web", &["S1"], &[], 0, "linux");
    let all = catalog([
        profile("linux", &[("os", "linux")]),
        profile("rescue", &[("os", "rescue")]),
        profile(
            "wipe",
            &[("os", "rescue"), ("assignment/ipxe-buildarch", "arm64")],
        ),
        assignment("default", &[], &[], 0, "rescue"),
        web.clone(),
    ]);
    let who = "moves-machines: the machine with serial number S1 would boot Profile";
    assert_eq!(
        said(&all, &gone(&web)),
        [
            format!("{who} n/rescue instead of Profile n/linux"),
            format!("{who} n/wipe instead of Profile n/linux where buildarch=arm64 is presented")
        ]
    );
    let many = (0..40).map(|n| {
        profile(
            &format!("p{n}"),
            &[
                ("os", "rescue"),
                ("assignment/ipxe-product", &format!("p{n}")),
            ],
        )
    });
    let mut all = all;
    for profile in many {
        all.apply(profile);
    }
    let said_of = said(&all, &gone(&web));
    assert!(
        said_of.len() > 1
            && said_of
                .iter()
                .all(|one| one.contains("machines with at least 1 serial number ")),
        "{said_of:?}"
    );
}

#[test]
fn a_machine_named_with_different_labels_is_tried_with_each_set() {
    let serials: Vec<_> = (0..20).map(|n| format!("S{n}")).collect();
    let of = |row: &'static str| {
        let name = move |n: usize| format!("row{row}-{n}");
        serials
            .iter()
            .enumerate()
            .map(move |(n, serial)| assignment(&name(n), &[serial], &[("row", row)], 0, "linux"))
    };
    let linux = profile("linux", &[("os", "linux")]);
    let all = catalog(of("1").chain(of("2")).chain([
        linux.clone(),
        profile("rescue", &[("os", "rescue")]),
        assignment("over", &[], &[("row", "1")], 9, "rescue"),
    ]));
    let said_of = said(&all, &gone(&linux));
    assert!(
        said_of.len() == 1
            && said_of[0].contains("machines with 20 serial numbers would boot nothing"),
        "{said_of:?}"
    );
}

#[test]
fn a_truncated_search_is_reported() {
    let machines =
        (0..2_000).map(|n| assignment(&format!("m{n}"), &[&format!("S{n}")], &[], 0, "linux"));
    let linux = profile("linux", &[("os", "linux")]);
    let all = catalog(machines.chain([linux.clone()]));
    let said_of = said(&all, &gone(&linux));
    assert!(
        said_of.len() == 1
            && said_of[0].contains("machines with at least 500 serial numbers would boot nothing"),
        "{said_of:?}"
    );
    let none = impact::of(
        &all,
        &gone(&linux),
        &Disclosure::All,
        Limits {
            machines: 0,
            ..Limits::default()
        },
    );
    assert_eq!(none[0].rule.id, "incomplete-check");
}

#[test]
fn identities_that_the_object_does_not_name_are_counted_only() {
    let all = catalog([
        profile("linux", &[("os", "linux")]),
        assignment("one", &["S1"], &[], 0, "linux"),
        assignment(
            "by-label",
            &[],
            &[("serial", "S7"), ("row", "7")],
            0,
            "linux",
        ),
    ]);
    let linux = gone(&profile("linux", &[]));
    let said = |all: &Catalog, texts: &[&str]| {
        let disclosure = Disclosure::only(texts.iter().copied());
        let found = impact::of(all, &linux, &disclosure, Limits::default());
        found
            .into_iter()
            .map(|finding| finding.message)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        said(&all, &[]),
        [
            "one machine (serial number not shown), and machines with row=7,serial (values not shown) would boot nothing instead of \
             Profile n/linux"
        ]
    );
    assert_eq!(
        said(&all, &["S1", "S7"]),
        [
            "the machine with serial number S1, and machines with row=7,serial=S7 would boot nothing instead of Profile n/linux"
        ]
    );
    let many = ["S1", "S2", "S3"].map(|serial| assignment(serial, &[serial], &[], 0, "linux"));
    let all = catalog(
        [profile("linux", &[("os", "linux")])]
            .into_iter()
            .chain(many),
    );
    assert_eq!(
        said(&all, &[]),
        ["machines with 3 serial numbers would boot nothing instead of Profile n/linux"]
    );
    assert_eq!(
        said(&all, &["S2", "S9"]),
        [
            "machines with 3 serial numbers would boot nothing instead of Profile n/linux, such as serial number S2"
        ]
    );
}
