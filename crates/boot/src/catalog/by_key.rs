//! Objects that are their own map keys, so that the key is not stored twice.

use std::borrow::Borrow;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::assignment::Assignment;
use crate::machine::Machine;
use crate::name::ObjectKey;

/// An object with a key that is unique among its kind.
pub(super) trait Keyed {
    fn key(&self) -> &ObjectKey;
}

/// An object, compared and hashed by its key.
pub(super) struct ByKey<T>(pub(super) Arc<T>);

impl Keyed for Assignment {
    fn key(&self) -> &ObjectKey {
        &self.key
    }
}

impl Keyed for Machine {
    fn key(&self) -> &ObjectKey {
        &self.key
    }
}

impl<T> Clone for ByKey<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Keyed> Borrow<ObjectKey> for ByKey<T> {
    fn borrow(&self) -> &ObjectKey {
        self.0.key()
    }
}

impl<T: Keyed> Hash for ByKey<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.key().hash(state);
    }
}

impl<T: Keyed> PartialEq for ByKey<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0.key() == other.0.key()
    }
}

impl<T: Keyed> Eq for ByKey<T> {}
