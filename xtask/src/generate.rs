//! Writes the generated files: runs the crate `reference`, which depends on the code that they come
//! from.

use std::process::Command;

use anyhow::{Context, ensure};

use crate::build;

/// Writes all of them.
pub(crate) fn run() -> anyhow::Result<()> {
    // Of the whole workspace, so that dependencies have the features that the tests build them
    // with, and are not built again.
    build::run(&["--workspace", "--bin", "reference", "--locked"])?;
    let ended = Command::new(build::program("debug", "reference")?)
        .status()
        .context("can't run the generator")?;
    ensure!(ended.success(), "the generator ended with {ended}");
    Ok(())
}
