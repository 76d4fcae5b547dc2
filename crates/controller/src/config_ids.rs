//! Which config each config id belongs to.
//!
//! An id is in two statuses if a status was copied: with its namespace, from a backup, or by
//! somebody who may write status. The config that the controller has known longest keeps it. Where
//! the controller learns of several at once, as at its start, the config of the oldest Profile
//! does. The others count as having no id, so that they get a new one, and nothing that a replica
//! serves under the id changes.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use boot::{ConfigName, ObjectKey};
use jiff::Timestamp;
use tracing::warn;
use uuid::Uuid;

use crate::object::Ids;

/// The config ids of all Profiles.
#[derive(Debug, Default)]
pub(crate) struct ConfigIds {
    owners: HashMap<Uuid, Config>,
    /// The configs whose ids belong to others, by Profile.
    foreign: BTreeMap<ObjectKey, Vec<ForeignId>>,
}

/// A config of a Profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) profile: ObjectKey,
    pub(crate) name: ConfigName,
}

/// A config whose id in the status belongs to another config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ForeignId {
    pub(crate) name: ConfigName,
    pub(crate) owner: Config,
}

/// The Profiles that one batch of events changes, with their ids.
#[derive(Debug, Default)]
pub(crate) struct IdChanges(BTreeMap<ObjectKey, IdChange>);

#[derive(Debug, Default)]
struct IdChange {
    before: Ids,
    /// The creation time of the Profile and the ids in its status. `None` if it was deleted.
    after: Option<(Option<Timestamp>, Ids)>,
}

// === impl IdChanges ===

impl IdChanges {
    /// Records the Profile's state after an event. `before` holds the ids that it owned before that
    /// event; those before the first event of the batch count.
    pub(crate) fn record(
        &mut self,
        profile: &ObjectKey,
        before: &Ids,
        after: Option<(Option<Timestamp>, Ids)>,
    ) {
        let change = self.0.entry(profile.clone()).or_insert_with(|| IdChange {
            before: before.clone(),
            after: None,
        });
        change.after = after;
    }
}

// === impl ConfigIds ===

impl ConfigIds {
    /// Updates the owners, and logs the configs whose ids turn out to belong to others.
    pub(crate) fn update(&mut self, changes: IdChanges) {
        let mut claims = Vec::new();
        for (profile, IdChange { before, after }) in changes.0 {
            let kept = |name: &ConfigName, id: &Uuid| {
                let after = after.as_ref();
                after.is_some_and(|(_, ids)| ids.get(name) == Some(id))
            };
            for (name, id) in before.iter().filter(|(name, id)| !kept(name, id)) {
                if self.owns(&profile, name, *id) {
                    self.owners.remove(id);
                }
            }
            match after {
                Some((created, ids)) => claims.push((created, profile, ids)),
                None => drop(self.foreign.remove(&profile)),
            }
        }
        // A Profile without a creation time counts as the youngest.
        claims.sort_by(|(a, a_key, _), (b, b_key, _)| {
            (a.is_none(), a, a_key).cmp(&(b.is_none(), b, b_key))
        });
        for (_, profile, ids) in claims {
            let known = self.foreign.remove(&profile).unwrap_or_default();
            let foreign: Vec<_> = ids
                .into_iter()
                .filter_map(|(name, id)| self.claim(&profile, name, id))
                .collect();
            for id in foreign.iter().filter(|id| !known.contains(id)) {
                warn!(%profile, config = %id.name, owner = %id.owner, "config id belongs to another config; the controller that holds the Lease assigns a new one");
            }
            if !foreign.is_empty() {
                self.foreign.insert(profile, foreign);
            }
        }
    }

    /// Returns the configs of a Profile whose ids belong to others.
    pub(crate) fn foreign_ids(&self, profile: &ObjectKey) -> &[ForeignId] {
        self.foreign.get(profile).map_or(&[], Vec::as_slice)
    }

    /// Makes a config the owner of an id that has none. Returns the config if the id belongs to
    /// another.
    fn claim(&mut self, profile: &ObjectKey, name: ConfigName, id: Uuid) -> Option<ForeignId> {
        let owner = self.owners.entry(id).or_insert_with(|| Config {
            profile: profile.clone(),
            name: name.clone(),
        });
        let is_own = owner.profile == *profile && owner.name == name;
        (!is_own).then(|| ForeignId {
            name,
            owner: owner.clone(),
        })
    }

    /// Returns whether the id belongs to this config.
    pub(crate) fn owns(&self, profile: &ObjectKey, name: &ConfigName, id: Uuid) -> bool {
        let owner = self.owners.get(&id);
        owner.is_some_and(|owner| owner.profile == *profile && owner.name == *name)
    }

    /// Returns the ids that belong to the Profile's own configs.
    pub(crate) fn own_ids(&self, profile: &ObjectKey, ids: &Ids) -> Ids {
        let own = ids
            .iter()
            .filter(|(name, id)| self.owns(profile, name, **id));
        own.map(|(name, id)| (name.clone(), *id)).collect()
    }
}

// === impl Config ===

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "config {} of Profile {}", self.name, self.profile)
    }
}

// === impl ForeignId ===

impl fmt::Display for ForeignId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "config {} had the id of {}, as in a copied status, and gets a new one; machines get the new link when they boot again",
            self.name, self.owner
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The name of a config, and its id.
    type RawId<'a> = (&'a str, u128);
    /// The name of a Profile, its creation time, and the ids of its configs.
    type RawProfile<'a> = (&'a str, i64, &'a [RawId<'a>]);

    fn ids(of: &[RawId<'_>]) -> Ids {
        of.iter()
            .map(|(name, id)| (name.parse().unwrap(), Uuid::from_u128(*id)))
            .collect()
    }

    /// Applies a batch of Profiles, each with its creation time and its ids. Returns the configs
    /// whose ids belong to others, with the owners.
    fn put(all: &mut ConfigIds, profiles: &[RawProfile<'_>]) -> Vec<String> {
        let mut changes = IdChanges::default();
        for (name, created, of) in profiles {
            let created = Timestamp::from_second(*created).ok();
            let key = ObjectKey::new("ns", *name);
            changes.record(&key, &Ids::new(), Some((created, ids(of))));
        }
        all.update(changes);
        let sentence = |(profile, foreign): (&ObjectKey, &Vec<ForeignId>)| {
            let sentences = foreign
                .iter()
                .map(|id| format!("{} {} <- {}", profile.name, id.name, id.owner));
            sentences.collect::<Vec<_>>()
        };
        all.foreign.iter().flat_map(sentence).collect()
    }

    #[test]
    fn a_known_owner_keeps_its_id_even_from_an_older_profile() {
        let mut all = ConfigIds::default();
        assert_eq!(put(&mut all, &[("known", 5, &[("c", 1)])]), [""; 0]);
        for created in [1, 9] {
            assert_eq!(
                put(&mut all, &[("copy", created, &[("c", 1), ("d", 2)])]),
                ["copy c <- config c of Profile ns/known"]
            );
        }
        let copy = ObjectKey::new("ns", "copy");
        assert_eq!(
            all.own_ids(&copy, &ids(&[("c", 1), ("d", 2)])),
            ids(&[("d", 2)])
        );
    }

    #[test]
    fn of_profiles_that_appear_together_the_oldest_keeps_the_id_then_the_first_by_name() {
        for (profiles, foreign) in [
            ([("a", 2), ("b", 1)], "a c <- config c of Profile ns/b"),
            ([("b", 1), ("a", 1)], "b c <- config c of Profile ns/a"),
        ] {
            let id: &[RawId<'_>] = &[("c", 1)];
            let profiles = profiles.map(|(name, created)| (name, created, id));
            assert_eq!(put(&mut ConfigIds::default(), &profiles), [foreign]);
        }
    }

    #[test]
    fn two_configs_of_one_profile_never_share_an_id() {
        assert_eq!(
            put(
                &mut ConfigIds::default(),
                &[("p", 1, &[("c", 1), ("d", 1)])]
            ),
            ["p d <- config c of Profile ns/p"]
        );
    }

    #[test]
    fn the_id_of_a_deleted_profile_can_be_claimed_in_the_same_batch() {
        let mut all = ConfigIds::default();
        let (old, new) = (ObjectKey::new("ns", "old"), ObjectKey::new("ns", "new"));
        let id = ids(&[("c", 1)]);
        put(&mut all, &[("old", 1, &[("c", 1)])]);
        let mut changes = IdChanges::default();
        changes.record(&new, &Ids::new(), Some((None, id.clone())));
        changes.record(&old, &id, None);
        all.update(changes);
        assert!(all.foreign_ids(&new).is_empty());
        assert_eq!(all.own_ids(&new, &id), id);
    }
}
