//! Reviews Profiles and Assignments, and changes to them, before a machine boots.
//!
//! [`profile`] and [`assignment`] check one object: they run the conversion that the catalog uses,
//! render the templates for [sample machines](sample), and lint the resulting scripts
//! ([`ipxe::lint`]). [`Survey`] checks an object against all others of a [`boot::Catalog`]. Both
//! return [`Finding`]s with the same wording everywhere: `shaper validate` locates them in files,
//! admission puts them into its answer. [`Diff`] lists the machines that boot something else with
//! another catalog; [`impact`] does so for one change, within limits.
//!
//! ```text
//! crd::Profile --profile--> boot::Profile + findings        boot::Catalog --Survey::of--> Survey --assignment--> findings
//! old Catalog, new Catalog --Diff::between--> groups of machines with the same change
//! ```
//!
//! This crate does no I/O. A new rule is an entry of [`rule::RULES`] and a row in the
//! documentation, which a test compares.

mod cross_object;
pub mod diff;
mod disclosure;
mod finding;
pub mod impact;
mod object;
pub mod rule;
pub mod sample;

pub use cross_object::Survey;
pub use diff::Diff;
pub use disclosure::Disclosure;
pub use finding::Finding;
pub use object::{Reviewed, assignment, machine, profile, profile_with_deadline};
pub use rule::{Rule, Severity};
