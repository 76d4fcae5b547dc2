//! A summary of all object names, by which a follower detects that its catalog differs from the
//! controller's.

use aws_lc_rs::digest::{Context, SHA256};
use boot::ObjectRef;

use crate::proto;

/// A summary of the accepted objects and one of the rejected objects. An object may be in both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Inventory {
    pub(crate) accepted: Tally,
    pub(crate) rejected: Tally,
}

/// Counts of objects and the sum over the digests of their names. Removing an object undoes adding
/// it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    profiles: u64,
    assignments: u64,
    names: u64,
    machines: u64,
    machine_names: u64,
}

/// How an object is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ObjectState {
    /// An accepted version is known.
    pub(crate) accepted: bool,
    /// The current version is rejected.
    pub(crate) rejected: bool,
}

// === impl Inventory ===

impl Inventory {
    /// Replaces the count of an object in one state by its count in another.
    pub(crate) fn update(&mut self, name: &ObjectRef, before: ObjectState, after: ObjectState) {
        self.accepted.update(name, before.accepted, after.accepted);
        self.rejected.update(name, before.rejected, after.rejected);
    }
}

impl From<Inventory> for proto::Inventory {
    fn from(inventory: Inventory) -> Self {
        let Inventory { accepted, rejected } = inventory;
        Self {
            profiles: accepted.profiles,
            assignments: accepted.assignments,
            names: accepted.names,
            rejected: rejected.profiles.wrapping_add(rejected.assignments),
            rejected_names: rejected.names,
            machines: accepted.machines,
            machine_names: accepted.machine_names,
            machines_rejected: rejected.machines,
            machines_rejected_names: rejected.machine_names,
        }
    }
}

// === impl Tally ===

impl Tally {
    pub(crate) fn add(&mut self, name: &ObjectRef) {
        let (count, names) = self.of_kind(name);
        *count = count.wrapping_add(1);
        *names = names.wrapping_add(digest(name));
    }

    pub(crate) fn remove(&mut self, name: &ObjectRef) {
        let (count, names) = self.of_kind(name);
        *count = count.wrapping_sub(1);
        *names = names.wrapping_sub(digest(name));
    }

    fn update(&mut self, name: &ObjectRef, before: bool, after: bool) {
        match (before, after) {
            (false, true) => self.add(name),
            (true, false) => self.remove(name),
            _ => {}
        }
    }

    /// Returns the count of the object's kind, and the sum that its name is in.
    fn of_kind(&mut self, name: &ObjectRef) -> (&mut u64, &mut u64) {
        match name {
            ObjectRef::Assignment(_) => (&mut self.assignments, &mut self.names),
            ObjectRef::Profile(_) => (&mut self.profiles, &mut self.names),
            ObjectRef::Machine(_) => (&mut self.machines, &mut self.machine_names),
        }
    }
}

/// Digests a name without its partition, which the controller does not know.
fn digest(name: &ObjectRef) -> u64 {
    let mut hash = Context::new(&SHA256);
    for part in [
        name.kind(),
        "/",
        &name.key().namespace,
        "/",
        &name.key().name,
    ] {
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
        let (mut one, mut other) = (Tally::default(), Tally::default());
        one.add(&a);
        one.add(&b);
        other.add(&b);
        other.add(&a);
        assert_eq!(one, other);
        other.remove(&a);
        assert_ne!(one, other);
        other.remove(&b);
        assert_eq!(other, Tally::default());
        one.remove(&a);
        one.add(&ObjectRef::Profile(a.key().clone()));
        assert_ne!(
            (one.profiles, one.assignments),
            (0, 2),
            "kinds are told apart"
        );
    }
}
