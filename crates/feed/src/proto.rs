//! Generated from `proto/shaper/feed/v1/feed.proto`.

#![allow(missing_docs, clippy::pedantic)]

tonic::include_proto!("shaper.feed.v1");

/// The major version of the protocol that this software speaks.
pub const PROTOCOL: u32 = 1;
