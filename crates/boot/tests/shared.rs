//! What readers see while a writer publishes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use boot::selector::SubjectSelectors;
use boot::{
    Assignment, Catalog, Change, ExtrinsicLabels, LabelSelector, ObjectKey, Profile, SharedCatalog,
    Subject,
};

const RACKS: usize = 150;
const GENERATIONS: usize = 10;

/// Publishes an Assignment and a Profile for each rack, all labelled with this generation.
fn publish(shared: &SharedCatalog, generation: usize) {
    let mut catalog = Catalog::clone(&shared.load());
    for rack in 0..RACKS {
        let labels = BTreeMap::from([("generation".to_owned(), generation.to_string())]);
        let key = ObjectKey::new("ns", format!("rack{rack}"));
        let profile =
            Profile::compile(key.clone(), None, &labels, "#!ipxe\n", &BTreeMap::new()).unwrap();
        let wanted = BTreeMap::from([("rack".to_owned(), format!("rack{rack}"))]);
        let subjects = SubjectSelectors {
            labels: LabelSelector::new(&wanted, []),
            ..SubjectSelectors::default()
        };
        catalog.apply(Change::Profile(Arc::new(profile)));
        let labels: boot::Labels = labels.iter().collect();
        let profiles = labels.clone();
        catalog.apply(Change::Assignment(Arc::new(Assignment {
            key,
            created: None,
            labels,
            subjects,
            profiles,
            priority: 0,
            variables: boot::Variables::default(),
        })));
    }
    shared.publish(catalog);
}

fn generation(catalog: &Catalog, rack: usize) -> usize {
    let subject =
        Subject::from_query(&format!("rack=rack{rack}"), &ExtrinsicLabels::default()).unwrap();
    let selection = catalog
        .select(&subject)
        .expect("every generation has every rack");
    assert_eq!(selection.assignment.labels, selection.profile.labels);
    selection
        .assignment
        .labels
        .get("generation")
        .unwrap()
        .parse()
        .unwrap()
}

#[test]
fn a_reader_never_sees_a_partial_change() {
    let shared = SharedCatalog::new(Catalog::new());
    publish(&shared, 0);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut newest = 0;
                while !done.load(Ordering::Acquire) {
                    newest = check_generation(&shared, newest);
                }
                assert_eq!(check_generation(&shared, newest), GENERATIONS);
            });
        }
        for generation in 1..=GENERATIONS {
            publish(&shared, generation);
        }
        done.store(true, Ordering::Release);
    });
}

/// Checks that all racks of the current catalog are of one generation, not older than `newest`.
/// Returns it.
fn check_generation(shared: &SharedCatalog, newest: usize) -> usize {
    let catalog = shared.load();
    let found = generation(&catalog, 0);
    assert!(found >= newest, "{found} after {newest}");
    for rack in (0..RACKS).step_by(37) {
        assert_eq!(generation(&catalog, rack), found);
    }
    assert_eq!(
        (catalog.assignment_count(), catalog.profile_count()),
        (RACKS, RACKS)
    );
    found
}

#[test]
fn a_slow_reader_keeps_its_catalog() {
    let shared = SharedCatalog::new(Catalog::new());
    publish(&shared, 0);
    let slow = shared.load();
    for generation in 1..4 {
        publish(&shared, generation);
    }
    assert_eq!(generation(&slow, 7), 0);
    assert_eq!(generation(&shared.load(), 7), 3);
}

#[test]
fn publish_frees_catalogs_without_readers() {
    let shared = SharedCatalog::new(Catalog::new());
    publish(&shared, 0);
    let old = Arc::downgrade(&shared.load());
    publish(&shared, 1);
    assert!(old.upgrade().is_none());

    let slow = shared.load();
    let read = Arc::downgrade(&slow);
    publish(&shared, 2);
    assert!(read.upgrade().is_some());
    drop(slow);
    publish(&shared, 3);
    assert!(read.upgrade().is_none());
}
