//! Who else names the machines of an Assignment, who wins them and why.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use boot::{Assignment, Catalog, Name, ObjectKey};
use crd::FieldPath;

use crate::finding::Finding;
use crate::rule;

/// Most others of each identity that are looked at.
const MOST_LOOKED: usize = 20;
/// Most others that are named.
const MAX_OTHERS: usize = 3;

/// Where an Assignment goes, of two that name the same machine.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    First,
    Second,
}

/// What is to be said of an Assignment of the catalog, beside those where it goes so. One that goes second for its age or name alone is in
/// conflict, which is told with what to do.
pub(super) fn of(catalog: &Catalog, own: &Arc<Assignment>, place: Place) -> Vec<Finding> {
    let others: BTreeMap<&ObjectKey, &Arc<Assignment>> = catalog
        .naming_the_same(own, MOST_LOOKED)
        .map(|other| (&other.key, other))
        .collect();
    let is_bounded = others.len() >= MOST_LOOKED;
    let all = others
        .into_values()
        .map(|other| (other, decided(own, other)));
    let mut told =
        all.filter_map(|(other, (at, why))| (at == place).then_some(why?).map(|why| (other, why)));
    let shown: Vec<_> = told.by_ref().take(MAX_OTHERS).collect();
    let mut findings: Vec<_> = shown
        .into_iter()
        .map(|(other, why)| finding(own, other, &why))
        .collect();
    let more = told.count();
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

/// Where it goes beside another, and why. No reason where that is told as a conflict.
fn decided(own: &Assignment, other: &Assignment) -> (Place, Option<String>) {
    let by_priority = own.priority.cmp(&other.priority);
    let by_merit = by_priority.then(own.subjects.labels.len().cmp(&other.subjects.labels.len()));
    let place = match by_merit.then(super::order(other, own)) {
        Ordering::Greater => Place::First,
        Ordering::Less | Ordering::Equal => Place::Second,
    };
    let who = if place == Place::First {
        "this one goes first"
    } else {
        "that one goes first"
    };
    let why = match place {
        _ if by_priority.is_ne() => {
            let (higher, lower) = (
                own.priority.max(other.priority),
                own.priority.min(other.priority),
            );
            format!("{who}, as its priority {higher} is higher than {lower}")
        }
        _ if by_merit.is_ne() => format!("{who} where both match, as it asks for more labels"),
        _ if !super::is_same_spelling(own, other) => {
            "which goes first depends on how the machine presents it".to_owned()
        }
        Place::Second => return (place, None),
        Place::First if own.created == other.created => {
            format!("{who} only because its namespace and name come first")
        }
        Place::First => format!("{who} only because it is older"),
    };
    (place, Some(why))
}

fn finding(own: &Assignment, other: &Assignment, why: &str) -> Finding {
    let name = Name::Assignment(own.key.clone());
    let spelt = if super::is_same_spelling(own, other) {
        ""
    } else {
        ", in the other byte order"
    };
    let message = format!(
        "Assignment {} names {} too{spelt}; {why}",
        other.key,
        super::common(own, other)
    );
    let help =
        "leave the machine to one of them, or give the one that is meant the higher priority";
    Finding::new(
        &rule::CLAIMED,
        &name,
        FieldPath::of(["spec", "subjectSelectors"]),
        message,
    )
    .help(help)
}
