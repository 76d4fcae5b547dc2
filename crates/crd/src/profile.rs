//! The `Profile` resource.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::schema;

/// What a machine boots: an iPXE script and the configs that it links to.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "shaper.amahdha.com",
    version = "v1alpha1",
    kind = "Profile",
    namespaced,
    status = "ProfileStatus",
    derive = "PartialEq",
    shortname = "prf",
    category = "shaper",
    doc = "A Profile defines what a machine boots: an iPXE script, and the configs (Ignition, cloud-init, kickstart, ...) that it links to. \
           Assignments select it by its labels. A label `assignment/ipxe-KEY` or `assignment/extrinsic-KEY` limits it to certain \
           machines: a machine that presents another value for KEY never gets it.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether machines can get the Profile."
    ),
    printcolumn(
        name = "Accepted",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Accepted\")].status",
        description = "Whether the Profile can be served."
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Accepted\")].reason",
        description = "The reason for the value of Accepted.",
        priority = 1
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Accepted\")].message",
        description = "The reason as a sentence.",
        priority = 1
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "How long ago the object was created."
    )
)]
#[x_kube(validation = schema::formats_are_of_configs())]
#[serde(rename_all = "camelCase")]
pub struct ProfileSpec {
    /// The iPXE script, a template in Jinja syntax whose first line is `#!ipxe`. Variables: the
    /// name of each config is the URL of that config, `subject` holds the machine's labels (`{{
    /// subject.serial }}`), `extrinsic` those of the operator alone, `vars` the variables of
    /// Profile, Assignment and Machine, `profile`, `assignment` and `machine` hold name, namespace
    /// and labels of these objects, and `base_url` is the address by which
    /// the machine reached the server. An unknown name is an error. At most 1 MiB.
    #[schemars(length(min = 1, max = 1_048_576))]
    pub ipxe: String,
    /// The configs by name: templates with the same variables as the script. A name must be an
    /// identifier, so that `{{ name }}` in the script becomes the URL of the config. Each config is
    /// served at `/config/ID` with its id in `status.additionalConfig`. At most 64 configs of 1 MiB
    /// each; etcd takes 1.5 MiB for the whole Profile by default.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::configs")]
    #[x_kube(
        validation = schema::config_names_are_identifiers(),
        validation = schema::config_names_are_not_reserved()
    )]
    pub additional_config: BTreeMap<String, String>,
    /// The formats of configs by name, where neither the first line nor the last word of the name
    /// shows it: `yaml`, `json`, `shell`, `kickstart` or `text`. The format decides which values of
    /// a machine's labels are plain text in the config, and which filter escapes the others. In
    /// `text`, only control characters are refused.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::config_formats")]
    pub config_formats: BTreeMap<String, String>,
    /// Default values for templates: `{{ vars.NAME }}` in the script and the configs. Any JSON. The
    /// variables of the Assignment override them, and those of the Machine both; maps are merged,
    /// lists are replaced, and `null` removes a value. At most 64 KiB as JSON.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::variables")]
    pub variables: BTreeMap<String, Value>,
    /// A JSON Schema of the merged variables, such as `{required: [hostname], properties:
    /// {hostname: {type: string}}}`. Machines whose variables don't satisfy it are reported, and get
    /// no text that uses the variable in question. References may lead to `#/$defs/NAME` only:
    /// nothing is fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::variables_schema")]
    pub variables_schema: Option<Value>,
}

/// The state of a Profile as seen by the controllers.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[schemars(extend("default" = schema::pending_status()))]
#[serde(rename_all = "camelCase")]
pub struct ProfileStatus {
    /// The generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The id of each config, which is served at `/config/ID`. Ids are random, don't change, and
    /// are removed together with the config.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::config_ids")]
    pub additional_config: BTreeMap<String, String>,
    /// `Ready`: whether machines can get the Profile. `Accepted`: whether it is valid. `Resolved`:
    /// whether the sources of its configs exist. `Reconciling`: whether the controllers have yet to
    /// look at it. `Stalled`, if true: it is invalid, and stays so until somebody changes it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}
