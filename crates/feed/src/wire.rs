//! Converts between the objects of `boot` and the messages of the protocol.

use std::collections::BTreeMap;
use std::sync::Arc;

use boot::{
    Assignment, ConfigFormat, ConfigName, LabelSelector, Labels, Mac, Machine, ObjectKey,
    ObjectRef, Operator, Partial, Profile, Rejected, Requirement, Sorted, SubjectSelectors,
    Templates, Variables, VariablesSchema,
};
use jiff::Timestamp;
use uuid::Uuid;

use crate::proto;

/// A message that can't be decoded, because the other end is newer or faulty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{object}: {reason}")]
pub struct Malformed {
    /// The object, as far as it is known.
    pub object: String,
    /// What is wrong with it.
    pub reason: String,
}

// === to the wire ===

pub(crate) fn encode_key(key: &ObjectKey) -> proto::ObjectKey {
    proto::ObjectKey {
        namespace: key.namespace.to_string(),
        name: key.name.to_string(),
    }
}

/// Encodes a Profile.
pub fn encode_profile(profile: &Profile) -> proto::Profile {
    let config = |name: &ConfigName| proto::Config {
        name: name.to_string(),
        template: profile.templates.config_source(name).to_owned(),
        id: profile
            .ids
            .get(name)
            .map(|id| id.as_bytes().to_vec())
            .unwrap_or_default(),
        format: encode_format(profile.templates.config_format(name)).into(),
    };
    proto::Profile {
        key: Some(encode_key(&profile.key)),
        created: profile.created.map(encode_timestamp),
        labels: encode_labels(&profile.labels),
        ipxe: profile.templates.script_source().to_owned(),
        additional_config: profile.templates.config_names().map(config).collect(),
        variables: encode_variables(&profile.variables),
        variables_schema: profile
            .variables_schema
            .as_ref()
            .map(|schema| schema.source().to_string()),
    }
}

/// Encodes a Machine.
pub fn encode_machine(machine: &Machine) -> proto::Machine {
    proto::Machine {
        key: Some(encode_key(&machine.key)),
        created: machine.created.map(encode_timestamp),
        labels: encode_labels(&machine.labels),
        uuid: machine.uuid.map(|uuid| uuid.as_bytes().to_vec()),
        serial_number: machine.serial.as_ref().map(ToString::to_string),
        mac_addresses: machine
            .macs
            .iter()
            .map(|mac| mac.octets().to_vec())
            .collect(),
        variables: encode_variables(&machine.variables),
    }
}

fn encode_variables(variables: &Variables) -> Option<String> {
    (!variables.is_empty())
        .then(|| serde_json::to_string(variables).expect("variables serialise to JSON"))
}

/// Encodes an Assignment.
pub fn encode_assignment(assignment: &Assignment) -> proto::Assignment {
    let subjects = &assignment.subjects;
    proto::Assignment {
        key: Some(encode_key(&assignment.key)),
        created: assignment.created.map(encode_timestamp),
        labels: encode_labels(&assignment.labels),
        uuids: subjects
            .uuids
            .iter()
            .map(|uuid| uuid.as_bytes().to_vec())
            .collect(),
        serial_numbers: subjects.serials.iter().map(ToString::to_string).collect(),
        mac_addresses: subjects
            .macs
            .iter()
            .map(|mac| mac.octets().to_vec())
            .collect(),
        labels_required: subjects
            .labels
            .requirements()
            .iter()
            .map(encode_requirement)
            .collect(),
        profile_selectors: encode_labels(&assignment.profiles),
        priority: assignment.priority,
        variables: encode_variables(&assignment.variables),
    }
}

pub(crate) fn encode_rejected(rejected: &Rejected) -> proto::Rejected {
    let partial = match &rejected.partial {
        Partial::Profile(profile) => {
            proto::rejected::Partial::Profile(encode_partial_profile(profile))
        }
        Partial::Assignment(assignment) => {
            proto::rejected::Partial::Assignment(encode_assignment(assignment))
        }
        Partial::Machine(machine) => proto::rejected::Partial::Machine(encode_machine(machine)),
        Partial::Unreadable { key, created } => {
            proto::rejected::Partial::Unreadable(proto::Assignment {
                key: Some(encode_key(key)),
                created: created.map(encode_timestamp),
                ..proto::Assignment::default()
            })
        }
    };
    proto::Rejected {
        fault: rejected.fault.to_string(),
        partial: Some(partial),
    }
}

/// Encodes a Profile of which only the ids of its configs are known.
fn encode_partial_profile(profile: &Profile) -> proto::Profile {
    let config = |(name, id): (&ConfigName, &Uuid)| proto::Config {
        name: name.to_string(),
        template: String::new(),
        id: id.as_bytes().to_vec(),
        format: proto::ConfigFormat::Unspecified.into(),
    };
    proto::Profile {
        key: Some(encode_key(&profile.key)),
        created: profile.created.map(encode_timestamp),
        labels: encode_labels(&profile.labels),
        ipxe: String::new(),
        additional_config: profile.ids.iter().map(config).collect(),
        ..proto::Profile::default()
    }
}

fn encode_format(format: Option<ConfigFormat>) -> proto::ConfigFormat {
    match format {
        None => proto::ConfigFormat::Unspecified,
        Some(ConfigFormat::Yaml) => proto::ConfigFormat::Yaml,
        Some(ConfigFormat::Json) => proto::ConfigFormat::Json,
        Some(ConfigFormat::Shell) => proto::ConfigFormat::Shell,
        Some(ConfigFormat::Kickstart) => proto::ConfigFormat::Kickstart,
        Some(ConfigFormat::Text) => proto::ConfigFormat::Text,
    }
}

fn encode_labels(labels: &Labels) -> BTreeMap<String, String> {
    labels
        .iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

fn encode_requirement(requirement: &Requirement) -> proto::LabelRequirement {
    let none = Sorted::default();
    let (operator, values) = match &requirement.operator {
        Operator::In(values) => (proto::Operator::In, values),
        Operator::NotIn(values) => (proto::Operator::NotIn, values),
        Operator::Exists => (proto::Operator::Exists, &none),
        Operator::DoesNotExist => (proto::Operator::DoesNotExist, &none),
    };
    proto::LabelRequirement {
        key: requirement.key.to_string(),
        operator: operator.into(),
        values: values.iter().map(ToString::to_string).collect(),
    }
}

fn encode_timestamp(time: Timestamp) -> proto::Timestamp {
    proto::Timestamp {
        seconds: time.as_second(),
        nanos: time.subsec_nanosecond(),
    }
}

// === from the wire ===

pub(crate) fn decode_key(
    key: Option<proto::ObjectKey>,
    partition: &str,
) -> Result<ObjectKey, Malformed> {
    let key = key.unwrap_or_default();
    if key.name.is_empty() || key.namespace.is_empty() {
        let object = format!("{}/{}", key.namespace, key.name);
        return Err(Malformed {
            object,
            reason: "an object needs a namespace and a name".to_owned(),
        });
    }
    Ok(ObjectKey::new(key.namespace, key.name).in_partition(partition))
}

/// Decodes the key of a cluster-scoped object.
pub(crate) fn decode_cluster_key(
    key: Option<proto::ObjectKey>,
    partition: &str,
) -> Result<ObjectKey, Malformed> {
    let key = key.unwrap_or_default();
    if key.name.is_empty() || !key.namespace.is_empty() {
        return Err(Malformed {
            object: format!("{}/{}", key.namespace, key.name),
            reason: "a cluster-scoped object needs a name, and has no namespace".to_owned(),
        });
    }
    Ok(ObjectKey::new("", key.name).in_partition(partition))
}

/// Decodes a Profile. If its templates equal those of the `known` Profile of the same name, they
/// are shared instead of compiled again.
pub fn decode_profile(
    message: proto::Profile,
    partition: &str,
    known: impl Fn(&ObjectKey) -> Option<Arc<Profile>>,
) -> Result<Profile, Malformed> {
    let key = decode_key(message.key, partition)?;
    let object = ObjectRef::Profile(key.clone()).to_string();
    let malformed = |reason: String| Malformed {
        object: object.clone(),
        reason,
    };
    let mut configs = BTreeMap::new();
    let (mut ids, mut formats) = (BTreeMap::new(), BTreeMap::new());
    for config in message.additional_config {
        let format = decode_format(config.format());
        let name: ConfigName = config
            .name
            .parse()
            .map_err(|error: boot::config_name::InvalidConfigName| malformed(error.to_string()))?;
        if !config.id.is_empty() {
            let id = Uuid::from_slice(&config.id)
                .map_err(|_| malformed(format!("the id of config {name} is not a UUID")))?;
            ids.insert(name.clone(), id);
        }
        formats.extend(format.map(|format| (name.clone(), format)));
        configs.insert(name, config.template);
    }
    let created = message
        .created
        .map(decode_timestamp)
        .transpose()
        .map_err(&malformed)?;
    let known = known(&key)
        .map(|known| known.templates.clone())
        .filter(|templates| is_compiled_from(templates, &message.ipxe, &configs, &formats));
    let templates = match known {
        Some(templates) => templates,
        None => Arc::new(
            Templates::compile_with_formats(&message.ipxe, &configs, &formats)
                .map_err(|error| malformed(error.to_string()))?,
        ),
    };
    let variables = decode_variables(message.variables.as_deref()).map_err(&malformed)?;
    let schema = message.variables_schema.as_deref().map(decode_schema);
    let schema = schema.transpose().map_err(&malformed)?;
    Ok(
        Profile::with_templates(key, created, &message.labels, templates)
            .with_variables(variables, schema)
            .with_ids(ids),
    )
}

/// Decodes a Machine.
pub fn decode_machine(message: proto::Machine, partition: &str) -> Result<Machine, Malformed> {
    let key = decode_cluster_key(message.key, partition)?;
    let object = ObjectRef::Machine(key.clone()).to_string();
    let malformed = |reason: String| Malformed {
        object: object.clone(),
        reason,
    };
    let uuid = message.uuid.as_deref().map(decode_uuid).transpose();
    let macs = message
        .mac_addresses
        .iter()
        .map(|octets| decode_mac(octets));
    Ok(Machine {
        key,
        created: message
            .created
            .map(decode_timestamp)
            .transpose()
            .map_err(&malformed)?,
        labels: message.labels.iter().collect(),
        uuid: uuid.map_err(&malformed)?,
        serial: message.serial_number.map(Into::into),
        macs: macs.collect::<Result<_, _>>().map_err(&malformed)?,
        variables: decode_variables(message.variables.as_deref()).map_err(&malformed)?,
    })
}

fn decode_uuid(bytes: &[u8]) -> Result<Uuid, String> {
    Uuid::from_slice(bytes).map_err(|_| "a UUID does not have 16 bytes".to_owned())
}

fn decode_mac(octets: &[u8]) -> Result<Mac, String> {
    let reason = "a MAC address does not have 6, 8 or 20 octets";
    Mac::from_octets(octets).ok_or_else(|| reason.to_owned())
}

fn decode_variables(json: Option<&str>) -> Result<Variables, String> {
    let Some(json) = json else {
        return Ok(Variables::default());
    };
    let map = serde_json::from_str(json).map_err(|_| "its variables are not a JSON object")?;
    Variables::from_json(map).map_err(|error| error.to_string())
}

fn decode_schema(json: &str) -> Result<Arc<VariablesSchema>, String> {
    let schema = serde_json::from_str(json).map_err(|_| "its schema of variables is not JSON")?;
    let compiled = VariablesSchema::compile(&schema).map_err(|error| error.to_string())?;
    Ok(Arc::new(compiled))
}

/// Decodes the readable part of a Profile: all but its templates, which may not compile here.
pub(crate) fn decode_partial_profile(
    message: &proto::Profile,
    partition: &str,
) -> Result<Profile, Malformed> {
    let key = decode_key(message.key.clone(), partition)?;
    let created = message
        .created
        .and_then(|created| decode_timestamp(created).ok());
    let ids = message.additional_config.iter().filter_map(|config| {
        Some((
            config.name.parse().ok()?,
            Uuid::from_slice(&config.id).ok()?,
        ))
    });
    Ok(Profile::partial(key, created, &message.labels).with_ids(ids.collect()))
}

/// Decodes a rejected object. One whose parts can't be decoded is an error, as it is for an
/// Assignment: without the readable part, another object could match the machines.
pub(crate) fn decode_rejected(
    message: proto::Rejected,
    partition: &str,
) -> Result<Rejected, Malformed> {
    let partial = match message.partial {
        Some(proto::rejected::Partial::Profile(profile)) => {
            Partial::Profile(Arc::new(decode_partial_profile(&profile, partition)?))
        }
        Some(proto::rejected::Partial::Assignment(message)) => {
            Partial::Assignment(Arc::new(decode_assignment(message, partition)?))
        }
        Some(proto::rejected::Partial::Machine(message)) => {
            Partial::Machine(Arc::new(decode_machine(message, partition)?))
        }
        Some(proto::rejected::Partial::Unreadable(message)) => {
            let Assignment { key, created, .. } = decode_assignment(message, partition)?;
            Partial::Unreadable { key, created }
        }
        None => {
            let reason =
                "it is rejected, and its readable part has a form that this version does not know"
                    .to_owned();
            return Err(Malformed {
                object: "an object".to_owned(),
                reason,
            });
        }
    };
    Ok(Rejected {
        partial,
        fault: message.fault.into(),
    })
}

fn is_compiled_from(
    templates: &Templates,
    script: &str,
    configs: &BTreeMap<ConfigName, String>,
    formats: &BTreeMap<ConfigName, ConfigFormat>,
) -> bool {
    templates.script_source() == script
        && templates.config_names().eq(configs.keys())
        && configs.iter().all(|(name, source)| {
            templates.config_source(name) == source
                && templates.config_format(name) == formats.get(name).copied()
        })
}

fn decode_format(format: proto::ConfigFormat) -> Option<ConfigFormat> {
    match format {
        proto::ConfigFormat::Unspecified => None,
        proto::ConfigFormat::Yaml => Some(ConfigFormat::Yaml),
        proto::ConfigFormat::Json => Some(ConfigFormat::Json),
        proto::ConfigFormat::Shell => Some(ConfigFormat::Shell),
        proto::ConfigFormat::Kickstart => Some(ConfigFormat::Kickstart),
        proto::ConfigFormat::Text => Some(ConfigFormat::Text),
    }
}

/// Decodes an Assignment.
pub fn decode_assignment(
    message: proto::Assignment,
    partition: &str,
) -> Result<Assignment, Malformed> {
    let key = decode_key(message.key, partition)?;
    let object = ObjectRef::Assignment(key.clone()).to_string();
    let malformed = |reason: &str| Malformed {
        object: object.clone(),
        reason: reason.to_owned(),
    };
    let uuid = |bytes: &Vec<u8>| decode_uuid(bytes).map_err(|reason| malformed(&reason));
    let mac = |octets: &Vec<u8>| decode_mac(octets).map_err(|reason| malformed(&reason));
    let requirements: Result<Vec<_>, _> = message
        .labels_required
        .into_iter()
        .map(decode_requirement)
        .collect();
    Ok(Assignment {
        created: message
            .created
            .map(decode_timestamp)
            .transpose()
            .map_err(|reason| malformed(&reason))?,
        labels: message.labels.iter().collect(),
        subjects: SubjectSelectors {
            uuids: message.uuids.iter().map(uuid).collect::<Result<_, _>>()?,
            serials: message.serial_numbers.into_iter().map(Into::into).collect(),
            macs: message
                .mac_addresses
                .iter()
                .map(mac)
                .collect::<Result<_, _>>()?,
            labels: LabelSelector::new(
                &BTreeMap::new(),
                requirements.map_err(|reason| malformed(&reason))?,
            ),
        },
        profiles: message.profile_selectors.iter().collect(),
        priority: message.priority,
        variables: decode_variables(message.variables.as_deref())
            .map_err(|reason| malformed(&reason))?,
        key,
    })
}

fn decode_requirement(message: proto::LabelRequirement) -> Result<Requirement, String> {
    let values: Sorted<Box<str>> = message.values.into_iter().map(Into::into).collect();
    let operator = match proto::Operator::try_from(message.operator) {
        Ok(proto::Operator::In) => Operator::In(values),
        Ok(proto::Operator::NotIn) => Operator::NotIn(values),
        Ok(proto::Operator::Exists) => Operator::Exists,
        Ok(proto::Operator::DoesNotExist) => Operator::DoesNotExist,
        Ok(proto::Operator::Unspecified) | Err(_) => {
            return Err(format!(
                "the requirement on label {:?} has operator {}, which this version does not know",
                message.key, message.operator
            ));
        }
    };
    Ok(Requirement {
        key: message.key.into(),
        operator,
    })
}

fn decode_timestamp(message: proto::Timestamp) -> Result<Timestamp, String> {
    Timestamp::new(message.seconds, message.nanos)
        .map_err(|_| "its creation time is out of range".to_owned())
}
