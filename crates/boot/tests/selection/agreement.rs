//! A catalog and the model of selection, changed alike and asked the same.

use std::sync::Arc;

use boot::selection::{Outcome, Verdict};
use boot::{Catalog, Change, ObjectKey};
use proptest::prelude::*;

use super::generators::{self, key, profile};
use super::model::{RawAssignment, RawProfile, RawSubject, World};

/// A change of the catalog, and of the model beside it.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Assignment(RawAssignment),
    AssignmentGone(ObjectKey),
    Profile(RawProfile),
    ProfileGone(ObjectKey),
}

impl Step {
    pub(crate) fn apply(&self, catalog: &mut Catalog, world: &mut World) {
        let (change, changes) = match self.clone() {
            Self::Assignment(raw) => {
                let known = world.assignments.insert(raw.key.clone(), raw.clone());
                (Change::Assignment(Arc::new(raw.build())), known.is_none_or(|known| known.build() != raw.build()))
            }
            Self::AssignmentGone(key) => (Change::AssignmentGone(key.clone()), world.assignments.remove(&key).is_some()),
            Self::Profile(raw) => {
                let known = world.profiles.insert(raw.key.clone(), raw.clone());
                (Change::Profile(Arc::new(raw.build())), known.is_none_or(|known| known.build() != raw.build()))
            }
            Self::ProfileGone(key) => (Change::ProfileGone(key.clone()), world.profiles.remove(&key).is_some()),
        };
        assert_eq!(catalog.apply(change), changes, "{self:?}");
    }
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => generators::assignment(generators::wide_expression()).prop_map(Step::Assignment),
        2 => key().prop_map(Step::AssignmentGone),
        4 => profile().prop_map(Step::Profile),
        1 => key().prop_map(Step::ProfileGone),
    ]
}

/// `select` and `explain` say what the model says.
pub(crate) fn agree(catalog: &Catalog, world: &World, raw: &RawSubject) {
    let subject = raw.build();
    let selected = catalog.select(&subject);
    let explained = catalog.explain(&subject);
    let matching = world.matching(raw);
    let order: Vec<_> = matching.iter().map(|candidate| candidate.assignment.key.clone()).collect();

    let would_do: Vec<_> = explained.candidates.iter().filter(|candidate| candidate.verdict != Verdict::NoMatch).collect();
    assert_eq!(would_do.iter().map(|candidate| candidate.assignment.clone()).collect::<Vec<_>>(), order);
    assert!(would_do.iter().enumerate().all(|(place, candidate)| (candidate.verdict == Verdict::Won) == (place == 0)));
    assert!(explained.candidates.windows(2).all(|pair| pair[0].priority >= pair[1].priority));
    let mut names: Vec<_> = explained.candidates.iter().map(|candidate| &candidate.assignment).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), explained.candidates.len(), "each candidate stands once");

    let profiles: Vec<_> =
        explained.profiles.iter().filter(|profile| profile.verdict != Verdict::NoMatch).map(|profile| profile.profile.clone()).collect();
    let expected = match matching.first() {
        None => {
            assert!(profiles.is_empty());
            assert!(matches!(&selected, Err(boot::NotSelected::NoAssignment)), "{selected:?}");
            Outcome::NoAssignment { reason: selected.unwrap_err().to_string() }
        }
        Some(winner) => {
            assert_eq!(profiles, world.profiles_for(winner.assignment, raw));
            match (profiles.first(), selected) {
                (None, Err(boot::NotSelected::NoProfile { assignment, reason, .. })) => {
                    assert_eq!(assignment, order[0]);
                    Outcome::NoProfile { assignment, reason }
                }
                (Some(profile), Ok(selection)) => {
                    assert_eq!((&selection.assignment.key, &selection.profile.key), (&order[0], profile));
                    assert_eq!(selection.by.to_string(), winner.by.name());
                    Outcome::Boots { assignment: order[0].clone(), profile: profile.clone(), conflict: world.conflicted(raw) }
                }
                (expected, selected) => panic!("{expected:?}, but {selected:?}"),
            }
        }
    };
    assert_eq!(explained.outcome, expected);
}
