//! Measurements.

use std::process::Command;

use anyhow::{Context, ensure};
use clap::Subcommand;

mod admission;
mod catalog;
mod feed;
mod tftp;

/// What to measure
#[derive(Subcommand)]
pub(crate) enum Bench {
    /// One admission review beside many Assignments: p50, p99 and CPU time, for each sort of change
    Admission(admission::Args),
    /// A catalog of many Assignments from one controller's feed to several `shaper api`: time, bytes, memory, time from change to served
    Feed(feed::Args),
    /// shaper, dnsmasq and tftpd-hpa with the same client: CPU seconds of the server per GiB, and throughput
    Tftp(tftp::Args),
}

/// Measures, and prints a table.
pub(crate) fn run(bench: &Bench) -> anyhow::Result<()> {
    match bench {
        Bench::Admission(args) => admission::run(args),
        Bench::Feed(args) => feed::run(args),
        Bench::Tftp(args) => tftp::run(args),
    }
}

/// Runs this command once more, as an optimised program.
fn again_optimised() -> anyhow::Result<()> {
    let own: Vec<String> = std::env::args().skip(1).collect();
    let own: Vec<&str> = own.iter().map(String::as_str).collect();
    cargo(&[&["run", "--release", "--quiet", "--package", "xtask", "--"], &own[..]].concat())
}

fn cargo(arguments: &[&str]) -> anyhow::Result<()> {
    let ended = Command::new(env!("CARGO")).args(arguments).status().context("can't run cargo")?;
    ensure!(ended.success(), "cargo {} failed; its messages are above", arguments.join(" "));
    Ok(())
}
