//! The flags of the mass-deletion guard, shared by controllers and API replicas.

use std::time::Duration;

use boot::catalog::guard::Limits;

/// When a listing that lacks objects is not believed.
#[derive(clap::Args)]
pub(crate) struct GuardArgs {
    /// Percentage of the objects of a kind that may be missing at once; with more, and more than --guard-objects, the mass-deletion guard
    /// keeps them
    #[arg(long, env = "SHAPER_GUARD_PERCENT", default_value_t = Limits::default().percent, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(..=100))]
    guard_percent: u8,
    /// How many objects of a kind may be missing at once before --guard-percent counts
    #[arg(long, env = "SHAPER_GUARD_OBJECTS", default_value_t = Limits::default().objects, value_name = "COUNT")]
    guard_objects: usize,
    /// Minutes after which the guard lets go by itself, when three listings over that time lack the same objects; 0: only POST
    /// /guard/confirm to the admin port does
    #[arg(long, env = "SHAPER_GUARD_MINUTES", default_value_t = Limits::default().after.as_secs() / 60, value_name = "MINUTES", value_parser = clap::value_parser!(u64).range(..=525_600))]
    guard_minutes: u64,
}

impl GuardArgs {
    pub(crate) fn limits(&self) -> Limits {
        let after = Duration::from_mins(self.guard_minutes);
        Limits {
            percent: self.guard_percent,
            objects: self.guard_objects,
            after,
            ..Limits::default()
        }
    }
}
