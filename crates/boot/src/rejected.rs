//! Objects that exist and can't be served.
//!
//! Such an object must not be as if it did not exist: its machines would fall to another, perhaps to a default that reinstalls them. What it
//! said before stays in use, as long as somebody remembers it. Where nobody does, what can be told of it *stands in* for it: it claims the
//! machines, or is selected by the labels, as it would if it were right, and whoever gets it waits. See [`Catalog::apply`].
//!
//! [`Catalog::apply`]: crate::Catalog::apply

use std::sync::Arc;

use jiff::Timestamp;

use crate::assignment::Assignment;
use crate::name::{ObjectKey, ObjectRef};
use crate::profile::Profile;

/// An object that exists and is not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// What can be told of it.
    pub claim: Claim,
    /// What is wrong with it: a sentence without an end.
    pub fault: Box<str>,
}

/// What can be told of an object that is not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// A Profile, by its labels. Its templates say nothing ([`Profile::claim`]).
    Profile(Arc<Profile>),
    /// An Assignment, by those of its selectors that can be read. It claims no machine that it would not claim if it were right, unless it
    /// names that machine.
    Assignment(Arc<Assignment>),
    /// An Assignment of which nothing can be told but that there is one. It claims no machine.
    Nothing {
        /// Namespace and name.
        key: ObjectKey,
        /// When it was created, if that is known.
        created: Option<Timestamp>,
    },
}

// === impl Rejected ===

impl Rejected {
    /// Which object it is.
    pub fn name(&self) -> ObjectRef {
        match &self.claim {
            Claim::Profile(profile) => ObjectRef::Profile(profile.key.clone()),
            Claim::Assignment(assignment) => ObjectRef::Assignment(assignment.key.clone()),
            Claim::Nothing { key, .. } => ObjectRef::Assignment(key.clone()),
        }
    }

    /// When the object was created, if that is known.
    pub fn created(&self) -> Option<Timestamp> {
        match &self.claim {
            Claim::Profile(profile) => profile.created,
            Claim::Assignment(assignment) => assignment.created,
            Claim::Nothing { created, .. } => *created,
        }
    }

    /// Whether nothing can be told of it, so that its machines may fall to others.
    pub fn claims_nothing(&self) -> bool {
        matches!(self.claim, Claim::Nothing { .. })
    }

    /// Whether it is another object than one of the same name that was created at this time.
    pub fn is_other_object_than(&self, created: Option<Timestamp>) -> bool {
        self.created()
            .zip(created)
            .is_some_and(|(own, other)| own != other)
    }
}
