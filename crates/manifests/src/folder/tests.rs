mod bounds;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;

const LIMITS: Limits = Limits {
    percent: 30,
    objects: 5,
    listings: 3,
    period: std::time::Duration::from_hours(1),
};

/// A folder of manifests, and what a catalog would contain of it.
struct Manifests {
    dir: TempDir,
    folder: Folder,
    names: BTreeSet<String>,
    /// Objects without any good version.
    waiting: BTreeSet<String>,
}

impl Manifests {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self {
            folder: Folder::new(dir.path(), LIMITS),
            dir,
            names: BTreeSet::new(),
            waiting: BTreeSet::new(),
        }
    }

    fn of<const N: usize>(files: [(&str, String); N]) -> Self {
        let manifests = Self::new();
        for (name, text) in files {
            manifests.write(name, &text);
        }
        manifests
    }

    /// Creates ten files with one Assignment each.
    fn of_ten() -> Self {
        let manifests = Self::new();
        for n in 0..10 {
            manifests.write(&format!("{n}.yaml"), &assignment(&format!("m{n}")));
        }
        manifests
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Removes the files with these numbers.
    fn remove(&self, numbers: std::ops::Range<usize>) {
        for n in numbers {
            fs::remove_file(self.path(&format!("{n}.yaml"))).unwrap();
        }
    }

    /// Returns how many objects the guard holds.
    fn held(&self) -> usize {
        self.folder.holding().map_or(0, |hold| hold.lost.len())
    }

    fn write(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), text).unwrap();
    }

    /// Returns the problems, and the names that are served after the changes.
    fn scan(&mut self) -> (Vec<String>, String) {
        let scan = self.folder.rescan();
        for change in scan.changes {
            if !matches!(change, Change::Rejected(_)) {
                self.waiting.remove(&*change.name().key().name);
            }
            match change {
                Change::Assignment(object) => {
                    self.names.insert(object.key.name.to_string());
                }
                Change::Profile(object) => {
                    self.names.insert(object.key.name.to_string());
                }
                Change::Machine(object) => {
                    self.names.insert(object.key.name.to_string());
                }
                Change::AssignmentDeleted(key)
                | Change::ProfileDeleted(key)
                | Change::MachineDeleted(key) => {
                    self.names.remove(&*key.name);
                }
                Change::Rejected(rejected) => {
                    self.waiting.insert(rejected.name().key().name.to_string());
                }
            }
        }
        let problems = scan.problems.iter().map(|problem| {
            problem
                .to_string()
                .replace(&format!("{}/", self.dir.path().display()), "")
        });
        (
            problems.collect(),
            self.names.iter().cloned().collect::<Vec<_>>().join(" "),
        )
    }

    /// Returns the names that are served, and asserts that there are no problems.
    fn served(&mut self) -> String {
        let (problems, names) = self.scan();
        assert_eq!(problems, Vec::<String>::new());
        names
    }

    /// Returns the only problem, and the names that are served nevertheless.
    fn problem(&mut self) -> (String, String) {
        let (mut problems, names) = self.scan();
        assert_eq!(problems.len(), 1, "{problems:?}");
        (problems.remove(0), names)
    }
}

fn assignment(name: &str) -> String {
    format!(
        "apiVersion: shaper.amahdha.com/v1alpha1\nkind: Assignment\nmetadata:\n  name: {name}\nspec: {{}}\n"
    )
}

/// Joins YAML documents.
fn documents<const N: usize>(texts: [String; N]) -> String {
    texts.join("---\n")
}

#[test]
fn files_of_all_three_endings_are_found_in_all_folders() {
    let mut manifests =
        Manifests::of([("a.yaml", assignment("a")), ("x/y/b.yml", assignment("b"))]);
    manifests
        .write("c.json", r#"{"apiVersion": "shaper.amahdha.com/v1alpha1", "kind": "Assignment", "metadata": {"name": "c"}, "spec": {}}"#);
    for ignored in [
        "README.md",
        ".hidden.yaml",
        ".git/d.yaml",
        "a.yaml~",
        "#a.yaml#",
        "a.yaml.swp",
    ] {
        manifests.write(ignored, "{{ nonsense");
    }
    assert_eq!(manifests.served(), "a b c");
}

#[test]
fn an_unchanged_file_is_not_read_again() {
    let mut manifests = Manifests::of([("a.yaml", assignment("a"))]);
    std::thread::sleep(std::time::Duration::from_millis(150));
    assert_eq!(manifests.served(), "a");
    let scan = manifests.folder.rescan();
    assert_eq!((scan.files, scan.read, scan.changes.len()), (1, 0, 0));
    manifests.write("a.yaml", &format!("# a word\n{}", assignment("a")));
    let scan = manifests.folder.rescan();
    assert_eq!((scan.read, scan.changes.len()), (1, 0));
}

#[test]
fn a_change_right_after_a_scan_is_noticed() {
    let mut manifests = Manifests::new();
    for i in 0..50 {
        manifests.write("a.yaml", &assignment(&format!("a{}", i % 10)));
        assert_eq!(manifests.served(), format!("a{}", i % 10));
    }
}

#[test]
fn a_broken_file_keeps_its_objects_until_it_is_fixed() {
    let mut manifests = Manifests::of([
        ("a.yaml", documents([assignment("a"), assignment("b")])),
        ("c.yaml", assignment("c")),
    ]);
    assert_eq!(manifests.served(), "a b c");
    manifests.write(
        "a.yaml",
        &documents([assignment("new"), assignment("b").replace("{}", "\n  x: 1")]),
    );
    let (problem, names) = manifests.problem();
    assert!(
        problem.starts_with("a.yaml:12: spec.x: unknown field"),
        "{problem}"
    );
    assert_eq!(names, "a b c");
    manifests.write("c.yaml", &assignment("d"));
    assert_eq!(manifests.problem().1, "a b d");
    manifests.write("a.yaml", &assignment("b"));
    assert_eq!(manifests.served(), "b d");
}

#[test]
fn a_deleted_file_removes_its_objects() {
    let mut manifests = Manifests::of([("a.yaml", assignment("a")), ("x/b.yaml", assignment("b"))]);
    assert_eq!(manifests.served(), "a b");
    fs::remove_dir_all(manifests.path("x")).unwrap();
    assert_eq!(manifests.served(), "a");
    fs::rename(manifests.path("a.yaml"), manifests.path("z.yaml")).unwrap();
    let scan = manifests.folder.rescan();
    assert_eq!((scan.changes.len(), scan.problems.len()), (0, 0));
    fs::rename(manifests.path("z.yaml"), manifests.path("z.off")).unwrap();
    assert_eq!(manifests.served(), "");
}

#[test]
fn an_editor_that_renames_and_a_checkout_that_replaces_are_followed() {
    let mut manifests = Manifests::of([("a.yaml", assignment("a"))]);
    assert_eq!(manifests.served(), "a");
    // vim: the old file becomes a backup, and a new one is written.
    fs::rename(manifests.path("a.yaml"), manifests.path("a.yaml~")).unwrap();
    manifests.write("4913", "");
    manifests.write("a.yaml", &assignment("b"));
    assert_eq!(manifests.served(), "b");
    // git: unlinks and creates, also in another folder.
    fs::remove_file(manifests.path("a.yaml")).unwrap();
    manifests.write("a.yaml", &assignment("c"));
    manifests.write("x/b.yaml", &assignment("b"));
    assert_eq!(manifests.served(), "b c");
}

#[test]
fn a_projected_volume_is_followed_when_its_link_is_swapped() {
    let mut manifests = Manifests::of([
        ("..one/a.yaml", assignment("a")),
        ("..two/a.yaml", assignment("b")),
    ]);
    symlink("..one", manifests.path("..data")).unwrap();
    symlink("..data/a.yaml", manifests.path("a.yaml")).unwrap();
    assert_eq!(manifests.served(), "a");
    symlink("..two", manifests.path("..data_tmp")).unwrap();
    fs::rename(manifests.path("..data_tmp"), manifests.path("..data")).unwrap();
    assert_eq!(manifests.served(), "b");
}

#[test]
fn symlinked_folders_are_entered_once_and_loops_are_reported() {
    let mut manifests = Manifests::new();
    let elsewhere = tempfile::tempdir().unwrap();
    fs::write(elsewhere.path().join("a.yaml"), assignment("a")).unwrap();
    symlink(elsewhere.path(), manifests.path("linked")).unwrap();
    assert_eq!(manifests.served(), "a");
    manifests.write("x/b.yaml", &assignment("b"));
    symlink("..", manifests.path("x/back")).unwrap();
    let (problem, names) = manifests.problem();
    assert!(
        problem.starts_with("x/back: this symlink leads to "),
        "{problem}"
    );
    assert_eq!(names, "a b");
}

#[test]
fn a_duplicate_object_stays_with_its_file() {
    let mut manifests = Manifests::new();
    let more = |name| assignment(name).replace("{}", "{priority: 7}");
    manifests.write("b.yaml", &assignment("x"));
    assert_eq!(manifests.served(), "x");
    manifests.write("a.yaml", &documents([assignment("new"), more("x")]));
    let scan = manifests.folder.rescan();
    assert_eq!(scan.changes.len(), 1, "only one is new: {:?}", scan.changes);
    let problem = scan.problems[0].to_string();
    assert!(
        problem.contains("a.yaml:7: Assignment default/x is also in ")
            && problem.contains("b.yaml, which is served"),
        "{problem}"
    );
    fs::remove_file(manifests.path("b.yaml")).unwrap();
    let scan = manifests.folder.rescan();
    let [Change::Assignment(changed)] = &scan.changes[..] else {
        panic!("{:?}", scan.changes)
    };
    assert_eq!((changed.priority, scan.problems.len()), (7, 0));
}

#[test]
fn the_first_file_provides_a_duplicate_object_at_the_start() {
    let mut manifests = Manifests::of([("b.yaml", assignment("x")), ("a.yaml", assignment("x"))]);
    let (problem, names) = manifests.problem();
    assert!(
        problem.starts_with("b.yaml:1: Assignment default/x is also in "),
        "{problem}"
    );
    assert_eq!(names, "x");
}

#[test]
fn an_unreadable_path_keeps_its_objects() {
    let mut manifests = Manifests::of([("x/a.yaml", assignment("a")), ("b.yaml", assignment("b"))]);
    assert_eq!(manifests.served(), "a b");
    // Root may read everything, so the folder becomes a symlink to itself.
    fs::rename(manifests.path("x"), manifests.path(".x")).unwrap();
    symlink("x", manifests.path("x")).unwrap();
    let (problem, names) = manifests.problem();
    assert!(problem.starts_with("x: can't be read: "), "{problem}");
    assert_eq!(names, "a b");
    fs::remove_file(manifests.path("x")).unwrap();
    assert_eq!(manifests.served(), "b");
}

#[test]
fn a_missing_folder_keeps_all_objects() {
    let mut manifests = Manifests::of([("a.yaml", assignment("a"))]);
    assert_eq!(manifests.served(), "a");
    let aside = manifests.dir.path().with_extension("aside");
    fs::rename(manifests.dir.path(), &aside).unwrap();
    let (problem, names) = manifests.problem();
    assert!(problem.contains("can't be read: No such file"), "{problem}");
    assert_eq!(names, "a");
    fs::rename(&aside, manifests.dir.path()).unwrap();
    assert_eq!(manifests.served(), "a");
}

#[test]
fn a_file_that_is_too_large_is_not_read() {
    let mut manifests = Manifests::of([("a.yaml", assignment("a"))]);
    assert_eq!(manifests.served(), "a");
    fs::File::create(manifests.path("a.yaml"))
        .unwrap()
        .set_len(MAX_FILE_BYTES + 1)
        .unwrap();
    let (problem, names) = manifests.problem();
    assert!(
        problem.starts_with("a.yaml: the file has 67108865 bytes; split it"),
        "{problem}"
    );
    assert_eq!(names, "a");
}

#[test]
fn a_file_that_vanishes_while_it_is_read_is_read_again() {
    let mut held = Held {
        good: Contents {
            foreign: vec!["ConfigMap x".to_owned()],
            ..Contents::default()
        },
        ..Held::default()
    };
    let room = Room {
        faults: MAX_FAULTS,
        invalid: MAX_INVALID,
    };
    held.load(Path::new("/nowhere/a.yaml"), room, &Activity::default());
    assert_eq!(
        (held.stamp, held.faults.len(), held.good.foreign.len()),
        (None, 0, 1)
    );
}

#[test]
fn a_folder_with_the_name_of_a_manifest_is_entered() {
    let mut manifests = Manifests::of([("a.yaml/b.yaml", assignment("b"))]);
    symlink("nowhere", manifests.path("README")).unwrap();
    assert_eq!(manifests.served(), "b");
}

#[test]
fn a_dangling_symlink_or_a_pipe_keeps_the_objects_that_were_there() {
    let elsewhere = tempfile::tempdir().unwrap();
    let volume = elsewhere.path().join("volume");
    for name in ["a", "b"] {
        fs::create_dir_all(volume.join(name)).unwrap();
        fs::write(volume.join(name).join("x.yaml"), assignment(name)).unwrap();
    }
    let mut manifests = Manifests::of([("c.yaml", assignment("c"))]);
    symlink(volume.join("a/x.yaml"), manifests.path("a.yaml")).unwrap();
    symlink(volume.join("b"), manifests.path("folder")).unwrap();
    let names = manifests.served();
    assert_eq!(names, "a b c");
    // The volume is unmounted.
    fs::rename(&volume, elsewhere.path().join("away")).unwrap();
    fs::remove_file(manifests.path("c.yaml")).unwrap();
    std::process::Command::new("mkfifo")
        .arg(manifests.path("c.yaml"))
        .status()
        .unwrap();
    let (problems, names) = manifests.scan();
    assert_eq!(names, "a b c");
    let starts = [
        "a.yaml: can't be read: the symlink leads to ",
        "c.yaml: can't be read: it is not a regular file",
        "folder: can't be read: the symlink leads to ",
    ];
    assert_eq!(problems.len(), starts.len(), "{problems:?}");
    for (problem, start) in problems.iter().zip(starts) {
        assert!(problem.starts_with(start), "{problem}");
    }
    // Removing the symlinks is a deletion.
    for name in ["a.yaml", "c.yaml", "folder"] {
        fs::remove_file(manifests.path(name)).unwrap();
    }
    assert_eq!(manifests.served(), "");
}

#[test]
fn a_file_of_the_kernel_that_never_ends_does_not_stop_the_scan() {
    let mut manifests = Manifests::of([("b.yaml", assignment("b"))]);
    symlink("/proc/kmsg", manifests.path("a.yaml")).unwrap();
    let (problem, names) = manifests.problem();
    assert!(problem.starts_with("a.yaml: "), "{problem}");
    assert_eq!(names, "b");
}

impl Manifests {
    /// Restarts with what this process would remember.
    fn restart(&mut self) {
        let remembered = self.folder.remember();
        self.restart_with(remembered);
    }

    fn restart_with(&mut self, remembered: Vec<feed::FileCopy>) {
        self.folder = Folder::new(self.dir.path(), LIMITS);
        let restored = self.folder.restore(remembered);
        self.names = restored
            .iter()
            .map(|change| change.name().key().name.to_string())
            .collect();
        self.waiting.clear();
    }

    fn waiting(&self) -> String {
        self.waiting.iter().cloned().collect::<Vec<_>>().join(" ")
    }
}

/// Creates a document with an unknown field.
fn wrong(name: &str) -> String {
    assignment(name).replace("{}", "{x: 1}")
}

#[test]
fn a_file_broken_at_a_restart_keeps_its_last_good_objects() {
    let mut manifests = Manifests::of([
        ("a.yaml", documents([assignment("a"), assignment("b")])),
        ("c.yaml", assignment("c")),
    ]);
    assert_eq!(manifests.served(), "a b c");
    manifests.write("a.yaml", &documents([assignment("a"), wrong("d")]));
    fs::remove_file(manifests.path("c.yaml")).unwrap();
    manifests.restart();
    let (problem, names) = manifests.problem();
    assert!(
        problem.starts_with("a.yaml:11: spec.x: unknown field"),
        "{problem}"
    );
    assert_eq!(
        (names.as_str(), manifests.waiting().as_str()),
        ("a b", "d"),
        "c is gone, and d was never good"
    );
    manifests.restart();
    assert_eq!(
        (manifests.problem().1.as_str(), manifests.waiting().as_str()),
        ("a b", "d")
    );
    manifests.write("a.yaml", &assignment("d"));
    assert_eq!(
        (manifests.served().as_str(), manifests.waiting().as_str()),
        ("d", "")
    );
}

#[test]
fn a_file_broken_at_the_first_start_claims_all_its_objects() {
    let mut manifests = Manifests::of([
        ("a.yaml", documents([assignment("a"), wrong("b")])),
        ("c.yaml", assignment("c")),
    ]);
    let (_, names) = manifests.problem();
    assert_eq!((names.as_str(), manifests.waiting().as_str()), ("c", "a b"));
    let faults: Vec<_> = manifests
        .folder
        .rejected
        .values()
        .map(|rejected| rejected.fault.to_string())
        .collect();
    assert!(
        faults[0]
            .starts_with("nothing in a.yaml is used until line 11 is fixed: spec.x: unknown field"),
        "{faults:?}"
    );
    assert!(
        faults[1].starts_with("a.yaml: spec.x: unknown field"),
        "{faults:?}"
    );
    fs::remove_file(manifests.path("a.yaml")).unwrap();
    assert_eq!(
        (manifests.served().as_str(), manifests.waiting().as_str()),
        ("c", "")
    );
}

#[test]
fn a_file_renamed_while_broken_keeps_the_objects_it_names_over_a_restart() {
    for restarts in [false, true] {
        let mut manifests = Manifests::new();
        manifests.write("a.yaml", &documents([assignment("a"), assignment("b")]));
        assert_eq!(manifests.served(), "a b");
        manifests.write("a.yaml", &documents([wrong("a"), assignment("new")]));
        assert_eq!(manifests.problem().1, "a b");
        let remembered = manifests.folder.remember();
        fs::rename(manifests.path("a.yaml"), manifests.path("z.yaml")).unwrap();
        if restarts {
            manifests.restart_with(remembered);
        }
        let (problem, names) = manifests.problem();
        assert!(problem.starts_with("z.yaml:5: spec.x"), "{problem}");
        assert_eq!(
            (names.as_str(), manifests.waiting().as_str()),
            ("a", "new"),
            "b is not named any more"
        );
        manifests.restart();
        assert_eq!(
            (manifests.problem().1.as_str(), manifests.waiting().as_str()),
            ("a", "new")
        );
        manifests.write("z.yaml", &assignment("a"));
        assert_eq!(manifests.served(), "a");
    }
}

#[test]
fn a_restart_does_not_change_which_file_provides_a_duplicate_object() {
    let mut manifests = Manifests::of([("b.yaml", assignment("x"))]);
    assert_eq!(manifests.served(), "x");
    manifests.write("a.yaml", &assignment("x"));
    assert!(manifests.problem().0.starts_with("a.yaml:1: "), "b goes on");
    manifests.restart();
    assert!(manifests.problem().0.starts_with("a.yaml:1: "), "as before");
    manifests.restart_with(Vec::new());
    assert!(
        manifests.problem().0.starts_with("b.yaml:1: "),
        "without memory, it is the first"
    );
}

#[test]
fn an_emptied_folder_keeps_its_objects_until_confirmed_even_over_restarts() {
    let mut manifests = Manifests::of_ten();
    let all = manifests.served();
    manifests.remove(0..10);
    assert_eq!(manifests.served(), all);
    assert_eq!(manifests.held(), 10);
    manifests.restart();
    assert_eq!((manifests.served(), manifests.held()), (all.clone(), 10));
    manifests.write("new.yaml", &assignment("new"));
    manifests.write("3.yaml", &assignment("m3"));
    assert_eq!(
        manifests.served(),
        format!("{all} new"),
        "what is new is taken"
    );
    assert_eq!(manifests.held(), 9);
    let changes = manifests.folder.confirm();
    assert_eq!(changes.len(), 9);
    assert_eq!(manifests.held(), 0);
    for change in changes {
        assert!(
            manifests.names.remove(&*change.name().key().name),
            "it was kept"
        );
    }
    assert_eq!(manifests.served(), "m3 new");
    manifests.restart();
    assert_eq!(manifests.served(), "m3 new");
}

#[test]
fn a_restored_folder_ends_the_hold_and_a_small_loss_applies_at_once() {
    let mut manifests = Manifests::of_ten();
    let all = manifests.served();
    let aside = tempfile::tempdir().unwrap();
    for n in 0..10 {
        fs::rename(
            manifests.path(&format!("{n}.yaml")),
            aside.path().join(format!("{n}.yaml")),
        )
        .unwrap();
    }
    assert_eq!(manifests.served(), all);
    for n in 0..10 {
        fs::rename(
            aside.path().join(format!("{n}.yaml")),
            manifests.path(&format!("{n}.yaml")),
        )
        .unwrap();
    }
    assert_eq!((manifests.served(), manifests.held()), (all, 0));
    manifests.remove(0..5);
    assert_eq!(manifests.served(), "m5 m6 m7 m8 m9");
}

#[test]
fn a_kind_that_lost_all_its_objects_is_reported_once() {
    let mut manifests = Manifests::new();
    for name in ["a", "b"] {
        manifests.write(&format!("{name}.yaml"), &assignment(name));
    }
    assert_eq!(manifests.folder.rescan().emptied, []);
    // A renamed object, and the loss of some of the objects, leave others of the kind.
    manifests.write("b.yaml", &assignment("c"));
    fs::remove_file(manifests.path("a.yaml")).unwrap();
    assert_eq!(manifests.folder.rescan().emptied, []);
    // An invalid object still counts.
    manifests.write("b.yaml", &wrong("c"));
    assert_eq!(manifests.folder.rescan().emptied, []);
    fs::remove_file(manifests.path("b.yaml")).unwrap();
    assert_eq!(manifests.folder.rescan().emptied, [("Assignment", 1)]);
    assert_eq!(manifests.folder.rescan().emptied, []);
}

#[test]
fn a_confirmed_loss_of_a_whole_kind_is_not_reported_again() {
    let mut manifests = Manifests::of_ten();
    manifests.folder.rescan();
    for entry in fs::read_dir(manifests.dir.path()).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    let scan = manifests.folder.rescan();
    assert!(manifests.folder.holding().is_some());
    assert_eq!(scan.emptied, []);
    assert!(!manifests.folder.confirm().is_empty());
    assert_eq!(manifests.folder.rescan().emptied, []);
}

#[test]
fn a_held_object_that_returns_broken_keeps_its_last_good_version() {
    let mut manifests = Manifests::of_ten();
    let all = manifests.served();
    manifests.remove(0..10);
    assert_eq!(manifests.served(), all);
    manifests.write("other.yaml", &wrong("m7"));
    let (_, names) = manifests.problem();
    assert_eq!(
        (names.as_str(), manifests.waiting().as_str()),
        (all.as_str(), "")
    );
    manifests.folder.confirm();
    assert!(
        manifests.folder.served.len() == 1,
        "it exists, and is wrong"
    );
}
