//! `shaper partition KEY...`: prints which of several clusters an object belongs to.

use std::io::Write;

use anyhow::Context;
use feed::Partitions;

/// Print which of several clusters a key belongs to
///
/// For tools that write Assignments and Profiles to several clusters: each object is written only
/// to the cluster of its key. Use a key that an Assignment and its Profiles have in common, such as
/// their namespace. Prints one line per key: the key, a tab, the cluster. Adding a cluster moves
/// only the keys that then belong to it.
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

/// Prints the cluster of each key.
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
