//! Conflicts between Assignments, and between config ids, of different partitions.

use super::rejected::machine_assignment;
use super::*;

fn count(merged_catalog: &MergedCatalog) -> usize {
    merged_catalog.cross_partition_conflicts().count()
}

#[tokio::test(start_paused = true)]
async fn a_cross_partition_conflict_is_counted_and_named_until_it_ends() {
    let (west, east) = (
        publisher(vec![
            machine_assignment("S1", 1),
            machine_assignment("S2", 1),
        ]),
        publisher(vec![machine_assignment("S3", 1)]),
    );
    let merged_catalog = merged_catalog();
    let (western, eastern) = (ControllerSet::of(&west), ControllerSet::of(&east));
    let followers = [("west", &western), ("east", &eastern)].map(|(name, controllers)| {
        Follower::new(&merged_catalog, name, Limits::default()).start(controllers)
    });
    for follower in &followers {
        follower.loaded().await;
    }
    assert_eq!(count(&merged_catalog), 0);
    east.apply(vec![machine_assignment("S1", 2)]);
    settle().await;
    assert_eq!(count(&merged_catalog), 2);
    let tie =
        |a, b| format!("a machine can match Assignment {a} and {b}, and only age or name decides");
    assert_eq!(
        merged_catalog.cross_partition_conflicts().describe(9),
        [
            tie("east:ns/S1", "west:ns/S1"),
            tie("west:ns/S1", "east:ns/S1")
        ]
    );
    assert_eq!(
        merged_catalog.cross_partition_conflicts().describe(1),
        [
            tie("east:ns/S1", "west:ns/S1"),
            "1 more Assignments conflict with one of another partition".into()
        ]
    );

    // Another process of the same cluster sends a snapshot, which differs in one deletion only.
    western.replace(0, Some(&publisher(vec![machine_assignment("S1", 1)])));
    western.cut();
    settle().await;
    assert_eq!(count(&merged_catalog), 2);
    western.replace(0, Some(&publisher(vec![machine_assignment("S2", 1)])));
    western.cut();
    settle().await;
    assert_eq!(
        (
            count(&merged_catalog),
            merged_catalog.cross_partition_conflicts().describe(9).len()
        ),
        (0, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn conflicts_within_a_partition_are_left_to_its_controllers() {
    let Change::Assignment(one) = machine_assignment("S1", 1) else {
        unreachable!()
    };
    let other = Assignment {
        key: ObjectKey::new("ns", "other"),
        ..Assignment::clone(&one)
    };
    let controller = publisher(vec![
        Change::Assignment(one),
        Change::Assignment(Arc::new(other)),
    ]);
    let follower = Follower::of(&ControllerSet::of(&controller));
    follower.loaded().await;
    assert_eq!(
        (
            follower.catalog().assignment_count(),
            count(&follower.merged_catalog)
        ),
        (2, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn confirming_a_hold_ends_its_conflicts() {
    let all: Vec<_> = (0..60)
        .map(|n| machine_assignment(&format!("S{n}"), 1))
        .collect();
    let merged_catalog = merged_catalog();
    let (western, eastern) = (
        ControllerSet::of(&publisher(all.clone())),
        ControllerSet::of(&publisher(all)),
    );
    let followers = [("west", &western), ("east", &eastern)].map(|(name, controllers)| {
        Follower::new(&merged_catalog, name, Limits::default()).start(controllers)
    });
    for follower in &followers {
        follower.loaded().await;
    }
    assert_eq!(count(&merged_catalog), 120);
    eastern.replace(0, Some(&publisher(vec![])));
    eastern.cut();
    settle().await;
    assert_eq!(count(&merged_catalog), 120, "the guard keeps them");
    assert_eq!(
        merged_catalog.confirm(&mut lock(followers[1].link.state())),
        60
    );
    assert_eq!(count(&merged_catalog), 0);
}

/// A Profile with one config that has this id.
fn profile_with_id(name: &str, id: uuid::Uuid) -> Change {
    let Change::Profile(profile) = profile(name, 1) else {
        unreachable!("it is a Profile")
    };
    let ids = BTreeMap::from([("config0".parse().unwrap(), id)]);
    Change::Profile(Arc::new(profile.with_ids(ids)))
}

#[tokio::test(start_paused = true)]
async fn an_id_in_two_partitions_serves_neither_config_until_one_is_gone() {
    let id = uuid::Uuid::new_v4();
    let (west, east) = (
        publisher(vec![profile_with_id("p", id)]),
        publisher(vec![profile_with_id("p", id)]),
    );
    let merged_catalog = merged_catalog();
    let (western, eastern) = (ControllerSet::of(&west), ControllerSet::of(&east));
    let followers = [("west", &western), ("east", &eastern)].map(|(name, controllers)| {
        Follower::new(&merged_catalog, name, Limits::default()).start(controllers)
    });
    for follower in &followers {
        follower.loaded().await;
    }
    let catalog = || Catalog::clone(&merged_catalog.shared().load());
    let error = catalog().config(id).unwrap_err().to_string();
    assert!(
        error.starts_with(
            "config config0 of Profile east:ns/p and config config0 of Profile west:ns/p have the same id"
        ),
        "{error}"
    );
    assert_eq!(catalog().describe_duplicate_ids(9), [error]);
    east.apply(vec![profile_with_id("p", uuid::Uuid::new_v4())]);
    settle().await;
    let catalog = catalog();
    let (profile, _) = catalog.config(id).unwrap();
    assert_eq!(
        (&*profile.key.partition, catalog.duplicate_id_count()),
        ("west", 0)
    );
}
