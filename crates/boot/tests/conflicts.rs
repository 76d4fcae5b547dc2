//! Conflicts, kept current change by change, against a look at every pair.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use boot::conflicts::{Conflicts, MAX_NAMED};
use boot::{Assignment, Catalog, Change, LabelSelector, ObjectKey, Operator, Requirement, SubjectSelectors};
use proptest::prelude::*;

const UUIDS: [&str; 3] =
    ["00112233-4455-6677-8899-aabbccddeeff", "11111111-2222-3333-8899-aabbccddeeff", "00000000-0000-0000-0000-000000000000"];
const VALUES: [&str; 3] = ["a", "b", "c"];
const KEYS: [&str; 2] = ["rack", "row"];

fn requirement() -> impl Strategy<Value = Requirement> {
    let values = prop::collection::btree_set(prop::sample::select(&VALUES[..2]).prop_map(Box::from), 0..3);
    (prop::sample::select(&KEYS[..]), 0..4_usize, values).prop_map(|(key, operator, values)| {
        let operator = [
            Operator::In(values.iter().cloned().collect()),
            Operator::NotIn(values.into_iter().collect()),
            Operator::Exists,
            Operator::DoesNotExist,
        ][operator]
            .clone();
        Requirement { key: key.into(), operator }
    })
}

fn assignment() -> impl Strategy<Value = Assignment> {
    let name = (prop::sample::select(&["a", "b", "c", "d"][..]), prop::sample::select(&["west", "east"][..]));
    let uuids = prop::collection::btree_set(prop::sample::select(&UUIDS[..]).prop_map(|uuid| uuid.parse().unwrap()), 0..2);
    let serials = prop::collection::btree_set(prop::sample::select(&["S1", "None"][..]).prop_map(Arc::from), 0..2);
    let macs = prop::collection::btree_set(Just("52:54:00:00:00:01".parse().unwrap()), 0..2);
    let named = (uuids, serials, macs, prop::bool::ANY);
    (name, named, prop::collection::vec(requirement(), 0..3), 0..2).prop_map(|(name, named, requirements, priority)| {
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
            SubjectSelectors { labels, ..SubjectSelectors::default() }
        };
        let key = ObjectKey::new("n", name.0).in_partition(name.1);
        Assignment { key, created: None, labels: boot::Labels::default(), subjects, profiles: boot::Labels::default(), priority }
    })
}

/// By trying every machine that there could be.
fn some_machine_meets_both(a: &LabelSelector, b: &LabelSelector) -> bool {
    let presented = || VALUES.iter().copied().map(Some).chain([None]);
    presented().any(|rack| {
        presented().any(|row| {
            let all = a.requirements().iter().chain(b.requirements());
            all.into_iter().all(|requirement| requirement.holds(if &*requirement.key == "rack" { rack } else { row }))
        })
    })
}

fn in_conflict(a: &Assignment, b: &Assignment) -> bool {
    let (s, t) = (&a.subjects, &b.subjects);
    let share_uuid = s.uuids.iter().any(|uuid| t.uuids.contains(uuid) && !uuid.is_nil());
    let share_serial = s.serials.iter().any(|serial| t.serials.contains(serial) && &**serial != "None");
    let share_mac = s.macs.iter().any(|mac| t.macs.contains(mac));
    let by_the_same = share_uuid || share_serial || share_mac || !(s.names_identities() || t.names_identities());
    a.key != b.key
        && by_the_same
        && a.priority == b.priority
        && s.labels.len() == t.labels.len()
        && some_machine_meets_both(&s.labels, &t.labels)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn after_any_changes_each_names_its_rivals_and_nobody_else(
        steps in prop::collection::vec((assignment(), prop::bool::weighted(0.25)), 1..40), across: bool
    ) {
        let (mut catalog, mut conflicts) = (Catalog::new(), if across { Conflicts::across_partitions() } else { Conflicts::new() });
        let mut all: BTreeMap<ObjectKey, Assignment> = BTreeMap::new();
        for (assignment, goes) in steps {
            let changed = assignment.key.clone();
            let before: BTreeMap<_, Vec<_>> = all.keys().map(|key| (key.clone(), conflicts.of(key).cloned().collect())).collect();
            let touched = if goes {
                all.remove(&changed);
                catalog.apply(Change::AssignmentGone(changed.clone()));
                conflicts.take(&catalog, &changed)
            } else {
                all.insert(changed.clone(), assignment.clone());
                let assignment = Arc::new(assignment);
                catalog.apply(Change::Assignment(assignment.clone()));
                conflicts.put(&catalog, &assignment)
            };
            let mut in_conflict_now = 0;
            for (key, assignment) in &all {
                let counts = |other: &&Assignment| in_conflict(assignment, other) && !(across && key.partition == other.key.partition);
                let rivals: BTreeSet<_> = all.values().filter(counts).map(|other| &other.key).collect();
                let named: BTreeSet<_> = conflicts.of(key).collect();
                prop_assert!(named.is_subset(&rivals), "{key} names {named:?} of {rivals:?}");
                prop_assert_eq!(named.len(), rivals.len().min(MAX_NAMED), "{} names {:?} of {:?}", key, &named, rivals);
                in_conflict_now += usize::from(!named.is_empty());
                let reads_otherwise = before.get(key).is_some_and(|before| before.iter().collect::<BTreeSet<_>>() != named);
                prop_assert!(!reads_otherwise || touched.contains(key) || *key == changed, "{key} changed unnoticed");
            }
            prop_assert_eq!(conflicts.len(), in_conflict_now);
            prop_assert_eq!(conflicts.keys().count(), in_conflict_now);
        }
    }
}
