//! What `proto/shaper/feed/v1/feed.proto` makes.

#![allow(missing_docs, clippy::pedantic)]

tonic::include_proto!("shaper.feed.v1");

/// The major version that this software speaks.
pub const PROTOCOL: u32 = 1;
