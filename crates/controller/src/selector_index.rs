//! Which Profiles each Assignment selects, kept current as either changes.
//!
//! Assignments with equal selectors share one result. A changed Profile is therefore compared with
//! each distinct set of selectors in its namespace, not with each Assignment.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use boot::{Assignment, Catalog, Labels, ObjectKey, Profile};

/// Distinct profile selectors and the Profiles that they match.
#[derive(Debug, Default)]
pub(crate) struct SelectorIndex {
    namespaces: HashMap<Arc<str>, HashMap<Selectors, Group>>,
}

type Selectors = Labels;

#[derive(Debug, Default)]
struct Group {
    /// The Assignments with these selectors, under the catalog's keys.
    members: BTreeSet<ObjectKey>,
    /// The names of the matching Profiles, oldest first.
    profiles: Arc<[Arc<str>]>,
}

/// If more Profiles than this change at once, all selectors are evaluated again.
const FEW: usize = 16;

impl SelectorIndex {
    /// Returns the names of the Profiles that an Assignment selects.
    pub(crate) fn of(&self, assignment: &Assignment) -> Arc<[Arc<str>]> {
        let group = self
            .namespaces
            .get(&assignment.key.namespace)
            .and_then(|groups| groups.get(&assignment.profiles));
        group
            .map(|group| group.profiles.clone())
            .unwrap_or_default()
    }

    /// Adds an Assignment, or one version of it.
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

    /// Removes an Assignment, or one version of it.
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

    /// Returns the Assignments that select a Profile for which `is_wanted` holds.
    pub(crate) fn members_of(&self, is_wanted: impl Fn(&ObjectKey) -> bool) -> Vec<ObjectKey> {
        let mut found = Vec::new();
        for (namespace, groups) in &self.namespaces {
            for group in groups.values() {
                let mut profiles = group.profiles.iter();
                if profiles.any(|name| is_wanted(&ObjectKey::new(namespace, name.clone()))) {
                    found.extend(group.members.iter().cloned());
                }
            }
        }
        found
    }

    /// Updates the results after Profiles changed. `profiles` holds their old and new versions; the
    /// catalog already has the new ones. Calls `touched` for each Assignment whose selected
    /// Profiles changed.
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
