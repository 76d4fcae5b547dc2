//! A folder of manifests: reads, checks and converts it, and follows its changes.
//!
//! [`Folder::rescan`] returns the changes since the last scan; [`Follow`] decides when to scan. A
//! file is accepted as a whole or not at all: a file with an error keeps all of its last good
//! objects, since half of a change may endanger a machine.

mod batch;
mod fault;
mod fields;
mod finding;
mod folder;
mod follow;
mod kind;
pub mod listing;
mod read;
mod spot;
mod tree;
mod walk;

use std::fmt;
use std::path::PathBuf;

pub use batch::{Batch, Progress, Source};
pub use fault::Fault;
pub use folder::{Folder, Scan};
pub use follow::{Follow, Waker};
pub use spot::Spot;

/// A problem with a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file, relative to the folder.
    pub file: PathBuf,
    /// The line, counted from 1, if known.
    pub line: Option<usize>,
    /// What is wrong and what to do.
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.file.display(), self.reason),
            None => write!(f, "{}: {}", self.file.display(), self.reason),
        }
    }
}
