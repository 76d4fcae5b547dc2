//! What a machine fetches: `/boot.ipxe`, `/ipxe`, `/config/{uuid}`.
//!
//! [`Boot`] answers one request, from memory and without waiting: path and query in, status and text out. [`Server`] owns sockets,
//! connections and limits, and asks [`Boot`]. Nothing else happens here: who fills the catalog is not this crate's business.
//!
//! ```text
//! bytes --Server--> Request --Boot::answer--> Answer --Server--> bytes
//! ```
//!
//! What iPXE needs of an HTTP server (`ipxe:src/net/tcp/httpcore.c`): a Content-Length, never a 200 with anything but a script on a
//! script's path, no compression, few headers, and `Retry-After` where it should try again by itself.

mod answer;
mod base_url;
mod bootstrap;
mod configs;
mod line;
mod metrics;
mod openapi;
mod patience;
mod raw_target;
mod refusal;
mod server;
mod shed;

pub use answer::{Answer, Boot, Choice, ContentType, Outcome, Request, Route};
pub use base_url::{BaseUrl, InvalidBaseUrl};
pub use bootstrap::bootstrap;
pub use line::{Line, RequestLog};
pub use metrics::Metrics;
pub use openapi::openapi;
pub use raw_target::RawTarget;
pub use server::{Limits, Server};
