//! The fixed table of names: what is not in it can't be read, whatever the name looks like.

mod name;
mod scan;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::content::OpenFile;

/// All files that are served, open, by name. Lookups touch no file system.
#[derive(Debug, Default)]
pub struct Table {
    files: HashMap<Vec<u8>, Entry>,
    /// By name in lower case, for firmware that knows only capitals.
    folded: HashMap<Vec<u8>, Vec<u8>>,
}

/// Why something below the root is not in the table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SkippedPath {
    /// What.
    pub path: PathBuf,
    /// Why.
    pub reason: String,
}

/// A file of the table.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) name: Arc<str>,
    pub(crate) file: Arc<OpenFile>,
}

/// What a name stands for.
#[derive(Clone, Debug)]
pub(crate) enum Lookup {
    /// A file of the table.
    File(Entry),
    /// The script that leads iPXE to the HTTP server.
    Bootstrap(Arc<str>),
}

// === impl Table ===

impl Table {
    /// The number of files.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Whether the same files have the same names.
    pub fn is_same_as(&self, other: &Self) -> bool {
        let is_in_other = |(name, entry): (&Vec<u8>, &Entry)| {
            other
                .files
                .get(name)
                .is_some_and(|there| Arc::ptr_eq(&there.file, &entry.file))
        };
        self.len() == other.len() && self.files.iter().all(is_in_other)
    }

    /// What a name stands for. A file comes before a script, and what is written the same before what differs in case.
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
        // Of names that differ in case only, the first by order: the answer must not depend on that of the directory.
        if name < *folded {
            folded.clone_from(&name);
        }
        let text = String::from_utf8_lossy(&name).into();
        self.files.insert(name, Entry { name: text, file });
    }
}

#[cfg(test)]
mod tests;
