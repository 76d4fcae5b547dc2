//! Answers an API server that asks whether an object may be written, over HTTPS.
//!
//! [`Reviews`] answers one request from memory: the bytes of a review in, those of an answer out, by the crate `admission` and a catalog that
//! somebody else keeps current. [`Server`] owns sockets, connections and [`Limits`], and asks [`Reviews`].
//!
//! ```text
//! bytes --Server--> POST /validate | /mutate --Reviews::answer--> AdmissionReview --Server--> bytes
//! ```
//!
//! There is no Kubernetes client here and no other way out: whoever reaches the port learns what an object would be told, and can change nothing.

mod metrics;
mod reviews;
mod server;

pub use metrics::Metrics;
pub use reviews::{Hook, Reviews};
pub use server::{Limits, Server};
