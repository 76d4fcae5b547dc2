//! The current catalog, shared by readers and one writer at a time.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use super::Catalog;

/// The current catalog.
///
/// A reader loads it and keeps it for one answer. Readers never wait for a writer, however large
/// its change. Nor do they free an outdated catalog: the writer keeps it until its last reader is
/// gone.
pub struct SharedCatalog {
    current: ArcSwap<Catalog>,
    retired: Mutex<Vec<Arc<Catalog>>>,
}

impl SharedCatalog {
    /// Creates a shared catalog.
    pub fn new(catalog: Catalog) -> Self {
        Self {
            current: ArcSwap::from_pointee(catalog),
            retired: Mutex::default(),
        }
    }

    /// Returns the current catalog.
    pub fn load(&self) -> arc_swap::Guard<Arc<Catalog>> {
        self.current.load()
    }

    /// Replaces the current catalog atomically.
    pub fn publish(&self, catalog: Catalog) {
        let old = self.current.swap(Arc::new(catalog));
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        retired.push(old);
        retired.retain(|catalog| Arc::strong_count(catalog) > 1);
    }
}
