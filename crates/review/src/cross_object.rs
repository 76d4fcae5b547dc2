//! Checks an object against all other objects of a catalog.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use boot::catalog::selector_index::{assignment_architectures, profile_architecture};
use boot::conflicts::MAX_NAMED;
use boot::identity::other_byte_order;
use boot::nearest::nearest;
use boot::{Assignment, Catalog, Labels, ObjectKey, ObjectRef, Profile, SelectorIndex, Sorted};
use crd::FieldPath;
use uuid::Uuid;

use crate::disclosure::Disclosure;
use crate::finding::Finding;
use crate::rule;

mod machine;
mod shared_identity;

use shared_identity::Position;

/// Maximum number of Assignment groups, or Profiles, searched for a near match.
const MAX_NEAR_CANDIDATES: usize = 1000;
/// Maximum number of Profiles searched in other namespaces.
const MAX_OTHER_NAMESPACES: usize = 10_000;

/// A catalog, with the precomputed indexes that checks of a single object need.
pub struct Survey<'c> {
    catalog: &'c Catalog,
    selectors: Cow<'c, SelectorIndex>,
    conflict_limit: usize,
    disclosure: Disclosure,
}

// === impl Survey ===

impl<'c> Survey<'c> {
    /// Indexes a catalog. Scans it once, unless it was built [with its
    /// selectors](Catalog::with_selector_index).
    pub fn of(catalog: &'c Catalog) -> Self {
        let selectors = catalog
            .selectors()
            .map_or_else(|| Cow::Owned(SelectorIndex::build(catalog)), Cow::Borrowed);
        Self {
            catalog,
            selectors,
            conflict_limit: usize::MAX,
            disclosure: Disclosure::All,
        }
    }

    /// Limits how many other Assignments the conflict search visits, for callers with a deadline.
    pub fn with_conflict_limit(self, conflict_limit: usize) -> Self {
        Self {
            conflict_limit,
            ..self
        }
    }

    /// Limits which identities findings name, for callers that may not see all objects.
    pub fn with_disclosure(self, disclosure: Disclosure) -> Self {
        Self { disclosure, ..self }
    }

    /// Returns the findings about a Profile of the catalog.
    pub fn profile(&self, profile: &Profile) -> Vec<Finding> {
        if self.selectors.selecting(profile).next().is_some() {
            return Vec::new();
        }
        let name = ObjectRef::Profile(profile.key.clone());
        let message = format!(
            "no Assignment in namespace {} selects this Profile, so no machine boots it",
            profile.key.namespace
        );
        let help = match self.near_assignment(profile) {
            Some(near) => format!(
                "the nearest is Assignment {near}; fix its profileSelectors or the labels of this Profile"
            ),
            None => "add an Assignment whose profileSelectors are among its labels, or remove this Profile"
                .to_owned(),
        };
        vec![
            Finding::new(
                &rule::UNUSED_PROFILE,
                &name,
                FieldPath::new(["metadata", "labels"]),
                message,
            )
            .help(help),
        ]
    }

    /// Returns the findings about an Assignment of the catalog. Two Assignments that name the same
    /// machine are reported only for the one that loses, so that a report on the whole catalog has
    /// each pair once.
    pub fn assignment(&self, assignment: &Arc<Assignment>) -> Vec<Finding> {
        let missing = self.missing_profile(assignment);
        let shared = shared_identity::of(self.catalog, assignment, Position::Loser);
        missing
            .into_iter()
            .chain(self.conflict(assignment))
            .chain(shared)
            .collect()
    }

    /// Like [`Self::assignment`], for a report on this Assignment alone: also lists the Assignments
    /// that lose to it.
    pub fn assignment_with_losers(&self, assignment: &Arc<Assignment>) -> Vec<Finding> {
        let shared = shared_identity::of(self.catalog, assignment, Position::Winner);
        self.assignment(assignment)
            .into_iter()
            .chain(shared)
            .collect()
    }

    /// Reports another Assignment that takes precedence only because of its age or name.
    fn conflict(&self, assignment: &Arc<Assignment>) -> Option<Finding> {
        let takes_precedence = |other: &Assignment| cmp_age(other, assignment).is_lt();
        let conflicting = self
            .catalog
            .conflicting_within(assignment, self.conflict_limit);
        let mut conflicting: Vec<_> = conflicting
            .filter(|other| takes_precedence(other))
            .take(MAX_NAMED + 1)
            .collect();
        conflicting.sort_by(|a, b| cmp_age(a, b));
        let first = conflicting.first()?;
        let why = if first.created == assignment.created {
            "its namespace and name sort first"
        } else {
            "it is older"
        };
        let also = match conflicting.len() {
            1 => String::new(),
            2 => ", and so does another".to_owned(),
            n if n > MAX_NAMED => format!(", and so do {} others or more", n - 1),
            n => format!(", and so do {} others", n - 1),
        };
        let what = describe_overlap(first, assignment, &self.disclosure);
        let message = format!(
            "Assignment {} matches {what} too, and ranks first only because {why}{also}",
            first.key
        );
        let name = ObjectRef::Assignment(assignment.key.clone());
        let help = "give one of them a higher priority, or remove what both match from one";
        Some(
            Finding::new(
                &rule::CONFLICT,
                &name,
                FieldPath::new(["spec", "subjectSelectors"]),
                message,
            )
            .help(help),
        )
    }

    /// Reports an Assignment for which no Profile exists, whatever the machine's architecture.
    fn missing_profile(&self, assignment: &Assignment) -> Option<Finding> {
        let name = ObjectRef::Assignment(assignment.key.clone());
        let field = FieldPath::new(["spec", "profileSelectors"]);
        let profiles: Vec<_> = self.catalog.profiles_of(assignment).collect();
        let namespace = &assignment.key.namespace;
        if profiles.is_empty() {
            let selectors = list(&assignment.profiles);
            let message = match selectors.as_str() {
                "" => format!(
                    "there is no Profile in namespace {namespace}: its machines boot nothing"
                ),
                selectors => format!(
                    "no Profile in namespace {namespace} has the labels {selectors}: its machines boot nothing"
                ),
            };
            let finding = Finding::new(&rule::NO_PROFILE, &name, field, message);
            if selectors.is_empty() {
                return Some(
                    finding
                        .help("add one; an Assignment selects Profiles of its own namespace only"),
                );
            }
            return Some(match self.near_profile(assignment) {
                Some(help) => finding.help(help),
                None => finding.help("add a Profile with these labels, or fix the selectors"),
            });
        }
        let offered: Vec<_> = profiles
            .iter()
            .map(|profile| profile_architecture(profile))
            .collect();
        if offered.contains(&None) {
            return None;
        }
        let is_offered = |arch: &&str| offered.contains(&Some(*arch));
        let asked: Option<BTreeSet<&str>> =
            assignment_architectures(assignment).map(Iterator::collect);
        // An Assignment that names its machines is not checked for each architecture: its author
        // knows which ones they have.
        let possible: BTreeSet<&str> = match &asked {
            Some(asked) => asked.clone(),
            None if assignment.subjects.names_identities() => return None,
            None => self.selectors.architectures(&assignment.key).collect(),
        };
        let lacking: Vec<&str> = possible
            .iter()
            .copied()
            .filter(|arch| !is_offered(arch))
            .collect();
        if lacking.is_empty() {
            return None;
        }
        let offered: BTreeSet<&str> = offered.into_iter().flatten().collect();
        let offered = offered.into_iter().collect::<Vec<_>>().join(", ");
        let is_all = lacking.len() == possible.len();
        let (rule, what) = if is_all {
            (&rule::NO_PROFILE, "all")
        } else {
            (&rule::NO_PROFILE_FOR_ARCH, "only")
        };
        let message = format!(
            "machines of {} that it matches boot nothing: {} Profiles that it selects are for {offered}",
            lacking.join(", "),
            if what == "all" { "all" } else { "the" },
        );
        let help = "label a Profile for these architectures, or match other machines with the label buildarch in matchLabels";
        Some(Finding::new(rule, &name, field, message).help(help))
    }

    /// Describes a Profile that the selectors nearly match, or one that matches in another
    /// namespace.
    fn near_profile(&self, assignment: &Assignment) -> Option<String> {
        let selects = |profile: &&Arc<Profile>| profile.is_selected_by(&assignment.profiles);
        let elsewhere = || {
            self.catalog
                .profiles()
                .take(MAX_OTHER_NAMESPACES)
                .filter(selects)
                .map(|profile| &profile.key)
                .min()
        };
        if let Some(key) = (!assignment.profiles.is_empty()).then(elsewhere).flatten() {
            let own = &assignment.key.namespace;
            return Some(format!(
                "Profile {key} has them, but an Assignment selects Profiles of its own namespace {own} only"
            ));
        }
        let any = Assignment {
            profiles: Labels::default(),
            ..assignment.clone()
        };
        let here = || self.catalog.profiles_of(&any).take(MAX_NEAR_CANDIDATES);
        for (key, value) in assignment.profiles.iter() {
            let values: BTreeSet<&str> = here()
                .filter_map(|profile| profile.labels.get(key))
                .filter(|value| self.disclosure.shows_label(key, value))
                .collect();
            if values.contains(value) {
                continue;
            }
            if let Some(near) = nearest(value, values.iter().copied()) {
                return Some(format!("did you mean {key}={near}?"));
            }
            if values.is_empty()
                && let Some(near) = nearest(
                    key,
                    here()
                        .flat_map(|profile| profile.labels.iter())
                        .map(|(key, _)| key),
                )
            {
                return Some(format!("did you mean the label {near}?"));
            }
            let shown: Vec<_> = values.into_iter().take(8).collect();
            return (!shown.is_empty())
                .then(|| format!("Profiles there have {key}={}", shown.join(", ")));
        }
        None
    }

    /// Finds an Assignment of which all profile selectors but one match.
    fn near_assignment(&self, profile: &Profile) -> Option<&ObjectKey> {
        let is_near = |selectors: &Labels| {
            let mut unmet = selectors
                .iter()
                .filter(|(key, value)| profile.labels.get(key) != Some(value));
            let (Some((key, value)), None) = (unmet.next(), unmet.next()) else {
                return false;
            };
            let own = profile.labels.get(key);
            selectors.len() > 1 || nearest(value, own).is_some()
        };
        let near = self
            .selectors
            .groups_in_namespace_of(&profile.key)
            .take(MAX_NEAR_CANDIDATES)
            .filter(|(selectors, _)| is_near(selectors));
        // An Assignment that already selects a Profile is not a near match.
        let is_idle =
            |assignment: &Arc<Assignment>| self.catalog.profiles_of(assignment).next().is_none();
        let idle = near.filter(|(_, group)| group.members().next().is_some_and(is_idle));
        idle.flat_map(|(_, group)| group.members().take(MAX_NEAR_CANDIDATES))
            .map(|assignment| &assignment.key)
            .min()
    }
}

/// Compares by age, then by key: the order that decides between conflicting Assignments.
fn cmp_age(a: &Assignment, b: &Assignment) -> std::cmp::Ordering {
    let age = |assignment: &Assignment| (assignment.created.is_none(), assignment.created);
    age(a).cmp(&age(b)).then_with(|| a.key.cmp(&b.key))
}

/// Describes briefly which machines both Assignments match.
fn describe_overlap(a: &Assignment, b: &Assignment, disclosure: &Disclosure) -> String {
    let (a, b) = (&a.subjects, &b.subjects);
    let is_named =
        |uuid: &&Uuid| b.uuids.contains(*uuid) || b.uuids.contains(&other_byte_order(**uuid));
    let identities = [
        (
            "uuid",
            a.uuids
                .iter()
                .filter(is_named)
                .map(ToString::to_string)
                .collect::<Vec<_>>(),
        ),
        ("serial number", common_items(&a.serials, &b.serials)),
        ("MAC address", common_items(&a.macs, &b.macs)),
    ];
    if let Some((what, common)) = identities
        .into_iter()
        .find(|(_, common)| !common.is_empty())
    {
        let more = if common.len() > 1 {
            format!(" and {} more", common.len() - 1)
        } else {
            String::new()
        };
        return format!("{what} {}{more}", common[0]);
    }
    let mut labels: Vec<_> = a
        .labels
        .requirements()
        .iter()
        .chain(b.labels.requirements())
        .map(|requirement| disclosure.requirement(requirement))
        .collect();
    labels.dedup();
    if labels.is_empty() {
        "every machine".to_owned()
    } else {
        format!("machines with {}", labels.join(", "))
    }
}

/// Whether both name an identity with the same spelling. For UUIDs that differ in byte order, the
/// machine's own spelling decides.
fn have_same_spelling(a: &Assignment, b: &Assignment) -> bool {
    let (a, b) = (&a.subjects, &b.subjects);
    a.uuids.iter().any(|uuid| b.uuids.contains(uuid))
        || !common_items(&a.serials, &b.serials).is_empty()
        || !common_items(&a.macs, &b.macs).is_empty()
}

fn common_items<T: Ord + std::fmt::Display>(a: &Sorted<T>, b: &Sorted<T>) -> Vec<String> {
    a.iter()
        .filter(|one| b.contains(*one))
        .map(ToString::to_string)
        .collect()
}

fn list(labels: &Labels) -> String {
    labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect::<Vec<_>>()
        .join(",")
}
