//! Splits a batch into parts of bounded size.

use boot::{Catalog, ObjectRef, Partial, Rejected};
use prost::Message;

use crate::proto::{Commit, Part};
use crate::wire;

/// The size from which a part is sent. One object can exceed it: a Profile may have a mebibyte or
/// two.
const PART_BYTES: usize = 128 * 1024;

/// A batch for one follower, encoded part by part as it is sent. A slow follower costs the memory
/// of one part, and of the catalog nodes that have changed since.
pub(super) struct Batch {
    catalog: Catalog,
    /// The objects to send; `None` for a snapshot.
    names: Option<Vec<ObjectRef>>,
    commit: Commit,
}

impl Batch {
    pub(super) fn new(catalog: Catalog, names: Option<Vec<ObjectRef>>, commit: Commit) -> Self {
        Self {
            catalog,
            names,
            commit,
        }
    }

    pub(super) fn is_snapshot(&self) -> bool {
        self.names.is_none()
    }

    pub(super) fn commit(&self) -> &Commit {
        &self.commit
    }

    /// The parts, the last of which has the commit. There is at least one.
    pub(super) fn parts(&self) -> Parts<impl Iterator<Item = Item> + Send + '_> {
        let catalog = &self.catalog;
        let all = self.names.is_none().then(|| {
            // Profiles come first, so that a reader of the stream sees them before the Assignments
            // that refer to them.
            let profiles = catalog
                .profiles()
                .map(|profile| Item::Profile(wire::encode_profile(profile)));
            let assignments = catalog
                .assignments()
                .map(|assignment| Item::Assignment(wire::encode_assignment(assignment)));
            let machines = catalog
                .machines()
                .map(|machine| Item::Machine(wire::encode_machine(machine)));
            let rejected = catalog
                .all_rejected()
                .map(|rejected| Item::rejected(rejected));
            profiles.chain(machines).chain(assignments).chain(rejected)
        });
        let changed = self.names.iter().flatten().flat_map(|name| {
            let rejected = catalog
                .rejected(name)
                .map(|rejected| Item::rejected(rejected));
            std::iter::once(Item::of(name, catalog)).chain(rejected)
        });
        let items = all.into_iter().flatten().chain(changed);
        Parts {
            items,
            snapshot: self.is_snapshot(),
            commit: Some(self.commit),
        }
    }
}

/// An encoded object.
pub(super) enum Item {
    Profile(crate::proto::Profile),
    Assignment(crate::proto::Assignment),
    ProfileDeleted(crate::proto::ObjectKey),
    AssignmentDeleted(crate::proto::ObjectKey),
    Rejected(crate::proto::Rejected),
    Machine(crate::proto::Machine),
    MachineDeleted(crate::proto::ObjectKey),
    MachineRejected(crate::proto::Rejected),
}

impl Item {
    fn rejected(rejected: &Rejected) -> Self {
        let message = wire::encode_rejected(rejected);
        match rejected.partial {
            Partial::Machine(_) => Self::MachineRejected(message),
            _ => Self::Rejected(message),
        }
    }

    /// Encodes a changed object: its current accepted version, or its deletion if there is none.
    fn of(name: &ObjectRef, catalog: &Catalog) -> Self {
        match name {
            ObjectRef::Profile(key) => match catalog.profile(key) {
                Some(profile) => Self::Profile(wire::encode_profile(profile)),
                None => Self::ProfileDeleted(wire::encode_key(key)),
            },
            ObjectRef::Assignment(key) => match catalog.assignment(key) {
                Some(assignment) => Self::Assignment(wire::encode_assignment(assignment)),
                None => Self::AssignmentDeleted(wire::encode_key(key)),
            },
            ObjectRef::Machine(key) => match catalog.machine(key) {
                Some(machine) => Self::Machine(wire::encode_machine(machine)),
                None => Self::MachineDeleted(wire::encode_key(key)),
            },
        }
    }

    fn add_to(self, part: &mut Part) -> usize {
        match self {
            Self::Profile(profile) => push(&mut part.profiles, profile),
            Self::Assignment(assignment) => push(&mut part.assignments, assignment),
            Self::ProfileDeleted(key) => push(&mut part.profiles_deleted, key),
            Self::AssignmentDeleted(key) => push(&mut part.assignments_deleted, key),
            Self::Rejected(rejected) => push(&mut part.rejected, rejected),
            Self::Machine(machine) => push(&mut part.machines, machine),
            Self::MachineDeleted(key) => push(&mut part.machines_deleted, key),
            Self::MachineRejected(rejected) => push(&mut part.machines_rejected, rejected),
        }
    }
}

fn push<M: Message>(list: &mut Vec<M>, message: M) -> usize {
    let bytes = message.encoded_len();
    list.push(message);
    bytes
}

pub(super) struct Parts<I> {
    items: I,
    snapshot: bool,
    commit: Option<Commit>,
}

impl<I: Iterator<Item = Item>> Iterator for Parts<I> {
    type Item = Part;

    fn next(&mut self) -> Option<Part> {
        self.commit?;
        let mut part = Part {
            snapshot: self.snapshot,
            ..Part::default()
        };
        let mut bytes = 0;
        while bytes < PART_BYTES {
            match self.items.next() {
                Some(item) => bytes += item.add_to(&mut part),
                None => {
                    part.commit = self.commit.take();
                    break;
                }
            }
        }
        Some(part)
    }
}
