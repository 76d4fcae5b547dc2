//! One of the two catalogs: determines which Assignment wins a cell, and which Profile it selects.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use boot::catalog::Found;
use boot::{Assignment, Catalog, Labels, ObjectKey, Operator, Profile};

use super::cell::{Cell, Coverage, Label};

/// A catalog, and which of its objects differ in the other.
pub(super) struct Side<'c> {
    pub(super) catalog: &'c Catalog,
    /// Assignments without identities, by rank.
    by_labels: Vec<Found<'c>>,
    /// Positions in `by_labels`, by one of the values that an Assignment requires; `unanchored` has
    /// those that require none.
    anchors: BTreeMap<&'c str, HashMap<&'c str, Vec<usize>>>,
    unanchored: Vec<usize>,
    /// Assignments that differ from those of the same name in the other catalog, or that it lacks.
    changed: HashSet<&'c ObjectKey>,
    /// Profile selectors that match a changed Profile in one of the catalogs.
    touched: HashSet<Selecting<'c>>,
}

type Selecting<'c> = (&'c str, &'c str, &'c Labels);

/// The result of a query about a cell.
pub(super) enum Known<T> {
    /// The same for all machines of the cell.
    Decided(T),
    /// Depends on this label.
    Open(Box<str>, Label),
}

// === impl Side ===

impl<'c> Side<'c> {
    pub(super) fn new(catalog: &'c Catalog, other: &Catalog) -> Self {
        let by_labels = catalog.without_identities();
        let mut anchors: BTreeMap<&str, HashMap<&str, Vec<usize>>> = BTreeMap::new();
        let mut unanchored = Vec::new();
        for (at, found) in by_labels.iter().enumerate() {
            let listed = found
                .assignment
                .subjects
                .labels
                .requirements()
                .iter()
                .find_map(|requirement| match &requirement.operator {
                    Operator::In(values) => Some((&*requirement.key, values)),
                    _ => None,
                });
            match listed {
                Some((key, values)) => {
                    let by_value = anchors.entry(key).or_default();
                    values
                        .iter()
                        .for_each(|value| by_value.entry(value).or_default().push(at));
                }
                None => unanchored.push(at),
            }
        }
        let is_changed =
            |assignment: &&Arc<Assignment>| other.assignment(&assignment.key) != Some(*assignment);
        let changed = catalog
            .assignments()
            .filter(is_changed)
            .map(|assignment| &assignment.key)
            .collect();
        Self {
            catalog,
            by_labels,
            anchors,
            unanchored,
            changed,
            touched: HashSet::new(),
        }
    }

    /// Records which Profiles differ between the catalogs.
    pub(super) fn mark_touched(&mut self, profiles: &[&Arc<Profile>]) {
        let mut by_namespace: HashMap<(&str, &str), Vec<&Profile>> = HashMap::new();
        for profile in profiles {
            by_namespace
                .entry((&profile.key.partition, &profile.key.namespace))
                .or_default()
                .push(profile);
        }
        let mut seen: HashSet<Selecting<'c>> = HashSet::new();
        for assignment in self.catalog.assignments() {
            let selecting = selecting(assignment);
            if !seen.insert(selecting) {
                continue;
            }
            let there = by_namespace.get(&(selecting.0, selecting.1));
            if there
                .into_iter()
                .flatten()
                .any(|profile| profile.is_selected_by(&assignment.profiles))
            {
                self.touched.insert(selecting);
            }
        }
    }

    /// Whether an Assignment, or a Profile that it could select, differs between the catalogs.
    pub(super) fn is_touched(&self, assignment: &Assignment) -> bool {
        self.changed.contains(&assignment.key) || self.touched.contains(&selecting(assignment))
    }

    /// Returns the Assignments for which [`Self::is_touched`] is true.
    pub(super) fn touched(&self) -> impl Iterator<Item = &'c Arc<Assignment>> {
        self.catalog
            .assignments()
            .filter(|assignment| self.is_touched(assignment))
    }

    /// Whether a selector or a Profile uses one of these keys.
    pub(super) fn looks_at(&self, keys: &[&str]) -> bool {
        let mut assignments = self
            .catalog
            .assignments()
            .flat_map(|assignment| assignment.subjects.labels.requirements());
        let mut profiles = self
            .catalog
            .profiles()
            .flat_map(|profile| profile.constraints());
        assignments.any(|requirement| keys.contains(&&*requirement.key))
            || profiles.any(|constraint| keys.contains(&constraint.key.as_str()))
    }

    /// Returns the Assignments without identities that some machine of the cell could match, by
    /// rank.
    pub(super) fn candidates_in(&self, cell: &Cell) -> Vec<Found<'c>> {
        let mut places = self.unanchored.clone();
        for (key, by_value) in &self.anchors {
            match cell.listed(key) {
                Some(values) => places.extend(
                    values
                        .iter()
                        .filter_map(|value| by_value.get(*value))
                        .flatten(),
                ),
                None => places.extend(by_value.values().flatten()),
            }
        }
        places.sort_unstable();
        places.dedup();
        let could = |found: &Found<'_>| {
            let mut requirements = found.assignment.subjects.labels.requirements().iter();
            requirements.all(|requirement| {
                cell.coverage(&requirement.key, &Label::required(requirement)) != Coverage::Empty
            })
        };
        places
            .into_iter()
            .map(|at| self.by_labels[at])
            .filter(could)
            .collect()
    }

    /// Returns the Profiles in order of preference among those whose labels don't decide.
    fn profiles_of(&self, assignment: &'c Arc<Assignment>) -> Vec<&'c Arc<Profile>> {
        self.catalog.profiles_of(assignment).collect()
    }

    /// Returns the Profile that an Assignment selects for the machines of a cell.
    pub(super) fn profile(
        &self,
        assignment: &'c Arc<Assignment>,
        cell: &Cell,
    ) -> Known<Option<&'c Arc<Profile>>> {
        let mut best: Option<(usize, &Arc<Profile>)> = None;
        for profile in self.profiles_of(assignment) {
            let mut satisfied = 0;
            let mut open = None;
            let mut disagrees = false;
            for constraint in profile.constraints() {
                let (agrees, against) = Label::constrained(constraint);
                match (
                    cell.coverage(&constraint.key, &against),
                    cell.coverage(&constraint.key, &agrees),
                ) {
                    (Coverage::Full, _) => disagrees = true,
                    (Coverage::Partial, _) => {
                        open = open.or_else(|| Some((constraint.key.as_str().into(), against)));
                    }
                    (Coverage::Empty, Coverage::Full) => satisfied += 1,
                    (Coverage::Empty, Coverage::Partial) => {
                        open = open.or_else(|| Some((constraint.key.as_str().into(), agrees)));
                    }
                    (Coverage::Empty, Coverage::Empty) => {}
                }
            }
            match open {
                _ if disagrees => {}
                // Even with all its constraints satisfied, it would not be preferred to the best
                // one.
                Some(_) if best.is_some_and(|(most, _)| most >= profile.constraints().len()) => {}
                Some((key, label)) => return Known::Open(key, label),
                None if best.is_none_or(|(most, _)| satisfied > most) => {
                    best = Some((satisfied, profile));
                }
                None => {}
            }
        }
        Known::Decided(best.map(|(_, profile)| profile))
    }
}

/// Returns the first Assignment, of a list sorted by rank, that all machines of the cell match.
pub(super) fn winner<'c>(
    named: &[Found<'c>],
    by_labels: &[Found<'c>],
    cell: &Cell,
) -> Known<Option<Found<'c>>> {
    let (mut named, mut by_labels) = (named.iter().peekable(), by_labels.iter().peekable());
    loop {
        let next = match (named.peek(), by_labels.peek()) {
            (Some(a), Some(b)) if a.rank(b).is_lt() => named.next(),
            (_, Some(_)) => by_labels.next(),
            (_, None) => named.next(),
        };
        let Some(found) = next else {
            return Known::Decided(None);
        };
        let mut open = None;
        let mut fails = false;
        for requirement in found.assignment.subjects.labels.requirements() {
            let label = Label::required(requirement);
            match cell.coverage(&requirement.key, &label) {
                Coverage::Full => {}
                Coverage::Empty => fails = true,
                Coverage::Partial => open = open.or(Some((requirement.key.clone(), label))),
            }
        }
        match open {
            _ if fails => {}
            None => return Known::Decided(Some(*found)),
            Some((key, label)) => return Known::Open(key, label),
        }
    }
}

fn selecting(assignment: &Assignment) -> Selecting<'_> {
    (
        &assignment.key.partition,
        &assignment.key.namespace,
        &assignment.profiles,
    )
}
