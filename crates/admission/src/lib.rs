//! What is said to an API server that asks whether an object may be written (`admission.k8s.io/v1`).
//!
//! A [`Request`] is read from bytes; [`validate`](fn@validate) judges it by the rules of the crate `review`, the same that `shaper validate` has, and beside
//! a [`boot::Catalog`] that somebody else keeps; [`mutate`](fn@mutate) says what metadata it gets; both answer with an [`Answer`].
//!
//! ```text
//! bytes --Request::read--> Request --validate | mutate--> Answer --to_json--> bytes
//! ```
//!
//! [`Registration`] is what makes a server ask. This crate is pure: no socket, no runtime, no Kubernetes client. What it reads comes from an API server, or from somebody who says so: whatever it
//! is, there is an answer or an [`Unreadable`], never a panic. What it does not know it allows, since a cluster must not stand still because of it.

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
