//! Checks that the committed files are what the code generates.

use std::path::Path;

#[test]
fn committed_files_are_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for (name, text) in reference::files() {
        let committed = std::fs::read_to_string(root.join(&name)).unwrap_or_default();
        assert!(
            committed == text,
            "{name} is stale: run `cargo xtask generate`"
        );
    }
}
