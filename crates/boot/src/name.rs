//! Names of objects.

use std::cell::RefCell;
use std::cmp::Ordering;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use crate::intern::{self, InternTable, MAX_INTERNED_LEN};

/// The name of an object, with its namespace and, if there are several clusters, its partition.
///
/// Keys are ordered by namespace, name, partition, so that the final tie-break of selection does
/// not depend on where objects live. A clone shares its strings. To keep data about an object
/// outside the catalog, clone the catalog's own key.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ObjectKey {
    /// Shared by many objects, so that it is usually in the processor's cache.
    place: Arc<Place>,
    /// The name, unique among objects of one kind in the namespace.
    pub name: Arc<str>,
}

/// The namespace and partition of an object.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Place {
    /// The Kubernetes namespace.
    pub namespace: Arc<str>,
    /// The cluster that holds the object, if several together hold the catalog. Otherwise empty.
    pub partition: Arc<str>,
}

/// The kind and the key of an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectRef {
    /// An Assignment.
    Assignment(ObjectKey),
    /// A Profile.
    Profile(ObjectKey),
}

thread_local! {
    static PLACES: RefCell<InternTable<Place>> = RefCell::new(InternTable::new());
}

impl Place {
    /// Interns a namespace and partition.
    fn shared(partition: &str, namespace: &str) -> Arc<Self> {
        let place = Self {
            namespace: intern::string(namespace),
            partition: intern::string(partition),
        };
        match partition.len() + namespace.len() {
            0..=MAX_INTERNED_LEN => {
                PLACES.with_borrow_mut(|known| known.get_or_insert(&place, || place.clone().into()))
            }
            _ => place.into(),
        }
    }
}

impl ObjectKey {
    /// Creates the key of an object outside partitions.
    pub fn new(namespace: impl AsRef<str>, name: impl Into<Arc<str>>) -> Self {
        Self {
            place: Place::shared("", namespace.as_ref()),
            name: name.into(),
        }
    }

    /// Returns the namespace and partition, shared by all objects in them.
    pub(crate) fn place(&self) -> &Arc<Place> {
        &self.place
    }

    /// Passes the parts of the `Display` form to `give`, in order.
    pub fn spell(&self, give: &mut impl FnMut(&str)) {
        if !self.partition.is_empty() {
            give(&self.partition);
            give(":");
        }
        give(&self.namespace);
        give("/");
        give(&self.name);
    }

    /// Returns this key in a partition.
    pub fn in_partition(self, partition: impl AsRef<str>) -> Self {
        Self {
            place: Place::shared(partition.as_ref(), &self.namespace),
            ..self
        }
    }
}

impl Deref for ObjectKey {
    type Target = Place;

    fn deref(&self) -> &Place {
        &self.place
    }
}

impl Ord for ObjectKey {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_name = || {
            self.name
                .cmp(&other.name)
                .then_with(|| self.partition.cmp(&other.partition))
        };
        self.namespace.cmp(&other.namespace).then_with(by_name)
    }
}

impl PartialOrd for ObjectKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Serialises to `{"namespace": ..., "name": ...}`, and `partition` if there is one.
impl Serialize for ObjectKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (
            name,
            Place {
                namespace,
                partition,
            },
        ) = (&self.name, &**self);
        let mut fields =
            serializer.serialize_struct("ObjectKey", 2 + usize::from(!partition.is_empty()))?;
        fields.serialize_field("namespace", &**namespace)?;
        fields.serialize_field("name", &**name)?;
        if !partition.is_empty() {
            fields.serialize_field("partition", &**partition)?;
        }
        fields.end()
    }
}

/// Writes `namespace/name`, or `partition:namespace/name`.
impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut written = Ok(());
        self.spell(&mut |piece| written = written.and_then(|()| f.write_str(piece)));
        written
    }
}

impl ObjectRef {
    /// Returns the key of the object.
    pub fn key(&self) -> &ObjectKey {
        match self {
            Self::Assignment(key) | Self::Profile(key) => key,
        }
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Assignment(key) => write!(f, "Assignment {key}"),
            Self::Profile(key) => write!(f, "Profile {key}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_in_one_namespace_share_its_allocation() {
        assert!(Arc::ptr_eq(
            &Place::shared("east", "machines"),
            &Place::shared("east", "machines")
        ));
        assert_ne!(
            ObjectKey::new("machines", "a"),
            ObjectKey::new("", "a").in_partition("machines")
        );
    }
}
