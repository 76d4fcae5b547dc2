//! The table of files that can be read by name.

mod name;
mod scan;

pub use scan::TableScan;

use std::borrow::Cow;
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
    /// Symlinks to directories, by name, with the names under which these directories are served.
    aliases: HashMap<Vec<u8>, Vec<u8>>,
    /// The same in lower case.
    folded_aliases: HashMap<Vec<u8>, Vec<u8>>,
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
        self.len() == other.len()
            && self.aliases == other.aliases
            && self.files.iter().all(is_in_other)
    }

    /// Looks up a name. Files take precedence over the generated script, and exact matches over
    /// those that ignore case.
    pub(crate) fn lookup(&self, name: &[u8]) -> Option<Lookup> {
        let normalized = name::normalize(name)?;
        let own = resolve(&self.aliases, &normalized);
        if let Some(entry) = self.files.get(&*own) {
            return Some(Lookup::File(entry.clone()));
        }
        let folded = normalized.to_ascii_lowercase();
        let known = self.folded.get(&folded);
        if let Some(name) =
            known.or_else(|| self.folded.get(&*resolve(&self.folded_aliases, &folded)))
        {
            return self.files.get(name).cloned().map(Lookup::File);
        }
        let last = folded
            .rsplit(|byte| *byte == b'/')
            .next()
            .unwrap_or_default();
        (last == b"autoexec.ipxe" || folded == b"boot.ipxe")
            .then(|| Lookup::Bootstrap(String::from_utf8_lossy(&normalized).into()))
    }

    /// Adds a symlink to a directory that is served under another name.
    fn insert_alias(&mut self, link: Vec<u8>, directory: Vec<u8>) {
        self.folded_aliases
            .entry(link.to_ascii_lowercase())
            .or_insert_with(|| directory.to_ascii_lowercase());
        self.aliases.insert(link, directory);
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

/// Replaces the symlinks to directories in a name. The directory that an alias leads to is never an
/// alias, so each component is looked at once.
fn resolve<'n>(aliases: &HashMap<Vec<u8>, Vec<u8>>, name: &'n [u8]) -> Cow<'n, [u8]> {
    if aliases.is_empty() {
        return Cow::Borrowed(name);
    }
    let mut resolved = Vec::with_capacity(name.len());
    for component in name.split(|byte| *byte == b'/') {
        if !resolved.is_empty() {
            resolved.push(b'/');
        }
        resolved.extend(component);
        if let Some(directory) = aliases.get(&resolved) {
            resolved.clone_from(directory);
        }
    }
    Cow::Owned(resolved)
}

#[cfg(test)]
mod tests;
