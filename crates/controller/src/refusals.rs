//! The objects whose status the API server refuses.

use std::collections::BTreeMap;
use std::sync::Arc;

use boot::ObjectRef;
use tracing::{info, warn};

/// The objects whose last status write was refused because of the object itself, with the reason.
#[derive(Default)]
pub(crate) struct Refusals {
    reasons: BTreeMap<ObjectRef, String>,
    /// How many there are in each namespace.
    by_namespace: BTreeMap<Arc<str>, usize>,
}

// === impl Refusals ===

impl Refusals {
    pub(crate) fn len(&self) -> usize {
        self.reasons.len()
    }

    /// Records a refusal. Logs the first in a namespace: one policy often concerns all objects
    /// there.
    pub(crate) fn insert(&mut self, name: &ObjectRef, reason: String) {
        let namespace = &name.key().namespace;
        if !self.by_namespace.contains_key(namespace) {
            warn!(
                object = %name, reason,
                "the API server refuses this status; retrying with growing pauses"
            );
        }
        if self.reasons.insert(name.clone(), reason).is_none() {
            *self.by_namespace.entry(namespace.clone()).or_default() += 1;
        }
    }

    /// Records that an object's status was written, or needs no write.
    pub(crate) fn remove(&mut self, name: &ObjectRef) {
        if self.reasons.remove(name).is_none() {
            return;
        }
        let namespace = &name.key().namespace;
        let left = self.by_namespace.get_mut(namespace).map_or(0, |count| {
            *count -= 1;
            *count
        });
        if left == 0 {
            self.by_namespace.remove(namespace);
            info!(
                namespace = &**namespace,
                "the API server refuses no status in this namespace any more"
            );
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// A sentence for the operator, if there are any.
    pub(crate) fn remark(&self) -> Option<String> {
        let (name, reason) = self.reasons.first_key_value()?;
        let objects = match self.reasons.len() {
            1 => String::new(),
            more => format!(", and of {} others", more - 1),
        };
        Some(format!(
            "the API server refuses the status of {name}{objects}: {reason}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use boot::ObjectKey;

    use super::*;

    #[test]
    fn a_remark_names_one_object_and_counts_the_others() {
        let mut refusals = Refusals::default();
        let name = |name| ObjectRef::Profile(ObjectKey::new("n", name));
        assert_eq!(refusals.remark(), None);
        refusals.insert(&name("a"), "403 a policy".into());
        assert_eq!(
            refusals.remark().unwrap(),
            "the API server refuses the status of Profile n/a: 403 a policy"
        );
        refusals.insert(&name("b"), "403 a policy".into());
        refusals.insert(&name("b"), "413 too large".into());
        refusals.remove(&name("a"));
        assert_eq!(
            refusals.remark().unwrap(),
            "the API server refuses the status of Profile n/b: 413 too large"
        );
        refusals.remove(&name("b"));
        assert_eq!((refusals.len(), refusals.remark()), (0, None));
    }
}
