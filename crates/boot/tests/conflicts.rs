//! Compares conflicts that are updated change by change with a check of every pair.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use boot::conflicts::{Conflicts, MAX_NAMED};
use boot::{
    Assignment, Catalog, Change, LabelSelector, ObjectKey, Operator, Requirement, SubjectSelectors,
};
use proptest::prelude::*;

const UUIDS: [&str; 3] = [
    "00112233-4455-6677-8899-aabbccddeeff",
    "11111111-2222-3333-8899-aabbccddeeff",
    "00000000-0000-0000-0000-000000000000",
];
const VALUES: [&str; 3] = ["a", "b", "c"];
const KEYS: [&str; 2] = ["rack", "row"];

fn requirement() -> impl Strategy<Value = Requirement> {
    let values =
        prop::collection::btree_set(prop::sample::select(&VALUES[..2]).prop_map(Box::from), 0..3);
    (prop::sample::select(&KEYS[..]), 0..4_usize, values).prop_map(|(key, operator, values)| {
        let operator = [
            Operator::In(values.iter().cloned().collect()),
            Operator::NotIn(values.into_iter().collect()),
            Operator::Exists,
            Operator::DoesNotExist,
        ][operator]
            .clone();
        Requirement {
            key: key.into(),
            operator,
        }
    })
}

/// An Assignment with one of `names` names, in one of two partitions.
fn assignment(names: usize) -> impl Strategy<Value = Assignment> {
    let name = (
        (0..names).prop_map(|number| format!("a{number}")),
        prop::sample::select(&["west", "east"][..]),
    );
    let uuids = prop::collection::btree_set(
        prop::sample::select(&UUIDS[..]).prop_map(|uuid| uuid.parse().unwrap()),
        0..2,
    );
    let serials = prop::collection::btree_set(
        prop::sample::select(&["S1", "None"][..]).prop_map(Arc::from),
        0..2,
    );
    let macs = prop::collection::btree_set(Just("52:54:00:00:00:01".parse().unwrap()), 0..2);
    let named = (uuids, serials, macs, prop::bool::ANY);
    (
        name,
        named,
        prop::collection::vec(requirement(), 0..3),
        0..2,
    )
        .prop_map(|(name, named, requirements, priority)| {
            let (uuids, serials, macs, is_named) = named;
            let labels = LabelSelector::new(&BTreeMap::new(), requirements);
            let subjects = if is_named {
                SubjectSelectors {
                    uuids: uuids.into_iter().collect(),
                    serials: serials.into_iter().collect(),
                    macs: macs.into_iter().collect(),
                    labels,
                }
            } else {
                SubjectSelectors {
                    labels,
                    ..SubjectSelectors::default()
                }
            };
            let key = ObjectKey::new("n", name.0).in_partition(name.1);
            Assignment {
                key,
                created: None,
                labels: boot::Labels::default(),
                subjects,
                profiles: boot::Labels::default(),
                priority,
                variables: boot::Variables::default(),
            }
        })
}

/// Tries every possible machine.
fn some_machine_meets_both(a: &LabelSelector, b: &LabelSelector) -> bool {
    let presented = || VALUES.iter().copied().map(Some).chain([None]);
    presented().any(|rack| {
        presented().any(|row| {
            let all = a.requirements().iter().chain(b.requirements());
            all.into_iter().all(|requirement| {
                requirement.holds(if &*requirement.key == "rack" {
                    rack
                } else {
                    row
                })
            })
        })
    })
}

fn in_conflict(a: &Assignment, b: &Assignment) -> bool {
    let (s, t) = (&a.subjects, &b.subjects);
    let share_uuid = s
        .uuids
        .iter()
        .any(|uuid| t.uuids.contains(uuid) && !uuid.is_nil());
    let share_serial = s
        .serials
        .iter()
        .any(|serial| t.serials.contains(serial) && &**serial != "None");
    let share_mac = s.macs.iter().any(|mac| t.macs.contains(mac));
    let by_the_same =
        share_uuid || share_serial || share_mac || !(s.names_identities() || t.names_identities());
    a.key != b.key
        && by_the_same
        && a.priority == b.priority
        && s.labels.len() == t.labels.len()
        && some_machine_meets_both(&s.labels, &t.labels)
}

/// A catalog, its conflicts, and a list of its Assignments.
struct TrackedCatalog {
    catalog: Catalog,
    conflicts: Conflicts,
    across: bool,
    all: BTreeMap<ObjectKey, Assignment>,
}

impl TrackedCatalog {
    fn new(across: bool) -> Self {
        let conflicts = if across {
            Conflicts::across_partitions()
        } else {
            Conflicts::new()
        };
        Self {
            catalog: Catalog::new(),
            conflicts,
            across,
            all: BTreeMap::new(),
        }
    }

    fn put(&mut self, assignment: Assignment) -> BTreeSet<ObjectKey> {
        self.all.insert(assignment.key.clone(), assignment.clone());
        let assignment = Arc::new(assignment);
        self.catalog.apply(Change::Assignment(assignment.clone()));
        self.conflicts.put(&self.catalog, &assignment)
    }

    fn remove(&mut self, key: &ObjectKey) -> BTreeSet<ObjectKey> {
        self.all.remove(key);
        self.catalog.apply(Change::AssignmentDeleted(key.clone()));
        self.conflicts.remove(&self.catalog, key)
    }

    fn named(&self) -> BTreeMap<ObjectKey, Vec<ObjectKey>> {
        self.all
            .keys()
            .map(|key| (key.clone(), self.conflicts.of(key).cloned().collect()))
            .collect()
    }

    /// Checks that each Assignment names the right number of its conflicts, and nothing else.
    fn check(&self) -> Result<(), TestCaseError> {
        let mut in_conflict_now = 0;
        for (key, assignment) in &self.all {
            let counts = |other: &&Assignment| {
                in_conflict(assignment, other)
                    && !(self.across && key.partition == other.key.partition)
            };
            let conflicting: BTreeSet<_> = self
                .all
                .values()
                .filter(counts)
                .map(|other| &other.key)
                .collect();
            let named: BTreeSet<_> = self.conflicts.of(key).collect();
            prop_assert!(
                named.is_subset(&conflicting),
                "{key} names {named:?} of {conflicting:?}"
            );
            prop_assert_eq!(
                named.len(),
                conflicting.len().min(MAX_NAMED),
                "{} names {:?} of {:?}",
                key,
                &named,
                conflicting
            );
            in_conflict_now += usize::from(!named.is_empty());
        }
        prop_assert_eq!(self.conflicts.len(), in_conflict_now);
        prop_assert_eq!(self.conflicts.keys().count(), in_conflict_now);
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn after_any_changes_conflicts_match_the_model(
        steps in prop::collection::vec((assignment(4), prop::bool::weighted(0.25)), 1..40), across: bool
    ) {
        let mut tracked = TrackedCatalog::new(across);
        for (assignment, is_removed) in steps {
            let (changed, before) = (assignment.key.clone(), tracked.named());
            let touched = if is_removed { tracked.remove(&changed) } else { tracked.put(assignment) };
            tracked.check()?;
            for (key, named) in tracked.named() {
                let is_different = before.get(&key).is_some_and(|before| *before != named);
                prop_assert!(!is_different || touched.contains(&key) || key == changed, "{key} changed unnoticed");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn conflicts_match_the_model_with_hundreds_in_conflict(
        steps in prop::collection::vec((assignment(400), prop::bool::weighted(0.2)), 900..1000),
    ) {
        let mut tracked = TrackedCatalog::new(false);
        let mut most = 0;
        for (at, (assignment, is_removed)) in steps.into_iter().enumerate() {
            drop(if is_removed { tracked.remove(&assignment.key) } else { tracked.put(assignment) });
            most = most.max(tracked.conflicts.len());
            if at % 300 == 299 {
                tracked.check()?;
            }
        }
        prop_assert!(most > 300, "{most} in conflict are few");
        let keys: Vec<_> = tracked.all.keys().cloned().collect();
        for (at, key) in keys.iter().enumerate() {
            tracked.remove(key);
            if at % 100 == 99 || at + 20 > keys.len() {
                tracked.check()?;
            }
        }
    }
}
