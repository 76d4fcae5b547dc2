//! The index of Profiles.

use std::cmp::Ordering;
use std::sync::Arc;

use uuid::Uuid;

use crate::name::{ConfigName, ObjectKey};
use crate::profile::Profile;
use crate::sorted::Labels;

use super::bucket::{self, Bucket, Ranked};
use super::{Map, map};

#[derive(Clone)]
pub(super) struct ProfileIndex {
    all: Map<ObjectKey, Arc<Profile>>,
    by_label: Map<LabelKey, Bucket<Profile>>,
    /// Two Profiles have the same id when somebody copied a status; the older one serves it, whichever came first here.
    configs: Map<Uuid, Bucket<Profile>>,
}

/// One label in one namespace of one partition, or all Profiles of it.
#[derive(Clone, PartialEq, Eq, Hash)]
struct LabelKey {
    partition: Box<str>,
    namespace: Box<str>,
    label: Option<(Box<str>, Box<str>)>,
}

impl Ranked for Profile {
    fn rank(&self, other: &Self) -> Ordering {
        self.seniority(other)
    }
}

impl ProfileIndex {
    pub(super) fn new() -> Self {
        Self { all: map(), by_label: map(), configs: map() }
    }

    pub(super) fn len(&self) -> usize {
        self.all.size()
    }

    pub(super) fn index_size(&self) -> usize {
        self.by_label.size() + self.configs.size()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Profile>> {
        self.all.values()
    }

    pub(super) fn get(&self, key: &ObjectKey) -> Option<&Arc<Profile>> {
        self.all.get(key)
    }

    pub(super) fn config(&self, id: Uuid) -> Option<(&Arc<Profile>, &ConfigName)> {
        let profile = self.configs.get(&id)?.iter().next()?;
        profile.ids.iter().find(|(_, own)| **own == id).map(|(name, _)| (profile, name))
    }

    pub(super) fn put(&mut self, profile: Arc<Profile>) -> bool {
        if self.all.get(&profile.key).is_some_and(|known| *known == profile) {
            return false;
        }
        self.take(&profile.key);
        self.enter(&profile);
        self.all.insert_mut(profile.key.clone(), profile);
        true
    }

    pub(super) fn take(&mut self, key: &ObjectKey) -> bool {
        let Some(profile) = self.all.get(key).cloned() else { return false };
        self.all.remove_mut(key);
        self.leave(&profile);
        true
    }

    /// Enters a Profile into the indexes.
    pub(super) fn enter(&mut self, profile: &Arc<Profile>) {
        for key in label_keys(profile) {
            bucket::add(&mut self.by_label, &key, profile);
        }
        for id in profile.ids.values() {
            bucket::add(&mut self.configs, id, profile);
        }
    }

    /// Takes a Profile out of the indexes.
    pub(super) fn leave(&mut self, profile: &Arc<Profile>) {
        for key in label_keys(profile) {
            bucket::remove(&mut self.by_label, &key, profile);
        }
        for id in profile.ids.values() {
            bucket::remove(&mut self.configs, id, profile);
        }
    }

    /// The Profiles beside an object, in its partition and namespace, that have all of these labels, found through the rarest of them.
    pub(super) fn selected<'c>(&'c self, beside: &ObjectKey, selectors: &'c Labels) -> impl Iterator<Item = &'c Arc<Profile>> {
        let key = |label| LabelKey::beside(beside, label);
        let rarest = if selectors.is_empty() {
            self.by_label.get(&key(None))
        } else {
            let buckets: Option<Vec<_>> =
                selectors.iter().map(|(name, value)| self.by_label.get(&key(Some((name.into(), value.into()))))).collect();
            buckets.and_then(|buckets| buckets.into_iter().min_by_key(|bucket| bucket.len()))
        };
        rarest.into_iter().flat_map(Bucket::iter).filter(|profile| profile.is_selected_by(selectors))
    }
}

impl LabelKey {
    fn beside(key: &ObjectKey, label: Option<(Box<str>, Box<str>)>) -> Self {
        Self { partition: key.partition.clone(), namespace: key.namespace.clone(), label }
    }
}

fn label_keys(profile: &Profile) -> impl Iterator<Item = LabelKey> {
    let labels = profile.labels.iter().map(|(key, value)| Some((key.into(), value.into())));
    labels.chain([None]).map(|label| LabelKey::beside(&profile.key, label))
}
