//! The `Machine` resource.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::schema;

/// A machine of the inventory: its identities, and values for templates.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "shaper.amahdha.com",
    version = "v1alpha1",
    kind = "Machine",
    status = "MachineStatus",
    derive = "PartialEq",
    shortname = "mch",
    category = "shaper",
    doc = "A Machine is an optional inventory entry. A machine that presents one of its identities is this Machine: by UUID, \
           then by serial number, then by MAC address. Its labels, and the label `machine` with its name, count as labels of the machine \
           that a query can't override, and all of its identities match Assignments. If two Machines claim one identity, the older one \
           wins.",
    printcolumn(
        name = "Identities",
        type_ = "string",
        json_path = ".status.identities",
        description = "The identities, in short."
    ),
    printcolumn(
        name = "Assignment",
        type_ = "string",
        json_path = ".status.assignment",
        description = "The Assignment that matches the Machine, as far as its identities and labels tell."
    ),
    printcolumn(
        name = "Profile",
        type_ = "string",
        json_path = ".status.profile",
        description = "The Profile that this Assignment gives it."
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether the Machine is valid."
    ),
    printcolumn(
        name = "Conflicted",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Conflicted\")].status",
        description = "Whether another Machine claims one of its identities."
    ),
    printcolumn(
        name = "Conflict",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Conflicted\")].message",
        description = "The conflicting Machines.",
        priority = 1
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "How long ago the object was created."
    )
)]
#[x_kube(
    validation = Rule::new("has(self.uuid) || has(self.serialNumber) || (has(self.macAddresses) && size(self.macAddresses) > 0)")
        .message(NO_IDENTITY)
)]
#[serde(rename_all = "camelCase")]
pub struct MachineSpec {
    /// The SMBIOS UUID (`dmidecode -s system-uuid`), in upper or lower case, with or without
    /// dashes. Either byte order of the first three fields matches. A placeholder that many boards
    /// share matches nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::uuid")]
    pub uuid: Option<String>,
    /// The serial number (`dmidecode -s system-serial-number`): any text of at most 256 characters.
    /// Leading and trailing spaces are ignored. Placeholders such as `To be filled by O.E.M.` match
    /// nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::serial")]
    pub serial_number: Option<String>,
    /// Addresses of all network cards: six octets in hexadecimal, separated by `:` or `-` or not at
    /// all, in upper or lower case; 8 or 20 octets for InfiniBand. The machine may boot from any of
    /// them. At most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::machine_macs")]
    pub mac_addresses: Vec<String>,
    /// Values for templates: `{{ vars.NAME }}` in the script and the configs. Any JSON. They
    /// override those of the Assignment, and these those of the Profile; maps are merged, lists are
    /// replaced, and `null` removes a value. At most 64 KiB as JSON.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::variables")]
    pub variables: BTreeMap<String, Value>,
}

/// What is wrong with a Machine that no machine can be.
pub(crate) const NO_IDENTITY: &str =
    "a Machine needs at least one of uuid, serialNumber and macAddresses";

/// The state of a Machine as seen by the controllers.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[schemars(extend("default" = schema::pending_status()))]
#[serde(rename_all = "camelCase")]
pub struct MachineStatus {
    /// The generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The identities in short: `uuid 47c6da67-..., serial 7XK29Q2, 2 MAC addresses`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub identities: Option<String>,
    /// The Assignment that matches the Machine now, as NAMESPACE/NAME: by its identities and labels,
    /// without what the machine says of itself when it boots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub assignment: Option<String>,
    /// The Profile that this Assignment gives it, as NAMESPACE/NAME.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub profile: Option<String>,
    /// `Ready`: whether the Machine is valid. `Accepted`: the same, with the reason. `Conflicted`:
    /// whether another Machine claims one of its identities. `Reconciling`: whether the controllers
    /// have yet to look at it. `Stalled`, if true: it is invalid, and stays so until somebody
    /// changes it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}
