//! A summary of all object names, by which a follower detects that its catalog differs from the
//! controller's.

use aws_lc_rs::digest::{Context, SHA256};
use boot::ObjectRef;

use crate::proto;

/// Counts of objects and sums over the digests of their names. Removing an object undoes adding it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Inventory {
    profiles: u64,
    assignments: u64,
    names: u64,
    rejected: u64,
    rejected_names: u64,
}

/// How an object is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ObjectState {
    /// An accepted version is known.
    pub(crate) accepted: bool,
    /// The current version is rejected.
    pub(crate) rejected: bool,
}

impl Inventory {
    pub(crate) fn add(&mut self, name: &ObjectRef) {
        let count = self.count(name);
        *count = count.wrapping_add(1);
        self.names = self.names.wrapping_add(digest(name));
    }

    pub(crate) fn remove(&mut self, name: &ObjectRef) {
        let count = self.count(name);
        *count = count.wrapping_sub(1);
        self.names = self.names.wrapping_sub(digest(name));
    }

    /// Counts an object as rejected.
    pub(crate) fn add_rejected(&mut self, name: &ObjectRef) {
        self.rejected = self.rejected.wrapping_add(1);
        self.rejected_names = self.rejected_names.wrapping_add(digest(name));
    }

    /// Undoes [`add_rejected`](Self::add_rejected).
    pub(crate) fn remove_rejected(&mut self, name: &ObjectRef) {
        self.rejected = self.rejected.wrapping_sub(1);
        self.rejected_names = self.rejected_names.wrapping_sub(digest(name));
    }

    /// Replaces the count of an object in one state by its count in another.
    pub(crate) fn update(&mut self, name: &ObjectRef, before: ObjectState, after: ObjectState) {
        match (before.accepted, after.accepted) {
            (false, true) => self.add(name),
            (true, false) => self.remove(name),
            _ => {}
        }
        match (before.rejected, after.rejected) {
            (false, true) => self.add_rejected(name),
            (true, false) => self.remove_rejected(name),
            _ => {}
        }
    }

    fn count(&mut self, name: &ObjectRef) -> &mut u64 {
        match name {
            ObjectRef::Assignment(_) => &mut self.assignments,
            ObjectRef::Profile(_) => &mut self.profiles,
        }
    }
}

impl From<Inventory> for proto::Inventory {
    fn from(inventory: Inventory) -> Self {
        let Inventory {
            profiles,
            assignments,
            names,
            rejected,
            rejected_names,
        } = inventory;
        Self {
            profiles,
            assignments,
            names,
            rejected,
            rejected_names,
        }
    }
}

impl From<proto::Inventory> for Inventory {
    fn from(inventory: proto::Inventory) -> Self {
        let proto::Inventory {
            profiles,
            assignments,
            names,
            rejected,
            rejected_names,
        } = inventory;
        Self {
            profiles,
            assignments,
            names,
            rejected,
            rejected_names,
        }
    }
}

/// Digests a name without its partition, which the controller does not know.
fn digest(name: &ObjectRef) -> u64 {
    let kind = match name {
        ObjectRef::Assignment(_) => "Assignment",
        ObjectRef::Profile(_) => "Profile",
    };
    let mut hash = Context::new(&SHA256);
    for part in [kind, "/", &name.key().namespace, "/", &name.key().name] {
        hash.update(part.as_bytes());
    }
    u64::from_be_bytes(
        hash.finish().as_ref()[..8]
            .try_into()
            .expect("a digest has 32 bytes"),
    )
}

#[cfg(test)]
mod tests {
    use boot::ObjectKey;

    use super::*;

    #[test]
    fn a_name_digest_matches_the_protocol() {
        // printf Profile/ns/name | sha256sum
        assert_eq!(
            digest(&ObjectRef::Profile(
                ObjectKey::new("ns", "name").in_partition("west")
            )),
            0xc793_392e_0ba5_6c90
        );
    }

    #[test]
    fn the_inventory_ignores_order_and_removing_an_object_undoes_adding_it() {
        let [a, b] = ["a", "b"].map(|name| ObjectRef::Assignment(ObjectKey::new("ns", name)));
        let (mut one, mut other) = (Inventory::default(), Inventory::default());
        one.add(&a);
        one.add(&b);
        other.add(&b);
        other.add(&a);
        assert_eq!(one, other);
        other.remove(&a);
        assert_ne!(one, other);
        other.remove(&b);
        assert_eq!(other, Inventory::default());
        one.remove(&a);
        one.add(&ObjectRef::Profile(a.key().clone()));
        assert_ne!(
            (one.profiles, one.assignments),
            (0, 2),
            "kinds are told apart"
        );
    }
}
