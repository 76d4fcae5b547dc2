//! The metrics of the folder and of its copy on disk.

use prometheus_client::registry::Registry;

use super::last_good::UnsavedGauge;
use super::loader::LoadMetrics;

/// The metrics of the folder and of its copy on disk.
pub(crate) struct Metrics {
    pub(super) load: LoadMetrics,
    pub(super) unsaved: UnsavedGauge,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        Self {
            load: LoadMetrics::register(registry),
            unsaved: UnsavedGauge::register(registry),
        }
    }

    /// Creates one series of each family, so that an encoded registry names every metric and label.
    pub(crate) fn create_series(&self) {
        self.load.create_series();
    }
}
