//! Which machines would boot something else with another catalog.
//!
//! A machine whose boot changes has won its Assignment from one of the two catalogs by something that is not the same in both: so only the machines
//! that such a *touched* Assignment speaks of are looked at. Those it names are known one by one; what else they present is not, nor is who
//! matches by labels alone. So all that machines may present is cut into cells (`cell`), at the requirements of those selectors that
//! come into question, until each cell has one winner and one Profile in both catalogs (`side`). Each cell that differs is one entry, tried
//! with a machine of it by [`Catalog::select`] and by rendering what it gets.
//!
//! A machine may be named by its uuid in one Assignment and by its serial number in another. Where each alone boots as before, both at once can
//! only boot otherwise if the priority of one has changed; such pairs are looked at as well.
//!
//! Identities that stand in alike Assignments are looked at once for all of them: ten thousand machines that change alike cost as one.

mod cell;
mod change;
mod identities;
mod side;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use boot::catalog::Found;
use boot::subject::IDENTITIES;
use boot::{Assignment, Catalog, ExtrinsicLabels, MatchedBy, Profile, Subject};
use rayon::prelude::*;

use cell::Cell;
use identities::{Class, Identity, classes, of_touched};
use side::{Known, Side, winner};

pub use change::{Boots, Change, Example, Group, Move};

/// Most cells into which what one identity, or one Assignment, speaks of is cut.
const MAX_CELLS: usize = 2048;
/// Most pairs of alike identities that are looked at.
const MAX_PAIRS: usize = 20_000;

/// What another catalog changes.
#[derive(Debug, Default)]
pub struct Diff {
    entries: Vec<Entry>,
    groups: Vec<Group>,
    unexplored: usize,
}

/// Machines that change alike.
#[derive(Debug)]
struct Entry {
    who: Who,
    cell: Cell,
    /// The place of its group; none where it could not be found out what changes.
    group: Option<usize>,
}

/// By what machines are known.
#[derive(Clone, Debug)]
enum Who {
    /// By labels alone.
    Labels,
    /// By one of these identities.
    Named(Arc<[Identity]>),
    /// By one of these and one of those.
    Both(Arc<[Identity]>, Arc<[Identity]>),
}

/// A cell all of whose machines boot the same in each catalog, or one that was not looked at.
enum Leaf {
    Known(Cell),
    Unexplored(Cell),
}

struct Search<'c> {
    old: Side<'c>,
    new: Side<'c>,
    all: Cell,
    /// Whether a selector looks at an identity as at any label, so that no two identities are alike.
    is_own: bool,
}

// === impl Diff ===

impl Diff {
    /// Compares two catalogs, for servers with these labels of the operator, or with any. What is not accepted, and of which no accepted
    /// version is known, is as if it were not there.
    pub fn between(old: &Catalog, new: &Catalog, extrinsic: Option<&ExtrinsicLabels>) -> Self {
        let (old, new) = (old.of_accepted(), new.of_accepted());
        let search = Search::new(&old, &new, extrinsic);
        let mut diff = Self::default();
        let mut groups: BTreeMap<Change, Group> = BTreeMap::new();
        let mut found = search.by_identity();
        found.extend(search.by_labels());
        found.extend(search.by_two());
        // First what was found of each kind of change, then its place in the list.
        let mut changes = Vec::new();
        for (who, leaf) in found {
            match leaf {
                Leaf::Unexplored(cell) => {
                    diff.unexplored += 1;
                    diff.entries.push(Entry { who, cell, group: None });
                    changes.push(None);
                }
                Leaf::Known(cell) => {
                    let Some(change) = change::of(&search, &who, &cell, &mut groups) else { continue };
                    diff.entries.push(Entry { who, cell, group: None });
                    changes.push(Some(change));
                }
            }
        }
        let places: HashMap<&Change, usize> = groups.keys().enumerate().map(|(at, change)| (change, at)).collect();
        for (entry, change) in diff.entries.iter_mut().zip(&changes) {
            entry.group = change.as_ref().and_then(|change| places.get(change).copied());
        }
        diff.groups = groups.into_values().collect();
        diff
    }

    /// Machines that change alike, each group with what changes.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Whether every machine boots what it booted.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many combinations of labels were too many to be looked at. Their machines may boot something else.
    pub fn unexplored(&self) -> usize {
        self.unexplored
    }

    /// The groups that a machine is of. Empty where it boots what it booted.
    pub fn of(&self, subject: &Subject) -> impl Iterator<Item = &Group> {
        self.entries.iter().filter(|entry| entry.speaks_of(subject)).filter_map(|entry| self.groups.get(entry.group?))
    }

    /// Whether a machine is one that boots, or may boot, something else.
    pub fn speaks_of(&self, subject: &Subject) -> bool {
        self.entries.iter().any(|entry| entry.speaks_of(subject))
    }
}

// === impl Entry ===

impl Entry {
    fn speaks_of(&self, subject: &Subject) -> bool {
        let presents = |identities: &[Identity]| identities.iter().any(|identity| identity.is_presented_by(subject));
        let is_meant = match &self.who {
            Who::Labels => true,
            Who::Named(identities) => presents(identities),
            Who::Both(a, b) => presents(a) && presents(b),
        };
        is_meant && self.cell.contains(subject)
    }
}

// === impl Search ===

impl<'c> Search<'c> {
    fn new(old: &'c Catalog, new: &'c Catalog, extrinsic: Option<&ExtrinsicLabels>) -> Self {
        let is_other = |profile: &&Arc<Profile>, other: &Catalog| {
            other.profile(&profile.key).is_none_or(|same| !change::is_same_profile(profile, same))
        };
        let changed: Vec<_> = old.profiles().filter(|p| is_other(p, new)).chain(new.profiles().filter(|p| is_other(p, old))).collect();
        let (mut old_side, mut new_side) = (Side::new(old, new), Side::new(new, old));
        old_side.touch(&changed);
        new_side.touch(&changed);
        let is_own = old_side.looks_at(&IDENTITIES) || new_side.looks_at(&IDENTITIES);
        Self { old: old_side, new: new_side, all: Cell::all(extrinsic), is_own }
    }

    fn is_touched(&self, old: Option<Found<'_>>, new: Option<Found<'_>>) -> bool {
        old.is_some_and(|found| self.old.is_touched(found.assignment)) || new.is_some_and(|found| self.new.is_touched(found.assignment))
    }

    /// Cuts a cell until its winners and their Profiles are decided, and keeps what may differ. `is_ours` says whether a pair of winners is of
    /// interest; `first` decides on the winner of one catalog that spares to look at the other.
    fn cut(
        &self,
        start: Cell,
        named: (&[Found<'c>], &[Found<'c>]),
        is_ours: impl Fn(Option<Found<'c>>, Option<Found<'c>>) -> bool,
        is_out: impl Fn(bool, Option<Found<'c>>) -> bool,
    ) -> Vec<Leaf> {
        let labelled = (self.old.labelled_in(&start), self.new.labelled_in(&start));
        let mut leaves = Vec::new();
        let mut open = vec![start];
        let mut cells = 0;
        while let Some(cell) = open.pop() {
            cells += 1;
            if cells > MAX_CELLS {
                leaves.push(Leaf::Unexplored(cell));
                continue;
            }
            match self.decide(&cell, named, (&labelled.0, &labelled.1), &is_ours, &is_out) {
                Known::Open(key, label) => {
                    open.extend([cell.and(&key, &label), cell.and(&key, &label.not())].into_iter().flatten());
                }
                Known::Decided(true) => leaves.push(Leaf::Known(cell)),
                Known::Decided(false) => {}
            }
        }
        leaves
    }

    /// Whether the cell is of interest, once it is the same for all of its machines.
    fn decide(
        &self,
        cell: &Cell,
        named: (&[Found<'c>], &[Found<'c>]),
        labelled: (&[Found<'c>], &[Found<'c>]),
        is_ours: impl Fn(Option<Found<'c>>, Option<Found<'c>>) -> bool,
        is_out: impl Fn(bool, Option<Found<'c>>) -> bool,
    ) -> Known<bool> {
        let old = match winner(named.0, labelled.0, cell) {
            Known::Decided(old) if is_out(true, old) => return Known::Decided(false),
            Known::Decided(old) => old,
            // What the other catalog says may spare to cut.
            Known::Open(key, label) => match winner(named.1, labelled.1, cell) {
                Known::Decided(new) if is_out(false, new) => return Known::Decided(false),
                _ => return Known::Open(key, label),
            },
        };
        let new = match winner(named.1, labelled.1, cell) {
            Known::Decided(new) => new,
            Known::Open(key, label) => return Known::Open(key, label),
        };
        if !self.is_touched(old, new) || !is_ours(old, new) {
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

    /// Machines that are known by labels alone, in one catalog and in the other.
    fn by_labels(&self) -> Vec<(Who, Leaf)> {
        let seeds = |is_old: bool| {
            let side = if is_old { &self.old } else { &self.new };
            side.touched().filter(|assignment| !assignment.subjects.names_identities()).map(move |assignment| (is_old, assignment))
        };
        let all: Vec<(bool, &Arc<Assignment>)> = seeds(true).chain(seeds(false)).collect();
        let of_seed = |(is_old, seed): &(bool, &'c Arc<Assignment>)| {
            let wins = |found: Option<Found<'_>>| found.is_some_and(|found| Arc::ptr_eq(found.assignment, seed));
            let Some(start) = self.all.meeting(seed.subjects.labels.requirements()) else { return Vec::new() };
            // A machine belongs to its old winner where that is touched, and else to its new one.
            let is_ours = |old: Option<Found<'c>>, new: Option<Found<'c>>| match is_old {
                true => wins(old),
                false => wins(new) && !old.is_some_and(|old| self.old.is_touched(old.assignment)),
            };
            let is_out = |of_old: bool, found: Option<Found<'c>>| of_old == *is_old && !wins(found);
            self.cut(start, (&[], &[]), is_ours, is_out)
        };
        let leaves: Vec<Leaf> = all.par_iter().flat_map_iter(of_seed).collect();
        leaves.into_iter().map(|leaf| (Who::Labels, leaf)).collect()
    }

    /// Machines that are named by a touched Assignment.
    fn by_identity(&self) -> Vec<(Who, Leaf)> {
        let identities = of_touched(&self.old, &self.new);
        let classes = classes(&self.old, &self.new, identities, self.is_own);
        let of_class = |class: &Class| {
            let Some(start) = self.cell_of(&[&class.members[0]]) else { return Vec::new() };
            let (old, new) = (class.members[0].named_in(&self.old), class.members[0].named_in(&self.new));
            // Where labels alone decide in both catalogs, it is the same without the identity.
            let is_ours = |old: Option<Found<'c>>, new: Option<Found<'c>>| is_named(old) || is_named(new);
            let leaves = self.cut(start, (&old, &new), is_ours, |_, _| false);
            leaves.into_iter().map(|leaf| (Who::Named(class.members.clone()), leaf)).collect()
        };
        classes.par_iter().flat_map_iter(of_class).collect()
    }

    /// Machines that are named twice, by Assignments of which the priority of one has changed.
    fn by_two(&self) -> Vec<(Who, Leaf)> {
        let shifted: HashSet<_> = self
            .old
            .touched()
            .filter(|assignment| assignment.subjects.names_identities())
            .filter(|assignment| self.new.catalog.assignment(&assignment.key).is_some_and(|new| new.priority != assignment.priority))
            .map(|assignment| &assignment.key)
            .collect();
        if shifted.is_empty() {
            return Vec::new();
        }
        let everyone = identities::all(&self.old, &self.new);
        let classes = classes(&self.old, &self.new, everyone, self.is_own);
        let is_shifted = |class: &Class| {
            let named = |side: &Side<'c>| class.members[0].named_in(side).iter().any(|found| shifted.contains(&found.assignment.key));
            named(&self.old) || named(&self.new)
        };
        let shifted_classes: Vec<bool> = classes.iter().map(is_shifted).collect();
        let mut pairs = Vec::new();
        for (at, a) in classes.iter().enumerate() {
            for (b_at, b) in classes.iter().enumerate().skip(at + 1) {
                if a.members[0].kind != b.members[0].kind && (shifted_classes[at] || shifted_classes[b_at]) {
                    pairs.push((a, b));
                }
            }
        }
        let left_out = pairs.len().saturating_sub(MAX_PAIRS);
        pairs.truncate(MAX_PAIRS);
        let mut found: Vec<_> = pairs.par_iter().flat_map_iter(|(a, b)| self.pair(a, b)).collect();
        if left_out > 0 {
            found.push((Who::Labels, Leaf::Unexplored(self.all.clone())));
        }
        found
    }

    fn pair(&self, a: &Class, b: &Class) -> Vec<(Who, Leaf)> {
        let mut found = Vec::new();
        for (first, second) in identities::couples(&self.old, &self.new, a, b) {
            let both = identities::subject(&[first, second]);
            let Some((start, both)) = self.cell_of(&[first, second]).zip(both) else { continue };
            let (old, new) = (self.old.catalog.naming(&both), self.new.catalog.naming(&both));
            // Each of the two identities wins in one of the catalogs.
            let is_ours = |old: Option<Found<'c>>, new: Option<Found<'c>>| match (old, new) {
                (Some(old), Some(new)) => is_named(Some(old)) && is_named(Some(new)) && old.assignment.key != new.assignment.key,
                _ => false,
            };
            for leaf in self.cut(start, (&old, &new), is_ours, |_, _| false) {
                // What one of them tells alone is told already.
                let is_told = match &leaf {
                    Leaf::Known(cell) => [first, second].into_iter().any(|one| change::is_change(self, &[one], cell)),
                    Leaf::Unexplored(_) => false,
                };
                if !is_told {
                    found.push((Who::Both(Arc::from([first.clone()]), Arc::from([second.clone()])), leaf));
                }
            }
        }
        // All of the two classes change as these do.
        for (who, _) in &mut found {
            *who = Who::Both(a.members.clone(), b.members.clone());
        }
        found
    }

    /// All that machines of these identities may present.
    fn cell_of(&self, identities: &[&Identity]) -> Option<Cell> {
        let looked_at = identities.iter().filter(|_| self.is_own);
        looked_at.into_iter().try_fold(self.all.clone(), |cell, identity| cell.presenting(identity.key(), &identity.value()))
    }
}

fn is_named(found: Option<Found<'_>>) -> bool {
    found.is_some_and(|found| found.by != MatchedBy::Labels)
}
