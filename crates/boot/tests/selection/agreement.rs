//! Applies changes to a catalog and to the model of selection, and compares their answers.

use std::sync::Arc;

use boot::selection::{Outcome, Verdict};
use boot::{Catalog, Change, ObjectKey, ObjectRef, Partial, Rejected};
use proptest::prelude::*;

use super::generators::{self, created, key, profile};
use super::model::{RawAssignment, RawProfile, RawSubject, World};

/// A change of the catalog and of the model.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Assignment(RawAssignment),
    AssignmentDeleted(ObjectKey),
    Profile(RawProfile),
    ProfileDeleted(ObjectKey),
    /// With one of two faults.
    FaultyAssignment(RawAssignment, bool),
    FaultyProfile(RawProfile, bool),
    /// Its selectors are unreadable.
    Unreadable(ObjectKey, Option<i64>),
}

impl Step {
    /// Returns the invalid object for the catalog.
    fn rejected(&self) -> Option<Rejected> {
        let (partial, fault) = match self.clone() {
            Self::FaultyAssignment(raw, other) => {
                (Partial::Assignment(Arc::new(raw.build())), other)
            }
            Self::FaultyProfile(raw, other) => {
                (Partial::Profile(Arc::new(raw.build_partial())), other)
            }
            Self::Unreadable(key, created) => (
                Partial::Unreadable {
                    key,
                    created: created.map(|second| jiff::Timestamp::from_second(second).unwrap()),
                },
                false,
            ),
            _ => return None,
        };
        Some(Rejected {
            partial,
            fault: if fault {
                "spec: wrong"
            } else {
                "spec: no good"
            }
            .into(),
        })
    }

    /// Applies an invalid object to the model. A valid version is kept, unless it belonged to
    /// another object.
    fn apply_fault(&self, rejected: &Rejected, world: &mut World) -> bool {
        let name = rejected.name();
        let is_new = world.faults.insert(name.clone(), rejected.clone()).as_ref() != Some(rejected);
        let is_other =
            |known: Option<i64>, now: Option<i64>| known.is_some() && now.is_some() && known != now;
        match self.clone() {
            Self::FaultyAssignment(RawAssignment { created: now, .. }, _)
            | Self::Unreadable(_, now)
                if world
                    .assignments
                    .get(name.key())
                    .is_some_and(|known| is_other(known.created, now)) =>
            {
                drop(world.assignments.remove(name.key()));
            }
            Self::FaultyProfile(RawProfile { created: now, .. }, _)
                if world
                    .profiles
                    .get(name.key())
                    .is_some_and(|known| is_other(known.created, now)) =>
            {
                drop(world.profiles.remove(name.key()));
            }
            _ => {}
        }
        match self.clone() {
            Self::FaultyAssignment(raw, _) if !world.assignments.contains_key(&raw.key) => {
                drop(world.faulty_assignments.insert(raw.key.clone(), raw));
            }
            Self::FaultyProfile(raw, _) if !world.profiles.contains_key(&raw.key) => {
                drop(world.faulty_profiles.insert(raw.key.clone(), raw));
            }
            Self::Unreadable(key, _) => drop(world.faulty_assignments.remove(&key)),
            _ => {}
        }
        is_new
    }

    pub(crate) fn apply(&self, catalog: &mut Catalog, world: &mut World) {
        if let Some(rejected) = self.rejected() {
            let is_new = self.apply_fault(&rejected, world);
            assert_eq!(
                catalog.apply(Change::Rejected(Arc::new(rejected))),
                is_new,
                "{self:?}"
            );
            return;
        }
        let was_faulty = match self {
            Self::Assignment(RawAssignment { key, .. }) | Self::AssignmentDeleted(key) => {
                world.faulty_assignments.remove(key);
                world
                    .faults
                    .remove(&ObjectRef::Assignment(key.clone()))
                    .is_some()
            }
            Self::Profile(RawProfile { key, .. }) | Self::ProfileDeleted(key) => {
                world.faulty_profiles.remove(key);
                world
                    .faults
                    .remove(&ObjectRef::Profile(key.clone()))
                    .is_some()
            }
            _ => false,
        };
        let (change, changes) = match self.clone() {
            Self::Assignment(raw) => {
                let known = world.assignments.insert(raw.key.clone(), raw.clone());
                (
                    Change::Assignment(Arc::new(raw.build())),
                    known.is_none_or(|known| known.build() != raw.build()),
                )
            }
            Self::AssignmentDeleted(key) => (
                Change::AssignmentDeleted(key.clone()),
                world.assignments.remove(&key).is_some(),
            ),
            Self::Profile(raw) => {
                let known = world.profiles.insert(raw.key.clone(), raw.clone());
                (
                    Change::Profile(Arc::new(raw.build())),
                    known.is_none_or(|known| known.build() != raw.build()),
                )
            }
            Self::ProfileDeleted(key) => (
                Change::ProfileDeleted(key.clone()),
                world.profiles.remove(&key).is_some(),
            ),
            Self::FaultyAssignment(..) | Self::FaultyProfile(..) | Self::Unreadable(..) => return,
        };
        assert_eq!(catalog.apply(change), changes || was_faulty, "{self:?}");
    }
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => generators::assignment(generators::wide_expression()).prop_map(Step::Assignment),
        2 => key().prop_map(Step::AssignmentDeleted),
        4 => profile().prop_map(Step::Profile),
        1 => key().prop_map(Step::ProfileDeleted),
        2 => (generators::assignment(generators::wide_expression()), any::<bool>()).prop_map(|(raw, other)| Step::FaultyAssignment(raw, other)),
        1 => (profile(), any::<bool>()).prop_map(|(raw, other)| Step::FaultyProfile(raw, other)),
        1 => (key(), created()).prop_map(|(key, created)| Step::Unreadable(key, created)),
    ]
}

/// Checks that `select` and `explain` agree with the model.
pub(crate) fn assert_agrees(catalog: &Catalog, world: &World, raw: &RawSubject) {
    let subject = raw.build();
    let selected = catalog.select(&subject);
    let explained = catalog.explain(&subject);
    let matching = world.matching(raw);
    let won = world.winner(raw);
    let order: Vec<_> = matching
        .iter()
        .map(|candidate| candidate.assignment.key.clone())
        .collect();

    let eligible: Vec<_> = explained
        .candidates
        .iter()
        .filter(|candidate| candidate.verdict != Verdict::NoMatch)
        .collect();
    assert_eq!(
        eligible
            .iter()
            .map(|candidate| candidate.assignment.clone())
            .collect::<Vec<_>>(),
        order
    );
    assert!(
        eligible
            .iter()
            .enumerate()
            .all(|(place, candidate)| (candidate.verdict == Verdict::Won) == (Some(place) == won))
    );
    assert!(
        explained
            .candidates
            .windows(2)
            .all(|pair| pair[0].priority >= pair[1].priority)
    );
    let mut names: Vec<_> = explained
        .candidates
        .iter()
        .map(|candidate| &candidate.assignment)
        .collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(
        names.len(),
        explained.candidates.len(),
        "each candidate is listed once"
    );

    let profiles: Vec<_> = explained
        .profiles
        .iter()
        .filter(|profile| profile.verdict != Verdict::NoMatch)
        .map(|profile| profile.profile.clone())
        .collect();
    let expected = match won.map(|won| &matching[won]) {
        None => {
            assert!(profiles.is_empty());
            assert!(
                matches!(&selected, Err(boot::NotSelected::NoAssignment)),
                "{selected:?}"
            );
            Outcome::NoAssignment {
                reason: selected.unwrap_err().to_string(),
            }
        }
        Some(winner) => {
            assert_eq!(profiles, world.profiles_for(winner.assignment, raw));
            let own = winner.assignment.key.clone();
            let faulty_profile = profiles
                .first()
                .filter(|key| world.faulty_profiles.contains_key(*key));
            let faulty = if winner.is_faulty {
                Some(ObjectRef::Assignment(own.clone()))
            } else {
                faulty_profile.map(|key| ObjectRef::Profile(key.clone()))
            };
            match (profiles.first(), selected) {
                (_, Err(error)) if faulty.is_some() => {
                    let boot::NotSelected::NotAccepted {
                        assignment,
                        object,
                        fault,
                        ..
                    } = &error
                    else {
                        panic!("{error:?}")
                    };
                    assert_eq!(
                        (&assignment.key, Some(object), fault),
                        (&own, faulty.as_ref(), &world.faults[object].fault)
                    );
                    Outcome::NotAccepted {
                        assignment: own,
                        object: object.to_string(),
                        reason: error.to_string(),
                    }
                }
                (
                    None,
                    Err(boot::NotSelected::NoProfile {
                        assignment, reason, ..
                    }),
                ) => {
                    assert_eq!(assignment.key, own);
                    Outcome::NoProfile {
                        assignment: own,
                        reason,
                    }
                }
                (Some(profile), Ok(selection)) => {
                    assert_eq!(
                        (&selection.assignment.key, &selection.profile.key),
                        (&own, profile)
                    );
                    assert_eq!(selection.by.to_string(), winner.by.name());
                    Outcome::Boots {
                        assignment: own,
                        profile: profile.clone(),
                        conflict: world.conflicted(raw),
                    }
                }
                (expected, selected) => panic!("{expected:?}, but {selected:?}"),
            }
        }
    };
    assert_eq!(explained.outcome, expected);
}
