//! `shaper partition KEY...`: tells which of several clusters an object belongs to.

use std::io::Write;

use anyhow::Context;
use feed::Partitions;

/// Tell which of several clusters a key belongs to
///
/// For tools that author Assignments and Profiles for several clusters: an object is written to the cluster of its key, and to no other. Use as a
/// key what an Assignment and its Profiles have in common, such as their namespace. Prints a line for each key: the key, a tab, the
/// cluster. Adding a cluster moves only those keys that are then its own.
#[derive(clap::Args)]
pub struct Args {
    /// The names of all clusters, as in `shaper api --feed NAME=URL`
    #[arg(
        long,
        env = "SHAPER_PARTITIONS",
        value_name = "NAME,NAME,...",
        value_delimiter = ',',
        required = true
    )]
    partitions: Vec<String>,
    /// The keys
    #[arg(required = true, value_name = "KEY")]
    keys: Vec<String>,
}

/// Prints the answer.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let partitions =
        Partitions::new(args.partitions.iter().map(String::as_str)).context("--partitions")?;
    let lines: String = args
        .keys
        .iter()
        .map(|key| format!("{key}\t{}\n", partitions.owner(key)))
        .collect();
    match std::io::stdout().write_all(lines.as_bytes()) {
        // The reader closed the pipe, as with `| head`.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("can't print"),
    }
}
