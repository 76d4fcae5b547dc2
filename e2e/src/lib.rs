//! Tests of the boot path as a machine sees it: real firmware, real iPXE, a real kernel.
//!
//! This crate knows shaper only from outside: it starts the binary, speaks HTTP to it and
//! boots virtual machines from it. It depends on no other crate of the project, so that a test
//! can't pass by agreeing with the code under test.
//!
//! - [`assets`]: programs, firmware, kernel and iPXE images, found or fetched once.
//! - [`server`]: a running `shaper standalone` and its log.
//! - [`machine`]: a virtual machine, its firmware and its console.
//! - [`network`]: a boot network in a namespace: bridge, taps, DHCP and TFTP.
//! - [`dhcp`]: DHCP servers configured as documented, and a client.
//! - [`files`]: an HTTP server for kernel and initrd.
//! - [`tftp`]: a running `shaper tftp`, a client that can misbehave, and a faulty network.
//! - [`manifests`]: a folder of Profiles and Assignments.
//! - [`attack`]: crowds of hostile clients, and machines that boot among them.
//! - [`http`]: a minimal client.
//! - [`cluster`]: a Kubernetes API server with kubectl.
//! - [`control_plane`]: such a server with the certificates of the feed.
//! - [`admission`]: a cluster with a controller and a webhook.
//! - [`cert_manager`]: cert-manager for such a cluster.
//! - [`kstatus`]: whether objects are ready, as tools judge it.
//! - [`certificates`]: a CA, and directories laid out like a projected Secret.
//! - [`site`]: all of these together, and machines that boot from them.
//! - [`wire`]: a TCP proxy with faults.
//!
//! A process that is started here ends when its value is dropped, and with the test program.

pub mod admission;
pub mod assets;
pub mod attack;
pub mod cert_manager;
pub mod certificates;
pub mod cluster;
pub mod control_plane;
pub mod dhcp;
pub mod files;
pub mod http;
pub mod kstatus;
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
