//! Checks that each bench measures what it claims, with sizes too small for meaningful figures.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Returns `SHAPER_BIN`, or the shaper built next to this program.
fn shaper() -> PathBuf {
    let built = || Path::new(env!("CARGO_BIN_EXE_bench")).with_file_name("shaper");
    let program = std::env::var_os("SHAPER_BIN").map_or_else(built, PathBuf::from);
    assert!(
        program.is_file(),
        "{} is not there: run `cargo build -p shaper`, or the tests of the whole workspace",
        program.display()
    );
    program
}

#[test]
fn bench_http_reports_cpu_memory_and_latency_of_every_case() {
    let mut bench = Command::new(env!("CARGO_BIN_EXE_bench"));
    bench.args([
        "http",
        "--assignments",
        "20,60",
        "--rounds",
        "1",
        "--requests",
        "400",
        "--connections",
        "4",
        "--shaper",
    ]);
    let out = bench.arg(shaper()).output().expect("the bench runs");
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(
        out.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&out.stderr)
    );
    let rows: Vec<Vec<&str>> = text
        .lines()
        .filter(|line| line.starts_with("| "))
        .skip(1)
        .map(|line| line.split('|').map(str::trim).collect())
        .collect();
    // hyper alone and two shapers, with and without changes; each on kept connections, for three
    // requests and for one.
    assert_eq!(rows.len(), 3 * (1 + 2 * 2), "{text}");
    for row in rows {
        for figure in &row[4..8] {
            assert!(
                figure
                    .parse::<f64>()
                    .is_ok_and(|figure| figure.is_finite() && figure > 0.0),
                "{figure:?} in {row:?}"
            );
        }
    }
    assert!(
        text.contains("60 Assignments: ") && text.contains(" for each more than 20"),
        "{text}"
    );
    assert!(
        ["kept", "for three requests", "for one request"]
            .iter()
            .all(|how| text.contains(&format!("connections {how}: "))),
        "{text}"
    );
}

#[test]
fn bench_admission_reports_every_kind_of_review_and_api_server_latency() {
    let mut bench = Command::new(env!("CARGO_BIN_EXE_bench"));
    bench.args([
        "admission",
        "--assignments",
        "50",
        "--reviews",
        "20",
        "--shaper",
    ]);
    let out = bench.arg(shaper()).output().expect("the bench runs");
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(
        out.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&out.stderr)
    );
    let figures = |line: &str| {
        line.split(" us")
            .filter_map(|part| part.rsplit(' ').next()?.parse::<f64>().ok())
            .collect::<Vec<_>>()
    };
    let sorts: Vec<_> = text
        .lines()
        .map(figures)
        .filter(|figures| figures.len() >= 4)
        .collect();
    assert_eq!(sorts.len(), 10, "{text}");
    let (_, server) = text
        .split_once("a real kube-apiserver, beside 50 in the webhook")
        .expect("it asks one");
    let rows: Vec<_> = server.lines().skip(1).map(figures).collect();
    // Writes without and with a webhook; the two endpoints, each with its target; CPU time.
    assert_eq!(
        rows.iter().map(Vec::len).collect::<Vec<_>>(),
        [2, 2, 2, 2, 1],
        "{text}"
    );
    assert!(
        rows.iter()
            .chain(&sorts)
            .flatten()
            .all(|figure| figure.is_finite() && *figure >= 0.0),
        "{text}"
    );
    assert!(
        text.contains("the aim: a p99 of less than 10000 us")
            && server.matches("the aim is ").count() == 2,
        "{text}"
    );
}
