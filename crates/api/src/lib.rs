//! What a machine fetches: `/boot.ipxe`, `/ipxe`, `/config/{uuid}`.
//!
//! [`BootService`] answers one request, from memory and without waiting: path and query in, status and text out. [`Server`] owns sockets,
//! connections and limits, and asks [`BootService`]. Nothing else happens here: who fills the catalog is not this crate's business.
//!
//! ```text
//! bytes --Server--> Request --BootService::answer--> Answer --Server--> bytes
//! ```
//!
//! What iPXE needs of an HTTP server (`ipxe:src/net/tcp/httpcore.c`): a Content-Length, never a 200 with anything but a script on a
//! script's path, no compression, few headers, and `Retry-After` where it should try again by itself.

mod answer;
mod base_url;
mod bootstrap;
mod configs;
mod error_rewriter;
mod metrics;
mod openapi;
mod request_log;
mod server;
mod service;
mod shed;
mod target_encoder;
mod write_timeout;

pub use answer::{Answer, Choice, ContentType, Outcome, Request, Route};
pub use base_url::{BaseUrl, InvalidBaseUrl};
pub use bootstrap::bootstrap;
pub use metrics::Metrics;
pub use openapi::openapi;
pub use request_log::{LogEntry, RequestLog};
pub use server::{Limits, Server};
pub use service::BootService;
pub use target_encoder::TargetEncoder;
