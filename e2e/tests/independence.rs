//! The tests know shaper only from outside.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

#[test]
fn e2e_depends_on_no_other_crate_of_the_workspace() -> Result<()> {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let args = [
        "metadata",
        "--no-deps",
        "--offline",
        "--format-version=1",
        "--manifest-path",
        manifest,
    ];
    let metadata: Value = serde_json::from_str(&e2e::process::output(env!("CARGO"), args)?)?;
    let dependencies = metadata["packages"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|package| package["name"] == env!("CARGO_PKG_NAME"))
        .and_then(|package| package["dependencies"].as_array())
        .context("cargo metadata does not know this crate")?;
    ensure!(
        !dependencies.is_empty(),
        "cargo metadata names no dependencies at all"
    );
    for dependency in dependencies {
        ensure!(
            dependency["path"].is_null(),
            "e2e depends on {}, which is part of the project",
            dependency["name"]
        );
    }
    Ok(())
}
