//! Formats the objects of a catalog as manifests.
//!
//! Omits config ids: anyone with an id can fetch the config, and a list is easily stored where
//! others can read it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::vec;

use boot::{Assignment, Catalog, Machine, ObjectKey, Operator, Profile, Requirement, Variables};
use serde_json::{Value, json};

/// The objects of a catalog, or of one partition, as a Kubernetes List in JSON: an iterator over
/// pieces of its text.
///
/// Profiles come first, then Machines; each kind is sorted by name. `metadata.partitions` names all partitions
/// of the catalog. An object is formatted when its piece is asked for, so a list takes little
/// memory however long it is.
#[derive(Debug)]
pub struct Listing {
    /// The text before the first object.
    head: Option<String>,
    profiles: vec::IntoIter<Arc<Profile>>,
    machines: vec::IntoIter<Arc<Machine>>,
    assignments: vec::IntoIter<Arc<Assignment>>,
    /// What separates the next object from the one before.
    separator: &'static str,
    is_ended: bool,
}

// === impl Listing ===

impl Listing {
    /// Lists the objects of one partition, or of all.
    pub fn of(catalog: &Catalog, partition: Option<&str>) -> Self {
        let is_meant =
            |key: &ObjectKey| partition.is_none_or(|partition| *key.partition == *partition);
        let mut profiles: Vec<_> = catalog
            .profiles()
            .filter(|profile| is_meant(&profile.key))
            .cloned()
            .collect();
        profiles.sort_by(|a, b| a.key.cmp(&b.key));
        let mut assignments: Vec<_> = catalog
            .assignments()
            .filter(|assignment| is_meant(&assignment.key))
            .cloned()
            .collect();
        assignments.sort_by(|a, b| a.key.cmp(&b.key));
        let mut machines: Vec<_> = catalog
            .machines()
            .filter(|machine| is_meant(&machine.key))
            .cloned()
            .collect();
        machines.sort_by(|a, b| a.key.cmp(&b.key));
        let keys = catalog
            .profiles()
            .map(|profile| &profile.key)
            .chain(catalog.assignments().map(|assignment| &assignment.key))
            .chain(catalog.machines().map(|machine| &machine.key));
        let partitions: BTreeSet<&str> = keys.map(|key| &*key.partition).collect();
        let metadata = json!({ "partitions": partitions });
        Self {
            head: Some(format!(
                r#"{{"apiVersion":"v1","kind":"List","metadata":{metadata},"items":["#
            )),
            profiles: profiles.into_iter(),
            machines: machines.into_iter(),
            assignments: assignments.into_iter(),
            separator: "",
            is_ended: false,
        }
    }
}

impl Iterator for Listing {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        if let Some(head) = self.head.take() {
            return Some(head);
        }
        let object = match (self.profiles.next(), &mut self.machines) {
            (Some(one), _) => Some(profile(&one)),
            (None, machines) => match machines.next() {
                Some(one) => Some(machine(&one)),
                None => self.assignments.next().map(|one| assignment(&one)),
            },
        };
        if let Some(object) = object {
            let separator = std::mem::replace(&mut self.separator, ",");
            return Some(format!("{separator}{object}"));
        }
        let is_ended = std::mem::replace(&mut self.is_ended, true);
        (!is_ended).then(|| "]}\n".to_owned())
    }
}

fn profile(profile: &Profile) -> Value {
    let templates = &profile.templates;
    let configs: BTreeMap<&str, &str> = templates
        .config_names()
        .map(|name| (name.as_str(), templates.config_source(name)))
        .collect();
    let formats: BTreeMap<&str, &str> = templates
        .config_names()
        .filter_map(|name| Some((name.as_str(), templates.config_format(name)?.name())))
        .collect();
    let mut spec = json!({ "ipxe": templates.script_source(), "additionalConfig": configs });
    if !formats.is_empty() {
        spec["configFormats"] = json!(formats);
    }
    add_variables(&mut spec, &profile.variables);
    if let Some(schema) = &profile.variables_schema {
        spec["variablesSchema"] = schema.source().clone();
    }
    json!({
        "apiVersion": crd::API_VERSION,
        "kind": "Profile",
        "metadata": metadata(&profile.key, profile.created, &profile.labels),
        "spec": spec,
    })
}

fn assignment(assignment: &Assignment) -> Value {
    let subjects = &assignment.subjects;
    let expressions: Vec<Value> = subjects
        .labels
        .requirements()
        .iter()
        .map(expression)
        .collect();
    let mut selectors = json!({
        "uuids": subjects.uuids.to_vec(),
        "serialNumbers": subjects.serials.iter().map(AsRef::as_ref).collect::<Vec<&str>>(),
        "macAddresses": subjects.macs.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "matchExpressions": expressions,
    });
    // Lists of identities that are all empty would be invalid.
    if let Some(lists) = selectors.as_object_mut() {
        lists.retain(|_, list| list.as_array().is_none_or(|items| !items.is_empty()));
    }
    let mut spec = json!({
        "subjectSelectors": selectors,
        "profileSelectors": map(&assignment.profiles),
        "priority": assignment.priority,
    });
    add_variables(&mut spec, &assignment.variables);
    json!({
        "apiVersion": crd::API_VERSION,
        "kind": "Assignment",
        "metadata": metadata(&assignment.key, assignment.created, &assignment.labels),
        "spec": spec,
    })
}

fn machine(machine: &Machine) -> Value {
    let mut spec = json!({});
    if let Some(uuid) = machine.uuid {
        spec["uuid"] = json!(uuid);
    }
    if let Some(serial) = &machine.serial {
        spec["serialNumber"] = json!(**serial);
    }
    if !machine.macs.is_empty() {
        let macs: Vec<_> = machine.macs.iter().map(ToString::to_string).collect();
        spec["macAddresses"] = json!(macs);
    }
    add_variables(&mut spec, &machine.variables);
    json!({
        "apiVersion": crd::API_VERSION,
        "kind": "Machine",
        "metadata": metadata(&machine.key, machine.created, &machine.labels),
        "spec": spec,
    })
}

fn add_variables(spec: &mut Value, variables: &Variables) {
    if !variables.is_empty() {
        spec["variables"] = json!(variables);
    }
}

fn metadata(
    key: &ObjectKey,
    created: Option<impl std::fmt::Display>,
    labels: &boot::Labels,
) -> Value {
    let mut metadata = json!({ "name": &*key.name, "labels": map(labels) });
    if !key.namespace.is_empty() {
        metadata["namespace"] = json!(&*key.namespace);
    }
    if let Some(created) = created {
        metadata["creationTimestamp"] = created.to_string().into();
    }
    metadata
}

fn map(labels: &boot::Labels) -> BTreeMap<&str, &str> {
    labels.iter().collect()
}

fn expression(requirement: &Requirement) -> Value {
    let (operator, values) = match &requirement.operator {
        Operator::In(values) => ("In", Some(values)),
        Operator::NotIn(values) => ("NotIn", Some(values)),
        Operator::Exists => ("Exists", None),
        Operator::DoesNotExist => ("DoesNotExist", None),
    };
    let mut expression = json!({ "key": requirement.key, "operator": operator });
    if let Some(values) = values {
        expression["values"] = json!(values.to_vec());
    }
    expression
}
