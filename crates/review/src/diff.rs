//! Lists the machines that would boot something else with another catalog.
//!
//! A machine's boot can only change if the Assignment that wins in one of the catalogs differs
//! between them. So only machines that such a *touched* Assignment selects are examined. Named
//! machines are enumerated; which other labels they present, and which machines match by labels
//! alone, is unknown. Therefore the space of possible labels is cut into cells (`cell`) at the
//! requirements of the relevant selectors, until each cell has one winner and one Profile in both
//! catalogs (`side`). Each cell that differs becomes one entry, verified on a machine of the cell
//! by [`Catalog::select`] and by rendering the result.
//!
//! One Assignment may name a machine by its UUID and another by its serial number. If each identity
//! alone boots as before, a machine with both can only change if one Assignment's priority changed,
//! or if one now names machines that it matched by labels before, or the reverse. Such pairs are
//! examined as well.
//!
//! Identities with equivalent Assignments are searched once: ten thousand machines with the same
//! change cost as much as one.

mod cell;
mod change;
mod identities;
mod pairs;
mod side;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use boot::catalog::Found;
use boot::subject::IDENTITIES;
use boot::{Assignment, Catalog, ExtrinsicLabels, MatchedBy, Profile, Subject};
use rayon::prelude::*;

use cell::{Cell, Label};
use identities::{Class, Identity, classes, of_touched};
use side::{Known, Side, winner};

pub use change::{Boots, Change, Example, Group, Move};

/// Maximum number of cells into which the machines of one identity, or of one Assignment, are cut.
const MAX_CELLS: usize = 2048;

/// The difference between two catalogs.
#[derive(Debug, Default)]
pub struct Diff {
    entries: Vec<Entry>,
    groups: Vec<Group>,
    unexplored: usize,
}

/// A set of machines with the same change.
#[derive(Debug)]
struct Entry {
    machines: MachineSet,
    cell: Cell,
    /// The index of its group; `None` if the change could not be determined.
    group: Option<usize>,
}

/// How the machines of a set are identified.
#[derive(Clone, Debug)]
enum MachineSet {
    /// By labels alone.
    Labels,
    /// By one of these identities.
    Named(Arc<[Identity]>),
    /// By an identity of the first list and one of the second.
    Both(Arc<[Identity]>, Arc<[Identity]>),
}

/// A cell whose machines all boot the same in each catalog, or a cell that was not explored.
enum Leaf {
    Known(Cell),
    Unexplored(Cell),
}

/// The Assignments of the old and of the new catalog, by rank.
type Contenders<'a, 'c> = (&'a [Found<'c>], &'a [Found<'c>]);

struct Search<'c> {
    old: Side<'c>,
    new: Side<'c>,
    all: Cell,
    /// Whether a selector matches an identity as an ordinary label, so that no two identities are
    /// equivalent.
    identity_labels: bool,
}

// === impl Diff ===

impl Diff {
    /// Compares two catalogs, for servers with these extrinsic labels, or with any. Ignores invalid
    /// objects without a valid version.
    pub fn between(old: &Catalog, new: &Catalog, extrinsic: Option<&ExtrinsicLabels>) -> Self {
        let (old, new) = (old.without_rejected(), new.without_rejected());
        let search = Search::new(&old, &new, extrinsic);
        let mut diff = Self::default();
        let mut groups: BTreeMap<Change, Group> = BTreeMap::new();
        let mut found = search.by_identity();
        found.extend(search.by_labels());
        found.extend(search.by_identity_pairs());
        // Maps each kind of change, in the order found, to its index in the list.
        let mut changes = Vec::new();
        for (machines, leaf) in found {
            match leaf {
                Leaf::Unexplored(cell) => {
                    diff.unexplored += 1;
                    diff.entries.push(Entry {
                        machines,
                        cell,
                        group: None,
                    });
                    changes.push(None);
                }
                Leaf::Known(cell) => {
                    let Some(change) = change::of(&search, &machines, &cell, &mut groups) else {
                        continue;
                    };
                    diff.entries.push(Entry {
                        machines,
                        cell,
                        group: None,
                    });
                    changes.push(Some(change));
                }
            }
        }
        let places: HashMap<&Change, usize> = groups
            .keys()
            .enumerate()
            .map(|(at, change)| (change, at))
            .collect();
        for (entry, change) in diff.entries.iter_mut().zip(&changes) {
            entry.group = change
                .as_ref()
                .and_then(|change| places.get(change).copied());
        }
        diff.groups = groups.into_values().collect();
        diff
    }

    /// Returns the groups of machines with the same change.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Whether every machine boots what it booted before.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns the number of label combinations that were not explored because there are too many.
    /// Their machines may boot something else.
    pub fn unexplored(&self) -> usize {
        self.unexplored
    }

    /// Returns the groups that a machine belongs to. Empty if its boot does not change.
    pub fn of(&self, subject: &Subject) -> impl Iterator<Item = &Group> {
        self.entries
            .iter()
            .filter(|entry| entry.covers(subject))
            .filter_map(|entry| self.groups.get(entry.group?))
    }

    /// Whether a machine boots, or may boot, something else.
    pub fn covers(&self, subject: &Subject) -> bool {
        self.entries.iter().any(|entry| entry.covers(subject))
    }
}

// === impl Entry ===

impl Entry {
    fn covers(&self, subject: &Subject) -> bool {
        let presents = |identities: &[Identity]| {
            identities
                .iter()
                .any(|identity| identity.is_presented_by(subject))
        };
        let is_meant = match &self.machines {
            MachineSet::Labels => true,
            MachineSet::Named(identities) => presents(identities),
            MachineSet::Both(a, b) => presents(a) && presents(b),
        };
        is_meant && self.cell.contains(subject)
    }
}

// === impl Search ===

impl<'c> Search<'c> {
    fn new(old: &'c Catalog, new: &'c Catalog, extrinsic: Option<&ExtrinsicLabels>) -> Self {
        let is_other = |profile: &&Arc<Profile>, other: &Catalog| {
            other
                .profile(&profile.key)
                .is_none_or(|same| !change::is_same_profile(profile, same))
        };
        let changed: Vec<_> = old
            .profiles()
            .filter(|p| is_other(p, new))
            .chain(new.profiles().filter(|p| is_other(p, old)))
            .collect();
        let (mut old_side, mut new_side) = (Side::new(old, new), Side::new(new, old));
        old_side.mark_touched(&changed);
        new_side.mark_touched(&changed);
        let identity_labels = old_side.looks_at(&IDENTITIES) || new_side.looks_at(&IDENTITIES);
        Self {
            old: old_side,
            new: new_side,
            all: Cell::all(extrinsic),
            identity_labels,
        }
    }

    fn is_touched(&self, old: Option<Found<'_>>, new: Option<Found<'_>>) -> bool {
        old.is_some_and(|found| self.old.is_touched(found.assignment))
            || new.is_some_and(|found| self.new.is_touched(found.assignment))
    }

    /// Cuts a cell until each part is decided, and keeps the relevant parts. The callback gets the
    /// Assignments without identities that machines of the cell could match, in each catalog.
    fn cut(
        &self,
        start: Cell,
        decide: impl Fn(&Cell, Contenders<'_, 'c>) -> Known<bool>,
    ) -> Vec<Leaf> {
        let (old, new) = (
            self.old.candidates_in(&start),
            self.new.candidates_in(&start),
        );
        let mut leaves = Vec::new();
        let mut open = vec![start];
        let mut cells = 0;
        while let Some(cell) = open.pop() {
            cells += 1;
            if cells > MAX_CELLS {
                leaves.push(Leaf::Unexplored(cell));
                continue;
            }
            match decide(&cell, (&old, &new)) {
                Known::Open(key, label) => {
                    open.extend(
                        [cell.and(&key, &label), cell.and(&key, &label.not())]
                            .into_iter()
                            .flatten(),
                    );
                }
                Known::Decided(true) => leaves.push(Leaf::Known(cell)),
                Known::Decided(false) => {}
            }
        }
        leaves
    }

    /// Whether a cell may differ, once all of its machines have the same winners and Profiles.
    /// `is_relevant` accepts or rejects a pair of winners; `rules_out` decides on the winner of one
    /// catalog that the other need not be examined.
    fn decide(
        &self,
        cell: &Cell,
        named: Contenders<'_, 'c>,
        labelled: Contenders<'_, 'c>,
        is_relevant: impl Fn(Option<Found<'c>>, Option<Found<'c>>) -> bool,
        rules_out: impl Fn(bool, Option<Found<'c>>) -> bool,
    ) -> Known<bool> {
        let by_label;
        let named = match self.identity_labels.then(|| self.named_by_label(cell)) {
            None => named,
            Some(Known::Open(key, label)) => return Known::Open(key, label),
            Some(Known::Decided(both)) => {
                by_label = both;
                (&*by_label.0, &*by_label.1)
            }
        };
        let old = match winner(named.0, labelled.0, cell) {
            Known::Decided(old) if rules_out(true, old) => return Known::Decided(false),
            Known::Decided(old) => old,
            // The result in the other catalog may make this cut unnecessary.
            Known::Open(key, label) => match winner(named.1, labelled.1, cell) {
                Known::Decided(new) if rules_out(false, new) => return Known::Decided(false),
                _ => return Known::Open(key, label),
            },
        };
        let new = match winner(named.1, labelled.1, cell) {
            Known::Decided(new) => new,
            Known::Open(key, label) => return Known::Open(key, label),
        };
        if !self.is_touched(old, new) || !is_relevant(old, new) {
            return Known::Decided(false);
        }
        for (side, found) in [(&self.old, old), (&self.new, new)] {
            if let Some(found) = found
                && let Known::Open(key, label) = side.profile(found.assignment, cell)
            {
                return Known::Open(key, label);
            }
        }
        Known::Decided(true)
    }

    /// Returns the Assignments that name what all machines of the cell present, where identities
    /// are labels as well. Open while machines of the cell present different values and one of
    /// these is named.
    fn named_by_label(&self, cell: &Cell) -> Known<(Vec<Found<'c>>, Vec<Found<'c>>)> {
        let read = |key: &str, value: &str| Identity::of_label(key, value);
        let is_named = |identity: &Identity| {
            !identity.named_in(&self.old).is_empty() || !identity.named_in(&self.new).is_empty()
        };
        let mut presented = Vec::new();
        for key in IDENTITIES {
            let values = cell.presented(key);
            match values[..] {
                [value] => presented.extend(read(key, value)),
                _ => {
                    if let Some(value) = values
                        .iter()
                        .find(|value| read(key, value).is_some_and(|one| is_named(&one)))
                    {
                        return Known::Open(key.into(), Label::presented(value));
                    }
                }
            }
        }
        let subject = identities::subject(&presented.iter().collect::<Vec<_>>());
        let naming = |side: &Side<'c>| {
            subject
                .as_ref()
                .map_or_else(Vec::new, |subject| side.catalog.by_identity(subject))
        };
        Known::Decided((naming(&self.old), naming(&self.new)))
    }

    /// Finds changes for machines known by labels alone, in both catalogs.
    fn by_labels(&self) -> Vec<(MachineSet, Leaf)> {
        let seeds = |is_old: bool| {
            let side = if is_old { &self.old } else { &self.new };
            side.touched()
                .filter(|assignment| !assignment.subjects.names_identities())
                .map(move |assignment| (is_old, assignment))
        };
        let all: Vec<(bool, &Arc<Assignment>)> = seeds(true).chain(seeds(false)).collect();
        let of_seed = |(is_old, seed): &(bool, &'c Arc<Assignment>)| {
            let wins = |found: Option<Found<'_>>| {
                found.is_some_and(|found| Arc::ptr_eq(found.assignment, seed))
            };
            let Some(start) = self.all.meeting(seed.subjects.labels.requirements()) else {
                return Vec::new();
            };
            // A machine is reported for its old winner if that one is touched, otherwise for its
            // new one.
            let is_relevant = |old: Option<Found<'c>>, new: Option<Found<'c>>| match is_old {
                true => wins(old),
                false => wins(new) && !old.is_some_and(|old| self.old.is_touched(old.assignment)),
            };
            let rules_out =
                |of_old: bool, found: Option<Found<'c>>| of_old == *is_old && !wins(found);
            self.cut(start, |cell, labelled| {
                self.decide(cell, (&[], &[]), labelled, is_relevant, rules_out)
            })
        };
        let leaves: Vec<Leaf> = all.par_iter().flat_map_iter(of_seed).collect();
        leaves
            .into_iter()
            .map(|leaf| (MachineSet::Labels, leaf))
            .collect()
    }

    /// Finds changes for machines that a touched Assignment names.
    fn by_identity(&self) -> Vec<(MachineSet, Leaf)> {
        let identities = of_touched(&self.old, &self.new, self.identity_labels);
        let classes = classes(&self.old, &self.new, identities, self.identity_labels);
        let of_class = |class: &Class| {
            let Some(start) = self.cell_of(&[&class.members[0]]) else {
                return Vec::new();
            };
            let (old, new) = (
                class.members[0].named_in(&self.old),
                class.members[0].named_in(&self.new),
            );
            // Where labels alone decide in both catalogs, the search without the identity finds the
            // same.
            let is_relevant =
                |old: Option<Found<'c>>, new: Option<Found<'c>>| is_named(old) || is_named(new);
            let leaves = self.cut(start, |cell, labelled| {
                self.decide(cell, (&old, &new), labelled, is_relevant, never)
            });
            leaves
                .into_iter()
                .map(|leaf| (MachineSet::Named(class.members.clone()), leaf))
                .collect()
        };
        classes.par_iter().flat_map_iter(of_class).collect()
    }

    /// Returns the cell of all machines with these identities.
    fn cell_of(&self, identities: &[&Identity]) -> Option<Cell> {
        let looked_at = identities.iter().filter(|_| self.identity_labels);
        looked_at
            .into_iter()
            .try_fold(self.all.clone(), |cell, identity| {
                cell.presenting(identity.key(), &identity.value())
            })
    }
}

/// Rules nothing out, whatever wins.
fn never(_: bool, _: Option<Found<'_>>) -> bool {
    false
}

fn is_named(found: Option<Found<'_>>) -> bool {
    found.is_some_and(|found| found.by != MatchedBy::Labels)
}
