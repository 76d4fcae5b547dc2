//! Machines that Assignments of several partitions claim.

use super::rejected::of_machine;
use super::*;

fn count(merged_catalog: &MergedCatalog) -> usize {
    merged_catalog.cross_partition_conflicts().count()
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_two_partitions_claim_is_counted_and_named_until_one_of_them_lets_go() {
    let (west, east) = (
        publisher(vec![of_machine("S1", 1), of_machine("S2", 1)]),
        publisher(vec![of_machine("S3", 1)]),
    );
    let merged_catalog = merged_catalog();
    let (western, eastern) = (Site::of(&west), Site::of(&east));
    let followers = [("west", &western), ("east", &eastern)]
        .map(|(name, site)| Follower::new(&merged_catalog, name, Limits::default()).start(site));
    for follower in &followers {
        follower.loaded().await;
    }
    assert_eq!(count(&merged_catalog), 0);
    east.apply(vec![of_machine("S1", 2)]);
    settle().await;
    assert_eq!(count(&merged_catalog), 2);
    let tie =
        |a, b| format!("a machine can match Assignment {a} and {b}, and only age or name decides");
    assert_eq!(
        merged_catalog.cross_partition_conflicts().sentences(9),
        [
            tie("east:ns/S1", "west:ns/S1"),
            tie("west:ns/S1", "east:ns/S1")
        ]
    );
    assert_eq!(
        merged_catalog.cross_partition_conflicts().sentences(1),
        [
            tie("east:ns/S1", "west:ns/S1"),
            "1 more Assignments tie with one of another partition".into()
        ]
    );

    // Another process of the same cluster sends all of it anew, of which nothing has changed but one that is gone.
    western.replace(0, Some(&publisher(vec![of_machine("S1", 1)])));
    western.cut();
    settle().await;
    assert_eq!(count(&merged_catalog), 2);
    western.replace(0, Some(&publisher(vec![of_machine("S2", 1)])));
    western.cut();
    settle().await;
    assert_eq!(
        (
            count(&merged_catalog),
            merged_catalog
                .cross_partition_conflicts()
                .sentences(9)
                .len()
        ),
        (0, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn what_ties_within_one_partition_is_for_its_controllers_to_tell() {
    let Change::Assignment(one) = of_machine("S1", 1) else {
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
    let follower = Follower::of(&Site::of(&controller));
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
async fn what_the_guard_lets_go_is_contested_no_more() {
    let all: Vec<_> = (0..60).map(|n| of_machine(&format!("S{n}"), 1)).collect();
    let merged_catalog = merged_catalog();
    let (western, eastern) = (Site::of(&publisher(all.clone())), Site::of(&publisher(all)));
    let followers = [("west", &western), ("east", &eastern)]
        .map(|(name, site)| Follower::new(&merged_catalog, name, Limits::default()).start(site));
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
