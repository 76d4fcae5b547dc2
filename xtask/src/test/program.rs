//! Runs one test program and parses its output.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;

/// A test program, as cargo built it.
pub(super) struct Program {
    pub(super) package: String,
    /// The name of the library, or of the file in `tests`.
    pub(super) name: String,
    pub(super) file: PathBuf,
    /// The package's folder, the working directory that cargo would use.
    pub(super) folder: PathBuf,
    pub(super) weight: usize,
}

/// The results of some tests.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Outcome {
    pub(super) passed: u64,
    pub(super) failed: u64,
    pub(super) skipped: u64,
    /// Test programs that did not succeed.
    pub(super) broken: Vec<String>,
    pub(super) timed: Vec<(String, Duration)>,
}

// === impl Program ===

impl Program {
    /// Runs its tests one after the other, so that the time between two results is a test's time.
    pub(super) fn run(&self, environment: &[(OsString, OsString)]) -> anyhow::Result<Outcome> {
        let mut command = Command::new(&self.file);
        command
            .arg("--test-threads=1")
            .current_dir(&self.folder)
            .env("CARGO", env!("CARGO"))
            .env("CARGO_MANIFEST_DIR", &self.folder)
            .envs(environment.iter().map(|(key, value)| (key, value)));
        run(&mut command, &format!("{} {}", self.package, self.name))
    }
}

// === impl Outcome ===

impl Outcome {
    /// Adds other results.
    pub(super) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
        self.broken.extend(other.broken);
        self.timed.extend(other.timed);
    }

    /// Parses one line: `test NAME ... ok` or `test result: ok. 3 passed; 0 failed; 1 ignored;
    /// ...`.
    fn note(&mut self, program: &str, line: &str, time: Duration) {
        let Some(test) = line.strip_prefix("test ") else {
            return;
        };
        if let Some(result) = test.strip_prefix("result: ") {
            self.count(result);
        } else if let Some((name, _)) = test.split_once(" ... ") {
            self.timed.push((format!("{program} {name}"), time));
        }
    }

    fn count(&mut self, result: &str) {
        for part in result.split(['.', ';']) {
            let mut words = part.split_whitespace();
            let (Some(Ok(number)), Some(what)) =
                (words.next().map(str::parse::<u64>), words.next())
            else {
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

/// Runs a command that prints like libtest. Prints all of its output once it has ended.
pub(super) fn run(command: &mut Command, name: &str) -> anyhow::Result<Outcome> {
    let (reader, writer) = std::io::pipe().context("can't make a pipe")?;
    command
        .stdin(Stdio::null())
        .stdout(writer.try_clone().context("can't share a pipe")?)
        .stderr(writer);
    let started = Instant::now();
    let mut child = command
        .spawn()
        .with_context(|| format!("can't run the tests {name}"))?;
    // The command keeps the writing ends open until these are replaced.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let (mut outcome, mut output, mut last) = (Outcome::default(), String::new(), started);
    for line in BufReader::new(reader).split(b'\n') {
        let line = line.with_context(|| format!("can't read what {name} prints"))?;
        let line = String::from_utf8_lossy(&line);
        outcome.note(name, &line, last.elapsed());
        if line.starts_with("test ") || line.starts_with("running ") {
            last = Instant::now();
        }
        output.push_str(&line);
        output.push('\n');
    }
    let status = child
        .wait()
        .with_context(|| format!("can't wait for {name}"))?;
    if !status.success() {
        outcome.broken.push(format!("{name}: {status}"));
    }
    println!(
        "\n--- {name}, {:.1} s\n{}",
        started.elapsed().as_secs_f32(),
        output.trim()
    );
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_counted_and_tests_are_timed() {
        let mut outcome = Outcome::default();
        let second = Duration::from_secs(1);
        outcome.note("boot lib", "running 2 tests", second);
        outcome.note("boot lib", "test a::b ... ok", second);
        outcome.note(
            "boot lib",
            "test result: ok. 3 passed; 1 failed; 2 ignored; 0 measured",
            second,
        );
        assert_eq!((outcome.passed, outcome.failed, outcome.skipped), (3, 1, 2));
        assert_eq!(outcome.timed, [("boot lib a::b".to_owned(), second)]);
    }

    #[test]
    fn a_program_that_fails_without_a_result_is_broken() -> anyhow::Result<()> {
        let outcome = run(&mut Command::new("false"), "none")?;
        assert_eq!(outcome.broken.len(), 1);
        Ok(())
    }
}
