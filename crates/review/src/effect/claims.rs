//! Who else names the machines of an Assignment, who wins them and why.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use boot::{Assignment, Catalog, Name, ObjectKey};
use crd::FieldPath;

use super::Limits;
use super::machine::Machine;
use crate::finding::Finding;
use crate::rule;

/// Most others that are named.
const MAX_OTHERS: usize = 3;

/// What is to be said of an Assignment that is in the catalog. One that loses for its age or name alone is left to [`crate::Survey`].
pub(super) fn of(catalog: &Catalog, own: &Arc<Assignment>, limits: Limits) -> Vec<Finding> {
    let mut others: BTreeMap<&ObjectKey, (&Arc<Assignment>, String, usize)> = BTreeMap::new();
    if !own.subjects.names_identities() {
        return Vec::new();
    }
    let mut looked = 0;
    for machine in Machine::named(&own.subjects).take(limits.machines) {
        if limits.until.is_some_and(|until| Instant::now() > until) {
            break;
        }
        let Some(subject) = machine.subject(&[]) else { continue };
        for found in catalog.naming(&subject).into_iter().take(limits.machines) {
            let other = found.assignment;
            looked += 1;
            if other.key == own.key || looked > limits.assignments || !other.subjects.labels.is_compatible(&own.subjects.labels) {
                continue;
            }
            others.entry(&other.key).or_insert_with(|| (other, machine.shown(), 0)).2 += 1;
        }
    }
    let more = others.len().saturating_sub(MAX_OTHERS);
    let told = others.into_values().filter_map(|(other, machine, count)| told(own, other, &machine, count));
    let mut findings: Vec<_> = told.take(MAX_OTHERS).collect();
    if more > 0
        && let Some(last) = findings.last_mut()
    {
        last.message += &format!("; {more} more Assignments name machines that this one names");
    }
    findings
}

fn told(own: &Assignment, other: &Assignment, machine: &str, count: usize) -> Option<Finding> {
    let more = if count > 1 { format!(" and {} more", count - 1) } else { String::new() };
    let (a, b) = (own.subjects.labels.len(), other.subjects.labels.len());
    let why = match own.priority.cmp(&other.priority) {
        Ordering::Less => format!("that one goes first, as its priority {} is higher than {}", other.priority, own.priority),
        Ordering::Greater => format!("this one goes first, as its priority {} is higher than {}", own.priority, other.priority),
        Ordering::Equal if a < b => "that one goes first where both match, as it asks for more labels".to_owned(),
        Ordering::Equal if a > b => "this one goes first where both match, as it asks for more labels".to_owned(),
        Ordering::Equal => {
            let age = |assignment: &Assignment| (assignment.created.is_none(), assignment.created);
            match age(own).cmp(&age(other)).then_with(|| own.key.cmp(&other.key)) {
                // It is in conflict, which is told with what to do.
                Ordering::Greater => return None,
                _ if own.created == other.created => "this one goes first only because its namespace and name come first".to_owned(),
                _ => "this one goes first only because it is older".to_owned(),
            }
        }
    };
    let name = Name::Assignment(own.key.clone());
    let help = "leave the machine to one of them, or give the one that is meant the higher priority";
    let message = format!("Assignment {} names {machine}{more} too; {why}", other.key);
    Some(Finding::new(&rule::CLAIMED, &name, FieldPath::of(["spec", "subjectSelectors"]), message).help(help))
}
