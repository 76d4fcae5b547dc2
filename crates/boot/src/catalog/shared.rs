//! The catalog that is current, for readers and one writer at a time.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use super::Catalog;

/// The catalog that is current.
///
/// A reader takes it and keeps it for one answer. It never waits for a writer, however much that changes; and it is never the one that
/// frees a catalog which is out of date: the writer keeps those until no reader has them.
pub struct SharedCatalog {
    current: ArcSwap<Catalog>,
    retired: Mutex<Vec<Arc<Catalog>>>,
}

impl SharedCatalog {
    /// Starts with this catalog.
    pub fn new(catalog: Catalog) -> Self {
        Self {
            current: ArcSwap::from_pointee(catalog),
            retired: Mutex::default(),
        }
    }

    /// The catalog of this moment.
    pub fn load(&self) -> arc_swap::Guard<Arc<Catalog>> {
        self.current.load()
    }

    /// Makes a changed catalog the current one, at once.
    pub fn publish(&self, catalog: Catalog) {
        let old = self.current.swap(Arc::new(catalog));
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        retired.push(old);
        retired.retain(|catalog| Arc::strong_count(catalog) > 1);
    }
}
