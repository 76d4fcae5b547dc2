//! A snapshot that lacks most of what there was.

use super::*;

const LIMITS: Limits = Limits {
    percent: 30,
    objects: 50,
    looks: 3,
    after: Duration::from_hours(1),
};

/// A replica that holds 100 machines, whose controller is then one that has only these.
async fn after_a_loss(changes: Vec<Change>) -> (Arc<Site>, Follower, Arc<Publisher>) {
    let site = Site::of(&publisher(machines(100)));
    let follower = Follower::new(&merged_catalog(), "", LIMITS).start(&site);
    follower.loaded().await;
    let empty = publisher(changes);
    site.replace(0, Some(&empty));
    site.cut();
    settle().await;
    (site, follower, empty)
}

fn held(follower: &Follower) -> usize {
    lock(follower.link.state()).held()
}

fn count(follower: &Follower) -> usize {
    follower.catalog().assignment_count()
}

#[tokio::test(start_paused = true)]
async fn an_empty_listing_is_not_believed_and_what_is_new_is_taken() {
    let (_site, follower, controller) =
        after_a_loss(vec![assignment("m0001", 9), assignment("new", 1)]).await;
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
    // The feed goes on: changes, deletions and returns are taken one by one.
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
    let (_site, follower, controller) = after_a_loss(vec![assignment("m0001", 1)]).await;
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
async fn objects_that_return_are_held_no_more() {
    let (site, follower, controller) = after_a_loss(Vec::new()).await;
    assert_eq!((held(&follower), count(&follower)), (100, 100));
    controller.apply(machines(99));
    settle().await;
    assert_eq!((held(&follower), count(&follower)), (1, 100));
    site.replace(0, Some(&publisher(machines(99))));
    site.cut();
    settle().await;
    assert_eq!(
        (held(&follower), count(&follower)),
        (0, 99),
        "one of a hundred is no mass"
    );
}

#[tokio::test(start_paused = true)]
async fn three_looks_in_an_hour_that_see_the_same_are_believed() {
    let (site, follower, _controller) = after_a_loss(machines(2)).await;
    let calls = site.calls.load(Ordering::Relaxed);
    sleep(Duration::from_mins(40)).await;
    assert_eq!((held(&follower), count(&follower)), (98, 100));
    assert_eq!(
        site.calls.load(Ordering::Relaxed),
        calls + 1,
        "once in half an hour"
    );
    sleep(Duration::from_mins(30)).await;
    assert_eq!((held(&follower), count(&follower)), (0, 2));
    let calls = site.calls.load(Ordering::Relaxed);
    sleep(Duration::from_hours(3)).await;
    assert_eq!(
        site.calls.load(Ordering::Relaxed),
        calls,
        "and then no more"
    );
}

#[tokio::test(start_paused = true)]
async fn another_controller_that_still_has_them_ends_the_hold() {
    let (site, follower, _controller) = after_a_loss(Vec::new()).await;
    site.replace(0, Some(&publisher(machines(100))));
    site.cut();
    settle().await;
    assert_eq!((held(&follower), count(&follower)), (0, 100));
}

#[tokio::test(start_paused = true)]
async fn deletions_that_are_told_one_by_one_are_believed() {
    let controller = publisher(machines(100));
    let site = Site::of(&controller);
    let follower = Follower::new(&merged_catalog(), "", LIMITS).start(&site);
    follower.loaded().await;
    controller.apply(machines(100).iter().map(gone).collect());
    settle().await;
    assert_eq!((held(&follower), count(&follower)), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_loss_in_one_partition_is_judged_by_that_partition() {
    let merged_catalog = merged_catalog();
    let (big, small) = (publisher(machines(1000)), publisher(machines(60)));
    let (large, little) = (Site::of(&big), Site::of(&small));
    let followers = [("a", &large), ("b", &little)]
        .map(|(name, site)| Follower::new(&merged_catalog, name, LIMITS).start(site));
    for follower in &followers {
        follower.loaded().await;
    }
    little.replace(0, Some(&publisher(Vec::new())));
    little.cut();
    settle().await;
    assert_eq!(followers.each_ref().map(held), [0, 60]);
    assert_eq!(merged_catalog.shared().load().assignment_count(), 1060);
}
