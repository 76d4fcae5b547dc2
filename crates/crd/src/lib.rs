//! The custom resources `Profile`, `Assignment` and `Machine` (`shaper.amahdha.com/v1alpha1`) and
//! their conversion.
//!
//! The types define the schema and the CEL rules, which apply without a webhook; [`manifests`]
//! writes them as `CustomResourceDefinition`s. [`convert_profile`], [`convert_assignment`] and
//! [`convert_machine`] are the only conversions to the objects of the catalog. Standalone, the controllers and the webhook
//! all call them, so every admitted object can be indexed. An error is an [`Invalid`], which names
//! the field. [`partial_profile`], [`partial_assignment`] and [`partial_machine`] read what
//! they can from an invalid object.
//!
//! | rule | checked by |
//! |---|---|
//! | type, length, number, spelling of one value | schema |
//! | keys of maps, operators and their values | CEL |
//! | all of these again, and templates | conversion |

#![allow(
    clippy::duplicated_attributes,
    reason = "each printer column has a type"
)]
#![allow(
    unreachable_pub,
    reason = "kube's derive repeats each struct inside of a function, to attach its rules"
)]

mod assignment;
mod convert;
mod field;
mod labels;
mod machine;
mod manifest;
mod partial;
mod profile;
mod schema;
mod unknown_field;

pub use assignment::{
    Assignment, AssignmentSpec, AssignmentStatus, LabelRequirement, SubjectSelectors,
};
pub use convert::{
    Invalid, config_ids, convert_assignment, convert_machine, convert_profile, template_field,
};
pub use field::{FieldPath, PathSegment};
pub use machine::{Machine, MachineSpec, MachineStatus};
pub use manifest::{definitions, manifests};
pub use partial::{IDENTITY_LISTS, partial_assignment, partial_machine, partial_profile};
pub use profile::{Profile, ProfileSpec, ProfileStatus};
pub use unknown_field::deserialize;

/// The API group of the resources.
pub const GROUP: &str = "shaper.amahdha.com";
/// The API version of the resources.
pub const VERSION: &str = "v1alpha1";
/// Group and version in the form of `apiVersion`.
pub const API_VERSION: &str = "shaper.amahdha.com/v1alpha1";
/// The namespace of an object that has none.
pub const DEFAULT_NAMESPACE: &str = "default";
