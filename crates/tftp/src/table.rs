//! The table of files that can be read by name.

mod name;
mod scan;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::content::OpenFile;

/// All files that are served, opened in advance, by name. Lookups don't touch the file system, so
/// nothing else can be read.
#[derive(Debug, Default)]
pub struct Table {
    files: HashMap<Vec<u8>, Entry>,
    /// Names by their lower-case form, for firmware that sends capitals only.
    folded: HashMap<Vec<u8>, Vec<u8>>,
}

/// A path below the root that is not served.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SkippedPath {
    /// The path.
    pub path: PathBuf,
    /// Why it is not served.
    pub reason: String,
}

/// A file in the table.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) name: Arc<str>,
    pub(crate) file: Arc<OpenFile>,
}

/// The result of a lookup.
#[derive(Clone, Debug)]
pub(crate) enum Lookup {
    /// A file in the table.
    File(Entry),
    /// The generated script that sends iPXE to the HTTP server.
    Bootstrap(Arc<str>),
}

// === impl Table ===

impl Table {
    /// The number of files.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether the table has no files.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The names of all files, in no particular order.
    pub fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.files.keys().map(Vec::as_slice)
    }

    /// Whether both tables have the same names for the same files.
    pub fn is_same_as(&self, other: &Self) -> bool {
        let is_in_other = |(name, entry): (&Vec<u8>, &Entry)| {
            other
                .files
                .get(name)
                .is_some_and(|there| Arc::ptr_eq(&there.file, &entry.file))
        };
        self.len() == other.len() && self.files.iter().all(is_in_other)
    }

    /// Looks up a name. Files take precedence over the generated script, and exact matches over
    /// those that ignore case.
    pub(crate) fn lookup(&self, name: &[u8]) -> Option<Lookup> {
        let normalized = name::normalize(name)?;
        if let Some(entry) = self.files.get(&normalized) {
            return Some(Lookup::File(entry.clone()));
        }
        let folded = normalized.to_ascii_lowercase();
        if let Some(name) = self.folded.get(&folded) {
            return self.files.get(name).cloned().map(Lookup::File);
        }
        let last = folded
            .rsplit(|byte| *byte == b'/')
            .next()
            .unwrap_or_default();
        (last == b"autoexec.ipxe" || folded == b"boot.ipxe")
            .then(|| Lookup::Bootstrap(String::from_utf8_lossy(&normalized).into()))
    }

    fn insert(&mut self, name: Vec<u8>, file: Arc<OpenFile>) {
        let folded = self
            .folded
            .entry(name.to_ascii_lowercase())
            .or_insert_with(|| name.clone());
        // Of names that differ only in case, prefer the first in order, so that the answer does not
        // depend on the order of the directory.
        if name < *folded {
            folded.clone_from(&name);
        }
        let text = String::from_utf8_lossy(&name).into();
        self.files.insert(name, Entry { name: text, file });
    }
}

#[cfg(test)]
mod tests;
