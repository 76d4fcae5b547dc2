//! Writes the files that are generated from code and committed: `cargo xtask generate`.

use std::fs;
use std::path::Path;

use anyhow::Context;

fn main() -> anyhow::Result<()> {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config");
    for (name, text) in crd::manifests() {
        write(&config.join("crd").join(name), &text)?;
    }
    for (name, text) in admission::Registration::default().manifests() {
        write(&config.join("webhook").join(name), &text)?;
    }
    write(&config.join("openapi.json"), api::openapi())
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let directory = path.parent().context("the file is in a directory")?;
    fs::create_dir_all(directory).with_context(|| format!("can't make {}", directory.display()))?;
    fs::write(path, text).with_context(|| format!("can't write {}", path.display()))?;
    println!("wrote {}", path.display());
    Ok(())
}
