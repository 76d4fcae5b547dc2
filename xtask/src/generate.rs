//! Writes the generated files: runs the crate `reference`, which depends on the code that they come
//! from.

use std::process::Command;

use anyhow::{Context, ensure};

/// Writes all of them.
pub(crate) fn run() -> anyhow::Result<()> {
    let ended = Command::new(env!("CARGO"))
        .args(["run", "--package", "reference"])
        .status()
        .context("can't run cargo")?;
    ensure!(ended.success(), "the generator ended with {ended}");
    Ok(())
}
