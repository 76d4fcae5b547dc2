//! Converts the resources to the objects that selection uses.

use std::collections::BTreeMap;
use std::sync::Arc;

use boot::machine::MACHINE_LABEL;
use boot::nearest::did_you_mean;
use boot::profile::normalise_labels;
use boot::subject::{BOOTSTRAP_LABELS, normalise};
use boot::{
    ConfigFormat, ConfigName, LabelSelector, ObjectKey, Operator, Requirement, Sorted,
    TemplateError, TemplateErrors, Templates, Variables, VariablesSchema, identity,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;
use uuid::Uuid;

use crate::assignment::{LabelRequirement, NAMES_NO_MACHINE};
use crate::field::FieldPath;
use crate::labels::{is_dns_name, key_error, value_error};
use crate::machine::NO_IDENTITY;
use crate::{Assignment, DEFAULT_NAMESPACE, Machine, Profile, ProfileStatus};

/// The reason why an object can't be served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// The value of a field is not valid.
    #[error("{field}: {reason}")]
    Field {
        /// The path of the field.
        field: FieldPath,
        /// What is wrong and how to fix it.
        reason: String,
    },
    /// Templates that do not parse or use an unknown name.
    #[error("{0}")]
    Templates(#[from] TemplateErrors),
}

impl Invalid {
    /// The path of the invalid field; of several templates, that of the first.
    pub fn field(&self) -> FieldPath {
        match self {
            Self::Field { field, .. } => field.clone(),
            Self::Templates(errors) => template_field(errors.first()),
        }
    }

    /// The line of the error within the field's text, counted from 1, if it has one.
    pub fn line_in_field(&self) -> Option<usize> {
        match self {
            Self::Field { .. } => None,
            Self::Templates(errors) => errors.first().line,
        }
    }
}

/// Returns the path of the field that holds a template.
pub fn template_field(error: &TemplateError) -> FieldPath {
    // No part of it contains a dot: config names are identifiers.
    FieldPath::new(error.field.split('.'))
}

/// Maximum number of entries of a map, and of label requirements. The schema of the CRDs has these
/// limits as well; a file, and a review that no API server sent, were not checked against it.
pub(crate) const MAX_ENTRIES: usize = 64;
/// Maximum number of values of a label requirement.
pub(crate) const MAX_VALUES: usize = 256;
/// Maximum number of identities of one kind.
pub(crate) const MAX_IDENTITIES: usize = 4096;
/// Maximum number of MAC addresses of a Machine.
pub(crate) const MAX_MACHINE_MACS: usize = 64;
/// Maximum number of labels of a Machine, each of which is a label of the subject.
const MAX_MACHINE_LABELS: usize = 64;
/// Maximum number of labels of an object, for which Kubernetes has no limit.
const MAX_LABELS: usize = 1024;
/// The lowest and the highest priority.
pub(crate) const PRIORITY_RANGE: (i32, i32) = (-1_000_000, 1_000_000);

/// Converts a Profile. Its configs get the ids in its status.
pub fn convert_profile(profile: &Profile) -> Result<boot::Profile, Invalid> {
    let key = key(&profile.metadata)?;
    let labels = labels(&profile.metadata)?;
    let spec = |field| FieldPath::new(["spec", field]);
    let (texts, formats) = (
        &profile.spec.additional_config,
        &profile.spec.config_formats,
    );
    check_count(texts.len(), MAX_ENTRIES, || spec("additionalConfig"))?;
    check_count(formats.len(), MAX_ENTRIES, || spec("configFormats"))?;
    let mut configs = BTreeMap::new();
    for (name, text) in texts {
        let name: ConfigName = name
            .parse()
            .map_err(|error| invalid(FieldPath::new(["spec", "additionalConfig", name]), error))?;
        configs.insert(name, text.clone());
    }
    let formats = config_formats(formats, &configs)?;
    let templates = Templates::compile_with_formats(&profile.spec.ipxe, &configs, &formats)?;
    let ids = profile.status.as_ref().map(config_ids).unwrap_or_default();
    let created = created(&profile.metadata);
    let schema = profile.spec.variables_schema.as_ref();
    let schema = schema
        .map(|schema| VariablesSchema::compile(schema).map(Arc::new))
        .transpose()
        .map_err(|error| invalid(spec("variablesSchema"), error))?;
    let profile_of_templates =
        boot::Profile::with_templates(key, created, labels, Arc::new(templates));
    Ok(profile_of_templates
        .with_variables(variables(&profile.spec.variables)?, schema)
        .with_ids(ids))
}

fn variables(variables: &BTreeMap<String, Value>) -> Result<Variables, Invalid> {
    let json = variables
        .iter()
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    Variables::from_json(json)
        .map_err(|error| invalid(FieldPath::new(["spec", "variables"]), error))
}

/// Converts a Machine.
pub fn convert_machine(machine: &Machine) -> Result<boot::Machine, Invalid> {
    let spec = &machine.spec;
    let key = cluster_key(&machine.metadata)?;
    let labels = labels(&machine.metadata)?;
    let field = FieldPath::new(["metadata", "labels"]);
    check_count(labels.len(), MAX_MACHINE_LABELS, || field.clone())?;
    let presented = BOOTSTRAP_LABELS.iter().chain([&MACHINE_LABEL]);
    if let Some(label) = presented.clone().find(|label| labels.contains_key(**label)) {
        let reason = if *label == MACHINE_LABEL {
            "it is always the name of the Machine; remove it".to_owned()
        } else {
            format!("machines present {label:?} themselves; remove it, or choose another key")
        };
        return Err(invalid(field.key(*label), reason));
    }
    let of_spec = |name: &str| FieldPath::new(["spec", name]);
    let uuid = spec.uuid.as_deref().map(parse_uuid).transpose();
    let serial = spec.serial_number.as_deref().map(parse_serial).transpose();
    let machine = boot::Machine {
        key,
        created: created(&machine.metadata),
        labels: labels
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(key, value)| (key, normalise(key, value)))
            .collect(),
        uuid: uuid.map_err(|reason| invalid(of_spec("uuid"), reason))?,
        serial: serial.map_err(|reason| invalid(of_spec("serialNumber"), reason))?,
        macs: parse_each(
            &of_spec("macAddresses"),
            MAX_MACHINE_MACS,
            &spec.mac_addresses,
            parse_mac,
        )?,
        variables: variables(&spec.variables)?,
    };
    if spec.uuid.is_none() && spec.serial_number.is_none() && spec.mac_addresses.is_empty() {
        return Err(invalid(FieldPath::new(["spec"]), NO_IDENTITY));
    }
    if !machine.has_identity() {
        let reason = "its identities are placeholders that many machines share, so no machine is this Machine; add another identity";
        return Err(invalid(FieldPath::new(["spec"]), reason));
    }
    Ok(machine)
}

fn parse_uuid(text: &str) -> Result<Uuid, String> {
    identity::parse_uuid(text).ok_or_else(|| {
        format!("{text:?} is not a UUID; write 32 hexadecimal digits, as `dmidecode -s system-uuid` prints them")
    })
}

fn parse_serial(text: &str) -> Result<Arc<str>, String> {
    match text.trim() {
        "" => Err("an empty serial number matches nothing; remove the item".to_owned()),
        text => Ok(text.into()),
    }
}

fn parse_mac(text: &str) -> Result<boot::Mac, String> {
    text.parse::<boot::Mac>().map_err(|error| error.to_string())
}

fn config_formats(
    formats: &BTreeMap<String, String>,
    configs: &BTreeMap<ConfigName, String>,
) -> Result<BTreeMap<ConfigName, ConfigFormat>, Invalid> {
    let convert = |(name, format): (&String, &String)| {
        let field = || FieldPath::new(["spec", "configFormats", name]);
        let Some((config, _)) = configs.get_key_value(name.as_str()) else {
            let hint = did_you_mean(name, configs.keys().map(ConfigName::as_str));
            let reason = format!("config name {name:?} is not in spec.additionalConfig{hint}");
            return Err(invalid(field(), reason));
        };
        let format = format.parse().map_err(|error| invalid(field(), error))?;
        Ok((config.clone(), format))
    };
    formats.iter().map(convert).collect()
}

/// Converts an Assignment.
pub fn convert_assignment(assignment: &Assignment) -> Result<boot::Assignment, Invalid> {
    let key = key(&assignment.metadata)?;
    let spec = &assignment.spec;
    let field = FieldPath::new(["spec", "profileSelectors"]);
    check_count(spec.profile_selectors.len(), MAX_ENTRIES, || field.clone())?;
    check_labels(&spec.profile_selectors, &field)?;
    if !(PRIORITY_RANGE.0..=PRIORITY_RANGE.1).contains(&spec.priority) {
        return Err(invalid(
            FieldPath::new(["spec", "priority"]),
            format!("{} is not between -1000000 and 1000000", spec.priority),
        ));
    }
    let selectors = &spec.subject_selectors;
    if selectors.names_no_machine {
        return Err(invalid(
            FieldPath::new(["spec", "subjectSelectors"]),
            NAMES_NO_MACHINE,
        ));
    }
    Ok(boot::Assignment {
        key,
        created: created(&assignment.metadata),
        labels: labels(&assignment.metadata)?.iter().collect(),
        subjects: boot::SubjectSelectors {
            uuids: identities("uuids", &selectors.uuids, parse_uuid)?,
            serials: identities("serialNumbers", &selectors.serial_numbers, parse_serial)?,
            macs: identities("macAddresses", &selectors.mac_addresses, parse_mac)?,
            labels: label_selector(&selectors.match_labels, &selectors.match_expressions)?,
        },
        profiles: normalise_labels(&spec.profile_selectors),
        priority: spec.priority,
        variables: variables(&spec.variables)?,
    })
}

/// Reads the config ids in a Profile's status. A value that is not a UUID was not written by a
/// controller, so that config counts as having no id yet.
pub fn config_ids(status: &ProfileStatus) -> BTreeMap<ConfigName, Uuid> {
    parse_config_ids(status.additional_config.iter())
}

/// Parses config ids, and leaves out those that are not UUIDs.
pub(crate) fn parse_config_ids<K: AsRef<str>, V: AsRef<str>>(
    ids: impl IntoIterator<Item = (K, V)>,
) -> BTreeMap<ConfigName, Uuid> {
    let parse_id = |(name, id): (K, V)| {
        Some((
            name.as_ref().parse().ok()?,
            identity::parse_uuid(id.as_ref())?,
        ))
    };
    ids.into_iter().filter_map(parse_id).collect()
}

fn invalid(field: FieldPath, reason: impl ToString) -> Invalid {
    Invalid::Field {
        field,
        reason: reason.to_string(),
    }
}

fn identities<T: Ord>(
    name: &str,
    texts: &[String],
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Sorted<T>, Invalid> {
    let field = FieldPath::new(["spec", "subjectSelectors", name]);
    parse_each(&field, MAX_IDENTITIES, texts, parse)
}

fn parse_each<T: Ord>(
    field: &FieldPath,
    most: usize,
    texts: &[String],
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Sorted<T>, Invalid> {
    check_count(texts.len(), most, || field.clone())?;
    let parse_item = |(index, text): (usize, &String)| {
        parse(text).map_err(|reason| invalid(field.index(index), reason))
    };
    texts.iter().enumerate().map(parse_item).collect()
}

fn label_selector(
    labels: &BTreeMap<String, String>,
    expressions: &[LabelRequirement],
) -> Result<LabelSelector, Invalid> {
    let selectors = FieldPath::new(["spec", "subjectSelectors"]);
    check_count(labels.len(), MAX_ENTRIES, || selectors.key("matchLabels"))?;
    check_count(expressions.len(), MAX_ENTRIES, || {
        selectors.key("matchExpressions")
    })?;
    for (key, value) in labels {
        let field = || selectors.key("matchLabels").key(key);
        check_subject_key(key).map_err(|reason| invalid(field(), reason))?;
        if value.is_empty() {
            let reason = "machines never present an empty value; to select machines without this label, use matchExpressions with operator DoesNotExist";
            return Err(invalid(field(), reason));
        }
    }
    let convert = |(index, expression): (usize, &LabelRequirement)| {
        convert_requirement(expression).map_err(|(name, reason)| {
            invalid(
                selectors.key("matchExpressions").index(index).key(name),
                reason,
            )
        })
    };
    let requirements: Vec<_> = expressions
        .iter()
        .enumerate()
        .map(convert)
        .collect::<Result<_, _>>()?;
    Ok(LabelSelector::new(labels, requirements))
}

pub(crate) fn convert_requirement(
    requirement: &LabelRequirement,
) -> Result<Requirement, (&'static str, String)> {
    const OPERATORS: [&str; 4] = ["In", "NotIn", "Exists", "DoesNotExist"];
    check_subject_key(&requirement.key).map_err(|reason| ("key", reason))?;
    if requirement.values.iter().any(String::is_empty) {
        let reason = "machines never present an empty value; operator DoesNotExist selects machines without this label";
        return Err(("values", reason.to_owned()));
    }
    if requirement.values.len() > MAX_VALUES {
        return Err(("values", too_many(requirement.values.len(), MAX_VALUES)));
    }
    let values: Sorted<Box<str>> = requirement
        .values
        .iter()
        .map(|value| value.as_str().into())
        .collect();
    let operator = match (requirement.operator.as_str(), values.is_empty()) {
        ("In", false) => Operator::In(values),
        ("NotIn", false) => Operator::NotIn(values),
        ("Exists", true) => Operator::Exists,
        ("DoesNotExist", true) => Operator::DoesNotExist,
        (name @ ("In" | "NotIn"), true) => {
            return Err(("values", format!("operator {name} needs values")));
        }
        (name @ ("Exists" | "DoesNotExist"), false) => {
            return Err(("values", format!("operator {name} takes no values")));
        }
        (name, _) => {
            let hint = did_you_mean(name, OPERATORS);
            return Err((
                "operator",
                format!(
                    "unknown operator {name:?}{hint}; known operators: {}",
                    OPERATORS.join(", ")
                ),
            ));
        }
    };
    Ok(Requirement {
        key: requirement.key.as_str().into(),
        operator,
    })
}

/// Checks a label key of a machine. Any text without control characters is valid: machines may
/// present more than Kubernetes allows as a label key.
pub(crate) fn check_subject_key(key: &str) -> Result<(), String> {
    if key.is_empty()
        || key.len() > boot::subject::MAX_KEY_BYTES
        || key.chars().any(char::is_control)
    {
        return Err(format!(
            "label key {key:?} must be 1 to {} bytes without control characters",
            boot::subject::MAX_KEY_BYTES
        ));
    }
    match key_error(key) {
        Some(fault) if key.matches('/').count() > 1 => Err(fault),
        _ => Ok(()),
    }
}

fn labels(metadata: &ObjectMeta) -> Result<&BTreeMap<String, String>, Invalid> {
    static NONE: BTreeMap<String, String> = BTreeMap::new();
    let labels = metadata.labels.as_ref().unwrap_or(&NONE);
    let field = FieldPath::new(["metadata", "labels"]);
    check_count(labels.len(), MAX_LABELS, || field.clone())?;
    check_labels(labels, &field)?;
    Ok(labels)
}

fn check_count(
    count: usize,
    most: usize,
    field: impl FnOnce() -> FieldPath,
) -> Result<(), Invalid> {
    if count > most {
        return Err(invalid(field(), too_many(count, most)));
    }
    Ok(())
}

fn too_many(count: usize, most: usize) -> String {
    format!("it has {count} entries; at most {most} are allowed")
}

fn check_labels(labels: &BTreeMap<String, String>, field: &FieldPath) -> Result<(), Invalid> {
    let fault = labels
        .iter()
        .find_map(|(key, value)| Some((key, key_error(key).or_else(|| value_error(value))?)));
    fault.map_or(Ok(()), |(key, fault)| Err(invalid(field.key(key), fault)))
}

fn key(metadata: &ObjectMeta) -> Result<ObjectKey, Invalid> {
    let namespace = metadata
        .namespace
        .as_deref()
        .filter(|namespace| !namespace.is_empty())
        .unwrap_or(DEFAULT_NAMESPACE);
    let name = name(metadata)?;
    check_name("namespace", namespace)?;
    Ok(ObjectKey::new(namespace, name))
}

/// The key of a cluster-scoped object.
fn cluster_key(metadata: &ObjectMeta) -> Result<ObjectKey, Invalid> {
    Ok(ObjectKey::new("", name(metadata)?))
}

fn name(metadata: &ObjectMeta) -> Result<&str, Invalid> {
    let Some(name) = metadata.name.as_deref().filter(|name| !name.is_empty()) else {
        return Err(invalid(
            FieldPath::new(["metadata"]),
            "the object needs a name",
        ));
    };
    check_name("name", name)?;
    Ok(name)
}

fn check_name(field: &str, text: &str) -> Result<(), Invalid> {
    if is_dns_name(text) {
        return Ok(());
    }
    let reason = format!(
        "{text:?} is not a valid Kubernetes name; use lower-case letters, digits and '-', starting and ending with a letter or digit"
    );
    Err(invalid(FieldPath::new(["metadata", field]), reason))
}

fn created(metadata: &ObjectMeta) -> Option<Timestamp> {
    metadata.creation_timestamp.as_ref().map(|time| time.0)
}
