use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;

const LIMITS: Limits = Limits {
    directories: 200,
    depth: 8,
    entries: 1_000,
    files: 100,
    problems: 10,
    time: Duration::from_mins(10),
};

struct Tree(TempDir);

impl Tree {
    fn of(files: &[&str]) -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        for file in files {
            tree.write(file);
        }
        tree
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
    }

    fn link(&self, target: impl AsRef<Path>, link: &str) {
        symlink(target, self.path(link)).unwrap();
    }

    fn listing(&self, limits: Limits) -> Listing<u64> {
        self.listing_in(limits, Scope::Everywhere)
    }

    fn listing_in(&self, limits: Limits, scope: Scope) -> Listing<u64> {
        let is_wanted = |path: &Path| path.extension().is_some_and(|it| it == "yaml");
        let activity = Activity::default();
        walk(
            self.0.path(),
            limits,
            scope,
            &activity,
            is_wanted,
            MetadataExt::size,
        )
    }

    /// Returns the path below the root.
    fn name(&self, path: &Path) -> String {
        path.strip_prefix(self.0.path())
            .unwrap()
            .display()
            .to_string()
    }

    fn files(&self, limits: Limits) -> Vec<String> {
        let listing = self.listing(limits);
        listing.files.keys().map(|path| self.name(path)).collect()
    }
}

#[test]
fn directories_that_link_to_each_other_are_each_listed_once() {
    let tree = Tree::of(&[]);
    let names: Vec<_> = (0..12).map(|n| format!("d{n:02}")).collect();
    for name in &names {
        tree.write(&format!("{name}/a.yaml"));
        for other in names.iter().filter(|other| *other != name) {
            tree.link(format!("../{other}"), &format!("{name}/to-{other}"));
        }
        tree.link("..", &format!("{name}/up"));
    }
    let listing = tree.listing(LIMITS);
    assert_eq!(listing.files.len(), 12);
    assert!(listing.limit.is_none() && listing.unread.is_empty());
    // Each of the links leads to a directory that has a path of its own.
    assert_eq!(listing.aliases.len(), 12 * 12);
}

#[test]
fn a_directory_keeps_its_own_path_whatever_links_to_it() {
    let tree = Tree::of(&["z/a.yaml"]);
    tree.link("z", "a");
    let elsewhere = Tree::of(&["deep/b.yaml"]);
    tree.link(elsewhere.0.path(), "m");
    tree.link(elsewhere.path("deep"), "n");
    assert_eq!(tree.files(LIMITS), ["m/deep/b.yaml", "z/a.yaml"]);
    let aliases: Vec<_> = tree.listing(LIMITS).aliases;
    let aliases: Vec<_> = aliases
        .iter()
        .map(|alias| (tree.name(&alias.link), tree.name(&alias.directory)))
        .collect();

    assert_eq!(
        aliases,
        [
            ("a".to_owned(), "z".to_owned()),
            ("n".to_owned(), "m/deep".to_owned())
        ]
    );
}

#[test]
fn what_is_not_a_readable_file_is_listed_with_the_reason() {
    let tree = Tree::of(&["a.yaml", ".hidden/b.yaml", "README"]);
    nix::unistd::mkfifo(&tree.path("fifo.yaml"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    nix::unistd::mkfifo(&tree.path("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    tree.link("/nonexistent/volume", "gone.yaml");
    tree.link("loop.yaml", "loop.yaml");
    let listing = tree.listing(LIMITS);
    let unread: Vec<_> = listing
        .unread
        .iter()
        .map(|(path, why)| (tree.name(path), why.to_string()))
        .collect();
    let names: Vec<_> = unread.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["fifo.yaml", "gone.yaml", "loop.yaml"], "{unread:?}");
    assert_eq!(unread[0].1, "it is not a regular file");
    assert_eq!(
        unread[1].1,
        "the symlink leads to /nonexistent/volume, which does not exist"
    );
    for name in ["fifo.yaml", "gone.yaml", "loop.yaml"] {
        assert!(!listing.is_gone(&tree.path(name)), "{name}");
    }
    assert!(listing.is_gone(&tree.path("b.yaml")));
}

#[test]
fn reaching_a_limit_is_reported_and_what_was_not_seen_is_not_gone() {
    let all = ["a/1.yaml", "a/2.yaml", "b/3.yaml", "c/d/4.yaml"];
    let limits: [(Limits, &str, &[&str]); 4] = [
        (
            Limits {
                directories: 3,
                ..LIMITS
            },
            "more than 3 directories",
            &["a/1.yaml", "a/2.yaml", "b/3.yaml"],
        ),
        (
            Limits {
                entries: 5,
                ..LIMITS
            },
            "more than 5 files and directories",
            &["a/1.yaml", "a/2.yaml"],
        ),
        (
            Limits { files: 2, ..LIMITS },
            "more than 2 files",
            &["a/1.yaml", "a/2.yaml"],
        ),
        (
            Limits {
                time: Duration::ZERO,
                ..LIMITS
            },
            "listing them takes more than 0 seconds",
            &[],
        ),
    ];
    for (limits, reason, seen) in limits {
        let tree = Tree::of(&all);
        let listing = tree.listing(limits);
        assert_eq!(listing.limit.as_deref(), Some(reason));
        assert_eq!(tree.files(limits), seen, "{reason}");
        for file in all {
            assert!(!listing.is_gone(&tree.path(file)), "{reason}: {file}");
        }
        // A deletion in a directory that was seen completely is one.
        let is_complete = seen.len() > 1;
        assert_eq!(
            listing.is_gone(&tree.path("a/0.yaml")),
            is_complete,
            "{reason}"
        );
        assert!(!listing.is_gone(&tree.path("c/d/5.yaml")), "{reason}");
    }
}

#[test]
fn a_directory_that_is_too_deep_is_reported_and_others_are_listed() {
    let tree = Tree::of(&["a/b/c/1.yaml", "a/2.yaml"]);
    let limits = Limits { depth: 2, ..LIMITS };
    assert_eq!(tree.files(limits), ["a/2.yaml"]);
    let listing = tree.listing(limits);
    assert!(matches!(
        listing.unread[&tree.path("a/b/c")],
        Unread::TooDeep(2)
    ));
    assert!(!listing.is_gone(&tree.path("a/b/c/1.yaml")));
}

#[test]
fn problems_beyond_the_limit_are_counted_and_not_gone() {
    let tree = Tree::of(&["z.yaml"]);
    for n in 0..15 {
        tree.link("nowhere", &format!("{n:02}.yaml"));
    }
    let listing = tree.listing(LIMITS);
    assert_eq!((listing.unread.len(), listing.more_unread), (10, 5));
    assert_eq!(listing.files.len(), 1, "the files after them are listed");
    assert_eq!(
        listing.limit.as_deref(),
        Some("more than 10 paths can't be read")
    );
    assert!(!listing.is_gone(&tree.path("14.yaml")));
}

#[test]
fn symlinks_out_of_the_root_are_followed_only_where_that_is_allowed() {
    let outside = Tree::of(&["dir/secret.yaml", "secret.yaml"]);
    let tree = Tree::of(&["in/a.yaml"]);
    tree.link(outside.path("dir"), "dir");
    tree.link(outside.path("secret.yaml"), "secret.yaml");
    tree.link("in/a.yaml", "a.yaml");
    assert_eq!(tree.listing(LIMITS).files.len(), 4);
    let listing = tree.listing_in(LIMITS, Scope::Root);
    let files: Vec<_> = listing.files.keys().map(|path| tree.name(path)).collect();
    assert_eq!(files, ["a.yaml", "in/a.yaml"]);
    let unread: Vec<_> = listing.unread.keys().map(|path| tree.name(path)).collect();
    assert_eq!(unread, ["dir", "secret.yaml"]);
}
