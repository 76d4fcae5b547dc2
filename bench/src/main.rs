//! Measures shaper, mostly next to a peer: `cargo xtask bench --help`.

use clap::{Parser, Subcommand};

mod admission;
mod catalog;
mod controller;
mod feed;
mod http;
mod optimised;
mod replica;
mod tftp;
mod watch;

/// Measure shaper
#[derive(Parser)]
#[command(bin_name = "cargo xtask bench")]
struct Cli {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// One admission review with many Assignments in the catalog: p50 and p99 by kind of change
    Admission(admission::Args),
    /// A controller with many Assignments: time to ready, memory, and peak memory while it relists
    Controller(watch::Args),
    /// One controller's feed to several `shaper api`: time, bytes, memory, time from change to
    /// served
    Feed(feed::Args),
    /// /ipxe next to hyper with a constant: CPU time, latency and memory, by number of Assignments
    Http(http::Args),
    /// shaper, dnsmasq and tftpd-hpa with the same client: server CPU seconds per GiB, throughput
    Tftp(tftp::Args),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().bench {
        Bench::Admission(args) => admission::run(&args),
        Bench::Controller(args) => watch::run(&args),
        Bench::Feed(args) => feed::run(&args),
        Bench::Http(args) => http::run(&args),
        Bench::Tftp(args) => tftp::run(&args),
    }
}
