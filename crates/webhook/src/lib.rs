//! Serves admission reviews over HTTPS.
//!
//! [`Reviews`] answers one review in memory, with the crate `admission` and a catalog that somebody
//! else keeps current. [`Server`] owns sockets, connections and [`Limits`], and calls [`Reviews`].
//!
//! ```text
//! bytes --Server--> POST /validate | /mutate --Reviews::answer--> AdmissionReview --Server--> bytes
//! ```
//!
//! The webhook has no Kubernetes client and opens no connections. A client that reaches the port
//! can learn how an object would be reviewed, and can change nothing: what was admitted is
//! remembered only for a [`Caller`] that is known by its certificate.

mod metrics;
mod reviews;
mod server;

pub use metrics::Metrics;
pub use reviews::{Caller, Hook, Reviews};
pub use server::{Limits, Server};
