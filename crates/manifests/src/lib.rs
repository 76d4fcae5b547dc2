//! A folder of manifests: read, checked, converted, and followed as it changes.
//!
//! [`Folder::rescan`] says what is different since the last time; [`Follow`] says when to look. A file is taken whole or not at all: one
//! with an error keeps all of its last good objects, since half of a change may be a danger to a machine.

mod batch;
mod fault;
mod fields;
mod folder;
mod follow;
pub mod listing;
mod read;
mod tree;
mod walk;

use std::fmt;
use std::path::PathBuf;

pub use batch::{Batch, Progress, Source};
pub use fault::Fault;
pub use folder::{Folder, Scan};
pub use follow::{Follow, Waker};
pub use tree::Spot;

/// What is wrong with a file, and where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file, below the folder as it was named.
    pub file: PathBuf,
    /// Its line, counted from 1, where that is known.
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
