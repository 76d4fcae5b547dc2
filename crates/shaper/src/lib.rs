//! The parts of the binary. Each subcommand wires the crates below to a role or an offline command.

mod address;
pub mod admin;
pub mod api;
pub mod cli;
pub mod controller;
mod guard;
pub mod ids;
pub mod listeners;
pub mod logs;
pub mod manual;
pub mod metrics;
pub mod partition;
pub mod registration;
mod role;
mod stall;
pub mod standalone;
mod state_dir;
pub mod stop;
pub mod tftp;
mod warnings;
pub mod webhook;
