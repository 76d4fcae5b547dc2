use std::os::unix::fs::symlink;
use std::thread;

use super::*;

/// Whether a change is noticed before the timer would trigger.
fn is_heard(follow: &mut Follow, change: impl FnOnce()) -> bool {
    change();
    let waiting = Instant::now();
    follow.wait(None);
    waiting.elapsed() < Duration::from_secs(2)
}

#[test]
fn a_written_file_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let mut follow = Follow::new(dir.path(), Activity::default());
    assert!(is_heard(&mut follow, || fs::write(
        dir.path().join("a.yaml"),
        "a"
    )
    .unwrap()));
}

#[test]
fn a_file_in_a_new_folder_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let mut follow = Follow::new(dir.path(), Activity::default());
    let new = dir.path().join("new");
    assert!(is_heard(&mut follow, || fs::create_dir(&new).unwrap()));
    assert!(is_heard(&mut follow, || fs::write(new.join("a.yaml"), "a").unwrap()));
}

#[test]
fn many_events_wake_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut follow = Follow::new(dir.path(), Activity::default());
    assert!(is_heard(&mut follow, || (0..200).for_each(|i| fs::write(
        dir.path().join(format!("{i}.yaml")),
        "a"
    )
    .unwrap())));
    assert!(!is_heard(&mut follow, || {}));
}

#[test]
fn a_swapped_symlink_and_its_new_target_are_noticed() {
    let above = tempfile::tempdir().unwrap();
    let path = |name: &str| above.path().join(name);
    fs::create_dir(path("one")).unwrap();
    fs::create_dir(path("two")).unwrap();
    symlink("one", path("dir")).unwrap();
    let mut follow = Follow::new(&path("dir"), Activity::default());
    assert!(is_heard(&mut follow, || {
        symlink("two", path("dir.new")).unwrap();
        fs::rename(path("dir.new"), path("dir")).unwrap();
    }));
    // The new folder is watched from here on.
    follow.wait(None);
    assert!(is_heard(&mut follow, || fs::write(path("two/a.yaml"), "a").unwrap()));
}

#[test]
fn folders_that_link_to_each_other_are_watched_and_waiting_ends() {
    let dir = tempfile::tempdir().unwrap();
    let names: Vec<_> = (0..12).map(|n| format!("d{n}")).collect();
    for name in &names {
        fs::create_dir(dir.path().join(name)).unwrap();
        for other in &names {
            symlink(
                format!("../{other}"),
                dir.path().join(name).join(format!("to-{other}")),
            )
            .unwrap();
        }
    }
    let mut follow = Follow::new(dir.path(), Activity::default());
    let file = dir.path().join("d7/a.yaml");
    assert!(is_heard(&mut follow, || fs::write(file, "a").unwrap()));
}

#[test]
fn changes_next_to_the_folder_are_ignored() {
    let above = tempfile::tempdir().unwrap();
    let dir = above.path().join("dir");
    fs::create_dir(&dir).unwrap();
    let mut follow = Follow::new(&dir, Activity::default());
    assert!(!is_heard(&mut follow, || fs::write(
        above.path().join("beside"),
        "a"
    )
    .unwrap()));
}

#[test]
fn a_folder_that_is_created_later_is_noticed() {
    let above = tempfile::tempdir().unwrap();
    let dir = above.path().join("dir");
    let mut follow = Follow::new(&dir, Activity::default());
    let maker = thread::spawn({
        let dir = dir.clone();
        move || {
            thread::sleep(Duration::from_millis(200));
            fs::create_dir(dir).unwrap();
        }
    });
    assert!(is_heard(&mut follow, || {}));
    maker.join().unwrap();
    follow.wait(None);
    assert!(is_heard(&mut follow, || fs::write(dir.join("a.yaml"), "a").unwrap()));
}
