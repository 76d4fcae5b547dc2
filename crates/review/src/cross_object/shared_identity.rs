//! Finds other Assignments that name the same machines, and explains which one wins.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use boot::{Assignment, Catalog, ObjectKey, ObjectRef};
use crd::FieldPath;

use crate::disclosure::Disclosure;
use crate::finding::Finding;
use crate::rule;

/// Maximum number of other Assignments examined per identity.
const MAX_OTHERS_PER_IDENTITY: usize = 20;
/// Maximum number of other Assignments named in a finding.
const MAX_REPORTED: usize = 3;

/// The position of an Assignment relative to another that names the same machine.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Position {
    Winner,
    Loser,
}

/// Reports the Assignments relative to which this one has the given position. An Assignment that
/// loses only by age or name is a conflict, which is reported elsewhere with what to do.
pub(super) fn of(catalog: &Catalog, own: &Arc<Assignment>, position: Position) -> Vec<Finding> {
    let others: BTreeMap<&ObjectKey, &Arc<Assignment>> = catalog
        .sharing_identity(own, MAX_OTHERS_PER_IDENTITY)
        .map(|other| (&other.key, other))
        .collect();
    let is_bounded = others.len() >= MAX_OTHERS_PER_IDENTITY;
    let all = others
        .into_values()
        .map(|other| (other, compare(own, other)));
    let mut reported = all
        .filter_map(|(other, (at, why))| (at == position).then_some(why?).map(|why| (other, why)));
    let shown: Vec<_> = reported.by_ref().take(MAX_REPORTED).collect();
    let mut findings: Vec<_> = shown
        .into_iter()
        .map(|(other, why)| finding(own, other, &why))
        .collect();
    let more = reported.count();
    if more > 0
        && let Some(last) = findings.last_mut()
    {
        let (at_least, are) = (
            if is_bounded { "at least " } else { "" },
            if more == 1 {
                "Assignment names"
            } else {
                "Assignments name"
            },
        );
        last.message += &format!("; {at_least}{more} more {are} machines that this one names");
    }
    findings
}

/// Compares two Assignments and gives the reason for their order. No reason if the pair is reported
/// as a conflict.
fn compare(own: &Assignment, other: &Assignment) -> (Position, Option<String>) {
    let by_priority = own.priority.cmp(&other.priority);
    let by_precedence =
        by_priority.then(own.subjects.labels.len().cmp(&other.subjects.labels.len()));
    let position = match by_precedence.then(super::cmp_age(other, own)) {
        Ordering::Greater => Position::Winner,
        Ordering::Less | Ordering::Equal => Position::Loser,
    };
    let who = if position == Position::Winner {
        "this one ranks first"
    } else {
        "that one ranks first"
    };
    let why = match position {
        _ if by_priority.is_ne() => {
            let (higher, lower) = (
                own.priority.max(other.priority),
                own.priority.min(other.priority),
            );
            format!("{who}, because its priority {higher} is higher than {lower}")
        }
        _ if by_precedence.is_ne() => {
            format!("{who} where both match, because it requires more labels")
        }
        _ if !super::have_same_spelling(own, other) => {
            "which of them ranks first depends on how the machine presents it".to_owned()
        }
        Position::Loser => return (position, None),
        Position::Winner if own.created == other.created => {
            format!("{who} only because its namespace and name sort first")
        }
        Position::Winner => format!("{who} only because it is older"),
    };
    (position, Some(why))
}

fn finding(own: &Assignment, other: &Assignment, why: &str) -> Finding {
    let name = ObjectRef::Assignment(own.key.clone());
    let spelling = if super::have_same_spelling(own, other) {
        ""
    } else {
        ", in the other byte order"
    };
    let message = format!(
        "Assignment {} names {} too{spelling}; {why}",
        other.key,
        super::describe_overlap(own, other, &Disclosure::All)
    );
    let help = "name the machine in only one of them, or give the intended one the higher priority";
    Finding::new(
        &rule::SHARED_IDENTITY,
        &name,
        FieldPath::new(["spec", "subjectSelectors"]),
        message,
    )
    .help(help)
}
