//! The stored objects and their history.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use jiff::{Timestamp, Unit};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::apply::AppliedFields;

/// How many lists can be read in pages at the same time.
const MAX_SNAPSHOTS: usize = 16;

/// Kinds with a status subresource.
const KINDS_WITH_STATUS_SUBRESOURCE: [&str; 3] = ["profiles", "assignments", "machines"];

/// Kinds whose objects are in no namespace. Their keys have an empty one.
const CLUSTER_SCOPED_KINDS: [&str; 1] = ["machines"];

pub(crate) type Key = (String, String);

/// The content of a list when its first page was read.
pub(crate) type Snapshot = Arc<Vec<Arc<Value>>>;

#[derive(Debug, Default)]
pub(crate) struct Store {
    revision: u64,
    compacted: u64,
    kinds: BTreeMap<String, BTreeMap<Key, Arc<Value>>>,
    history: Vec<Change>,
    snapshots: VecDeque<(u64, String, Snapshot)>,
    pub(crate) applied: BTreeMap<(String, Key), AppliedFields>,
}

#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) revision: u64,
    pub(crate) event_type: &'static str,
    pub(crate) plural: String,
    pub(crate) object: Arc<Value>,
    pub(crate) old: Option<Arc<Value>>,
}

// === impl Store ===

impl Store {
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// The revision up to which history is forgotten.
    pub(crate) fn compacted(&self) -> u64 {
        self.compacted
    }

    pub(crate) fn compact(&mut self) {
        // In etcd, compactions and other activity also increase the revision, so an idle client's
        // revision becomes outdated.
        self.revision += 1;
        self.compacted = self.revision;
        self.history.clear();
        self.snapshots.clear();
    }

    pub(crate) fn put(&mut self, mut object: Value) -> Value {
        let plural = plural_of(object["kind"].as_str().expect("an object has a kind"));
        assert!(
            object["apiVersion"].is_string() && object["metadata"]["name"].is_string(),
            "an object has apiVersion and metadata.name"
        );
        if is_cluster_scoped(&plural) {
            let metadata = object["metadata"].as_object_mut();
            metadata.map(|metadata| metadata.remove("namespace"));
        } else if object["metadata"]["namespace"].is_null() {
            object["metadata"]["namespace"] = "default".into();
        }
        let key = key_of(&object);
        let status = object.get("status").cloned();
        let old = self.get(&plural, &key);
        let mut stored = self.write(&plural, &key, old.as_ref(), object);
        if let Some(status) = status.filter(|status| stored["status"] != *status) {
            let mut with_status = (*stored).clone();
            with_status["status"] = status;
            stored = self.record("MODIFIED", &plural, &key, with_status);
        }
        (*stored).clone()
    }

    pub(crate) fn delete(&mut self, plural: &str, namespace: &str, name: &str) -> bool {
        let key = (namespace.to_owned(), name.to_owned());
        let Some(old) = self.get(plural, &key) else {
            return false;
        };
        self.record("DELETED", plural, &key, (*old).clone());
        self.kinds
            .get_mut(plural)
            .expect("the kind has an object")
            .remove(&key);
        self.applied.remove(&(plural.to_owned(), key));
        true
    }

    pub(crate) fn object(&self, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        self.get(plural, &(namespace.to_owned(), name.to_owned()))
            .map(|object| (*object).clone())
    }

    pub(crate) fn objects(&self, plural: &str) -> Vec<Value> {
        self.all(plural).map(|object| (**object).clone()).collect()
    }

    pub(crate) fn get(&self, plural: &str, key: &Key) -> Option<Arc<Value>> {
        self.kinds.get(plural)?.get(key).cloned()
    }

    pub(crate) fn all(&self, plural: &str) -> impl Iterator<Item = &Arc<Value>> {
        self.kinds
            .get(plural)
            .into_iter()
            .flat_map(BTreeMap::values)
    }

    /// Returns the changes to a kind after a revision.
    pub(crate) fn since(&self, plural: &str, revision: u64) -> Vec<Change> {
        let first = self
            .history
            .partition_point(|change| change.revision <= revision);
        self.history[first..]
            .iter()
            .filter(|change| change.plural == plural)
            .cloned()
            .collect()
    }

    /// Keeps a list for its next pages.
    pub(crate) fn keep_snapshot(&mut self, plural: &str, list: Snapshot) {
        self.snapshots
            .push_back((self.revision, plural.to_owned(), list));
        if self.snapshots.len() > MAX_SNAPSHOTS {
            self.snapshots.pop_front();
        }
    }

    /// Returns the list that was kept at a revision.
    pub(crate) fn snapshot_at(&self, plural: &str, revision: u64) -> Option<Snapshot> {
        self.snapshots
            .iter()
            .rev()
            .find(|(at, of, _)| *at == revision && of == plural)
            .map(|(.., list)| list.clone())
    }

    /// Writes an object without its status if the kind has a status subresource. Does nothing if
    /// the object is unchanged.
    pub(crate) fn write(
        &mut self,
        plural: &str,
        key: &Key,
        old: Option<&Arc<Value>>,
        mut object: Value,
    ) -> Arc<Value> {
        let metadata = object["metadata"]
            .as_object_mut()
            .expect("an object has metadata");
        metadata.insert("name".to_owned(), key.1.clone().into());
        if is_cluster_scoped(plural) {
            metadata.remove("namespace");
        } else {
            metadata.insert("namespace".to_owned(), key.0.clone().into());
        }
        match old {
            Some(old) => {
                for name in ["uid", "creationTimestamp", "generation", "resourceVersion"] {
                    metadata.insert(name.to_owned(), old["metadata"][name].clone());
                }
            }
            None => {
                let now = Timestamp::now()
                    .round(Unit::Second)
                    .expect("the current time is in range");
                metadata
                    .entry("uid")
                    .or_insert_with(|| Uuid::new_v4().to_string().into());
                metadata
                    .entry("creationTimestamp")
                    .or_insert_with(|| now.to_string().into());
                metadata.insert("generation".to_owned(), 1.into());
            }
        }
        if KINDS_WITH_STATUS_SUBRESOURCE.contains(&plural) {
            let status = old.and_then(|old| old.get("status")).cloned();
            let fields = object.as_object_mut().expect("an object is a map");
            fields.remove("status");
            fields.extend(status.map(|status| ("status".to_owned(), status)));
        }
        let Some(old) = old else {
            return self.record("ADDED", plural, key, object);
        };
        if **old == object {
            return old.clone();
        }
        if old["spec"] != object["spec"] {
            object["metadata"]["generation"] =
                json!(old["metadata"]["generation"].as_u64().unwrap_or_default() + 1);
        }
        self.record("MODIFIED", plural, key, object)
    }

    /// Writes only the status of an object. Does nothing if it is unchanged.
    pub(crate) fn write_status(
        &mut self,
        plural: &str,
        key: &Key,
        old: &Arc<Value>,
        status: Option<Value>,
    ) -> Arc<Value> {
        if old.get("status") == status.as_ref() {
            return old.clone();
        }
        let mut object = (**old).clone();
        let fields: &mut Map<_, _> = object.as_object_mut().expect("an object is a map");
        fields.remove("status");
        fields.extend(status.map(|status| ("status".to_owned(), status)));
        self.record("MODIFIED", plural, key, object)
    }

    fn record(
        &mut self,
        event_type: &'static str,
        plural: &str,
        key: &Key,
        mut object: Value,
    ) -> Arc<Value> {
        self.revision += 1;
        object["metadata"]["resourceVersion"] = self.revision.to_string().into();
        let object = Arc::new(object);
        let old = self
            .kinds
            .entry(plural.to_owned())
            .or_default()
            .insert(key.clone(), object.clone());
        self.history.push(Change {
            revision: self.revision,
            event_type,
            plural: plural.to_owned(),
            object: object.clone(),
            old,
        });
        object
    }
}

/// Whether objects of the kind with this plural are in no namespace.
pub(crate) fn is_cluster_scoped(plural: &str) -> bool {
    CLUSTER_SCOPED_KINDS.contains(&plural)
}

/// Namespace and name of an object.
fn key_of(object: &Value) -> Key {
    let text = |name: &str| {
        object["metadata"][name]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    (text("namespace"), text("name"))
}

fn plural_of(kind: &str) -> String {
    format!("{}s", kind.to_lowercase())
}
