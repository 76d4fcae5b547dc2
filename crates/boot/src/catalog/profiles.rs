//! The index of Profiles.

use std::cmp::Ordering;
use std::sync::Arc;

use rpds::RedBlackTreeSetSync;
use uuid::Uuid;

use crate::config_name::ConfigName;
use crate::name::{Location, ObjectKey};
use crate::profile::Profile;
use crate::sorted::Labels;

use super::bucket::{self, Bucket, Ranked};
use super::config_ids::{DuplicateId, NoConfig};
use super::index::Index;

#[derive(Clone)]
pub(super) struct ProfileIndex {
    all: Index<ObjectKey, Arc<Profile>>,
    by_label: Index<LabelKey, Bucket<Profile>>,
    /// The Profiles that have this id, valid or not.
    configs: Index<Uuid, Bucket<Profile>>,
    /// The ids that more than one config has.
    duplicate_ids: RedBlackTreeSetSync<Uuid>,
}

/// One label of the Profiles in one namespace and partition, or all Profiles there.
#[derive(Clone, PartialEq, Eq, Hash)]
struct LabelKey {
    location: Arc<Location>,
    label: Option<(Box<str>, Box<str>)>,
}

impl Ranked for Profile {
    fn rank(&self, other: &Self) -> Ordering {
        self.cmp_age(other)
    }
}

impl ProfileIndex {
    pub(super) fn new() -> Self {
        Self {
            all: Index::new(),
            by_label: Index::new(),
            configs: Index::new(),
            duplicate_ids: RedBlackTreeSetSync::new_sync(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn index_size(&self) -> usize {
        self.by_label.len() + self.configs.len() + self.duplicate_ids.size()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Profile>> {
        self.all.values()
    }

    pub(super) fn get(&self, key: &ObjectKey) -> Option<&Arc<Profile>> {
        self.all.get(key)
    }

    pub(super) fn config(&self, id: Uuid) -> Result<(&Arc<Profile>, &ConfigName), NoConfig> {
        let mut configs = self.configs_with(id);
        let config = configs.next().ok_or(NoConfig::Unknown)?;
        match configs.next() {
            None => Ok(config),
            Some(_) => Err(NoConfig::Duplicate(self.duplicate(id))),
        }
    }

    /// Returns the first duplicate id of a Profile.
    pub(super) fn duplicate_id_of(&self, profile: &Profile) -> Option<DuplicateId> {
        if self.duplicate_ids.is_empty() {
            return None;
        }
        let mut ids = profile.ids.values();
        let id = ids.find(|id| self.duplicate_ids.contains(id))?;
        Some(self.duplicate(*id))
    }

    pub(super) fn duplicate_id_count(&self) -> usize {
        self.duplicate_ids.size()
    }

    pub(super) fn duplicate_ids(&self) -> impl Iterator<Item = DuplicateId> {
        self.duplicate_ids.iter().map(|id| self.duplicate(*id))
    }

    /// Iterates over the configs that have this id, those of older Profiles first.
    fn configs_with(&self, id: Uuid) -> impl Iterator<Item = (&Arc<Profile>, &ConfigName)> {
        let profiles = self.configs.get(&id).into_iter().flat_map(Bucket::iter);
        profiles.flat_map(move |profile| {
            let own = profile.ids.iter().filter(move |(_, own)| **own == id);
            own.map(move |(name, _)| (profile, name))
        })
    }

    fn duplicate(&self, id: Uuid) -> DuplicateId {
        DuplicateId::new(self.configs_with(id))
    }

    /// Records whether more than one config has this id.
    fn count_configs_with(&mut self, id: Uuid) {
        if self.configs_with(id).nth(1).is_some() {
            self.duplicate_ids.insert_mut(id);
        } else if !self.duplicate_ids.is_empty() {
            self.duplicate_ids.remove_mut(&id);
        }
    }

    pub(super) fn put(&mut self, profile: Arc<Profile>) -> bool {
        if self
            .all
            .get(&profile.key)
            .is_some_and(|known| *known == profile)
        {
            return false;
        }
        self.remove(&profile.key);
        self.add_to_indexes(&profile);
        self.all.insert(profile.key.clone(), profile);
        true
    }

    pub(super) fn remove(&mut self, key: &ObjectKey) -> bool {
        let Some(profile) = self.all.get(key).cloned() else {
            return false;
        };
        self.all.remove(key);
        self.remove_from_indexes(&profile);
        true
    }

    /// Adds a Profile to the indexes.
    pub(super) fn add_to_indexes(&mut self, profile: &Arc<Profile>) {
        for key in label_keys(profile) {
            bucket::add(&mut self.by_label, &key, profile);
        }
        for id in profile.ids.values() {
            bucket::add(&mut self.configs, id, profile);
            self.count_configs_with(*id);
        }
    }

    /// Removes a Profile from the indexes.
    pub(super) fn remove_from_indexes(&mut self, profile: &Arc<Profile>) {
        for key in label_keys(profile) {
            bucket::remove(&mut self.by_label, &key, profile);
        }
        for id in profile.ids.values() {
            bucket::remove(&mut self.configs, id, profile);
            self.count_configs_with(*id);
        }
    }

    /// Iterates over the Profiles in the namespace and partition of `neighbour` that have all these
    /// labels. Searches the rarest label.
    pub(super) fn selected<'c>(
        &'c self,
        neighbour: &ObjectKey,
        selectors: &'c Labels,
    ) -> impl Iterator<Item = &'c Arc<Profile>> {
        let bucket = |label| {
            self.by_label.find((neighbour.location(), label), |own| {
                own.is(neighbour, label)
            })
        };
        let rarest = if selectors.is_empty() {
            bucket(None)
        } else {
            // If one label has no bucket, no Profile has all of them.
            let rarer = |a: &'c Bucket<Profile>, b: &'c Bucket<Profile>| {
                if b.len() < a.len() { b } else { a }
            };
            let buckets = selectors.iter().map(|label| bucket(Some(label)));
            buckets
                .reduce(|a, b| a.zip(b).map(|(a, b)| rarer(a, b)))
                .flatten()
        };
        // For a single label, the index is exact.
        rarest
            .into_iter()
            .flat_map(Bucket::iter)
            .filter(|profile| selectors.len() <= 1 || profile.is_selected_by(selectors))
    }
}

impl LabelKey {
    /// Returns whether this is the key of `label` in the namespace and partition of `neighbour`.
    /// The derived hash equals that of the tuple of both fields.
    fn is(&self, neighbour: &ObjectKey, label: Option<(&str, &str)>) -> bool {
        self.location == *neighbour.location()
            && self.label.as_ref().map(|(key, value)| (&**key, &**value)) == label
    }
}

fn label_keys(profile: &Profile) -> impl Iterator<Item = LabelKey> {
    let labels = profile
        .labels
        .iter()
        .map(|(key, value)| Some((key.into(), value.into())));
    labels.chain([None]).map(|label| LabelKey {
        location: profile.key.location().clone(),
        label,
    })
}
