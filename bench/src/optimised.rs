//! Finds the optimised shaper to measure.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

/// Returns the given shaper, or the one that `cargo xtask bench` built next to this program.
///
/// Fails if none is given and this program was built without optimisation: both ends of a
/// measurement must be optimised.
pub(crate) fn shaper(named: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(program) = named {
        return Ok(program.to_owned());
    }
    ensure!(
        cfg!(not(debug_assertions)),
        "this bench was built without optimisation; run it with `cargo xtask bench`"
    );
    let program = std::env::current_exe()
        .context("can't find this program")?
        .with_file_name("shaper");
    ensure!(
        program.is_file(),
        "{} does not exist; run the bench with `cargo xtask bench`, which builds it",
        program.display()
    );
    Ok(program)
}
