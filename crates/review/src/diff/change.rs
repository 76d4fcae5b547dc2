//! The change to a machine's boot, and groups of machines with the same change.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use boot::render::{self, RenderError};
use boot::{Assignment, ConfigName, ObjectKey, Profile, Selection, Subject};
use rayon::prelude::*;
use serde::Serialize;

use super::cell::Cell;
use super::identities::{Identity, Kind};
use super::{MachineSet, Search};
use crate::sample;

/// Maximum number of examples per group.
const MAX_EXAMPLES: usize = 3;
/// Maximum number of Assignments named per group.
const MAX_ASSIGNMENTS: usize = 3;

/// A change. Machines with equal changes are one group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// What happens to the Assignment.
    pub assignment: Move,
    /// The Profile before, if any.
    pub old_profile: Option<ObjectKey>,
    /// The Profile after, if any.
    pub new_profile: Option<ObjectKey>,
    /// Whether the script differs.
    pub script: bool,
    /// The configs that differ, or that only one of the Profiles has.
    pub configs: Vec<ConfigName>,
}

/// What happens to a machine's Assignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Move {
    /// The machine had one and gets none.
    Lost,
    /// The machine had none and gets one.
    Gained,
    /// The machine gets another.
    Another,
    /// The machine keeps its Assignment.
    Same,
}

/// Machines with the same change.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Group {
    /// The change.
    pub change: Change,
    /// UUIDs of machines.
    pub uuids: BTreeSet<String>,
    /// Serial numbers of machines.
    pub serial_numbers: BTreeSet<String>,
    /// MAC addresses of machines.
    pub mac_addresses: BTreeSet<String>,
    /// How many classes of machines change only if two of their identities are named.
    pub by_identity_pairs: usize,
    /// How many classes of machines are known by labels alone.
    pub by_labels: usize,
    /// Some of the winning Assignments before.
    pub old_assignments: BTreeSet<ObjectKey>,
    /// Some of the winning Assignments after.
    pub new_assignments: BTreeSet<ObjectKey>,
    /// How many Assignments win before and after, including those not listed.
    pub assignments: (usize, usize),
    /// Some of the machines.
    pub examples: Vec<Example>,
    #[serde(skip)]
    seen: (BTreeSet<ObjectKey>, BTreeSet<ObjectKey>),
}

/// A machine, and what it boots before and after.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Example {
    /// The machine, as a query for `shaper explain`.
    pub query: String,
    /// The extrinsic labels of the server, if only machines that reach such a server change.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub extrinsic: BTreeMap<String, String>,
    /// The labels that all machines of this class present, as a selector. Empty if labels don't
    /// matter.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub presenting: String,
    /// What it boots before.
    pub old: Boots,
    /// What it boots after.
    pub new: Boots,
}

/// What a machine boots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Boots {
    /// The winning Assignment, if any matches.
    pub assignment: Option<ObjectKey>,
    /// The selected Profile, if any.
    pub profile: Option<ObjectKey>,
}

/// The result of a selection: the Assignment, if any matches, and the whole selection, if there is
/// a Profile.
struct Selected {
    boots: Boots,
    selection: Option<Selection>,
}

// === impl Group ===

impl Group {
    fn new(change: Change) -> Self {
        Self {
            change,
            uuids: BTreeSet::new(),
            serial_numbers: BTreeSet::new(),
            mac_addresses: BTreeSet::new(),
            by_identity_pairs: 0,
            by_labels: 0,
            old_assignments: BTreeSet::new(),
            new_assignments: BTreeSet::new(),
            assignments: (0, 0),
            examples: Vec::new(),
            seen: (BTreeSet::new(), BTreeSet::new()),
        }
    }

    /// Returns the number of named identities.
    pub fn named(&self) -> usize {
        self.uuids.len() + self.serial_numbers.len() + self.mac_addresses.len()
    }

    fn add_assignments(&mut self, old: &Boots, new: &Boots) {
        let sides = [
            (
                &old.assignment,
                &mut self.seen.0,
                &mut self.old_assignments,
                &mut self.assignments.0,
            ),
            (
                &new.assignment,
                &mut self.seen.1,
                &mut self.new_assignments,
                &mut self.assignments.1,
            ),
        ];
        for (key, seen, named, count) in sides {
            if let Some(key) = key.as_ref().filter(|key| !seen.contains(*key)) {
                seen.insert(key.clone());
                *count += 1;
                if named.len() < MAX_ASSIGNMENTS {
                    named.insert(key.clone());
                }
            }
        }
    }

    /// Whether another example adds information: it must be another machine.
    fn wants_example(&self, identities: &[&Identity]) -> bool {
        let is_known =
            !identities.is_empty() && identities.iter().all(|identity| has(self, identity));
        self.examples.len() < MAX_EXAMPLES && !is_known
    }

    fn name(&mut self, identity: &Identity) {
        let names = match identity.kind {
            Kind::Uuid => &mut self.uuids,
            Kind::Serial => &mut self.serial_numbers,
            Kind::Mac => &mut self.mac_addresses,
        };
        names.insert(identity.value());
    }
}

// === impl Example ===

impl Example {
    fn of(
        subject: &Subject,
        cell: &Cell,
        identities: &[&Identity],
        old: Boots,
        new: Boots,
    ) -> Self {
        let extrinsic = subject
            .labels()
            .filter(|(key, _)| subject.extrinsic(key).is_some());
        let extrinsic = extrinsic
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        let presenting = cell
            .without(identities.iter().map(|identity| identity.key()))
            .to_string();
        Self {
            query: subject.to_query(),
            extrinsic,
            presenting,
            old,
            new,
        }
    }
}

/// Tries machines of an entry's cell and adds them to the group of their change. `None` if nothing
/// changes for them.
pub(super) fn of(
    search: &Search<'_>,
    machines: &MachineSet,
    cell: &Cell,
    groups: &mut BTreeMap<Change, Group>,
) -> Option<Change> {
    let first: Vec<&Identity> = match machines {
        MachineSet::Labels => Vec::new(),
        MachineSet::Named(members) => vec![&members[0]],
        MachineSet::Both(a, b) => vec![&a[0], &b[0]],
    };
    let subject = Arc::new(subject_in(cell, &first)?);
    let (old, new) = (
        select(search.old.catalog, &subject),
        select(search.new.catalog, &subject),
    );
    let change = compare(&old, &new, &subject)?;
    let group = groups
        .entry(change.clone())
        .or_insert_with(|| Group::new(change.clone()));
    group.add_assignments(&old.boots, &new.boots);
    if group.wants_example(&first) {
        group
            .examples
            .push(Example::of(&subject, cell, &first, old.boots, new.boots));
    }
    match machines {
        MachineSet::Labels => group.by_labels += 1,
        MachineSet::Both(..) => group.by_identity_pairs += 1,
        MachineSet::Named(members) => {
            let is_new = members.iter().any(|member| !has(group, member));
            group.name(&members[0]);
            // Each machine has its own Assignment.
            if is_new {
                let tried: Vec<_> = members[1..]
                    .par_iter()
                    .filter_map(|member| {
                        let subject = subject_in(cell, &[member])?;
                        let (old, new) = (
                            boots(search.old.catalog, &subject),
                            boots(search.new.catalog, &subject),
                        );
                        Some((member, subject, old, new))
                    })
                    .collect();
                for (member, subject, old, new) in tried {
                    group.add_assignments(&old, &new);
                    if group.wants_example(&[member]) {
                        group
                            .examples
                            .push(Example::of(&subject, cell, &[member], old, new));
                    }
                    group.name(member);
                }
            }
        }
    }
    Some(change)
}

/// Whether a machine with these identities in this cell boots something else.
pub(super) fn boots_differently(
    search: &Search<'_>,
    identities: &[&Identity],
    cell: &Cell,
) -> bool {
    let Some(subject) = subject_in(cell, identities).map(Arc::new) else {
        return false;
    };
    compare(
        &select(search.old.catalog, &subject),
        &select(search.new.catalog, &subject),
        &subject,
    )
    .is_some()
}

fn has(group: &Group, identity: &Identity) -> bool {
    match identity.kind {
        Kind::Uuid => group.uuids.contains(&identity.value()),
        Kind::Serial => group.serial_numbers.contains(&identity.value()),
        Kind::Mac => group.mac_addresses.contains(&identity.value()),
    }
}

/// Returns a machine of the cell. Other identities are those of the cell's first member.
fn subject_in(cell: &Cell, identities: &[&Identity]) -> Option<Subject> {
    let named: Vec<_> = identities
        .iter()
        .map(|identity| (identity.key(), identity.value()))
        .collect();
    cell.subject(&named)
}

fn select(catalog: &boot::Catalog, subject: &Subject) -> Selected {
    match catalog.select(subject) {
        Ok(selection) => {
            let boots = Boots {
                assignment: Some(selection.assignment.key.clone()),
                profile: Some(selection.profile.key.clone()),
            };
            Selected {
                boots,
                selection: Some(selection),
            }
        }
        Err(boot::NotSelected::NoAssignment) => Selected {
            boots: Boots {
                assignment: None,
                profile: None,
            },
            selection: None,
        },
        Err(
            boot::NotSelected::NoProfile { assignment, .. }
            | boot::NotSelected::NotAccepted { assignment, .. },
        ) => Selected {
            boots: Boots {
                assignment: Some(assignment.key.clone()),
                profile: None,
            },
            selection: None,
        },
    }
}

fn boots(catalog: &boot::Catalog, subject: &Subject) -> Boots {
    select(catalog, subject).boots
}

/// Returns the difference between two selections, if any.
fn compare(old: &Selected, new: &Selected, subject: &Arc<Subject>) -> Option<Change> {
    let assignment = match (&old.boots.assignment, &new.boots.assignment) {
        (None, None) => return None,
        (None, Some(_)) => Move::Gained,
        (Some(_), None) => Move::Lost,
        (Some(a), Some(b)) if a == b => Move::Same,
        _ => Move::Another,
    };
    let (script, configs) = match (&old.selection, &new.selection) {
        (Some(old), Some(new)) => compare_texts(old, new, subject),
        (None, None) => (false, Vec::new()),
        (Some(one), None) | (None, Some(one)) => (
            true,
            one.profile.templates.config_names().cloned().collect(),
        ),
    };
    let is_same = assignment == Move::Same
        && old.boots.profile == new.boots.profile
        && !script
        && configs.is_empty();
    let (old_profile, new_profile) = (old.boots.profile.clone(), new.boots.profile.clone());
    (!is_same).then_some(Change {
        assignment,
        old_profile,
        new_profile,
        script,
        configs,
    })
}

/// Whether the script differs, and which configs do. A template that differs counts even if it
/// renders the same for this machine: it may differ for another machine of the class.
fn compare_texts(
    old: &Selection,
    new: &Selection,
    subject: &Arc<Subject>,
) -> (bool, Vec<ConfigName>) {
    if old.assignment == new.assignment && is_same_profile(&old.profile, &new.profile) {
        return (false, Vec::new());
    }
    let (a, b) = (&old.profile.templates, &new.profile.templates);
    let reads = |uses: &boot::template::Uses| {
        uses.assignment && !look_the_same_to_templates(&old.assignment, &new.assignment)
    };
    // Both sides use the same config ids, so that links to them are equal.
    let [old, new] = [old, new].map(|one| {
        sample::selection_with_shared_ids(&one.profile, one.assignment.clone(), &[a, b])
    });
    let script = || -> [Result<String, RenderError>; 2] {
        [&old, &new].map(|one| one.script(subject, sample::BASE_URL))
    };
    let is_script =
        a.script_source() != b.script_source() || reads(a.script_uses()) || differ(script());
    let names: BTreeSet<&ConfigName> = a.config_names().chain(b.config_names()).collect();
    let is_other = |name: &ConfigName| {
        if a.config_named(name.as_str()).is_none() || b.config_named(name.as_str()).is_none() {
            return true;
        }
        let text = |one: &Selection| {
            render::config(
                &one.profile,
                name,
                subject,
                Some(&one.assignment),
                sample::BASE_URL,
            )
        };
        a.config_source(name) != b.config_source(name)
            || a.config_format(name) != b.config_format(name)
            || a.config_uses(name.as_str()).is_some_and(reads)
            || differ([text(&old), text(&new)])
    };
    (
        is_script,
        names
            .into_iter()
            .filter(|name| is_other(name))
            .cloned()
            .collect(),
    )
}

fn differ(compare_texts: [Result<String, RenderError>; 2]) -> bool {
    let [a, b] = compare_texts;
    a != b
}

/// Whether templates can see a difference between two Assignments.
fn look_the_same_to_templates(a: &Assignment, b: &Assignment) -> bool {
    a.key == b.key && a.labels == b.labels
}

/// Whether two Profiles have the same content; config ids don't count.
pub(super) fn is_same_profile(a: &Profile, b: &Profile) -> bool {
    a.key == b.key && a.created == b.created && a.labels == b.labels && a.templates == b.templates
}
