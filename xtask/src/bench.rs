//! Runs measurements: builds the `bench` crate with optimisation and starts it.

use std::ffi::OsString;
use std::process::Command;

use anyhow::{Context, ensure};

use crate::build;

/// What to measure
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    /// A bench and its options; `--help` lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

/// Builds shaper and the benches in one go, so that they share their dependencies, then measures.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    build::run(&["--release", "--package", "shaper", "--package", "bench"])?;
    let ended = Command::new(build::program("release", "bench")?)
        .args(&args.args)
        .status()
        .context("can't run the bench")?;
    ensure!(ended.success(), "the bench ended with {ended}");
    Ok(())
}
