//! Which Profiles each Assignment selects, kept current as either changes.
//!
//! Many Assignments have the same selectors; they share an answer. So a Profile that changes costs a look at each different one in its
//! namespace, and not at each Assignment.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use boot::{Assignment, Catalog, Labels, ObjectKey, Profile};

/// Selectors of Assignments, and what they match.
#[derive(Debug, Default)]
pub(crate) struct SelectorIndex {
    namespaces: HashMap<Arc<str>, HashMap<Selectors, Group>>,
}

type Selectors = Labels;

#[derive(Debug, Default)]
struct Group {
    /// The Assignments, under the catalog's keys.
    members: BTreeSet<ObjectKey>,
    /// The Profiles, by name: the older first.
    profiles: Arc<[Arc<str>]>,
}

/// Beyond so many changed Profiles at once, all selectors are looked at anew.
const FEW: usize = 16;

impl SelectorIndex {
    /// The names of the Profiles that an Assignment selects.
    pub(crate) fn of(&self, assignment: &Assignment) -> Arc<[Arc<str>]> {
        let group = self
            .namespaces
            .get(&assignment.key.namespace)
            .and_then(|groups| groups.get(&assignment.profiles));
        group
            .map(|group| group.profiles.clone())
            .unwrap_or_default()
    }

    /// An Assignment is new, or has other selectors than before.
    pub(crate) fn insert(&mut self, catalog: &Catalog, assignment: &Assignment) {
        let groups = self
            .namespaces
            .entry(assignment.key.namespace.clone())
            .or_default();
        match groups.get_mut(&assignment.profiles) {
            Some(group) => drop(group.members.insert(assignment.key.clone())),
            None => {
                let members = BTreeSet::from([assignment.key.clone()]);
                groups.insert(
                    assignment.profiles.clone(),
                    Group {
                        members,
                        profiles: selected(catalog, assignment),
                    },
                );
            }
        }
    }

    /// An Assignment is gone, or was like this before.
    pub(crate) fn remove(&mut self, assignment: &Assignment) {
        let Some(groups) = self.namespaces.get_mut(&assignment.key.namespace) else {
            return;
        };
        let Some(group) = groups.get_mut(&assignment.profiles) else {
            return;
        };
        group.members.remove(&assignment.key);
        if group.members.is_empty() {
            groups.remove(&assignment.profiles);
        }
        if groups.is_empty() {
            self.namespaces.remove(&assignment.key.namespace);
        }
    }

    /// Profiles changed: these are all their versions, from before and now, and the catalog has the latter. Calls `touched` for each
    /// Assignment that selects others than before.
    pub(crate) fn profiles_changed(
        &mut self,
        catalog: &Catalog,
        versions: &[Arc<Profile>],
        mut touched: impl FnMut(ObjectKey),
    ) {
        let mut by_namespace: BTreeMap<Arc<str>, Vec<&Arc<Profile>>> = BTreeMap::new();
        for profile in versions {
            by_namespace
                .entry(profile.key.namespace.clone())
                .or_default()
                .push(profile);
        }
        for (namespace, changed) in by_namespace {
            let Some(groups) = self.namespaces.get_mut(&namespace) else {
                continue;
            };
            for (selectors, group) in groups {
                if changed.len() <= FEW
                    && !changed
                        .iter()
                        .any(|profile| profile.is_selected_by(selectors))
                {
                    continue;
                }
                let Some(assignment) = group
                    .members
                    .first()
                    .and_then(|member| catalog.assignment(member))
                else {
                    continue;
                };
                let profiles = selected(catalog, assignment);
                if profiles != group.profiles {
                    group.profiles = profiles;
                    group.members.iter().cloned().for_each(&mut touched);
                }
            }
        }
    }
}

fn selected(catalog: &Catalog, assignment: &Assignment) -> Arc<[Arc<str>]> {
    catalog
        .profiles_of(assignment)
        .map(|profile| profile.key.name.clone())
        .collect()
}
