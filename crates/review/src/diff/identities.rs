//! Identities, grouped by equivalence of the Assignments that name them.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use boot::catalog::Found;
use boot::{
    Assignment, ExtrinsicLabels, LabelSelector, Labels, Mac, MatchedBy, ObjectKey, Subject,
    identity,
};
use rayon::prelude::*;
use uuid::Uuid;

use super::side::Side;

/// An identity that a selector names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Identity {
    pub(super) kind: Kind,
    text: Box<str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    Uuid,
    Serial,
    Mac,
}

/// Identities with equivalent Assignments in both catalogs, in the same order: in a given cell they
/// all boot the same, each by its own Assignment.
#[derive(Debug)]
pub(super) struct Class {
    /// The identities; never empty.
    pub(super) members: Arc<[Identity]>,
}

/// The parts of an Assignment that affect selection, except its name.
#[derive(PartialEq, Eq, Hash)]
struct EquivalenceKey<'c> {
    partition: &'c str,
    namespace: &'c str,
    priority: i32,
    profiles: &'c Labels,
    /// Included because templates can read them.
    labels: &'c Labels,
    requirements: Vec<String>,
}

/// The role of an identity in an Assignment.
#[derive(PartialEq, Eq, Hash)]
struct Membership {
    by: MatchedBy,
    /// The equivalence class of the Assignment.
    equivalence: usize,
    /// The index of the same Assignment in the old catalog.
    position: Option<usize>,
    /// The Assignment's key, if it matches the machine by labels in the other catalog: then it may
    /// win in both, which sets it apart from the others of its class.
    by_labels: Option<ObjectKey>,
}

/// The roles of an identity in both catalogs.
type Signature = (Kind, Vec<Membership>, Vec<Membership>, Option<Box<str>>);

// === impl Class ===

impl Class {
    pub(super) fn kind(&self) -> Kind {
        self.members[0].kind
    }
}

// === impl Identity ===

impl Identity {
    fn uuid(uuid: Uuid) -> Option<Self> {
        (!identity::is_placeholder_uuid(uuid)).then(|| Self {
            kind: Kind::Uuid,
            text: uuid.to_string().into(),
        })
    }

    fn serial(serial: &str) -> Option<Self> {
        (!identity::is_placeholder_serial(serial)).then(|| Self {
            kind: Kind::Serial,
            text: serial.into(),
        })
    }

    fn mac(mac: Mac) -> Option<Self> {
        (!mac.is_placeholder()).then(|| Self {
            kind: Kind::Mac,
            text: mac.to_string().into(),
        })
    }

    pub(super) fn key(&self) -> &'static str {
        match self.kind {
            Kind::Uuid => "uuid",
            Kind::Serial => "serial",
            Kind::Mac => "mac",
        }
    }

    pub(super) fn value(&self) -> String {
        self.text.to_string()
    }

    /// Whether the machine presents this identity, in either byte order.
    pub(super) fn is_presented_by(&self, subject: &Subject) -> bool {
        match self.kind {
            Kind::Uuid => subject.uuid().is_some_and(|uuid| {
                let is = |uuid: Uuid| *uuid.to_string() == *self.text;
                is(uuid) || is(identity::other_byte_order(uuid))
            }),
            Kind::Serial => subject.serial() == Some(&self.text),
            Kind::Mac => subject
                .mac()
                .is_some_and(|mac| *mac.to_string() == *self.text),
        }
    }

    /// Parses a label that a machine presents, if it is an identity.
    pub(super) fn of_label(key: &str, value: &str) -> Option<Self> {
        match key {
            "uuid" => identity::parse_uuid(value).and_then(Self::uuid),
            "serial" => Self::serial(value),
            "mac" => value.parse().ok().and_then(Self::mac),
            _ => None,
        }
    }

    /// Returns the Assignments that name it, by rank.
    pub(super) fn named_in<'c>(&self, side: &Side<'c>) -> Vec<Found<'c>> {
        subject(&[self]).map_or_else(Vec::new, |subject| side.catalog.by_identity(&subject))
    }
}

/// Returns a machine that presents these identities and nothing else.
pub(super) fn subject(identities: &[&Identity]) -> Option<Subject> {
    let mut query = String::new();
    for identity in identities {
        boot::query::append(&mut query, identity.key(), &identity.text);
    }
    Subject::from_query(&query, &ExtrinsicLabels::default()).ok()
}

/// Returns the identities that touched Assignments name, each once, and their equivalents in the
/// other byte order; also the identities of Assignments that a touched one without identities
/// overrides by its priority. `identity_labels` as for [`classes`].
pub(super) fn of_touched(
    old: &Side<'_>,
    new: &Side<'_>,
    identity_labels: bool,
) -> BTreeSet<Identity> {
    let touched = || old.touched().chain(new.touched());
    let mut all: BTreeSet<Identity> = touched()
        .flat_map(|assignment| named_by(assignment))
        .collect();
    let unnamed = touched().filter(|assignment| !assignment.subjects.names_identities());
    if let Some(highest) = unnamed.map(|assignment| assignment.priority).max() {
        let assignments = old.catalog.assignments().chain(new.catalog.assignments());
        all.extend(
            assignments
                .filter(|assignment| assignment.priority < highest)
                .flat_map(|assignment| named_by(assignment)),
        );
    }
    // As a label, the other spelling is a different value.
    let counts = |other: &Identity| identity_labels || is_named(other, old) || is_named(other, new);
    let swapped: Vec<_> = all
        .par_iter()
        .filter_map(other_byte_order)
        .filter(counts)
        .collect();
    all.extend(swapped);
    all
}

/// Returns all identities that both catalogs name. `identity_labels` as for [`classes`].
pub(super) fn all(old: &Side<'_>, new: &Side<'_>, identity_labels: bool) -> BTreeSet<Identity> {
    let mut all: BTreeSet<_> = old
        .catalog
        .assignments()
        .chain(new.catalog.assignments())
        .flat_map(|assignment| named_by(assignment))
        .collect();
    if identity_labels {
        let swapped: Vec<_> = all.iter().filter_map(other_byte_order).collect();
        all.extend(swapped);
    }
    all
}

fn named_by(assignment: &Assignment) -> impl Iterator<Item = Identity> {
    let subjects = &assignment.subjects;
    let uuids = subjects
        .uuids
        .iter()
        .filter_map(|uuid| Identity::uuid(*uuid));
    let serials = subjects
        .serials
        .iter()
        .filter_map(|serial| Identity::serial(serial));
    uuids
        .chain(serials)
        .chain(subjects.macs.iter().filter_map(|mac| Identity::mac(*mac)))
}

fn other_byte_order(identity: &Identity) -> Option<Identity> {
    let uuid = identity::parse_uuid(&identity.text).filter(|_| identity.kind == Kind::Uuid)?;
    Identity::uuid(identity::other_byte_order(uuid))
}

/// Whether an Assignment uses this spelling.
fn is_named(identity: &Identity, side: &Side<'_>) -> bool {
    identity
        .named_in(side)
        .iter()
        .any(|found| found.by != MatchedBy::UuidOtherByteOrder)
}

/// Groups identities by their roles in both catalogs. With `identity_labels`, each identity is a
/// class by itself.
pub(super) fn classes(
    old: &Side<'_>,
    new: &Side<'_>,
    identities: BTreeSet<Identity>,
    identity_labels: bool,
) -> Vec<Class> {
    let mut equivalences = HashMap::new();
    let mut classes: HashMap<Signature, Vec<Identity>> = HashMap::new();
    let identities: Vec<Identity> = identities.into_iter().collect();
    let named: Vec<_> = identities
        .par_iter()
        .map(|identity| (identity.named_in(old), identity.named_in(new)))
        .collect();
    for (identity, (before, after)) in identities.into_iter().zip(named) {
        let keys: Vec<&ObjectKey> = before.iter().map(|found| &found.assignment.key).collect();
        let membership = |found: &Found<'_>, equivalence: usize, other: &Side<'_>| {
            let by_labels = other
                .catalog
                .assignment(&found.assignment.key)
                .filter(|other| !other.subjects.names_identities());
            let position = keys.iter().position(|key| **key == found.assignment.key);
            Membership {
                by: found.by,
                equivalence,
                position,
                by_labels: by_labels.map(|other| other.key.clone()),
            }
        };
        let old_memberships = before
            .iter()
            .map(|found| membership(found, equivalence(&mut equivalences, found), new))
            .collect();
        let new_memberships = after
            .iter()
            .map(|found| membership(found, equivalence(&mut equivalences, found), old))
            .collect();
        let signature = (
            identity.kind,
            old_memberships,
            new_memberships,
            identity_labels.then(|| identity.text.clone()),
        );
        classes.entry(signature).or_default().push(identity);
    }
    let mut classes: Vec<_> = classes
        .into_values()
        .map(|members| Class {
            members: members.into(),
        })
        .collect();
    // Makes the order independent of the hash map.
    classes.sort_by(|a, b| a.members[0].cmp(&b.members[0]));
    classes
}

fn equivalence<'c>(
    equivalences: &mut HashMap<EquivalenceKey<'c>, usize>,
    found: &Found<'c>,
) -> usize {
    let assignment = found.assignment;
    let key = EquivalenceKey {
        partition: &assignment.key.partition,
        namespace: &assignment.key.namespace,
        priority: assignment.priority,
        profiles: &assignment.profiles,
        labels: &assignment.labels,
        requirements: requirement_texts(&assignment.subjects.labels),
    };
    let next = equivalences.len();
    *equivalences.entry(key).or_insert(next)
}

/// Formats a selector. Texts of two selectors are equal only if the selectors are.
fn requirement_texts(selector: &LabelSelector) -> Vec<String> {
    selector
        .requirements()
        .iter()
        .map(|requirement| format!("{requirement:?}"))
        .collect()
}

/// Returns some pairs with one member of each class: a pair that an Assignment names together, and
/// one that none does.
pub(super) fn sample_pairs<'k>(
    old: &Side<'_>,
    new: &Side<'_>,
    a: &'k Class,
    b: &'k Class,
) -> Vec<(&'k Identity, &'k Identity)> {
    const MAX_TRIED: usize = 64;
    let keys = |identity: &Identity| -> HashSet<ObjectKey> {
        let all = identity
            .named_in(old)
            .into_iter()
            .chain(identity.named_in(new));
        all.map(|found| found.assignment.key.clone()).collect()
    };
    let (mut together, mut apart) = (None, None);
    for first in a.members.iter().take(MAX_TRIED) {
        let own = keys(first);
        for second in b.members.iter().take(MAX_TRIED) {
            let position = if own.is_disjoint(&keys(second)) {
                &mut apart
            } else {
                &mut together
            };
            position.get_or_insert((first, second));
            if together.is_some() && apart.is_some() {
                break;
            }
        }
    }
    together.into_iter().chain(apart).collect()
}
