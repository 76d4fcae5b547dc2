//! The domain of shaper: what each machine boots. Pure and synchronous.
//!
//! A machine is a [`Subject`], parsed from the query that iPXE sends. A [`Catalog`] holds all
//! [`Profile`]s and [`Assignment`]s. [`Catalog::select`] finds the Assignment and Profile of a
//! subject, and [`Catalog::explain`] says why. The [`Selection`] is [rendered](render) to an iPXE
//! script, whose links lead to configs that are rendered for the same subject.
//!
//! ```text
//! query --Subject::from_query--> Subject --Catalog::select--> Selection --Selection::script--> text
//! object --(crate crd)--> Profile | Assignment --Catalog::apply--> Catalog --SharedCatalog::publish--> readers
//! ```
//!
//! This crate depends on no async runtime, no network and no Kubernetes client: callers pass in
//! bytes and objects.

pub mod arch;
pub mod assignment;
pub mod bytes;
pub mod catalog;
pub mod config_format;
pub mod config_name;
pub mod conflicts;
pub mod identity;
mod intern;
pub mod machine;
pub mod name;
pub mod nearest;
pub mod printable;
pub mod profile;
pub mod query;
pub mod rejected;
pub mod render;
pub mod selection;
pub mod selector;
pub mod sorted;
pub mod subject;
pub mod template;
pub mod variables;

pub use assignment::Assignment;
pub use catalog::selector_index::SelectorIndex;
pub use catalog::{Catalog, Change, SharedCatalog};
pub use config_format::ConfigFormat;
pub use config_name::ConfigName;
pub use conflicts::Conflicts;
pub use identity::{Mac, MatchedBy};
pub use machine::Machine;
pub use name::{ObjectKey, ObjectRef};
pub use profile::Profile;
pub use rejected::{Partial, Rejected};
pub use selection::{Explanation, NotSelected, Selected, Selection};
pub use selector::{LabelSelector, Operator, Requirement, SubjectSelectors};
pub use sorted::{Labels, Sorted};
pub use subject::{ExtrinsicLabels, InvalidQuery, Subject};
pub use template::{TemplateError, TemplateErrors, Templates};
pub use variables::{Variables, VariablesSchema};
