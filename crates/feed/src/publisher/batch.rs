//! A batch in parts of bounded size.

use boot::{Catalog, ObjectRef};
use prost::Message;

use crate::proto::{Commit, Part};
use crate::wire;

/// A part is sent when it is at least so long. One object may make it longer: a Profile has up to a mebibyte or two.
const PART_BYTES: usize = 128 * 1024;

/// What brings a follower to one revision, made part by part while it is sent: a slow follower costs one part, and the nodes of the
/// catalog that have changed since.
pub(super) struct Batch {
    catalog: Catalog,
    /// None: everything.
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

    /// The parts, the last with the commit. Never empty.
    pub(super) fn parts(&self) -> Parts<impl Iterator<Item = Item> + Send + '_> {
        let catalog = &self.catalog;
        let all = self.names.is_none().then(|| {
            // Profiles first: who reads along sees what Assignments lead to.
            let profiles = catalog
                .profiles()
                .map(|profile| Item::Profile(wire::encode_profile(profile)));
            let assignments = catalog
                .assignments()
                .map(|assignment| Item::Assignment(wire::encode_assignment(assignment)));
            let rejected = catalog
                .all_rejected()
                .map(|rejected| Item::Rejected(wire::encode_rejected(rejected)));
            profiles.chain(assignments).chain(rejected)
        });
        let changed = self.names.iter().flatten().flat_map(|name| {
            let rejected = catalog
                .rejected(name)
                .map(|rejected| Item::Rejected(wire::encode_rejected(rejected)));
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

/// One object on its way.
pub(super) enum Item {
    Profile(crate::proto::Profile),
    Assignment(crate::proto::Assignment),
    ProfileDeleted(crate::proto::ObjectKey),
    AssignmentDeleted(crate::proto::ObjectKey),
    Rejected(crate::proto::Rejected),
}

impl Item {
    /// What a follower is to know of an object that changed: its accepted version as it is now, or that there is none.
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
        }
    }

    fn add_to(self, part: &mut Part) -> usize {
        match self {
            Self::Profile(profile) => push(&mut part.profiles, profile),
            Self::Assignment(assignment) => push(&mut part.assignments, assignment),
            Self::ProfileDeleted(key) => push(&mut part.profiles_gone, key),
            Self::AssignmentDeleted(key) => push(&mut part.assignments_gone, key),
            Self::Rejected(rejected) => push(&mut part.rejected, rejected),
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
