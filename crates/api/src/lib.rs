//! The HTTP server for machines: `/boot.ipxe`, `/ipxe` and `/config/{uuid}`.
//!
//! [`BootService`] answers one request synchronously from the catalog in memory: path and query in,
//! status and text out. [`Server`] owns sockets, connections and limits, and calls [`BootService`].
//! The catalog is filled elsewhere.
//!
//! ```text
//! bytes --Server--> Request --BootService::answer--> Answer --Server--> bytes
//! ```
//!
//! iPXE's HTTP client (`ipxe:src/net/tcp/httpcore.c`) needs a Content-Length, no compression, few
//! headers, nothing but a script in a 200 on a script's path, and `Retry-After` where it is to
//! retry by itself.

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

pub use answer::{Answer, Choice, ContentType, Outcome, Request, Route};
pub use base_url::{BaseUrl, InvalidBaseUrl};
pub use bootstrap::bootstrap;
pub use metrics::Metrics;
pub use openapi::openapi;
pub use request_log::{LogEntry, RequestLog};
pub use server::{Limits, Server};
pub use service::BootService;
pub use target_encoder::TargetEncoder;
