//! What is measured is optimised, at both ends.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use e2e::assets::{Package, ensure_packages};

/// Where this program is not optimised: builds it and shaper so, and runs the same command again with that. False where it is.
pub(crate) fn again() -> anyhow::Result<bool> {
    if cfg!(not(debug_assertions)) {
        return Ok(false);
    }
    ensure_packages(&[Package::Make])?;
    let built = Command::new(env!("CARGO"))
        .args([
            "build",
            "--release",
            "--package",
            "shaper",
            "--package",
            "xtask",
        ])
        .status();
    ensure!(
        built.context("can't run cargo")?.success(),
        "it does not build: the compiler's messages are above"
    );
    let ended = Command::new(folder().join("xtask"))
        .args(std::env::args_os().skip(1))
        .status()
        .context("can't run the optimised xtask")?;
    ensure!(ended.success(), "the measurement ended with {ended}");
    Ok(true)
}

/// The optimised shaper.
pub(crate) fn shaper() -> anyhow::Result<PathBuf> {
    let program = folder().join("shaper");
    ensure!(
        program.is_file(),
        "{} is not there; run the command by `cargo xtask bench`, which builds it",
        program.display()
    );
    Ok(program)
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release")
}
