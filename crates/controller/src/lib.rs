//! Follows Profiles, Assignments and Machines in Kubernetes, publishes them to the feed, and writes their
//! status.
//!
//! ```text
//! watch --Object--> Index --feed::Publisher::apply--> catalog --> feed
//!                     |
//!                     +--touched names--> Writer --(holder of the Lease only)--> status, events
//! ```
//!
//! - `watch` watches each kind and converts each object as it arrives.
//! - `index` holds each object's metadata and what follows from all objects together: conflicts,
//!   and which Profiles an Assignment selects. It does no I/O. `placements` evaluates which
//!   Assignment and Profile each Machine gets, and which variables are missing.
//! - `status` computes the status that an object should have; `writer` writes it where it differs,
//!   in the order of `write_queue`. `refusals` has the objects whose status the API server refuses.
//! - [`lease`] elects the controller that writes. All controllers publish.

mod condition;
mod config_ids;
mod controller;
mod event_limit;
mod index;
pub mod lease;
mod metrics;
mod object;
mod observed;
mod placements;
pub mod reasons;
mod refusals;
mod rewrites;
mod selector_index;
mod status;
mod variable_gap;
mod watch;
mod write_queue;
mod writer;

pub use controller::{Controller, Handle, Options};
pub use metrics::Metrics;
pub use watch::ResponseTimeout;
