//! Finds changes for machines that are named by two identities.

use std::collections::HashSet;
use std::sync::Arc;

use boot::Assignment;
use boot::catalog::Found;
use rayon::prelude::*;

use super::identities::{self, Class, classes};
use super::side::{Known, Side};
use super::{Leaf, MachineSet, Search, change, is_named, never};

/// Maximum number of pairs of identity classes examined.
const MAX_PAIRS: usize = 20_000;

impl<'c> Search<'c> {
    /// Finds changes for machines named by two Assignments whose order differs between the
    /// catalogs: a priority changed, or one names machines that it matched by labels before.
    pub(super) fn by_identity_pairs(&self) -> Vec<(MachineSet, Leaf)> {
        let has_shifted = |old: &Assignment, new: &Assignment| {
            let names = [old, new].map(|assignment| assignment.subjects.names_identities());
            names[0] != names[1] || names[0] && old.priority != new.priority
        };
        let shifted: HashSet<_> = self
            .old
            .touched()
            .filter(|old| {
                self.new
                    .catalog
                    .assignment(&old.key)
                    .is_some_and(|new| has_shifted(old, new))
            })
            .map(|assignment| &assignment.key)
            .collect();
        if shifted.is_empty() {
            return Vec::new();
        }
        let everyone = identities::all(&self.old, &self.new, self.identity_labels);
        let classes = classes(&self.old, &self.new, everyone, self.identity_labels);
        let has_shifted = |class: &Class| {
            let named = |side: &Side<'c>| {
                class.members[0]
                    .named_in(side)
                    .iter()
                    .any(|found| shifted.contains(&found.assignment.key))
            };
            named(&self.old) || named(&self.new)
        };
        let shifted: Vec<bool> = classes.iter().map(has_shifted).collect();
        let others = |at: usize| {
            // Examines a pair once if the order of both changed.
            let is_other = |other: &usize| {
                classes[at].kind() != classes[*other].kind() && !(shifted[*other] && *other < at)
            };
            (0..classes.len())
                .filter(is_other)
                .map(move |other| (at.min(other), at.max(other)))
                .collect::<Vec<_>>()
        };
        let pairs = (0..classes.len())
            .filter(|at| shifted[*at])
            .flat_map(others);
        let mut pairs: Vec<_> = pairs
            .map(|(a, b)| (&classes[a], &classes[b]))
            .take(MAX_PAIRS + 1)
            .collect();
        let are_left_out = pairs.len() > MAX_PAIRS;
        pairs.truncate(MAX_PAIRS);
        let mut found: Vec<_> = pairs
            .par_iter()
            .flat_map_iter(|(a, b)| self.pair(a, b))
            .collect();
        if are_left_out {
            found.push((MachineSet::Labels, Leaf::Unexplored(self.all.clone())));
        }
        found
    }

    fn pair(&self, a: &Class, b: &Class) -> Vec<(MachineSet, Leaf)> {
        let mut found = Vec::new();
        for (first, second) in identities::sample_pairs(&self.old, &self.new, a, b) {
            let both = identities::subject(&[first, second]);
            let Some((start, both)) = self.cell_of(&[first, second]).zip(both) else {
                continue;
            };
            let (old, new) = (
                self.old.catalog.by_identity(&both),
                self.new.catalog.by_identity(&both),
            );
            let alone =
                [first, second].map(|one| (one, one.named_in(&self.old), one.named_in(&self.new)));
            // Each of the two identities wins in one of the catalogs.
            let is_relevant = |old: Option<Found<'c>>, new: Option<Found<'c>>| match (old, new) {
                (Some(old), Some(new)) => {
                    is_named(Some(old))
                        && is_named(Some(new))
                        && old.assignment.key != new.assignment.key
                }
                _ => false,
            };
            let leaves = self.cut(start, |cell, labelled| {
                let of_both = self.decide(cell, (&old, &new), labelled, is_relevant, never);
                if !matches!(of_both, Known::Decided(true)) {
                    return of_both;
                }
                // A change that one identity alone explains is already reported, but for this cell
                // only if all its machines boot the same by that identity, too. Where identities
                // are labels as well, no identity is alone.
                for (one, old, new) in alone.iter().filter(|_| !self.identity_labels) {
                    match self.decide(cell, (old, new), labelled, |_, _| true, never) {
                        Known::Decided(true) if change::boots_differently(self, &[one], cell) => {
                            return Known::Decided(false);
                        }
                        Known::Decided(_) => {}
                        open @ Known::Open(..) => return open,
                    }
                }
                of_both
            });
            let machines =
                || MachineSet::Both(Arc::from([first.clone()]), Arc::from([second.clone()]));
            found.extend(leaves.into_iter().map(|leaf| (machines(), leaf)));
        }
        // All members of the two classes have the same change.
        for (machines, _) in &mut found {
            *machines = MachineSet::Both(a.members.clone(), b.members.clone());
        }
        found
    }
}
