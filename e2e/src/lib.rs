//! The boot path as a machine sees it: real firmware, real iPXE, a real kernel.
//!
//! This crate knows shaper only from outside: it starts the release binary, speaks HTTP to it and boots virtual
//! machines from it. It depends on no other crate of the project, so that a test can't pass by agreeing with the
//! code that it tests.
//!
//! - [`assets`]: the programs, firmware, kernel and iPXE images that a boot needs, found or fetched once.
//! - [`server`]: a running `shaper`, and what its log says.
//! - [`machine`]: a virtual machine, its firmware and its console.
//! - [`network`]: a boot network of its own: bridge, taps, DHCP and TFTP.
//! - [`dhcp`]: DHCP servers as the documentation sets them up, and a machine that asks them.
//! - [`files`]: a small HTTP server for kernel and initrd.
//! - [`tftp`]: a running `shaper tftp`, a client that can also misbehave, and a network with faults.
//! - [`manifests`]: a folder of Profiles and Assignments.
//! - [`attack`]: crowds of clients that mean harm, and machines that boot among them.
//! - [`http`]: just enough of a client to ask what a machine would ask.
//! - [`cluster`]: a Kubernetes API server of its own, with kubectl.
//! - [`admission`]: such an API server, with a controller and a webhook that it asks.
//! - [`cert_manager`]: who issues certificates in a cluster, and tells its API server whom to believe.
//! - [`certificates`]: a small CA, and directories as a projected Secret has them.
//! - [`site`]: all of that together, and machines that boot from it.
//! - [`wire`]: the network between two of its programs, with faults.
//!
//! Every process started here ends with the value that stands for it, and with the program that started it.

pub mod admission;
pub mod assets;
pub mod attack;
pub mod cert_manager;
pub mod certificates;
pub mod cluster;
pub mod dhcp;
pub mod files;
pub mod http;
pub mod load;
pub mod machine;
pub mod manifests;
pub mod network;
pub mod process;
pub mod roles;
pub mod server;
pub mod site;
pub mod tftp;
pub mod wire;
