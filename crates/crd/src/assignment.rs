//! The `Assignment` resource.

#![allow(
    dead_code,
    reason = "`KubeSchema` makes a copy of each struct, whose skipped fields nobody reads"
)]

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::schema;

/// Which machines boot which Profile.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "shaper.amahdha.com",
    version = "v1alpha1",
    kind = "Assignment",
    namespaced,
    status = "AssignmentStatus",
    derive = "PartialEq",
    shortname = "asg",
    category = "shaper",
    doc = "An Assignment selects machines and the Profile of its namespace that they boot. If several match a machine, the winner is \
           decided by, in this order: higher priority; match by UUID, then by serial number, then by MAC address, then by labels alone; \
           more label requirements; age, older first; namespace and name. If the winner has no suitable Profile for the machine, the \
           machine waits: it never falls through to the next Assignment.",
    printcolumn(
        name = "Subject",
        type_ = "string",
        json_path = ".status.subject",
        description = "The selected machines, in short."
    ),
    // A column can show a list only as JSON, or its first item.
    printcolumn(
        name = "Profiles",
        type_ = "string",
        json_path = ".status.profileSummary",
        description = "The Profiles that the selectors currently match."
    ),
    printcolumn(
        name = "Priority",
        type_ = "integer",
        json_path = ".spec.priority",
        description = "The highest priority wins.",
        priority = 1
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether the Assignment is valid and has a Profile."
    ),
    printcolumn(
        name = "Accepted",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Accepted\")].status",
        description = "Whether the Assignment is valid."
    ),
    printcolumn(
        name = "Conflicted",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Conflicted\")].status",
        description = "Whether only age or name decides between this Assignment and another."
    ),
    printcolumn(
        name = "Conflict",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Conflicted\")].message",
        description = "The conflicting Assignments.",
        priority = 1
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "How long ago the object was created."
    )
)]
#[serde(rename_all = "camelCase")]
pub struct AssignmentSpec {
    /// Selects machines. A machine matches if it has any of the identities (UUIDs, serial numbers,
    /// MAC addresses) and satisfies all label requirements. Without identities, the labels alone
    /// decide. Empty or absent: a default that matches every machine.
    #[serde(
        default,
        skip_serializing_if = "SubjectSelectors::is_empty",
        deserialize_with = "subject_selectors"
    )]
    pub subject_selectors: SubjectSelectors,
    /// Labels of the Profile to boot, which must be in the same namespace and have all of them. If
    /// several Profiles do, the one with the most `assignment/ipxe-KEY` and
    /// `assignment/extrinsic-KEY` labels that the machine satisfies is used, then the oldest, then
    /// the first by name. Empty or absent: any Profile of the namespace.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::profile_labels")]
    #[x_kube(validation = schema::keys_are_label_keys())]
    pub profile_selectors: BTreeMap<String, String>,
    /// Assignments with a higher priority take precedence over all others, regardless of their
    /// selectors. From -1000000 to 1000000; 0 if absent.
    #[serde(default)]
    #[schemars(range(min = -1_000_000, max = 1_000_000))]
    pub priority: i32,
    /// Values for templates: `{{ vars.NAME }}` in the script and the configs. Any JSON. They
    /// override the Profile's, and a Machine's override both; maps are merged, lists are replaced,
    /// and `null` removes a value. At most 64 KiB as JSON.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::variables")]
    pub variables: BTreeMap<String, Value>,
}

/// Selects the machines of an Assignment.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[x_kube(
    validation = Rule::new("[has(self.uuids), has(self.serialNumbers), has(self.macAddresses)].all(is, !is) \
        || (has(self.uuids) && size(self.uuids) > 0) || (has(self.serialNumbers) && size(self.serialNumbers) > 0) \
        || (has(self.macAddresses) && size(self.macAddresses) > 0)")
        .message(NAMES_NO_MACHINE)
)]
#[serde(rename_all = "camelCase")]
pub struct SubjectSelectors {
    /// SMBIOS UUIDs (`dmidecode -s system-uuid`), in upper or lower case, with or without dashes.
    /// Either byte order of the first three fields matches. Placeholders that many boards share
    /// match nothing. At most 4,096.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::uuids")]
    pub uuids: Vec<String>,
    /// Serial numbers (`dmidecode -s system-serial-number`): any text of at most 256 characters.
    /// Leading and trailing spaces are ignored. Placeholders such as `To be filled by O.E.M.` match
    /// nothing. At most 4,096.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::serials")]
    pub serial_numbers: Vec<String>,
    /// Addresses of the network cards that machines boot from: six octets in hexadecimal, separated
    /// by `:` or `-` or not at all, in upper or lower case; 8 or 20 octets for InfiniBand. At most
    /// 4,096.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::macs")]
    pub mac_addresses: Vec<String>,
    /// Labels that a machine must have with these values: what iPXE sends (`product`,
    /// `manufacturer`, `buildarch`, `platform`, `asset`, `hostname`, ...) and what the operator set
    /// on the server. Different names of one architecture are equal (`aarch64`, `arm64`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::subject_labels")]
    #[x_kube(validation = schema::keys_are_subject_keys())]
    pub match_labels: BTreeMap<String, String>,
    /// Label requirements, all of which a machine must satisfy. At most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "atomic"))]
    pub match_expressions: Vec<LabelRequirement>,
    /// Whether there are lists of identities, all of which are empty. Without the lists, the labels
    /// would decide, or every machine would match.
    #[serde(skip)]
    #[allow(
        dead_code,
        reason = "`KubeSchema` copies the struct and leaves out the field"
    )]
    pub names_no_machine: bool,
}

/// What is wrong with lists of identities that are all empty.
pub(crate) const NAMES_NO_MACHINE: &str = "lists of identities are there, but all of them are empty; add an identity, or remove the lists so that the labels decide (without labels, every machine matches)";

/// Reads selectors, and whether there are lists of identities at all.
fn subject_selectors<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<SubjectSelectors, D::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Selectors {
        uuids: Option<Vec<String>>,
        serial_numbers: Option<Vec<String>>,
        mac_addresses: Option<Vec<String>>,
        #[serde(default)]
        match_labels: BTreeMap<String, String>,
        #[serde(default)]
        match_expressions: Vec<LabelRequirement>,
    }
    let read = Selectors::deserialize(deserializer)?;
    let lists = [&read.uuids, &read.serial_numbers, &read.mac_addresses];
    let names_no_machine = lists.iter().any(|list| list.is_some())
        && lists
            .iter()
            .all(|list| list.as_ref().is_none_or(Vec::is_empty));
    Ok(SubjectSelectors {
        uuids: read.uuids.unwrap_or_default(),
        serial_numbers: read.serial_numbers.unwrap_or_default(),
        mac_addresses: read.mac_addresses.unwrap_or_default(),
        match_labels: read.match_labels,
        match_expressions: read.match_expressions,
        names_no_machine,
    })
}

/// A requirement on one label.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(
    validation = Rule::new("!(self.operator in ['In', 'NotIn']) || (has(self.values) && size(self.values) > 0)")
        .message("operators In and NotIn need at least one value"),
    validation = Rule::new("self.operator in ['In', 'NotIn'] || !has(self.values) || size(self.values) == 0")
        .message("operators Exists and DoesNotExist take no values")
)]
pub struct LabelRequirement {
    /// The key of the label, such as `product`: at most 253 bytes with at most one `/`.
    #[schemars(schema_with = "schema::label_key")]
    pub key: String,
    /// `In`: the label has one of the values. `NotIn`: it has none of them or does not exist.
    /// `Exists`: the label exists. `DoesNotExist`: it does not exist.
    #[schemars(schema_with = "schema::operator")]
    pub operator: String,
    /// The values for `In` and `NotIn`; at most 256.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::label_values")]
    pub values: Vec<String>,
}

/// The state of an Assignment as seen by the controllers.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[schemars(extend("default" = schema::pending_status()))]
#[serde(rename_all = "camelCase")]
pub struct AssignmentStatus {
    /// The generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The selected machines in short: `uuid 47c6da67-...`, `3 serial numbers`, `product=R640`,
    /// `every machine`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub subject: Option<String>,
    /// The names of the Profiles that `profileSelectors` currently matches, regardless of any
    /// machine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::profile_names")]
    pub profiles: Vec<String>,
    /// The same as one text: `p, q`, or `p and 7 more`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub profile_summary: Option<String>,
    /// `Ready`: whether the Assignment is valid and has a Profile. `Accepted`: whether it is valid.
    /// `ProfileFound`: whether its selectors match a Profile. `Conflicted`: whether only age or name
    /// decides between it and another Assignment. `Reconciling`: whether the controllers have yet to
    /// look at it. `Stalled`, if true: it is invalid, and stays so until somebody changes it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

// === impl SubjectSelectors ===

impl SubjectSelectors {
    /// Whether there are no selectors, so that every machine matches.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
