//! The copy on disk.

use std::fs;

use super::super::copy::{DiskCopy, Restored};
use super::super::save;
use super::*;
use crate::CopyError;
use crate::proto::Position;

fn catalog(changes: Vec<Change>) -> Catalog {
    let mut catalog = Catalog::new();
    for change in changes {
        catalog.apply(change);
    }
    catalog
}

const POSITION: Option<Position> = Some(Position {
    epoch: 7,
    revision: 9,
});

fn restored_catalog(restored: Restored, partition: &str) -> Catalog {
    let merged_catalog = merged_catalog();
    let mut state = PartitionState::new(partition, Limits::default());
    assert!(merged_catalog.apply(&mut state, restored.batch).is_ok());
    Catalog::clone(&merged_catalog.shared().load())
}

#[test]
fn a_copy_restores_objects_position_and_age() {
    let directory = tempfile::tempdir().unwrap();
    let copy = DiskCopy::new(directory.path(), "");
    assert!(copy.read().unwrap().is_none());
    let all: Vec<_> = (0..20)
        .flat_map(|n| {
            [
                assignment(&format!("a{n}"), n),
                profile(&format!("p{n}"), n),
                machine(&format!("m{n}"), n),
            ]
        })
        .chain(machines(700))
        .collect();
    let catalog = catalog(all);
    copy.write(&catalog, POSITION, Duration::from_hours(5))
        .unwrap();
    let restored = copy.read().unwrap().unwrap();
    assert_eq!(restored.position, POSITION);
    assert!(restored.age >= Duration::from_hours(5) && restored.age < Duration::from_hours(6));
    assert_eq!(
        Contents::of(&restored_catalog(restored, "")),
        Contents::of(&catalog)
    );
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(copy.path()).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(
        fs::read_dir(directory.path()).unwrap().count(),
        1,
        "nothing is left beside it"
    );
}

#[test]
fn a_copy_truncated_or_corrupted_at_any_byte_is_rejected() {
    let directory = tempfile::tempdir().unwrap();
    let copy = DiskCopy::new(directory.path(), "");
    copy.write(&catalog(machines(300)), POSITION, Duration::ZERO)
        .unwrap();
    let whole = fs::read(copy.path()).unwrap();
    let lengths = (0..200)
        .chain((200..whole.len()).step_by(997))
        .chain([whole.len() - 2, whole.len() - 1]);
    for len in lengths {
        fs::write(copy.path(), &whole[..len]).unwrap();
        assert!(
            matches!(copy.read(), Err(CopyError::Corrupt)),
            "cut to {len}"
        );
    }
    for at in (0..60).chain((60..whole.len()).step_by(991)) {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        fs::write(copy.path(), &damaged).unwrap();
        assert!(
            matches!(
                copy.read(),
                Err(CopyError::Corrupt | CopyError::WrongFormat)
            ),
            "damaged at {at}"
        );
    }
    fs::write(copy.path(), [&whole[..], b"more"].concat()).unwrap();
    assert!(matches!(copy.read(), Err(CopyError::Corrupt)));
    fs::write(copy.path(), "something else entirely").unwrap();
    assert!(matches!(copy.read(), Err(CopyError::WrongFormat)));
    fs::remove_file(copy.path()).unwrap();
    fs::create_dir(copy.path()).unwrap();
    assert!(matches!(copy.read(), Err(CopyError::Unreadable(_))));
}

#[test]
fn a_copy_of_another_partition_is_rejected() {
    let directory = tempfile::tempdir().unwrap();
    let (west, east) = (
        DiskCopy::new(directory.path(), "west"),
        DiskCopy::new(directory.path(), "east"),
    );
    west.write(&Catalog::new(), POSITION, Duration::ZERO)
        .unwrap();
    fs::rename(west.path(), east.path()).unwrap();
    assert!(
        matches!(east.read(), Err(CopyError::WrongSource(name)) if name == "partition \"west\"")
    );
}

#[test]
fn a_copy_contains_only_its_own_partition() {
    let directory = tempfile::tempdir().unwrap();
    let both = ["west", "east"].map(|partition| {
        let Change::Assignment(assignment) = assignment("m", 1) else {
            unreachable!()
        };
        let key = ObjectKey::new("ns", partition).in_partition(partition);
        Change::Assignment(Arc::new(Assignment {
            key,
            ..Assignment::clone(&assignment)
        }))
    });
    let copy = DiskCopy::new(directory.path(), "west");
    copy.write(&catalog(both.to_vec()), POSITION, Duration::ZERO)
        .unwrap();
    assert_eq!(
        names(&restored_catalog(copy.read().unwrap().unwrap(), "west")),
        "west"
    );
}

#[test]
fn a_full_disk_is_an_error_and_leaves_the_old_copy() {
    let directory = tempfile::tempdir().unwrap();
    let copy = DiskCopy::new(directory.path(), "");
    copy.write(&catalog(machines(1)), POSITION, Duration::ZERO)
        .unwrap();
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let error = copy
        .write_to(&full, &catalog(machines(5000)), POSITION, Duration::ZERO)
        .unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    assert_eq!(
        names(&restored_catalog(copy.read().unwrap().unwrap(), "")),
        "m0000"
    );
}

/// Waits for a condition, giving threads that write files real time while the clock is paused.
async fn until(what: impl Fn() -> bool) {
    for _ in 0..2000 {
        if what() {
            return;
        }
        sleep(Duration::from_secs(1)).await;
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("it did not happen");
}

#[tokio::test(start_paused = true)]
async fn an_unwritable_copy_raises_the_unsaved_metric_until_a_write_succeeds() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    let copy = DiskCopy::new(&state, "");
    let controller = publisher(machines(3));
    let controllers = ControllerSet::of(&controller);
    let follower = Follower::of(&controllers);
    tokio::spawn(save::run(
        copy.clone(),
        follower.link.clone(),
        follower.stop.clone(),
    ));
    until(|| follower.link.metrics().unsaved.get() == 1).await;
    assert_eq!(
        follower.catalog().assignment_count(),
        3,
        "it serves all the same"
    );
    fs::create_dir(&state).unwrap();
    until(|| follower.link.metrics().unsaved.get() == 0).await;
    assert_eq!(
        names(&restored_catalog(copy.read().unwrap().unwrap(), "")),
        "m0000 m0001 m0002"
    );
    controller.apply(vec![assignment("next", 1)]);
    until(|| copy.read().unwrap().unwrap().batch.changes.len() == 4).await;
}

#[tokio::test(start_paused = true)]
async fn a_replica_restored_from_a_copy_asks_for_a_delta() {
    let directory = tempfile::tempdir().unwrap();
    let copy = DiskCopy::new(directory.path(), "");
    let controller = publisher(machines(10));
    let controllers = ControllerSet::of(&controller);
    let follower = Follower::of(&controllers);
    follower.loaded().await;
    let position = lock(follower.link.state()).position();
    copy.write(&follower.catalog(), position, Duration::ZERO)
        .unwrap();
    drop(follower);
    controller.apply(vec![gone(&assignment("m0009", 1))]);

    let follower = Follower::new(&merged_catalog(), "", Limits::default());
    let restored = copy.read().unwrap().unwrap();
    follower
        .merged_catalog
        .apply(&mut lock(follower.link.state()), restored.batch)
        .map_err(|_| "it is whole")
        .unwrap();
    lock(follower.link.state()).restored(restored.position, restored.age);
    let follower = follower.start(&controllers);
    settle().await;
    assert_eq!(
        Contents::of(&follower.catalog()),
        Contents::of(&controller.catalog().load())
    );
    let metrics = follower.link.metrics();
    assert_eq!(
        metrics.batches("snapshot"),
        0,
        "the controller was asked for a delta"
    );
    assert_eq!(metrics.batches("delta"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_copy_written_during_a_hold_has_no_position() {
    let directory = tempfile::tempdir().unwrap();
    let copy = DiskCopy::new(directory.path(), "");
    let controllers = ControllerSet::of(&publisher(machines(100)));
    let follower = Follower::of(&controllers);
    follower.loaded().await;
    controllers.replace(0, Some(&publisher(machines(1))));
    controllers.cut();
    settle().await;
    assert_eq!(lock(follower.link.state()).held(), 99);
    let keeper = tokio::spawn(save::run(
        copy.clone(),
        follower.link.clone(),
        follower.stop.clone(),
    ));
    settle().await;
    drop(follower);
    keeper.await.unwrap();
    let restored = copy.read().unwrap().unwrap();
    assert_eq!(restored.position, None);
    assert_eq!(restored_catalog(restored, "").assignment_count(), 100);
}
