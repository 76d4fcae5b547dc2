//! Measurements.

use clap::Subcommand;

mod admission;
mod catalog;
mod controller;
mod feed;
mod http;
mod optimised;
mod replica;
mod tftp;
mod watch;

/// What to measure
#[derive(Subcommand)]
pub(crate) enum Bench {
    /// One admission review beside many Assignments: p50 and p99 for each sort of change
    Admission(admission::Args),
    /// A controller behind an API server with many Assignments: time to ready, memory, and its peak while it lists again
    Controller(watch::Args),
    /// A catalog of many Assignments from one controller's feed to several `shaper api`: time, bytes, memory, time from change to served
    Feed(feed::Args),
    /// /ipxe beside hyper with a constant: CPU time, latency, memory, by number of Assignments and while they change
    Http(http::Args),
    /// shaper, dnsmasq and tftpd-hpa with the same client: CPU seconds of the server per GiB, and throughput
    Tftp(tftp::Args),
}

/// Measures, and prints a table.
pub(crate) fn run(bench: &Bench) -> anyhow::Result<()> {
    match bench {
        Bench::Admission(args) => admission::run(args),
        Bench::Controller(args) => watch::run(args),
        Bench::Feed(args) => feed::run(args),
        Bench::Http(args) => http::run(args),
        Bench::Tftp(args) => tftp::run(args),
    }
}
