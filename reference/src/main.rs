//! `cargo xtask generate`: writes every generated file of the repository.

use std::fs;
use std::path::Path;

use anyhow::Context;

fn main() -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for (name, text) in reference::files() {
        let path = root.join(&name);
        let directory = path.parent().context("a file is in a directory")?;
        fs::create_dir_all(directory)
            .with_context(|| format!("can't create {}", directory.display()))?;
        fs::write(&path, text).with_context(|| format!("can't write {}", path.display()))?;
        println!("wrote {name}");
    }
    Ok(())
}
