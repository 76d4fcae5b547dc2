//! A gauge of things that exist now.

use prometheus_client::metrics::gauge::Gauge;

/// Counts one in a gauge until this is dropped, also if the task that holds it is aborted.
#[derive(Debug)]
pub struct Counted(Gauge);

// === impl Counted ===

impl Counted {
    /// Adds one to the gauge.
    pub fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}
