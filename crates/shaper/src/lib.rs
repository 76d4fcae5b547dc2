//! The parts of the binary: each role of shaper is a subcommand, wired together here from the crates below.

pub mod admin;
pub mod api;
pub mod ask;
pub mod cli;
mod console;
pub mod controller;
pub mod diff;
pub mod explain;
mod guard;
pub mod ids;
mod loaded;
pub mod logs;
pub mod machines;
pub mod manifests;
pub mod manual;
pub mod metrics;
pub mod partition;
pub mod registration;
mod role;
pub mod standalone;
pub mod stop;
pub mod tftp;
pub mod validate;
pub mod webhook;
