//! Rejected objects across restarts of either end.

use boot::{ExtrinsicLabels, Subject};

use super::super::copy::DiskCopy;
use super::*;
use crate::proto::follow_response::Message;
use crate::proto::{Inventory, Part};

const LIMITS: Limits = Limits {
    percent: 30,
    objects: 50,
    listings: 3,
    period: Duration::from_hours(1),
};

/// An Assignment of one machine, by its serial number.
pub(super) fn machine_assignment(name: &str, created: i64) -> Change {
    let subjects = SubjectSelectors {
        serials: [name.into()].into(),
        ..SubjectSelectors::default()
    };
    Change::Assignment(Arc::new(Assignment {
        key: ObjectKey::new("ns", name),
        created: Some(jiff::Timestamp::from_second(created).unwrap()),
        labels: boot::Labels::default(),
        subjects,
        profiles: boot::Labels::default(),
        priority: 0,
        variables: boot::Variables::default(),
    }))
}

fn default_assignment() -> Change {
    let Change::Assignment(one) = machine_assignment("default", 1) else {
        unreachable!()
    };
    Change::Assignment(Arc::new(Assignment {
        subjects: SubjectSelectors::default(),
        ..Assignment::clone(&one)
    }))
}

/// The Assignment that a machine gets, or the object that it waits for.
fn selected(catalog: &Catalog, serial: &str) -> String {
    let subject =
        Subject::from_query(&format!("serial={serial}"), &ExtrinsicLabels::default()).unwrap();
    match catalog.select(&subject) {
        Ok(selection) => selection.assignment.key.name.to_string(),
        Err(boot::NotSelected::NotAccepted { object, .. }) => format!("waits for {object}"),
        Err(error) => error.to_string(),
    }
}

fn rejected_counts(follower: &Follower) -> (usize, usize) {
    lock(follower.link.state()).rejected_counts()
}

/// A controller that never saw an accepted S1.
fn controller_without_memory() -> Arc<Publisher> {
    publisher(vec![
        default_assignment(),
        profile("p", 0),
        rejected(&machine_assignment("S1", 1), "no good"),
    ])
}

async fn after_controller_restart() -> (Arc<ControllerSet>, Follower, Arc<Publisher>) {
    let controllers = ControllerSet::of(&publisher(vec![
        default_assignment(),
        profile("p", 0),
        machine_assignment("S1", 1),
    ]));
    let follower = Follower::of(&controllers);
    follower.loaded().await;
    let next = controller_without_memory();
    controllers.replace(0, Some(&next));
    controllers.cut();
    settle().await;
    (controllers, follower, next)
}

#[tokio::test(start_paused = true)]
async fn a_version_known_only_to_the_replica_stays_in_use_while_changes_continue() {
    let (_site, follower, controller) = after_controller_restart().await;
    assert_eq!(
        (
            selected(&follower.catalog(), "S1"),
            rejected_counts(&follower)
        ),
        ("S1".to_owned(), (1, 1))
    );
    // Deltas accumulate: another fault, another object, one more fault.
    controller.apply(vec![
        rejected(&machine_assignment("S1", 1), "still no good"),
        machine_assignment("S2", 1),
    ]);
    controller.apply(vec![
        rejected(&machine_assignment("S2", 1), "no good either"),
        rejected(&machine_assignment("S3", 1), "never good"),
    ]);
    settle().await;
    let catalog = follower.catalog();
    assert_eq!(
        ["S1", "S2", "S3"].map(|serial| selected(&catalog, serial)),
        ["S1", "S2", "waits for Assignment ns/S3"]
    );
    assert_eq!(
        (
            rejected_counts(&follower),
            lock(follower.link.state()).position().is_some()
        ),
        ((3, 1), true),
        "nothing mismatch"
    );
    assert_eq!(
        &*catalog
            .rejected(&machine_assignment("S1", 1).name())
            .unwrap()
            .fault,
        "still no good"
    );
    controller.apply(vec![
        machine_assignment("S1", 1),
        gone(&machine_assignment("S2", 1)),
        gone(&machine_assignment("S3", 1)),
    ]);
    settle().await;
    let catalog = follower.catalog();
    assert_eq!(
        ["S1", "S2", "S3"].map(|serial| selected(&catalog, serial)),
        ["S1", "default", "default"]
    );
    assert_eq!(
        (rejected_counts(&follower), catalog.rejected_count()),
        ((0, 0), 0)
    );
    assert_eq!(
        follower.link.metrics().batches("snapshot"),
        2,
        "no other was needed"
    );
}

#[tokio::test(start_paused = true)]
async fn a_recreated_object_does_not_inherit_the_old_version() {
    let (_site, follower, controller) = after_controller_restart().await;
    controller.apply(vec![gone(&machine_assignment("S1", 1))]);
    controller.apply(vec![rejected(&machine_assignment("S1", 2), "no good")]);
    settle().await;
    assert_eq!(
        (
            selected(&follower.catalog(), "S1"),
            rejected_counts(&follower)
        ),
        ("waits for Assignment ns/S1".to_owned(), (1, 0))
    );
    let controllers = ControllerSet::of(&publisher(vec![
        default_assignment(),
        profile("p", 0),
        machine_assignment("S1", 1),
    ]));
    let follower = Follower::of(&controllers);
    follower.loaded().await;
    controllers.replace(
        0,
        Some(&publisher(vec![
            default_assignment(),
            profile("p", 0),
            rejected(&machine_assignment("S1", 2), "no good"),
        ])),
    );
    controllers.cut();
    settle().await;
    assert_eq!(
        selected(&follower.catalog(), "S1"),
        "waits for Assignment ns/S1",
        "nor over a restart"
    );
}

#[tokio::test(start_paused = true)]
async fn a_replica_without_a_valid_version_lets_the_machine_wait() {
    let follower = Follower::of(&ControllerSet::of(&controller_without_memory()));
    follower.loaded().await;
    assert_eq!(
        (
            selected(&follower.catalog(), "S1"),
            selected(&follower.catalog(), "S2")
        ),
        (
            "waits for Assignment ns/S1".to_owned(),
            "default".to_owned()
        )
    );
    assert_eq!(rejected_counts(&follower), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn the_disk_copy_keeps_a_last_valid_version_when_both_ends_restart() {
    let directory = tempfile::tempdir().unwrap();
    let copy = DiskCopy::new(directory.path(), "");
    let (_site, follower, _) = after_controller_restart().await;
    assert!(
        !lock(follower.link.state()).matches_controller(),
        "a position would not fit to what is kept"
    );
    copy.write(&follower.catalog(), None, Duration::ZERO)
        .unwrap();
    drop(follower);
    let restarted = Follower::new(&merged_catalog(), "", Limits::default());
    let restored = copy.read().unwrap().unwrap();
    assert!(
        restarted
            .merged_catalog
            .apply(&mut lock(restarted.link.state()), restored.batch)
            .is_ok()
    );
    assert_eq!(
        (
            selected(&restarted.catalog(), "S1"),
            rejected_counts(&restarted)
        ),
        ("S1".to_owned(), (1, 0)),
        "before any controller is heard"
    );
    let restarted = restarted.start(&ControllerSet::of(&controller_without_memory()));
    settle().await;
    assert_eq!(
        (
            selected(&restarted.catalog(), "S1"),
            rejected_counts(&restarted)
        ),
        ("S1".to_owned(), (1, 1))
    );
}

#[tokio::test(start_paused = true)]
async fn the_disk_copy_contains_objects_that_were_never_accepted() {
    let directory = tempfile::tempdir().unwrap();
    let copy = DiskCopy::new(directory.path(), "");
    let follower = Follower::of(&ControllerSet::of(&controller_without_memory()));
    follower.loaded().await;
    let position = lock(follower.link.state()).position();
    copy.write(&follower.catalog(), position, Duration::ZERO)
        .unwrap();
    let restarted = Follower::new(&merged_catalog(), "", Limits::default());
    let restored = copy.read().unwrap().unwrap();
    assert!(
        restarted
            .merged_catalog
            .apply(&mut lock(restarted.link.state()), restored.batch)
            .is_ok()
    );
    assert_eq!(
        Contents::of(&restarted.catalog()),
        Contents::of(&follower.catalog())
    );
    assert!(
        lock(restarted.link.state()).matches_controller(),
        "changes since are enough"
    );
}

#[tokio::test(start_paused = true)]
async fn rejected_objects_are_not_lost_and_lost_objects_are_held_in_any_state() {
    // The objects that a controller of another version can't read still exist, so the guard is not
    // involved.
    let controllers = ControllerSet::of(&publisher(
        (0..100)
            .map(|n| machine_assignment(&format!("S{n}"), 1))
            .chain([profile("p", 0)])
            .collect(),
    ));
    let follower = Follower::new(&merged_catalog(), "", LIMITS).start(&controllers);
    follower.loaded().await;
    let nothing: Vec<_> = (0..100)
        .map(|n| rejected(&machine_assignment(&format!("S{n}"), 1), "no good"))
        .chain([profile("p", 0)])
        .collect();
    controllers.replace(0, Some(&publisher(nothing)));
    controllers.cut();
    settle().await;
    assert_eq!(
        (
            selected(&follower.catalog(), "S7"),
            rejected_counts(&follower),
            lock(follower.link.state()).held()
        ),
        ("S7".to_owned(), (100, 100), 0)
    );
    // A third controller does not have them at all, then sees some return, accepted or rejected.
    let controller = publisher(vec![profile("p", 0)]);
    controllers.replace(0, Some(&controller));
    controllers.cut();
    settle().await;
    assert_eq!(
        (
            selected(&follower.catalog(), "S7"),
            rejected_counts(&follower),
            lock(follower.link.state()).held()
        ),
        ("S7".to_owned(), (0, 0), 100)
    );
    controller.apply(vec![
        machine_assignment("S1", 1),
        rejected(&machine_assignment("S2", 1), "no good"),
        rejected(&machine_assignment("S3", 2), "no good"),
    ]);
    settle().await;
    let catalog = follower.catalog();
    assert_eq!(
        ["S1", "S2", "S3"].map(|serial| selected(&catalog, serial)),
        ["S1", "S2", "waits for Assignment ns/S3"]
    );
    assert_eq!(
        (
            rejected_counts(&follower),
            lock(follower.link.state()).held()
        ),
        ((2, 1), 97)
    );
    assert_eq!(
        follower
            .merged_catalog
            .confirm(&mut lock(follower.link.state())),
        97
    );
    controller.apply(vec![gone(&machine_assignment("S2", 1))]);
    settle().await;
    assert_eq!(
        (names(&follower.catalog()), rejected_counts(&follower)),
        ("S1 p".to_owned(), (1, 0)),
        "S3 waits for its mender"
    );
}

#[tokio::test(start_paused = true)]
async fn the_guard_holds_rejected_objects_like_accepted_ones() {
    let controllers = ControllerSet::of(&publisher(
        (0..60)
            .map(|n| rejected(&machine_assignment(&format!("S{n}"), 1), "no good"))
            .collect(),
    ));
    let follower = Follower::new(&merged_catalog(), "", LIMITS).start(&controllers);
    follower.loaded().await;
    controllers.replace(
        0,
        Some(&publisher(vec![default_assignment(), profile("p", 0)])),
    );
    controllers.cut();
    settle().await;
    assert_eq!(lock(follower.link.state()).held(), 60);
    assert_eq!(
        selected(&follower.catalog(), "S7"),
        "waits for Assignment ns/S7",
        "and no default reinstalls it"
    );
}

#[tokio::test(start_paused = true)]
async fn rejected_objects_affect_only_their_own_partition() {
    let merged_catalog = merged_catalog();
    let (west, east) = (
        ControllerSet::of(&publisher(vec![
            machine_assignment("S1", 1),
            profile("p", 0),
        ])),
        ControllerSet::of(&publisher(vec![default_assignment(), profile("p", 0)])),
    );
    let followers = [("west", &west), ("east", &east)].map(|(name, controllers)| {
        Follower::new(&merged_catalog, name, Limits::default()).start(controllers)
    });
    for follower in &followers {
        follower.loaded().await;
    }
    east.replace(
        0,
        Some(&publisher(vec![
            default_assignment(),
            profile("p", 0),
            rejected(&machine_assignment("S2", 1), "no good"),
        ])),
    );
    west.replace(
        0,
        Some(&publisher(vec![
            profile("p", 0),
            rejected(&machine_assignment("S1", 1), "no good"),
        ])),
    );
    east.cut();
    west.cut();
    settle().await;
    let catalog = Catalog::clone(&merged_catalog.shared().load());
    assert_eq!(
        ["S1", "S2", "S3"].map(|serial| selected(&catalog, serial)),
        ["S1", "waits for Assignment east:ns/S2", "default"]
    );
    assert_eq!(followers.each_ref().map(rejected_counts), [(1, 1), (1, 0)]);
}

#[tokio::test(start_paused = true)]
async fn a_machine_waits_for_its_incompatible_profile_rather_than_get_another() {
    let Change::Profile(bad) = profile("p", 0) else {
        unreachable!()
    };
    let mut bad = crate::wire::encode_profile(&bad);
    bad.ipxe = "{% of_the_future %}".to_owned();
    bad.created = Some(crate::proto::Timestamp {
        seconds: 0,
        nanos: 0,
    });
    let mut incoming = super::super::incoming::BatchBuilder::default();
    let (other, all) = (
        profile("other", 1),
        [
            default_assignment().name(),
            profile("p", 0).name(),
            profile("other", 1).name(),
        ],
    );
    let mut inventory = crate::inventory::Inventory::default();
    all.iter().for_each(|name| inventory.accepted.add(name));
    let goods = publisher(vec![default_assignment(), other]);
    let mut part = first_part(&goods, None).await;
    part.profiles.push(bad);
    part.commit.as_mut().unwrap().inventory = Some(inventory.into());
    let batch = incoming.add(part, "", &Catalog::new()).unwrap().unwrap();
    let follower = Follower::new(&merged_catalog(), "", Limits::default());
    assert!(
        follower
            .merged_catalog
            .apply(&mut lock(follower.link.state()), batch)
            .is_ok()
    );
    assert_eq!(
        selected(&follower.catalog(), "S1"),
        "waits for Profile ns/p"
    );
}

/// The first part that a controller sends.
async fn first_part(controller: &Arc<Publisher>, after: Option<crate::proto::Position>) -> Part {
    let request = FollowRequest {
        protocol: 1,
        after,
        ..FollowRequest::default()
    };
    let mut messages = TestDial(ControllerSet::of(controller))
        .dial(&"0".to_owned(), request)
        .await
        .unwrap();
    loop {
        if let Some(Message::Part(part)) = messages.next().await.unwrap().unwrap().message {
            return part;
        }
    }
}

/// A part as a replica of the previous version sees it: without the fields for rejected objects.
fn without_rejected_fields(mut part: Part) -> Part {
    part.rejected.clear();
    if let Some(commit) = &mut part.commit {
        commit.inventory = commit.inventory.map(|inventory| Inventory {
            rejected: 0,
            rejected_names: 0,
            ..inventory
        });
    }
    part
}

#[tokio::test(start_paused = true)]
async fn an_old_replica_follows_a_new_controller() {
    let controller = controller_without_memory();
    let follower = Follower::new(&merged_catalog(), "", Limits::default());
    let take = |part: Part| {
        let batch = super::super::incoming::BatchBuilder::default()
            .add(without_rejected_fields(part), "", &follower.catalog())
            .unwrap()
            .unwrap();
        assert!(
            follower
                .merged_catalog
                .apply(&mut lock(follower.link.state()), batch)
                .is_ok()
        );
    };
    take(first_part(&controller, None).await);
    assert_eq!(names(&follower.catalog()), "default p");
    for changes in [
        vec![machine_assignment("S1", 1), machine_assignment("S2", 1)],
        vec![
            rejected(&machine_assignment("S1", 1), "worse"),
            rejected(&machine_assignment("S3", 1), "no good"),
        ],
        vec![
            gone(&machine_assignment("S2", 1)),
            gone(&machine_assignment("S3", 1)),
        ],
    ] {
        let position = lock(follower.link.state()).position();
        controller.apply(changes);
        take(first_part(&controller, position).await);
    }
    assert_eq!(
        names(&follower.catalog()),
        "S1 default p",
        "what the controller remembers is served"
    );
    // Deleted and recreated between two reads: the deletion is part of the delta.
    let position = lock(follower.link.state()).position();
    controller.apply(vec![gone(&machine_assignment("S1", 1))]);
    controller.apply(vec![rejected(&machine_assignment("S1", 2), "no good")]);
    take(first_part(&controller, position).await);
    assert_eq!(names(&follower.catalog()), "default p");
}

#[tokio::test(start_paused = true)]
async fn a_new_replica_follows_an_old_controller() {
    let (controllers, follower, _) = after_controller_restart().await;
    // A controller of the previous version leaves rejected objects out, so they count as deleted.
    controllers.replace(
        0,
        Some(&publisher(vec![default_assignment(), profile("p", 0)])),
    );
    controllers.cut();
    settle().await;
    assert_eq!(
        (
            selected(&follower.catalog(), "S1"),
            rejected_counts(&follower)
        ),
        ("default".to_owned(), (0, 0))
    );
}
