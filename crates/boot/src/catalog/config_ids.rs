//! Config ids that several configs have.
//!
//! Ids are random, so this happens only if a status was copied: with its namespace, from a backup,
//! or into another cluster. A controller resolves it within its cluster. Across clusters nobody
//! can, so an id that two configs have leads to neither.

use std::fmt;
use std::sync::Arc;

use crate::config_name::ConfigName;
use crate::name::ObjectKey;
use crate::profile::Profile;

use super::Catalog;

/// The configs that have the same id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DuplicateId {
    /// The first configs, those of older Profiles first. At most [`MAX_LISTED`].
    configs: Vec<(ObjectKey, ConfigName)>,
    /// The number of configs that are not listed.
    more: usize,
}

/// Why no config is served under an id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoConfig {
    /// No config has this id.
    #[error(
        "no config has this id; its Profile or config was deleted or recreated; boot again to get a new link"
    )]
    Unknown,
    /// Several configs have this id.
    #[error("{0}")]
    Duplicate(DuplicateId),
}

/// How many configs the sentence about a duplicate id names.
const MAX_LISTED: usize = 4;

// === impl DuplicateId ===

impl DuplicateId {
    pub(super) fn new<'p>(
        configs: impl Iterator<Item = (&'p Arc<Profile>, &'p ConfigName)>,
    ) -> Self {
        let mut all = configs.map(|(profile, name)| (profile.key.clone(), name.clone()));
        let configs = all.by_ref().take(MAX_LISTED).collect();
        Self {
            configs,
            more: all.count(),
        }
    }
}

impl fmt::Display for DuplicateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (profile, config)) in self.configs.iter().enumerate() {
            let separator = if at == 0 { "" } else { " and " };
            write!(f, "{separator}config {config} of Profile {profile}")?;
        }
        if self.more > 0 {
            write!(f, " and {} more", self.more)?;
        }
        f.write_str(
            " have the same id, so machines wait; remove it from status.additionalConfig of all but one, and their controller assigns new ids",
        )
    }
}

// === impl Catalog ===

impl Catalog {
    /// Returns the first id of a Profile that another config has too.
    pub fn duplicate_id_of(&self, profile: &Profile) -> Option<DuplicateId> {
        self.profiles.duplicate_id_of(profile)
    }

    /// Returns the number of ids that several configs have.
    pub fn duplicate_id_count(&self) -> usize {
        self.profiles.duplicate_id_count()
    }

    /// Describes the ids that several configs have, one sentence each. Describes at most `max` of
    /// them and counts the rest.
    pub fn describe_duplicate_ids(&self, max: usize) -> Vec<String> {
        let mut sentences: Vec<_> = self
            .profiles
            .duplicate_ids()
            .take(max)
            .map(|duplicate| duplicate.to_string())
            .collect();
        let more = self.duplicate_id_count().saturating_sub(max);
        if more > 0 {
            sentences.push(format!("{more} more config ids belong to several configs"));
        }
        sentences
    }
}
