//! Compares the selector index, updated change by change, with a scan of all Assignments.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use boot::{
    Assignment, Catalog, Change, Labels, ObjectKey, Profile, SelectorIndex, SubjectSelectors,
};
use proptest::prelude::*;

const KEYS: [&str; 3] = ["os", "role", "assignment/ipxe-buildarch"];

fn labels() -> impl Strategy<Value = BTreeMap<String, String>> {
    let one = (
        prop::sample::select(&KEYS[..]),
        prop::sample::select(&["a", "b"][..]),
    );
    prop::collection::vec(one, 0..4).prop_map(|all| {
        all.into_iter()
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    })
}

fn key() -> impl Strategy<Value = ObjectKey> {
    let parts = (
        prop::sample::select(&["n", "m"][..]),
        prop::sample::select(&["a", "b", "c", "d"][..]),
        prop::bool::ANY,
    );
    parts.prop_map(|(namespace, name, is_west)| {
        ObjectKey::new(namespace, name).in_partition(if is_west { "west" } else { "" })
    })
}

fn change() -> impl Strategy<Value = Change> {
    (key(), labels(), 0..4).prop_map(|(key, labels, what)| match what {
        0 => Change::AssignmentDeleted(key),
        1 => Change::ProfileDeleted(key),
        2 => Change::Profile(Arc::new(
            Profile::compile(key, None, &labels, "#!ipxe", &BTreeMap::new()).unwrap(),
        )),
        _ => Change::Assignment(Arc::new(Assignment {
            key,
            created: None,
            labels: Labels::default(),
            subjects: SubjectSelectors::default(),
            profiles: labels.iter().collect(),
            priority: 0,
            variables: boot::Variables::default(),
        })),
    })
}

fn found(selectors: &SelectorIndex, profile: &Profile) -> BTreeSet<ObjectKey> {
    selectors
        .selecting(profile)
        .flat_map(|(_, group)| group.members())
        .map(|assignment| assignment.key.clone())
        .collect()
}

proptest! {
    #[test]
    fn the_index_finds_what_a_full_scan_finds(changes in prop::collection::vec(change(), 0..40)) {
        let mut catalog = Catalog::with_selector_index();
        for change in changes {
            catalog.apply(change);
        }
        let (kept, rebuilt) = (catalog.selectors().unwrap(), SelectorIndex::build(&catalog));
        for profile in catalog.profiles() {
            let selects = |assignment: &&Arc<Assignment>| catalog.profiles_of(assignment).any(|other| other.key == profile.key);
            let all: BTreeSet<_> = catalog.assignments().filter(selects).map(|assignment| assignment.key.clone()).collect();
            prop_assert_eq!(found(kept, profile), all.clone());
            prop_assert_eq!(found(&rebuilt, profile), all);
            let archs = |selectors: &SelectorIndex| selectors.architectures(&profile.key).map(str::to_owned).collect::<Vec<_>>();
            prop_assert_eq!(archs(kept), archs(&rebuilt));
        }
        for assignment in catalog.assignments() {
            let groups = |selectors: &SelectorIndex| {
                selectors.groups_in_namespace_of(&assignment.key).map(|(labels, group)| (labels.clone(), group.len())).collect::<BTreeMap<_, _>>()
            };
            prop_assert_eq!(groups(kept), groups(&rebuilt));
        }
    }
}
