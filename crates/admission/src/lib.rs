//! Answers admission reviews (`admission.k8s.io/v1`).
//!
//! [`Request::read`] parses a review. [`validate`](fn@validate) checks its object with the rules of
//! the crate `review`, which `shaper validate` uses too, and against a [`boot::Catalog`] that the
//! caller keeps current. [`mutate`](fn@mutate) adds metadata. Both return an [`Answer`].
//!
//! ```text
//! bytes --Request::read--> Request --validate | mutate--> Answer --to_json--> bytes
//! ```
//!
//! [`Registration`] builds the webhook configurations. This crate does no I/O and uses no
//! Kubernetes client. Input is untrusted: every input yields an answer or [`Unreadable`], never a
//! panic. Unknown kinds and operations are allowed, because a webhook must not block a cluster.

mod answer;
mod mutate;
mod recent;
mod registration;
mod request;
mod validate;

pub use answer::{Answer, Outcome};
pub use mutate::{AUTHOR, IDENTITIES, LAST_EDITOR, SCOPE, mutate};
pub use recent::Recent;
pub use registration::Registration;
pub use request::{Kind, Operation, Request, Unreadable};
pub use validate::{Context, Verdict, validate};
