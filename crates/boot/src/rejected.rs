//! Invalid objects.
//!
//! If an invalid object were ignored, its machines would fall through to another Assignment,
//! perhaps to a default that reinstalls them. So the catalog keeps using the object's last valid
//! version. If it has none, the part of the object that could be read stands in for it: it still
//! matches its machines, or is selected by its labels, and these machines wait. See
//! [`Catalog::apply`].
//!
//! [`Catalog::apply`]: crate::Catalog::apply

use std::sync::Arc;

use jiff::Timestamp;

use crate::assignment::Assignment;
use crate::machine::Machine;
use crate::name::{ObjectKey, ObjectRef};
use crate::profile::Profile;

/// An object that exists and is invalid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// The part of the object that could be read.
    pub partial: Partial,
    /// What is wrong with the object: a sentence without a full stop.
    pub fault: Box<str>,
}

/// The part of an invalid object that could be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Partial {
    /// A Profile, by its labels. It has no templates ([`Profile::partial`]).
    Profile(Arc<Profile>),
    /// An Assignment, by the selectors that could be read. Except for machines that it lists by
    /// identity, it matches no machine that the fixed Assignment would not match.
    Assignment(Arc<Assignment>),
    /// A Machine, by the identities that could be read. It has no labels and no variables.
    Machine(Arc<Machine>),
    /// An Assignment with unreadable selectors. It matches no machine.
    Unreadable {
        /// The Assignment's namespace and name.
        key: ObjectKey,
        /// The creation time, if known.
        created: Option<Timestamp>,
    },
}

// === impl Rejected ===

impl Rejected {
    /// Returns the object's kind and key.
    pub fn name(&self) -> ObjectRef {
        match &self.partial {
            Partial::Profile(profile) => ObjectRef::Profile(profile.key.clone()),
            Partial::Assignment(assignment) => ObjectRef::Assignment(assignment.key.clone()),
            Partial::Machine(machine) => ObjectRef::Machine(machine.key.clone()),
            Partial::Unreadable { key, .. } => ObjectRef::Assignment(key.clone()),
        }
    }

    /// Returns the object's creation time, if known.
    pub fn created(&self) -> Option<Timestamp> {
        match &self.partial {
            Partial::Profile(profile) => profile.created,
            Partial::Assignment(assignment) => assignment.created,
            Partial::Machine(machine) => machine.created,
            Partial::Unreadable { created, .. } => *created,
        }
    }

    /// Returns whether the object's selectors are unreadable, so that other Assignments may get its
    /// machines.
    pub fn is_unreadable(&self) -> bool {
        matches!(self.partial, Partial::Unreadable { .. })
    }

    /// Returns whether an object of this name that was created at this time is a different one.
    pub fn is_different_object(&self, created: Option<Timestamp>) -> bool {
        self.created()
            .zip(created)
            .is_some_and(|(own, other)| own != other)
    }
}
