//! The wording for a group of machines with the same change, shared by text and Markdown.

use review::diff::{Group, Move};

use crate::console::{count, harmless};

/// Describes the machines.
pub(super) fn machines(group: &Group) -> String {
    let mut parts: Vec<String> = [
        (group.uuids.len(), "uuid"),
        (group.serial_numbers.len(), "serial number"),
        (group.mac_addresses.len(), "MAC address"),
    ]
    .into_iter()
    .filter(|(n, _)| *n > 0)
    .map(|(n, noun)| {
        if n > 1 && noun == "MAC address" {
            format!("{n} MAC addresses")
        } else {
            count(n, noun)
        }
    })
    .collect();
    if group.by_labels > 0 {
        parts.push(format!(
            "{} selected by labels alone",
            count(group.by_labels, "sort") + " of machines"
        ));
    }
    if group.by_identity_pairs > 0 {
        parts.push(format!(
            "{} that two Assignments select by different identities",
            count(group.by_identity_pairs, "sort") + " of machines"
        ));
    }
    parts.join(", ")
}

/// Names what they boot before and after.
pub(super) fn profiles(group: &Group) -> (String, String) {
    let change = &group.change;
    let name = |profile: &Option<boot::ObjectKey>| {
        profile
            .as_ref()
            .map_or_else(|| "nothing".to_owned(), ToString::to_string)
    };
    (name(&change.old_profile), name(&change.new_profile))
}

/// Lists what differs.
pub(super) fn changed_parts(group: &Group) -> String {
    let change = &group.change;
    let mut parts = Vec::new();
    match change.assignment {
        Move::Same => {}
        Move::Another => parts.push("Assignment".to_owned()),
        Move::Gained => parts.push("Assignment (none before)".to_owned()),
        Move::Lost => parts.push("Assignment (none after)".to_owned()),
    }
    if change.old_profile != change.new_profile {
        parts.push("Profile".to_owned());
    }
    if change.old_profile.is_some() && change.new_profile.is_some() {
        if change.script {
            parts.push("script".to_owned());
        }
        match change.configs.as_slice() {
            [] => {}
            [one] => parts.push(format!("config {one}")),
            more => parts.push(format!(
                "configs {}",
                more.iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join(", ")
            )),
        }
    }
    parts.join(", ")
}

/// Names the Assignments involved.
pub(super) fn assignments(group: &Group) -> String {
    let list = |named: &std::collections::BTreeSet<boot::ObjectKey>, all: usize| {
        let more = all - named.len();
        let names = named
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", ");
        match (named.is_empty(), more) {
            (true, _) => "none".to_owned(),
            (_, 0) => names,
            (_, more) => format!("{names} and {more} more"),
        }
    };
    let (old, new) = (
        list(&group.old_assignments, group.assignments.0),
        list(&group.new_assignments, group.assignments.1),
    );
    if group.change.assignment == Move::Same {
        new
    } else {
        format!("{old} -> {new}")
    }
}

/// Returns some of the machines in the form that `shaper explain` accepts.
pub(super) fn examples(group: &Group) -> Vec<String> {
    let one = |example: &review::diff::Example| {
        let query = if example.query.is_empty() {
            "a machine that presents no labels".to_owned()
        } else {
            harmless(&example.query)
        };
        let extrinsic: String = example
            .extrinsic
            .iter()
            .map(|(key, value)| format!(" --extrinsic {}={}", harmless(key), harmless(value)))
            .collect();
        let presenting = if example.presenting.is_empty() {
            String::new()
        } else {
            format!("  ({})", harmless(&example.presenting))
        };
        format!("{query}{extrinsic}{presenting}")
    };
    group.examples.iter().map(one).collect()
}
