//! Tests the findings about two Assignments that name the same machine, for a report on one of them
//! and for a report on the catalog.

mod named;

use std::sync::Arc;

use boot::{Assignment, Catalog, Change, SubjectSelectors};
use review::{Finding, Survey, rule};

use named::assignment;

const UUID: &str = "47c6da67-7477-4970-aa03-84e48ff4f6ad";
const OTHER_BYTE_ORDER: &str = "67dac647-7774-7049-aa03-84e48ff4f6ad";

fn with_uuid(name: &str, uuid: &str, priority: i32) -> Assignment {
    let none = assignment(name, &[], &[], priority);
    Assignment {
        subjects: SubjectSelectors {
            uuids: [uuid.parse().unwrap()].into_iter().collect(),
            ..none.subjects
        },
        ..none
    }
}

fn said(findings: Vec<Finding>) -> Vec<String> {
    let of_others = |finding: &Finding| *finding.rule != rule::NO_PROFILE;
    findings
        .into_iter()
        .filter(of_others)
        .map(|finding| format!("{}: {}", finding.rule.id, finding.message))
        .collect()
}

/// Returns the findings for the author of `own`, then those of a report on the whole catalog, in
/// order.
fn told(others: &[Assignment], own: &Assignment) -> (Vec<String>, Vec<String>) {
    let mut catalog = Catalog::with_selector_index();
    for one in others.iter().chain([own]) {
        catalog.apply(Change::Assignment(Arc::new(one.clone())));
    }
    let survey = Survey::of(&catalog);
    let all = others
        .iter()
        .chain([own])
        .flat_map(|one| said(survey.assignment(&Arc::new(one.clone()))));
    (
        said(survey.assignment_with_losers(&Arc::new(own.clone()))),
        all.collect(),
    )
}

#[test]
fn a_shared_identity_is_reported_to_both_authors_and_once_for_a_catalog() {
    let b = assignment("b", &["S1", "S2"], &[], 3);
    let beside_b = |own: &Assignment| told(std::slice::from_ref(&b), own);

    let second = "shared-identity: Assignment n/b names serial number S1 and 1 more too; that one ranks first, because its priority 3 is higher than 0";
    let (written, all) = beside_b(&assignment("a", &["S1", "S2"], &[], 0));
    assert_eq!(
        (written, all),
        (vec![second.to_owned()], vec![second.to_owned()])
    );

    let (written, all) = beside_b(&assignment("a", &["S2"], &[("row", "1")], 3));
    assert_eq!(
        written,
        [
            "shared-identity: Assignment n/b names serial number S2 too; this one ranks first where both match, because it requires more labels"
        ]
    );
    assert_eq!(
        all,
        [
            "shared-identity: Assignment n/a names serial number S2 too; that one ranks first where both match, because it requires more labels"
        ]
    );

    // If only the name decides, the second one is the conflict.
    let (written, all) = beside_b(&assignment("a", &["S2"], &[], 3));
    assert_eq!(
        written,
        [
            "shared-identity: Assignment n/b names serial number S2 too; this one ranks first only because its namespace and name sort first"
        ]
    );
    let conflict = |first: &str| {
        format!(
            "conflict: Assignment n/{first} matches serial number S2 too, and ranks first only because its namespace and name sort first"
        )
    };
    assert_eq!(all, [conflict("a")]);
    let (written, all) = beside_b(&assignment("c", &["S2"], &[], 3));
    assert_eq!((written, all), (vec![conflict("b")], vec![conflict("b")]));
}

#[test]
fn assignments_that_no_machine_matches_together_are_not_reported() {
    let one = assignment("a", &["S1"], &[("row", "1")], 0);
    for other in [
        assignment("b", &["S1"], &[("row", "2")], 5),
        assignment("b", &["S2"], &[], 5),
        assignment("b", &[], &[], 5),
    ] {
        assert_eq!(
            told(std::slice::from_ref(&other), &one),
            (Vec::new(), Vec::new()),
            "{other:?}"
        );
    }
}

#[test]
fn a_uuid_in_the_other_byte_order_is_the_same_machine() {
    let other = with_uuid("b", OTHER_BYTE_ORDER, 0);
    let says = |who: &str, uuid: &str, why: &str| {
        format!(
            "shared-identity: Assignment n/{who} names uuid {uuid} too, in the other byte order; {why}"
        )
    };
    let (written, all) = told(std::slice::from_ref(&other), &with_uuid("a", UUID, 0));
    let either = "which of them ranks first depends on how the machine presents it";
    assert_eq!(
        (written, all),
        (
            vec![says("b", UUID, either)],
            vec![says("a", OTHER_BYTE_ORDER, either)]
        )
    );
    let (written, _) = told(&[other], &with_uuid("a", UUID, 2));
    assert_eq!(
        written,
        [says(
            "b",
            UUID,
            "this one ranks first, because its priority 2 is higher than 0"
        )]
    );
}

#[test]
fn three_of_many_others_are_named_and_the_rest_are_counted() {
    let own = assignment("a", &["S1"], &[], 0);
    let others = |n: usize| {
        (0..n)
            .map(|n| assignment(&format!("b{n:03}"), &["S1"], &[], 1))
            .collect::<Vec<_>>()
    };
    for (many, ends) in [
        (3, "higher than 0"),
        (
            4,
            "higher than 0; 1 more Assignment names machines that this one names",
        ),
        (
            19,
            "higher than 0; 16 more Assignments name machines that this one names",
        ),
        (
            200,
            "higher than 0; at least 17 more Assignments name machines that this one names",
        ),
    ] {
        let written = told(&others(many), &own).0;
        assert!(
            written.len() == 3 && written[2].ends_with(ends),
            "{many}: {written:#?}"
        );
        assert!(written[1].ends_with("higher than 0"), "{written:#?}");
    }
}
