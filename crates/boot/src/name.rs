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
    location: Arc<Location>,
    /// The name, unique among objects of one kind in the namespace.
    pub name: Arc<str>,
}

/// The namespace and partition of an object.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Location {
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
    /// A Machine, which is cluster-scoped.
    Machine(ObjectKey),
}

thread_local! {
    static LOCATIONS: RefCell<InternTable<Location>> = RefCell::new(InternTable::new());
}

impl Location {
    /// Interns a namespace and partition.
    fn shared(partition: &str, namespace: &str) -> Arc<Self> {
        let location = Self {
            namespace: intern::string(namespace),
            partition: intern::string(partition),
        };
        match partition.len() + namespace.len() {
            0..=MAX_INTERNED_LEN => LOCATIONS.with_borrow_mut(|known| {
                known.get_or_insert(&location, || location.clone().into())
            }),
            _ => location.into(),
        }
    }
}

impl ObjectKey {
    /// Creates the key of an object outside partitions. A cluster-scoped object has an empty
    /// namespace.
    pub fn new(namespace: impl AsRef<str>, name: impl Into<Arc<str>>) -> Self {
        Self {
            location: Location::shared("", namespace.as_ref()),
            name: name.into(),
        }
    }

    /// Returns the namespace and partition, shared by all objects in them.
    pub(crate) fn location(&self) -> &Arc<Location> {
        &self.location
    }

    /// Passes the parts of the `Display` form to `write`, in order.
    pub fn write_parts(&self, write: &mut impl FnMut(&str)) {
        if !self.partition.is_empty() {
            write(&self.partition);
            write(":");
        }
        if !self.namespace.is_empty() {
            write(&self.namespace);
            write("/");
        }
        write(&self.name);
    }

    /// Returns this key in a partition.
    pub fn in_partition(self, partition: impl AsRef<str>) -> Self {
        Self {
            location: Location::shared(partition.as_ref(), &self.namespace),
            ..self
        }
    }
}

impl Deref for ObjectKey {
    type Target = Location;

    fn deref(&self) -> &Location {
        &self.location
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

/// Serialises to `{"namespace": ..., "name": ...}`, and `partition` if there is one. A
/// cluster-scoped object has no `namespace`.
impl Serialize for ObjectKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (
            name,
            Location {
                namespace,
                partition,
            },
        ) = (&self.name, &**self);
        let optional = [namespace, partition];
        let present = optional.iter().filter(|text| !text.is_empty()).count();
        let mut fields = serializer.serialize_struct("ObjectKey", 1 + present)?;
        if !namespace.is_empty() {
            fields.serialize_field("namespace", &**namespace)?;
        }
        fields.serialize_field("name", &**name)?;
        if !partition.is_empty() {
            fields.serialize_field("partition", &**partition)?;
        }
        fields.end()
    }
}

/// Writes `namespace/name`, or `partition:namespace/name`; for a cluster-scoped object `name`.
impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut written = Ok(());
        self.write_parts(&mut |piece| written = written.and_then(|()| f.write_str(piece)));
        written
    }
}

impl ObjectRef {
    /// Returns the key of the object.
    pub fn key(&self) -> &ObjectKey {
        match self {
            Self::Assignment(key) | Self::Profile(key) | Self::Machine(key) => key,
        }
    }

    /// Returns the object's kind.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Assignment(_) => "Assignment",
            Self::Profile(_) => "Profile",
            Self::Machine(_) => "Machine",
        }
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind(), self.key())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_in_one_namespace_share_its_allocation() {
        assert!(Arc::ptr_eq(
            &Location::shared("east", "machines"),
            &Location::shared("east", "machines")
        ));
        assert_ne!(
            ObjectKey::new("machines", "a"),
            ObjectKey::new("", "a").in_partition("machines")
        );
    }
}
