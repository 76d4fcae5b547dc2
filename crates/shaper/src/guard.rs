//! The flags of the mass-deletion guard, for controllers and API replicas.

use std::time::Duration;

use boot::catalog::guard::Limits;

/// Thresholds of the mass-deletion guard.
#[derive(clap::Args)]
pub(crate) struct GuardArgs {
    /// Percentage of the objects of a kind that may disappear at once. If more do, and more than
    /// --guard-objects, the mass-deletion guard keeps them
    #[arg(long, env = "SHAPER_GUARD_PERCENT", default_value_t = Limits::default().percent, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(..=100))]
    guard_percent: u8,
    /// Number of objects of a kind that may disappear at once whatever their percentage
    #[arg(long, env = "SHAPER_GUARD_OBJECTS", default_value_t = Limits::default().objects, value_name = "COUNT")]
    guard_objects: usize,
    /// Minutes after which the guard releases the objects by itself, if three listings over that
    /// time all lack them; 0: only POST /guard/confirm to the admin port, with the header
    /// X-Shaper-Request: 1, releases them
    #[arg(long, env = "SHAPER_GUARD_MINUTES", default_value_t = Limits::default().period.as_secs() / 60, value_name = "MINUTES", value_parser = clap::value_parser!(u64).range(..=525_600))]
    guard_minutes: u64,
}

impl GuardArgs {
    pub(crate) fn limits(&self) -> Limits {
        Limits {
            percent: self.guard_percent,
            objects: self.guard_objects,
            period: Duration::from_mins(self.guard_minutes),
            ..Limits::default()
        }
    }
}
