use super::*;
use crate::content::{Content, Reader};
use crate::packet::DATA_HEADER;
use files::{Activity, Limits};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

fn scan(root: &Path) -> (Table, Vec<SkippedPath>) {
    let scan = Table::scan(root, &Table::default(), &Activity::default()).unwrap();
    assert_eq!((scan.more_skipped, scan.limit), (0, None));
    (scan.table, scan.skipped)
}

fn text(table: &Table, name: &str) -> Option<String> {
    match table.lookup(name.as_bytes())? {
        Lookup::File(entry) => {
            let mut out = Vec::new();
            let (chunk, _) = Reader::new(Content::File(entry.file), 1_000)
                .packets(1, 1)
                .unwrap();
            out.extend(&chunk[DATA_HEADER..]);
            Some(String::from_utf8(out).unwrap())
        }
        Lookup::Bootstrap(name) => Some(format!("bootstrap {name}")),
    }
}

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

#[test]
fn files_are_found_by_the_name_variants_that_firmware_sends() {
    let folder = folder(&[("ipxe.efi", "efi"), ("x86/undionly.kpxe", "bios")]);
    let (table, skipped) = scan(folder.path());
    assert_eq!(skipped, []);
    for name in [
        "ipxe.efi",
        "/ipxe.efi",
        "./ipxe.efi",
        "\\ipxe.efi",
        "IPXE.EFI",
    ] {
        assert_eq!(text(&table, name).as_deref(), Some("efi"), "{name}");
    }
    assert_eq!(
        text(&table, "\\X86\\undionly.KPXE").as_deref(),
        Some("bios")
    );
    for name in [
        "",
        "/",
        "x86",
        "etc/passwd",
        "/etc/passwd",
        "../ipxe.efi",
        "x86/../ipxe.efi",
        "ipxe.efi/",
        "ipxe",
    ] {
        let expected = if name == "ipxe.efi/" {
            Some("efi")
        } else {
            None
        };
        assert_eq!(text(&table, name).as_deref(), expected, "{name}");
    }
}

#[test]
fn names_that_differ_in_case_find_their_own_file() {
    let folder = folder(&[("Boot", "B"), ("boot", "b"), ("BOOT", "BB")]);
    let (table, _) = scan(folder.path());
    assert_eq!(text(&table, "boot").as_deref(), Some("b"));
    assert_eq!(text(&table, "Boot").as_deref(), Some("B"));
    assert_eq!(text(&table, "bOOt").as_deref(), Some("BB"));
}

#[test]
fn autoexec_is_generated_at_any_depth_unless_a_file_has_the_name() {
    let folder = folder(&[("own/autoexec.ipxe", "my own")]);
    let (table, _) = scan(folder.path());
    assert_eq!(
        text(&table, "autoexec.ipxe").as_deref(),
        Some("bootstrap autoexec.ipxe")
    );
    assert_eq!(
        text(&table, "/a/b/autoexec.ipxe").as_deref(),
        Some("bootstrap a/b/autoexec.ipxe")
    );
    assert_eq!(
        text(&table, "boot.ipxe").as_deref(),
        Some("bootstrap boot.ipxe")
    );
    assert_eq!(text(&table, "own/autoexec.ipxe").as_deref(), Some("my own"));
    assert_eq!(text(&table, "a/boot.ipxe"), None);
    assert_eq!(text(&table, "../autoexec.ipxe"), None);
}

#[test]
fn symlinks_inside_the_root_are_followed_and_others_are_reported() {
    let outside = folder(&[("secret", "s"), ("dir/secret", "s")]);
    let folder = folder(&[
        ("real/file", "f"),
        ("..data/hidden", "h"),
        (".git/config", "g"),
    ]);
    symlink("real/file", folder.path().join("link")).unwrap();
    symlink(folder.path().join("real"), folder.path().join("absolute")).unwrap();
    symlink("..data/hidden", folder.path().join("projected")).unwrap();
    symlink(outside.path().join("secret"), folder.path().join("leaves")).unwrap();
    symlink(outside.path().join("dir"), folder.path().join("leaves-too")).unwrap();
    symlink("..", folder.path().join("real/up")).unwrap();
    symlink("nowhere", folder.path().join("dangling")).unwrap();
    let (table, skipped) = scan(folder.path());
    for name in [
        "link",
        "real/file",
        "absolute/file",
        "Absolute/FILE",
        "real/up/link",
        "real/up/absolute/up/real/file",
    ] {
        assert_eq!(text(&table, name).as_deref(), Some("f"), "{name}");
    }
    assert_eq!(text(&table, "projected").as_deref(), Some("h"));
    for name in [
        "leaves",
        "leaves-too/secret",
        ".git/config",
        "..data/hidden",
        "dangling",
    ] {
        assert_eq!(text(&table, name), None, "{name}");
    }
    let named: Vec<_> = skipped
        .iter()
        .map(|skipped| skipped.path.file_name().unwrap().to_str().unwrap())
        .collect();
    assert_eq!(named, ["dangling", "leaves", "leaves-too"], "{skipped:?}");
}

#[test]
fn pipes_and_devices_are_reported_and_do_not_block() {
    let folder = folder(&[("file", "f")]);
    nix::unistd::mkfifo(&folder.path().join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    symlink("/dev/zero", folder.path().join("zero")).unwrap();
    let (table, skipped) = scan(folder.path());
    assert_eq!(table.len(), 1);
    assert_eq!(skipped.len(), 2);
}

#[test]
fn unchanged_files_stay_open_and_replaced_files_are_reopened() {
    let folder = folder(&[("same", "1"), ("other", "1")]);
    let (first, _) = scan(folder.path());
    fs::write(folder.path().join("new"), "22").unwrap();
    fs::rename(folder.path().join("new"), folder.path().join("other")).unwrap();
    let second = Table::scan(folder.path(), &first, &Activity::default()).unwrap();
    let second = second.table;
    let is_kept = |name: &[u8]| Arc::ptr_eq(&first.files[name].file, &second.files[name].file);
    assert!(is_kept(b"same"));
    assert!(!is_kept(b"other"));
    assert_eq!(
        text(&first, "other").as_deref(),
        Some("1"),
        "a running transfer keeps the version it started with"
    );
    assert_eq!(text(&second, "other").as_deref(), Some("22"));
}

#[test]
fn a_missing_root_is_an_error() {
    let missing = Path::new("/nonexistent/tftp");
    assert!(Table::scan(missing, &Table::default(), &Activity::default()).is_err());
}

#[test]
fn directories_that_link_to_each_other_are_served_by_every_name() {
    let folder = folder(&[]);
    let names: Vec<_> = (0..12).map(|n| format!("d{n}")).collect();
    for name in &names {
        let dir = folder.path().join(name);
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("file"), name).unwrap();
        for other in names.iter().filter(|other| *other != name) {
            symlink(format!("../{other}"), dir.join(format!("to-{other}"))).unwrap();
        }
    }
    let (table, skipped) = scan(folder.path());
    assert_eq!((table.len(), skipped.len()), (12, 0));
    for (name, file) in [
        ("d3/file", "d3"),
        ("d3/to-d4/file", "d4"),
        ("d3/to-d4/to-d3/to-d11/file", "d11"),
    ] {
        assert_eq!(text(&table, name).as_deref(), Some(file), "{name}");
    }
    assert_eq!(text(&table, "d3/to-d3/file"), None);
}

#[test]
fn files_beyond_a_limit_stay_served_and_the_limit_is_reported() {
    let folder = folder(&[("a", "a"), ("b", "b"), ("c", "c"), ("d", "d")]);
    let (first, _) = scan(folder.path());
    let limits = Limits {
        directories: 10,
        depth: 2,
        entries: 100,
        files: 3,
        problems: 1,
        time: Duration::from_mins(1),
    };
    let scan = |previous: &Table| {
        Table::scan_within(limits, folder.path(), previous, &Activity::default()).unwrap()
    };
    fs::remove_file(folder.path().join("a")).unwrap();
    fs::write(folder.path().join("e"), "e").unwrap();
    let second = scan(&first);
    assert_eq!(second.limit.as_deref(), Some("more than 3 files"));
    let mut names: Vec<_> = second.table.names().map(<[u8]>::to_vec).collect();
    names.sort();
    assert_eq!(names, [b"b", b"c", b"d"]);
    fs::remove_file(folder.path().join("b")).unwrap();
    fs::remove_file(folder.path().join("c")).unwrap();
    symlink("nowhere", folder.path().join("f")).unwrap();
    symlink("nowhere", folder.path().join("g")).unwrap();
    let third = scan(&second.table);
    assert_eq!((third.skipped.len(), third.more_skipped), (1, 1));
    assert_eq!(
        third.limit.as_deref(),
        Some("more than 1 paths can't be read")
    );
    assert!(third.table.files.contains_key(&b"e"[..]));
}
