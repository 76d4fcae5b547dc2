//! Builds with cargo and shows the progress.

use std::io::{BufReader, IsTerminal, Read};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

/// The interval of progress lines if standard error is not a terminal.
const PROGRESS: Duration = Duration::from_secs(10);

/// Runs `cargo build` with these arguments.
///
/// On a terminal cargo draws its progress bar; elsewhere this prints a line every ten seconds.
pub(crate) fn run(args: &[&str]) -> anyhow::Result<()> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.arg("build").args(args);
    let built = if std::io::stderr().is_terminal() {
        cargo.status().context("can't run cargo")?
    } else {
        // Cargo prints the number of crates only in its progress bar.
        cargo
            .env("CARGO_TERM_PROGRESS_WHEN", "always")
            .env("CARGO_TERM_PROGRESS_WIDTH", "80")
            .env("CARGO_TERM_COLOR", "never")
            .stderr(Stdio::piped());
        let mut child = cargo.spawn().context("can't run cargo")?;
        let output = child.stderr.take().context("its output is piped")?;
        report(output, |line| eprintln!("{line}"))?;
        child.wait().context("can't wait for cargo")?
    };
    ensure!(
        built.success(),
        "cargo build {} failed; the compiler's messages are above",
        args.join(" ")
    );
    Ok(())
}

/// Returns the path of a program that cargo builds with this profile.
pub(crate) fn program(profile: &str, name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("can't find this program")?;
    let target = own.ancestors().nth(2).context("cargo built this program")?;
    Ok(target.join(profile).join(name))
}

/// Prints cargo's messages, except the line for each crate, and its progress now and then.
fn report(output: impl Read, mut print: impl FnMut(&str)) -> anyhow::Result<()> {
    let started = Instant::now();
    let mut last = started;
    let mut line = Vec::new();
    for byte in BufReader::new(output).bytes() {
        let byte = byte.context("can't read what cargo prints")?;
        // A carriage return ends the progress bar, which the next message overwrites.
        if byte != b'\n' && byte != b'\r' {
            line.push(byte);
            continue;
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_start_matches("\u{1b}[K").trim_end();
        if let Some((done, total)) = progress(text) {
            if last.elapsed() >= PROGRESS {
                last = Instant::now();
                let seconds = started.elapsed().as_secs();
                print(&format!(
                    "  {done} of {total} crates built after {seconds} s"
                ));
            }
        } else if !text.is_empty() && !is_routine(text) {
            print(text);
        }
        line.clear();
    }
    Ok(())
}

/// Parses the two numbers of `Building [===>   ] 120/363: aws-lc-sys(build), ...`.
fn progress(line: &str) -> Option<(u32, u32)> {
    let (_, rest) = line
        .trim_start()
        .strip_prefix("Building [")?
        .split_once("] ")?;
    let (done, rest) = rest.split_once('/')?;
    let end = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    Some((done.parse().ok()?, rest[..end].parse().ok()?))
}

/// Whether a message only reports routine progress.
fn is_routine(line: &str) -> bool {
    let word = line.trim_start().split(' ').next().unwrap_or_default();
    [
        "Compiling",
        "Downloading",
        "Downloaded",
        "Blocking",
        "Building",
    ]
    .contains(&word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_read_from_cargos_bar() {
        let bar = "    Building [=====>            ] 120/363: aws-lc-sys(build), syn";
        assert_eq!(progress(bar), Some((120, 363)));
        assert_eq!(
            progress("    Building [=======================> ] 7/8"),
            Some((7, 8))
        );
        assert_eq!(progress("   Compiling bytes v1.12.2"), None);
    }

    #[test]
    fn messages_are_printed_and_routine_lines_are_not() {
        let output =
            "   Compiling a v1.0.0\n    Building [=> ] 1/2: b\r\u{1b}[Kerror: no\n  --> b.rs:1:1\n";
        let mut printed = Vec::new();
        report(output.as_bytes(), |line| printed.push(line.to_owned())).expect("it can be read");
        assert_eq!(printed, ["error: no", "  --> b.rs:1:1"]);
    }
}
