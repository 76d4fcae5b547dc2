//! Snapshots that lack most of the known objects.

use super::*;

const LIMITS: Limits = Limits {
    percent: 30,
    objects: 50,
    listings: 3,
    period: Duration::from_hours(1),
};

/// A replica that holds 100 machines and then follows a controller that has only these objects.
async fn after_loss(changes: Vec<Change>) -> (Arc<ControllerSet>, Follower, Arc<Publisher>) {
    let controllers = ControllerSet::of(&publisher(machines(100)));
    let follower = Follower::new(&merged_catalog(), "", LIMITS).start(&controllers);
    follower.loaded().await;
    let empty = publisher(changes);
    controllers.replace(0, Some(&empty));
    controllers.cut();
    settle().await;
    (controllers, follower, empty)
}

fn held(follower: &Follower) -> usize {
    lock(follower.link.state()).held()
}

fn count(follower: &Follower) -> usize {
    follower.catalog().assignment_count()
}

#[tokio::test(start_paused = true)]
async fn the_guard_holds_lost_objects_while_new_ones_are_applied() {
    let (_site, follower, controller) =
        after_loss(vec![assignment("m0001", 9), assignment("new", 1)]).await;
    assert_eq!((held(&follower), count(&follower)), (99, 101));
    let changed = follower
        .catalog()
        .assignment(&ObjectKey::new("ns", "m0001"))
        .unwrap()
        .clone();
    assert_eq!(
        Change::Assignment(changed).name(),
        assignment("m0001", 9).name()
    );
    assert_eq!(
        follower
            .catalog()
            .assignment(&ObjectKey::new("ns", "m0001"))
            .unwrap()
            .priority,
        6,
        "as it is now"
    );
    // The feed continues: changes, deletions and returning objects are applied one by one.
    controller.apply(vec![
        assignment("newer", 1),
        gone(&assignment("new", 1)),
        assignment("m0002", 1),
    ]);
    settle().await;
    assert_eq!((held(&follower), count(&follower)), (98, 101));
}

#[tokio::test(start_paused = true)]
async fn an_operator_confirms() {
    let (_site, follower, controller) = after_loss(vec![assignment("m0001", 1)]).await;
    assert_eq!(
        follower
            .merged_catalog
            .confirm(&mut lock(follower.link.state())),
        99
    );
    assert_eq!(
        (held(&follower), names(&follower.catalog())),
        (0, "m0001".to_owned())
    );
    assert_eq!(
        follower
            .merged_catalog
            .confirm(&mut lock(follower.link.state())),
        0
    );
    controller.apply(vec![assignment("next", 1)]);
    settle().await;
    assert_eq!(names(&follower.catalog()), "m0001 next");
}

#[tokio::test(start_paused = true)]
async fn the_guard_releases_objects_that_return() {
    let (controllers, follower, controller) = after_loss(Vec::new()).await;
    assert_eq!((held(&follower), count(&follower)), (100, 100));
    controller.apply(machines(99));
    settle().await;
    assert_eq!((held(&follower), count(&follower)), (1, 100));
    controllers.replace(0, Some(&publisher(machines(99))));
    controllers.cut();
    settle().await;
    assert_eq!(
        (held(&follower), count(&follower)),
        (0, 99),
        "one of a hundred is no mass"
    );
}

#[tokio::test(start_paused = true)]
async fn the_guard_believes_three_equal_listings_within_an_hour() {
    let (controllers, follower, _controller) = after_loss(machines(2)).await;
    let calls = controllers.calls.load(Ordering::Relaxed);
    sleep(Duration::from_mins(40)).await;
    assert_eq!((held(&follower), count(&follower)), (98, 100));
    assert_eq!(
        controllers.calls.load(Ordering::Relaxed),
        calls + 1,
        "once in half an hour"
    );
    sleep(Duration::from_mins(30)).await;
    assert_eq!((held(&follower), count(&follower)), (0, 2));
    let calls = controllers.calls.load(Ordering::Relaxed);
    sleep(Duration::from_hours(3)).await;
    assert_eq!(
        controllers.calls.load(Ordering::Relaxed),
        calls,
        "and then no more"
    );
}

#[tokio::test(start_paused = true)]
async fn a_controller_that_still_has_the_objects_ends_the_hold() {
    let (controllers, follower, _controller) = after_loss(Vec::new()).await;
    controllers.replace(0, Some(&publisher(machines(100))));
    controllers.cut();
    settle().await;
    assert_eq!((held(&follower), count(&follower)), (0, 100));
}

#[tokio::test(start_paused = true)]
async fn the_guard_does_not_hold_deletions_in_deltas() {
    let controller = publisher(machines(100));
    let controllers = ControllerSet::of(&controller);
    let follower = Follower::new(&merged_catalog(), "", LIMITS).start(&controllers);
    follower.loaded().await;
    controller.apply(machines(100).iter().map(gone).collect());
    settle().await;
    assert_eq!((held(&follower), count(&follower)), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn the_guard_judges_each_partition_by_its_own_size() {
    let merged_catalog = merged_catalog();
    let (big, small) = (publisher(machines(1000)), publisher(machines(60)));
    let (large, little) = (ControllerSet::of(&big), ControllerSet::of(&small));
    let followers = [("a", &large), ("b", &little)]
        .map(|(name, controllers)| Follower::new(&merged_catalog, name, LIMITS).start(controllers));
    for follower in &followers {
        follower.loaded().await;
    }
    little.replace(0, Some(&publisher(Vec::new())));
    little.cut();
    settle().await;
    assert_eq!(followers.each_ref().map(held), [0, 60]);
    assert_eq!(merged_catalog.shared().load().assignment_count(), 1060);
}
