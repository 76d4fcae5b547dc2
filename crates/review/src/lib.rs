//! What is wrong with Profiles and Assignments, and what a change to them does, told before a machine boots.
//!
//! [`profile`] and [`assignment`] look at one object: they call the conversion that the catalog uses, render the templates for sample
//! machines ([`sample`]) and lint the scripts that come out ([`ipxe`]). [`Survey`] looks at an object among all others of a
//! [`boot::Catalog`]. Both yield [`Finding`]s, whose words are the same wherever they are shown: `shaper validate` places them in a file,
//! admission puts them into its answer. [`Diff`] says which machines would boot something else with another catalog; [`effect`] says so
//! of one change, in short and at once.
//!
//! ```text
//! crd::Profile --profile--> boot::Profile + findings        boot::Catalog --Survey::of--> Survey --assignment--> findings
//! old Catalog, new Catalog --Diff::between--> groups of machines that change alike
//! ```
//!
//! This crate is pure: no runtime, no file, no network. A new rule is an entry of [`rule::ALL`] and a row in the docs, which a test compares.

mod cross_object;
pub mod diff;
mod finding;
pub mod impact;
pub mod ipxe;
mod object;
pub mod rule;
pub mod sample;

pub use cross_object::Survey;
pub use diff::Diff;
pub use finding::Finding;
pub use object::{Reviewed, assignment, profile, profile_with_deadline};
pub use rule::{Rule, Severity};
