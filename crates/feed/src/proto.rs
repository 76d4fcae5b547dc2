//! Generated from `proto/shaper/feed/v1/feed.proto` by `cargo xtask generate`.
//!
//! The generated code is in the repository, since what generates it takes longer to build than this
//! crate.

#![allow(missing_docs, clippy::pedantic, clippy::large_enum_variant)]

include!("proto/shaper.feed.v1.rs");

/// The major version of the protocol that this software speaks.
pub const PROTOCOL: u32 = 1;
