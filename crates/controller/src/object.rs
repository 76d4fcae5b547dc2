//! Watched objects and the metadata that is kept of them.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use boot::{Change, ConfigName, ObjectKey, ObjectRef, Partial};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::NamespaceResourceScope;
use kube::{Api, Client};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use uuid::{NonNilUuid, Uuid};

use crate::observed::{Observed, Version};
use crate::writer::MANAGER;

/// An object as received from the API server.
#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) name: ObjectRef,
    pub(crate) meta: ObservedMeta,
    /// The converted object, or why it is rejected.
    pub(crate) converted: Result<Change, Box<Rejection>>,
    /// Configs whose ids in the status were written by somebody else than a controller.
    pub(crate) foreign_writes: BTreeSet<ConfigName>,
}

/// A rejected object.
#[derive(Clone, Debug)]
pub(crate) struct Rejection {
    pub(crate) fault: Fault,
    /// The readable part: which machines the object affects.
    pub(crate) partial: Partial,
}

/// An object that was parsed completely, or only in part because its shape is not the expected one.
#[derive(Clone, Debug)]
pub(crate) enum Parsed<K> {
    Complete(K),
    Incomplete(Box<Incomplete<K>>),
}

#[derive(Clone, Debug)]
pub(crate) struct Incomplete<K> {
    metadata: ObjectMeta,
    object: Value,
    /// The object without its unknown fields, if these are all that is wrong.
    known: Option<K>,
    fault: Fault,
}

/// The metadata that is kept of an object, besides its converted form in the catalog.
#[derive(Clone, Debug)]
pub(crate) struct ObservedMeta {
    pub(crate) version: Version,
    pub(crate) uid: Option<NonNilUuid>,
    pub(crate) generation: i64,
    ids: Option<Box<Ids>>,
    /// Whether ids differ from those in the status, since somebody else has changed them there.
    pub(crate) has_restored_ids: bool,
    pub(crate) status: Observed,
}

/// The ids of a Profile's configs.
pub(crate) type Ids = BTreeMap<ConfigName, Uuid>;

/// Why an object is rejected.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Fault {
    pub(crate) reason: &'static str,
    pub(crate) message: Box<str>,
}

/// The kind of an object that the controller watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResourceKind {
    Profile,
    Assignment,
    /// Cluster-scoped, and optional: a controller works without the right to watch them.
    Machine,
}

/// A resource that the controller watches.
pub(crate) trait WatchedResource:
    kube::Resource<DynamicType = ()>
    + serde::de::DeserializeOwned
    + serde::Serialize
    + Clone
    + std::fmt::Debug
    + Send
    + Sync
    + 'static
{
    /// The kind.
    const KIND: ResourceKind;

    /// Returns the API of the objects in a namespace, or of all objects. `T` is a form in which
    /// the objects are sent.
    fn api<T>(client: Client, namespace: Option<&str>) -> Api<T>
    where
        T: kube::Resource<DynamicType = (), Scope = Self::Scope>;
    /// Returns a reference to the object of this kind with the given key.
    fn name_of(key: ObjectKey) -> ObjectRef;
    /// Converts the object for the catalog.
    fn convert(&self) -> Result<Change, crd::Invalid>;
    /// Returns what a rejected object still tells about the machines it concerns.
    fn partial(object: &Value) -> Option<Partial>;
    /// Returns the object's current status.
    fn observed(&self) -> Observed;
    /// Returns the ids in the object's status.
    fn ids(&self) -> Ids {
        Ids::new()
    }
}

// === impl ResourceKind ===

impl ResourceKind {
    /// Returns the kind of an object.
    pub(crate) fn of(name: &ObjectRef) -> Self {
        match name {
            ObjectRef::Profile(_) => Self::Profile,
            ObjectRef::Assignment(_) => Self::Assignment,
            ObjectRef::Machine(_) => Self::Machine,
        }
    }

    /// Returns the plural as in paths of the API.
    pub(crate) fn plural(self) -> &'static str {
        match self {
            Self::Profile => "profiles",
            Self::Assignment => "assignments",
            Self::Machine => "machines",
        }
    }
}

/// Writes the plural as in sentences.
impl fmt::Display for ResourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Profile => "Profiles",
            Self::Assignment => "Assignments",
            Self::Machine => "Machines",
        })
    }
}

// === impl Object ===

impl Object {
    /// Converts a parsed object. Returns `None` for an object without a name, which the API server
    /// never sends.
    pub(crate) fn read<K: WatchedResource>(read: Parsed<K>) -> Option<Self> {
        match read {
            Parsed::Complete(object) => {
                let meta = object.meta();
                let converted = match object.convert() {
                    Ok(change) => Ok(change),
                    Err(invalid) => Err(Box::new(Rejection {
                        fault: Fault::from(&invalid),
                        partial: K::partial(&serde_json::to_value(&object).ok()?)?,
                    })),
                };
                let observed = ObservedMeta::of_known(&object);
                Some(Self {
                    name: name(&converted, K::name_of(key::<K>(meta)?)),
                    foreign_writes: foreign_writes(meta, observed.ids()),
                    meta: observed,
                    converted,
                })
            }
            Parsed::Incomplete(incomplete) => {
                let Incomplete {
                    metadata,
                    object,
                    known,
                    fault,
                } = *incomplete;
                let partial = K::partial(&object)?;
                let mut meta = known.map_or_else(
                    || ObservedMeta::of(&metadata),
                    |known| ObservedMeta::of_known(&known),
                );
                // Even if the status can't be read as a whole, the ids stay.
                if let Partial::Profile(partial) = &partial {
                    meta.set_ids(partial.ids.clone());
                }
                Some(Self {
                    name: K::name_of(key::<K>(&metadata)?),
                    foreign_writes: foreign_writes(&metadata, meta.ids()),
                    meta,
                    converted: Err(Box::new(Rejection { fault, partial })),
                })
            }
        }
    }
}

/// Returns the configs whose ids a controller has not written, by the field managers of the status.
/// Empty if the server does not tell them.
fn foreign_writes(meta: &ObjectMeta, ids: &Ids) -> BTreeSet<ConfigName> {
    let Some(managers) = meta.managed_fields.as_deref() else {
        return BTreeSet::new();
    };
    let own: Vec<_> = managers
        .iter()
        .filter(|entry| entry.manager.as_deref() == Some(MANAGER))
        .filter_map(|entry| {
            let fields = &entry.fields_v1.as_ref()?.0;
            fields["f:status"]["f:additionalConfig"].as_object()
        })
        .collect();
    let is_own = |name: &ConfigName| {
        let field = format!("f:{name}");
        own.iter().any(|fields| fields.contains_key(&field))
    };
    ids.keys().filter(|name| !is_own(name)).cloned().collect()
}

/// Returns the converted object's own reference, so that its allocation is shared with the catalog,
/// or else `name`.
fn name(converted: &Result<Change, Box<Rejection>>, name: ObjectRef) -> ObjectRef {
    converted
        .as_ref()
        .map(Change::name)
        .ok()
        .filter(|own| *own == name)
        .unwrap_or(name)
}

// === impl Parsed ===

/// Accepts any shape: one object that can't be parsed must not end the watch.
impl<'de, K: WatchedResource> Deserialize<'de> for Parsed<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let object = Value::deserialize(deserializer)?;
        let (known, fault) = match crd::deserialize::<K, _>(&object) {
            Ok((object, None)) => return Ok(Self::Complete(object)),
            Ok((known, Some(field))) => (Some(known), Fault::newer(&field)),
            Err(error) => (None, Fault::unreadable(&error)),
        };
        let metadata = ObjectMeta::deserialize(&object["metadata"]).map_err(D::Error::custom)?;
        Ok(Self::Incomplete(Box::new(Incomplete {
            metadata,
            object,
            known,
            fault,
        })))
    }
}

impl<K: WatchedResource> kube::Resource for Parsed<K> {
    type DynamicType = ();
    type Scope = K::Scope;

    fn kind(dt: &()) -> Cow<'_, str> {
        K::kind(dt)
    }

    fn group(dt: &()) -> Cow<'_, str> {
        K::group(dt)
    }

    fn version(dt: &()) -> Cow<'_, str> {
        K::version(dt)
    }

    fn plural(dt: &()) -> Cow<'_, str> {
        K::plural(dt)
    }

    fn meta(&self) -> &ObjectMeta {
        match self {
            Self::Complete(object) => object.meta(),
            Self::Incomplete(incomplete) => &incomplete.metadata,
        }
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        match self {
            Self::Complete(object) => object.meta_mut(),
            Self::Incomplete(incomplete) => &mut incomplete.metadata,
        }
    }
}

/// Returns the namespace and name of an object. The namespace of a cluster-scoped object is empty.
pub(crate) fn key<K: WatchedResource>(meta: &ObjectMeta) -> Option<ObjectKey> {
    let namespace = match K::KIND {
        ResourceKind::Machine => "",
        ResourceKind::Profile | ResourceKind::Assignment => meta.namespace.as_deref()?,
    };
    Some(ObjectKey::new(namespace, meta.name.as_deref()?))
}

// === impl ObservedMeta ===

impl ObservedMeta {
    pub(crate) fn of(meta: &ObjectMeta) -> Self {
        Self {
            version: meta.resource_version.as_deref().unwrap_or_default().into(),
            uid: meta
                .uid
                .as_deref()
                .and_then(|uid| NonNilUuid::new(uid.parse().ok()?)),
            generation: meta.generation.unwrap_or_default(),
            ids: None,
            has_restored_ids: false,
            status: Observed::default(),
        }
    }

    fn of_known<K: WatchedResource>(object: &K) -> Self {
        let mut meta = Self {
            status: object.observed(),
            ..Self::of(object.meta())
        };
        meta.set_ids(object.ids());
        meta
    }

    /// The ids of a Profile's configs.
    pub(crate) fn ids(&self) -> &Ids {
        static NONE: Ids = Ids::new();
        self.ids.as_deref().unwrap_or(&NONE)
    }

    pub(crate) fn set_ids(&mut self, ids: Ids) {
        self.ids = (!ids.is_empty()).then(|| Box::new(ids));
    }

    /// Returns whether `self` is an earlier version of the same object. Versions are opaque, but
    /// where both are numbers they are ordered (Kubernetes 1.35, KEP-5504; etcd's revisions
    /// before).
    pub(crate) fn is_older_than(&self, other: &Self) -> bool {
        self.uid == other.uid
            && matches!((&self.version, &other.version), (Version::Number(own), Version::Number(other)) if own < other)
    }
}

// === impl WatchedResource ===

/// Returns the API of a namespaced resource.
fn namespaced<T>(client: Client, namespace: Option<&str>) -> Api<T>
where
    T: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::all(client),
    }
}

impl WatchedResource for crd::Profile {
    const KIND: ResourceKind = ResourceKind::Profile;

    fn api<T>(client: Client, namespace: Option<&str>) -> Api<T>
    where
        T: kube::Resource<DynamicType = (), Scope = Self::Scope>,
    {
        namespaced(client, namespace)
    }

    fn name_of(key: ObjectKey) -> ObjectRef {
        ObjectRef::Profile(key)
    }

    fn convert(&self) -> Result<Change, crd::Invalid> {
        crd::convert_profile(self).map(|profile| Change::Profile(Arc::new(profile)))
    }

    fn partial(object: &Value) -> Option<Partial> {
        crd::partial_profile(object)
    }

    fn observed(&self) -> Observed {
        self.status
            .as_ref()
            .map(Observed::of_profile)
            .unwrap_or_default()
    }

    fn ids(&self) -> Ids {
        self.status
            .as_ref()
            .map(crd::config_ids)
            .unwrap_or_default()
    }
}

impl WatchedResource for crd::Assignment {
    const KIND: ResourceKind = ResourceKind::Assignment;

    fn api<T>(client: Client, namespace: Option<&str>) -> Api<T>
    where
        T: kube::Resource<DynamicType = (), Scope = Self::Scope>,
    {
        namespaced(client, namespace)
    }

    fn name_of(key: ObjectKey) -> ObjectRef {
        ObjectRef::Assignment(key)
    }

    fn convert(&self) -> Result<Change, crd::Invalid> {
        crd::convert_assignment(self).map(|assignment| Change::Assignment(Arc::new(assignment)))
    }

    fn partial(object: &Value) -> Option<Partial> {
        crd::partial_assignment(object)
    }

    fn observed(&self) -> Observed {
        self.status
            .as_ref()
            .map(Observed::of_assignment)
            .unwrap_or_default()
    }
}

impl WatchedResource for crd::Machine {
    const KIND: ResourceKind = ResourceKind::Machine;

    fn api<T>(client: Client, _: Option<&str>) -> Api<T>
    where
        T: kube::Resource<DynamicType = (), Scope = Self::Scope>,
    {
        Api::all(client)
    }

    fn name_of(key: ObjectKey) -> ObjectRef {
        ObjectRef::Machine(key)
    }

    fn convert(&self) -> Result<Change, crd::Invalid> {
        crd::convert_machine(self).map(|machine| Change::Machine(Arc::new(machine)))
    }

    fn partial(object: &Value) -> Option<Partial> {
        crd::partial_machine(object)
    }

    fn observed(&self) -> Observed {
        self.status
            .as_ref()
            .map(Observed::of_machine)
            .unwrap_or_default()
    }
}

// === impl Fault ===

impl Fault {
    fn unreadable(error: &serde_json::Error) -> Self {
        let sentence =
            format!("the object does not match the schema of this version of shaper: {error}");
        Self {
            reason: "Unreadable",
            message: sentence.into(),
        }
    }

    /// Rejects an object with an unknown field: without that field it may match more machines than
    /// intended.
    fn newer(field: &crd::FieldPath) -> Self {
        Self {
            reason: "UnknownField",
            message: format!(
                "field {field} is unknown to this version of shaper; upgrade the controllers"
            )
            .into(),
        }
    }
}

impl From<&crd::Invalid> for Fault {
    fn from(invalid: &crd::Invalid) -> Self {
        let reason = match invalid {
            crd::Invalid::Field { .. } => "InvalidField",
            crd::Invalid::Templates(_) => "InvalidTemplate",
        };
        Self {
            reason,
            message: invalid.to_string().into(),
        }
    }
}
