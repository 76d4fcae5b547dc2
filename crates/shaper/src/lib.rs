//! The parts of the binary: each role of shaper is a subcommand, wired together here from the crates below.

pub mod admin;
pub mod controller;
pub mod ids;
pub mod logs;
pub mod manifests;
pub mod standalone;
pub mod stop;
pub mod tftp;
