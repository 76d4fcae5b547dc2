//! Fuzzes for a bounded time, on the stable compiler.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};
use e2e::assets::{Package, ensure_packages};

/// The compiler flags that libFuzzer needs (`clang -fsanitize=fuzzer`): edge counters and
/// comparison operands. The address sanitizer needs an unstable compiler and is left out: the
/// fuzzed code has no `unsafe`.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";

/// What to fuzz, and for how long
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Targets, by the names of their corpora in fuzz/corpus/; all of them otherwise
    targets: Vec<String>,
    /// How long each is fuzzed
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    seconds: u64,
    /// Put a small set of inputs that reach what was reached into fuzz/corpus/, to be committed
    #[arg(long)]
    keep: bool,
}

/// Builds once, and fuzzes one target after the other. Runs all of them, also after a finding.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("xtask is in the workspace")?;
    let known = names(&root.join("fuzz/corpus"))?;
    if let Some(unknown) = args.targets.iter().find(|target| !known.contains(target)) {
        bail!(
            "there is no target {unknown}; there are {}",
            known.join(", ")
        );
    }
    let targets = if args.targets.is_empty() {
        &known
    } else {
        &args.targets
    };
    ensure_packages(&[Package::Cxx])?;
    let program = build(root)?;
    let (mut total, mut broken) = (0, Vec::new());
    for target in targets {
        let fuzzed = Fuzzed::of(root, &program, target, args)?;
        println!(
            "{target:15} {:>10} executions, {} inputs{}",
            fuzzed.executions,
            fuzzed.inputs,
            if fuzzed.held { "" } else { ", BROKEN" }
        );
        total += fuzzed.executions;
        if !fuzzed.held {
            broken.push(target.as_str());
        }
    }
    println!("{total} executions");
    ensure!(
        broken.is_empty(),
        "broken: {}. The output is above. Fix it, and move the input from target/fuzz/found/ to fuzz/corpus/ under a name that says what it is",
        broken.join(", ")
    );
    Ok(())
}

/// The result of one target.
struct Fuzzed {
    executions: u64,
    inputs: usize,
    held: bool,
}

// === impl Fuzzed ===

impl Fuzzed {
    fn of(root: &Path, program: &Path, target: &str, args: &Args) -> anyhow::Result<Self> {
        let corpus = root.join("fuzz/corpus").join(target);
        let (grown, found) = (
            root.join("target/fuzz/corpus").join(target),
            root.join("target/fuzz/found").join(target),
        );
        fs::create_dir_all(&grown)?;
        fs::create_dir_all(&found)?;
        let fuzzer = || {
            let mut fuzzer = Command::new(program);
            // Threads only make a finding harder to reproduce.
            fuzzer
                .current_dir(root)
                .env("SHAPER_FUZZ_TARGET", target)
                .env("RAYON_NUM_THREADS", "1")
                .stdin(Stdio::null());
            fuzzer
        };
        let log = found.with_extension("log");
        let ended = fuzzer()
            .args([&grown, &corpus])
            .arg(format!("-max_total_time={}", args.seconds))
            .arg(format!("-artifact_prefix={}/", found.display()))
            .args([
                "-timeout=10",
                "-rss_limit_mb=1024",
                "-max_len=8192",
                "-print_final_stats=1",
                "-use_value_profile=1",
            ])
            .stderr(fs::File::create(&log)?)
            .status()
            .context("the fuzzer does not start")?;
        let said = fs::read_to_string(&log).context("the fuzzer's output is no text")?;
        if !ended.success() {
            println!("{said}");
        } else if args.keep {
            // Merged from scratch, so that inputs equivalent to committed ones are not added again.
            let merged = fuzzer()
                .arg("-merge=1")
                .args([&corpus, &grown])
                .stderr(Stdio::null())
                .status()?;
            ensure!(merged.success(), "the inputs of {target} can't be merged");
        }
        let counted = said
            .lines()
            .find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
        let executions = counted
            .and_then(|count| count.trim().parse().ok())
            .unwrap_or(0);
        Ok(Self {
            executions,
            inputs: fs::read_dir(&grown)?.count(),
            held: ended.success(),
        })
    }
}

fn build(root: &Path) -> anyhow::Result<PathBuf> {
    let output = Command::new("rustc")
        .args(["--version", "--verbose"])
        .output()
        .context("can't run rustc")?;
    let version = String::from_utf8(output.stdout).context("rustc prints text")?;
    let host = version
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .context("rustc names its host")?;
    let folder = root.join("target/fuzz");
    // With a target named, the flags don't apply to build scripts and macros.
    let built = Command::new(env!("CARGO"))
        .current_dir(root)
        .args([
            "build",
            "--package",
            "fuzz",
            "--bin",
            "fuzz",
            "--features",
            "libfuzzer",
            "--profile",
            "fuzz",
            "--target",
            host,
        ])
        .arg("--target-dir")
        .arg(&folder)
        .env("RUSTFLAGS", FLAGS)
        .status()
        .context("can't run cargo")?;
    ensure!(built.success(), "the fuzzer does not build");
    Ok(folder.join(host).join("fuzz/fuzz"))
}

fn names(corpus: &Path) -> anyhow::Result<Vec<String>> {
    let entries =
        fs::read_dir(corpus).with_context(|| format!("can't read {}", corpus.display()))?;
    let mut names = entries
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<std::io::Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}
