//! From Kubernetes to the catalog, and back to the status of what is there.
//!
//! ```text
//! watch --Object--> Index --feed::Publisher::apply--> catalog --> feed
//!                     |
//!                     +--touched names--> Writer --(holder of the Lease only)--> status, events
//! ```
//!
//! - `watch` follows Profiles and Assignments and converts each object where it comes in.
//! - `index` knows what each object is beside its meaning, and what follows from all of them: conflicts, and which Profiles an
//!   Assignment selects. It is pure and sync.
//! - `status` says what status an object should have, and `writer` writes it where it has another.
//! - [`lease`] decides which of several controllers writes. Every one of them publishes.

mod condition;
mod controller;
mod index;
pub mod lease;
mod metrics;
mod object;
mod observed;
pub mod reasons;
mod selector_index;
mod status;
mod watch;
mod writer;

pub use controller::{Controller, Handle, Options};
pub use metrics::Metrics;
pub use watch::ResponseTimeout;
