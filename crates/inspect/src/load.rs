//! Loads the catalog of a folder for a command, without invalid objects.

use std::path::Path;
use std::sync::Arc;

use anyhow::bail;
use boot::{Catalog, Change};
use review::Severity;

use crate::console::{self, count};
use manifests::{Batch, Progress};

/// What to do about invalid objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnInvalid {
    /// Leaves them out, with a message on standard error.
    LeaveOut,
    /// Lets them hold their machines, as in a server that has no valid version of them.
    Wait,
    /// Fails.
    Refuse,
}

/// Reads a folder, a file or standard input.
pub(crate) fn catalog(path: &Path, on_invalid: OnInvalid) -> anyhow::Result<Catalog> {
    if path != Path::new("-") && !path.exists() {
        bail!(
            "{} does not exist; pass the folder that contains the manifests",
            path.display()
        );
    }
    let progress = Progress::start();
    let batch = Batch::read(&[path.to_owned()], &progress);
    drop(progress);
    let first = batch
        .faults
        .iter()
        .find(|(_, fault)| fault.rule.severity == Severity::Error);
    if let Some((at, fault)) = first {
        let (errors, shown) = (batch.count().0, path.display());
        let place = match fault.line() {
            Some(line) => format!("{}:{line}: ", batch.sources[*at].name),
            None => String::new(),
        };
        let first = format!("{place}{}", fault.sentence());
        if on_invalid == OnInvalid::Refuse
            || batch.catalog.assignment_count() + batch.catalog.profile_count() == 0
        {
            bail!(
                "{shown} has {}; run `shaper validate {shown}` to see all; the first is: {first}",
                count(errors, "error")
            );
        }
        let what = match on_invalid {
            OnInvalid::Wait => {
                "and the machines of invalid objects wait, unless a server still has a valid version"
            }
            OnInvalid::LeaveOut | OnInvalid::Refuse => "and the invalid objects are left out",
        };
        console::note(format_args!(
            "{shown} has {}, {what}; run `shaper validate {shown}` to see all; the first is: {first}",
            count(errors, "error")
        ));
    }
    let mut catalog = batch.catalog;
    if on_invalid == OnInvalid::Wait {
        for rejected in batch.rejected {
            catalog.apply(Change::Rejected(Arc::new(rejected)));
        }
    }
    Ok(catalog)
}
