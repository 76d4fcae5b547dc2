//! Runs all tests: builds them once, then runs several test programs at the same time.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use crate::build;
use program::{Outcome, Program};

mod pool;
mod program;

/// The number of slow tests listed at the end.
const SLOWEST: usize = 10;

/// Test programs of e2e that load both cores or open many thousand connections. Two of them run at
/// the same time, instead of four others.
const HEAVY: [&str; 8] = [
    "attack",
    "attack_http",
    "attack_tls",
    "cluster",
    "kubernetes",
    "soak",
    "tftp_hostile",
    "webhook_cert_manager",
];

/// Which tests to run
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Leave out those that boot virtual machines or start a Kubernetes API server
    #[arg(long)]
    no_e2e: bool,
    /// Run e2e against shaper's release build, which takes longer to build than that of the profile
    /// e2e
    #[arg(long, conflicts_with = "no_e2e")]
    release: bool,
    /// How many test programs run at the same time; without it two more than there are cores, as
    /// many tests wait
    #[arg(long, value_name = "COUNT")]
    jobs: Option<usize>,
}

/// Builds and runs the tests. A failure does not stop the others.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let mut build = vec!["--workspace"];
    if args.no_e2e {
        build.extend(["--exclude", "e2e"]);
    }
    let mut programs = test_programs(&build)?;
    let mut environment = Vec::new();
    if !args.no_e2e {
        // Built before the tests, not in the first test that needs them: compilers slow virtual
        // machines down until they time out.
        e2e::cluster::Programs::find()?;
        e2e::cert_manager::CertManager::find()?;
        e2e::kstatus::Kstatus::find()?;
        environment = shaper(args)?;
    }
    // The heaviest first, so that none of them runs alone at the end.
    programs.sort_by_key(|program| (program.package != "e2e", std::cmp::Reverse(program.weight)));
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let jobs = args.jobs.unwrap_or(cores + 2).max(2);
    let mut outcome = pool::run(VecDeque::from(programs), jobs, &environment)?;
    outcome.add(doc_tests()?);
    report(outcome)
}

/// Builds the test programs and lists them.
fn test_programs(which: &[&str]) -> anyhow::Result<Vec<Program>> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(["test", "--no-run", "--locked"])
        .args(which)
        .args(["--message-format", "json-render-diagnostics"])
        .stdout(Stdio::piped());
    let out = cargo
        .spawn()
        .and_then(std::process::Child::wait_with_output)
        .context("can't run cargo")?;
    ensure!(
        out.status.success(),
        "the tests don't build; the compiler's messages are above"
    );
    let mut programs = Vec::new();
    for line in String::from_utf8(out.stdout)?.lines() {
        let message: Value = serde_json::from_str(line).context("cargo prints JSON")?;
        if message["profile"]["test"] != true {
            continue;
        }
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let (Some(file), Some(manifest), Some(name)) = (
            text(&message["executable"]),
            text(&message["manifest_path"]),
            text(&message["target"]["name"]),
        ) else {
            continue;
        };
        let folder = PathBuf::from(manifest)
            .parent()
            .context("a manifest is in a folder")?
            .to_owned();
        let package = folder.file_name().unwrap_or_default().to_string_lossy();
        let heavy = package == "e2e" && HEAVY.contains(&name.as_str());
        programs.push(Program {
            weight: if heavy { 2 } else { 1 },
            package: package.into_owned(),
            name,
            file: file.into(),
            folder,
        });
    }
    ensure!(!programs.is_empty(), "cargo built no test programs");
    Ok(programs)
}

/// Returns the environment that tells e2e which shaper to test.
fn shaper(args: &Args) -> anyhow::Result<Vec<(OsString, OsString)>> {
    if std::env::var_os("SHAPER_BIN").is_some() {
        return Ok(Vec::new());
    }
    let profile = if args.release { "release" } else { "e2e" };
    build::run(&[
        "--profile",
        profile,
        "--locked",
        "--workspace",
        "--bin",
        "shaper",
    ])?;
    let program = build::program(profile, "shaper")?;
    ensure!(program.is_file(), "{} was not built", program.display());
    Ok(vec![("SHAPER_BIN".into(), program.into())])
}

/// Runs the examples in documentation, which only cargo can run.
fn doc_tests() -> anyhow::Result<Outcome> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["test", "--doc", "--workspace", "--locked", "--no-fail-fast"]);
    let mut outcome = program::run(&mut cargo, "documentation")?;
    // Several run at the same time, so the time between two results is meaningless.
    outcome.timed.clear();
    Ok(outcome)
}

/// Prints the slowest tests, the failed ones, and the counts last.
fn report(mut outcome: Outcome) -> anyhow::Result<()> {
    outcome
        .timed
        .sort_by_key(|(_, time)| std::cmp::Reverse(*time));
    println!("\nThe slowest tests:");
    for (name, time) in outcome.timed.iter().take(SLOWEST) {
        println!("{:7.1} s  {name}", time.as_secs_f32());
    }
    if !outcome.broken.is_empty() {
        println!("\nFailed:");
        for name in &outcome.broken {
            println!("  {name}");
        }
    }
    println!(
        "\n{} passed, {} failed, {} skipped",
        outcome.passed, outcome.failed, outcome.skipped
    );
    if outcome.failed > 0 || !outcome.broken.is_empty() {
        bail!("some tests failed; their output is above");
    }
    Ok(())
}
