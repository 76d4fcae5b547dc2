//! A summary of the names of all objects, by which a follower notices that it does not hold what it should.

use aws_lc_rs::digest::{Context, SHA256};
use boot::Name;

use crate::proto;

/// How many objects there are, and a sum over their names. What is added and taken again leaves nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Inventory {
    profiles: u64,
    assignments: u64,
    names: u64,
    unaccepted: u64,
    unaccepted_names: u64,
}

/// How one object is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Account {
    /// An accepted version is known.
    pub(crate) accepted: bool,
    /// It exists and is not accepted.
    pub(crate) unaccepted: bool,
}

impl Inventory {
    pub(crate) fn add(&mut self, name: &Name) {
        let count = self.count(name);
        *count = count.wrapping_add(1);
        self.names = self.names.wrapping_add(digest(name));
    }

    pub(crate) fn take(&mut self, name: &Name) {
        let count = self.count(name);
        *count = count.wrapping_sub(1);
        self.names = self.names.wrapping_sub(digest(name));
    }

    /// An object exists and is not accepted.
    pub(crate) fn add_unaccepted(&mut self, name: &Name) {
        self.unaccepted = self.unaccepted.wrapping_add(1);
        self.unaccepted_names = self.unaccepted_names.wrapping_add(digest(name));
    }

    /// That is over.
    pub(crate) fn take_unaccepted(&mut self, name: &Name) {
        self.unaccepted = self.unaccepted.wrapping_sub(1);
        self.unaccepted_names = self.unaccepted_names.wrapping_sub(digest(name));
    }

    /// An object was there or not, accepted or not, and now is or is not.
    pub(crate) fn moved(&mut self, name: &Name, before: Account, after: Account) {
        match (before.accepted, after.accepted) {
            (false, true) => self.add(name),
            (true, false) => self.take(name),
            _ => {}
        }
        match (before.unaccepted, after.unaccepted) {
            (false, true) => self.add_unaccepted(name),
            (true, false) => self.take_unaccepted(name),
            _ => {}
        }
    }

    fn count(&mut self, name: &Name) -> &mut u64 {
        match name {
            Name::Assignment(_) => &mut self.assignments,
            Name::Profile(_) => &mut self.profiles,
        }
    }
}

impl From<Inventory> for proto::Inventory {
    fn from(inventory: Inventory) -> Self {
        let Inventory {
            profiles,
            assignments,
            names,
            unaccepted,
            unaccepted_names,
        } = inventory;
        Self {
            profiles,
            assignments,
            names,
            unaccepted,
            unaccepted_names,
        }
    }
}

impl From<proto::Inventory> for Inventory {
    fn from(inventory: proto::Inventory) -> Self {
        let proto::Inventory {
            profiles,
            assignments,
            names,
            unaccepted,
            unaccepted_names,
        } = inventory;
        Self {
            profiles,
            assignments,
            names,
            unaccepted,
            unaccepted_names,
        }
    }
}

/// Without the partition: a controller does not know which one it is.
fn digest(name: &Name) -> u64 {
    let kind = match name {
        Name::Assignment(_) => "Assignment",
        Name::Profile(_) => "Profile",
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
    fn the_digest_of_a_name_is_that_of_the_protocol() {
        // printf Profile/ns/name | sha256sum
        assert_eq!(
            digest(&Name::Profile(
                ObjectKey::new("ns", "name").in_partition("west")
            )),
            0xc793_392e_0ba5_6c90
        );
    }

    #[test]
    fn the_order_does_not_count_and_what_goes_leaves_nothing() {
        let [a, b] = ["a", "b"].map(|name| Name::Assignment(ObjectKey::new("ns", name)));
        let (mut one, mut other) = (Inventory::default(), Inventory::default());
        one.add(&a);
        one.add(&b);
        other.add(&b);
        other.add(&a);
        assert_eq!(one, other);
        other.take(&a);
        assert_ne!(one, other);
        other.take(&b);
        assert_eq!(other, Inventory::default());
        one.take(&a);
        one.add(&Name::Profile(a.key().clone()));
        assert_ne!(
            (one.profiles, one.assignments),
            (0, 2),
            "kinds are told apart"
        );
    }
}
