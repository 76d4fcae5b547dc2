//! Arbitrary manifests.

use std::fs;

use boot::Catalog;
use manifests::{Batch, Folder, Progress, Source};
use review::Severity;

/// Input: a manifest; if the first byte is `J`, it is JSON.
pub(crate) fn manifests(bytes: &[u8]) {
    let [kind, bytes @ ..] = bytes else { return };
    let name = if *kind == b'J' {
        "manifests.json"
    } else {
        "manifests.yaml"
    };
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let batch = review(name, text);
    let errors = batch
        .faults
        .iter()
        .filter(|(_, fault)| fault.rule.severity == Severity::Error)
        .count();

    let folder = tempfile::tempdir_in(memory()).expect("a folder");
    fs::write(folder.path().join(name), text).expect("a file");
    let scan = Folder::new(folder.path(), boot::catalog::guard::Limits::default()).rescan();
    let mut catalog = Catalog::new();
    for change in scan.changes {
        catalog.apply(change);
    }
    if errors == 0 && batch.catalog.assignment_count() + batch.catalog.profile_count() > 0 {
        assert!(
            scan.problems.is_empty(),
            "validate finds no error, and what serves does: {:?}",
            scan.problems
        );
        assert_eq!(
            listed(&catalog),
            listed(&batch.catalog),
            "validate reads something else than what serves"
        );
    }
    if !scan.problems.is_empty() && !text.trim().is_empty() {
        assert!(
            errors > 0,
            "what serves refuses it, and validate does not: {:?}",
            scan.problems
        );
    }
    let printed = listed(&catalog);
    let again = review("catalog.json", &printed);
    assert_eq!(
        listed(&again.catalog),
        printed,
        "what was printed reads as something else"
    );
}

fn review(name: &str, text: &str) -> Batch {
    let mut batch = Batch::of(vec![Source {
        name: name.to_owned(),
        text: text.to_owned(),
    }]);
    batch.survey(&Progress::silent());
    // YAML has three kinds of line breaks.
    let lines = text.replace("\r\n", "\n").split(['\n', '\r']).count();
    for (_, fault) in &batch.faults {
        assert!(
            fault.line().is_none_or(|line| (1..=lines).contains(&line)),
            "{fault:?} in {lines} lines"
        );
        assert!(!fault.sentence().is_empty());
    }
    batch
}

fn listed(catalog: &Catalog) -> String {
    manifests::listing::Listing::of(catalog, None).collect()
}

/// A folder in memory.
fn memory() -> std::path::PathBuf {
    let memory = std::path::PathBuf::from("/dev/shm");
    if memory.is_dir() {
        memory
    } else {
        std::env::temp_dir()
    }
}
