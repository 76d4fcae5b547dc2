//! Measurements.

use clap::Subcommand;

mod feed;

/// What to measure
#[derive(Subcommand)]
pub(crate) enum Bench {
    /// A catalog of many Assignments from one controller's feed to several `shaper api`: time, bytes, memory, time from change to served
    Feed(feed::Args),
}

/// Measures, and prints a table.
pub(crate) fn run(bench: &Bench) -> anyhow::Result<()> {
    match bench {
        Bench::Feed(args) => feed::run(args),
    }
}
