//! All tests, and one line at the end that counts them.

use std::io::{BufRead, BufReader};
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, bail};
use e2e::assets::{Package, ensure_packages};

/// Which tests to run
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Leave out those that boot virtual machines or start a Kubernetes API server
    #[arg(long)]
    no_e2e: bool,
}

#[derive(Default)]
struct Tally {
    passed: u64,
    failed: u64,
    skipped: u64,
    broken: bool,
}

/// Runs them. All of them run, also after a failure.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    ensure_packages(&[Package::Make])?;
    let mut tally = Tally::default();
    tally.cargo(&["test", "--workspace", "--exclude", "e2e", "--no-fail-fast"])?;
    if !args.no_e2e {
        // Before the tests, not in the first that wants them: compilers and virtual machines don't share two cores well.
        e2e::cluster::Programs::find()?;
        e2e::cert_manager::CertManager::find()?;
        let built = Command::new(env!("CARGO"))
            .args(["build", "--release", "--package", "shaper"])
            .status()
            .context("can't run cargo")?;
        if !built.success() {
            bail!("shaper does not build");
        }
        // Two machines at once are what two cores emulate without time-outs.
        tally.cargo(&[
            "test",
            "--package",
            "e2e",
            "--no-fail-fast",
            "--",
            "--test-threads=2",
        ])?;
    }
    println!(
        "\n{} passed, {} failed, {} skipped",
        tally.passed, tally.failed, tally.skipped
    );
    if tally.failed > 0 || tally.broken {
        bail!("some tests fail; their output is above");
    }
    Ok(())
}

impl Tally {
    /// Runs cargo, shows what it prints, and counts what it reports.
    fn cargo(&mut self, arguments: &[&str]) -> anyhow::Result<()> {
        println!("cargo {}", arguments.join(" "));
        let mut cargo = Command::new(env!("CARGO"))
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .context("can't run cargo")?;
        let output = cargo.stdout.take().context("its output is piped")?;
        for line in BufReader::new(output).lines() {
            let line = line.context("can't read what cargo prints")?;
            self.count(&line);
            println!("{line}");
        }
        let ended: ExitStatus = cargo.wait().context("can't wait for cargo")?;
        self.broken |= !ended.success();
        Ok(())
    }

    /// `test result: ok. 3 passed; 0 failed; 0 ignored; ...`
    fn count(&mut self, line: &str) {
        let Some(result) = line.strip_prefix("test result: ") else {
            return;
        };
        for part in result.split(['.', ';']) {
            let mut words = part.split_whitespace();
            let (Some(number), Some(what)) = (
                words.next().and_then(|number| number.parse::<u64>().ok()),
                words.next(),
            ) else {
                continue;
            };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.skipped += number,
                _ => {}
            }
        }
    }
}
