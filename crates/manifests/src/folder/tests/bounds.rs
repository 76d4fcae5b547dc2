//! What a folder may cost, and what becomes of the rest.

use super::*;

#[test]
fn files_beyond_a_limit_are_not_deleted_and_the_limit_is_reported() {
    let mut manifests = Manifests::of_ten();
    let all = manifests.served();
    manifests.folder.limits.walk.files = 4;
    let (problem, names) = manifests.problem();
    assert!(
        problem.contains("not all of the folder is read: more than 4 files"),
        "{problem}"
    );
    assert_eq!(names, all);
    // What is seen is followed, and names that change don't add up.
    manifests.write("0.yaml", &assignment("other"));
    for n in 0..20 {
        manifests.write(&format!("1-{n}.yaml"), &assignment(&format!("n{n}")));
        manifests.scan();
        fs::remove_file(manifests.path(&format!("1-{n}.yaml"))).unwrap();
    }
    assert_eq!(
        manifests.scan().1,
        all.replace("m0", "").trim().to_owned() + " other"
    );
    manifests.folder.limits.walk.files = 100;
    manifests.remove(9..10);
    assert_eq!(manifests.served(), "m1 m2 m3 m4 m5 m6 m7 m8 other");
}

#[test]
fn files_that_no_time_is_left_for_are_read_by_the_next_scans() {
    let mut manifests = Manifests::of_ten();
    manifests.folder.limits.read_time = std::time::Duration::ZERO;
    let (problem, names) = manifests.problem();
    assert!(
        problem.contains("9 changed files are not read yet"),
        "{problem}"
    );
    assert_eq!(names, "m0");
    for _ in 0..8 {
        // A file that changes all the time.
        manifests.write("0.yaml", &assignment("m0"));
        manifests.problem();
    }
    assert_eq!(manifests.scan().1, "m0 m1 m2 m3 m4 m5 m6 m7 m8 m9");
}

#[test]
fn invalid_assignments_beyond_those_that_are_kept_hold_all_machines_without_an_assignment() {
    let named = |name: &str| {
        let selectors = format!("{{subjectSelectors: {{serialNumbers: [{name}]}}, x: 1}}");
        assignment(name).replace("{}", &selectors)
    };
    let mut manifests = Manifests::of([("a.yaml", assignment("good"))]);
    manifests.folder.limits.invalid = 2;
    let text = documents(["w1", "w2", "w3", "w4"].map(named));
    manifests.write("b.yaml", &text);
    manifests.scan();
    assert_eq!(manifests.waiting(), "b.yaml w1 w2");
    let fault = |manifests: &Manifests| {
        let rejected = &manifests.folder.rejected;
        let stands_in = rejected
            .values()
            .find(|rejected| rejected.name().key().namespace.is_empty());
        stands_in.map(|rejected| rejected.fault.to_string())
    };
    let text = fault(&manifests).unwrap();
    assert!(
        text.starts_with("2 more Assignments in b.yaml are invalid"),
        "{text}"
    );
    // What others use up is not left for this file.
    manifests.write("c.yaml", &named("w5"));
    manifests.scan();
    assert_eq!(manifests.waiting(), "b.yaml c.yaml w1 w2");
    fs::remove_file(manifests.path("c.yaml")).unwrap();
    let good = documents(["w1", "w2", "w3", "w4"].map(assignment));
    manifests.write("b.yaml", &good);
    assert_eq!(manifests.served(), "good w1 w2 w3 w4");
    // Objects whose last good version is known keep it.
    manifests.write("b.yaml", &documents(["w1", "w2", "w3", "w4"].map(named)));
    assert_eq!(manifests.scan().1, "good w1 w2 w3 w4");
    assert_eq!(fault(&manifests), None);
}

#[test]
fn faults_are_counted_beyond_those_that_are_kept() {
    let mut manifests = Manifests::of([("a.yaml", "a: b\n---\n".repeat(30_000))]);
    let (problems, _) = manifests.scan();
    assert_eq!(problems.len(), MAX_FAULTS + 1);
    assert!(
        problems.contains(&"a.yaml: 29980 more errors".to_owned()),
        "{problems:?}"
    );
    for n in 0..60 {
        manifests.write(&format!("{n}.yaml"), &"a: b\n---\n".repeat(100));
    }
    let scan = manifests.folder.rescan();
    assert_eq!(
        (scan.problems.len(), scan.more_problems),
        (MAX_PROBLEMS, 61 * (MAX_FAULTS + 1) - MAX_PROBLEMS)
    );
}
