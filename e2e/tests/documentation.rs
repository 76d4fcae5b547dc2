//! Checks what the documentation shows: commands of tutorials, manifests, and flags.
//!
//! In `docs/tutorials/*.md`, a fence ```` ```shell ```` is run, in order, by one shell in an empty
//! folder. A fence
//! ```` ```output ```` after it has lines that the commands above it must print, in this order; `...` stands for any text.
//! Other fences, such as ```` ```console ````, are not run: they need a screen, a network or a virtual machine.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use e2e::server::binary;

/// Separates what the blocks print.
const MARK: &str = "=== end of block ===";

/// Commands, and the lines that they must print.
#[derive(Debug, Default)]
struct Block {
    line: usize,
    commands: String,
    output: Vec<String>,
}

/// The blocks of a page.
fn blocks(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut fence = None;
    for (at, line) in text.lines().enumerate() {
        match (fence, line.strip_prefix("```")) {
            (None, Some(kind)) => {
                if kind == "shell" {
                    blocks.push(Block {
                        line: at + 1,
                        ..Block::default()
                    });
                }
                fence = Some(kind);
            }
            (Some(_), Some(_)) => fence = None,
            (Some("shell"), None) => {
                let block = blocks.last_mut().expect("a fence was opened");
                block.commands.push_str(line);
                block.commands.push('\n');
            }
            (Some("output"), None) => {
                if let Some(block) = blocks.last_mut() {
                    block.output.push(line.to_owned());
                }
            }
            _ => {}
        }
    }
    blocks
}

/// Whether a printed line is the expected one, in which `...` stands for any text.
fn matches(expected: &str, line: &str) -> bool {
    let mut parts = expected.trim_end().split("...");
    let Some(mut rest) = line
        .trim_end()
        .strip_prefix(parts.next().unwrap_or_default())
    else {
        return false;
    };
    let mut is_open = false;
    for part in parts {
        let Some(at) = rest.find(part) else {
            return false;
        };
        rest = &rest[at + part.len()..];
        is_open = part.is_empty();
    }
    is_open || rest.is_empty()
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Runs the commands of a page, on free ports in place of shaper's usual ones.
fn follow(page: &str) -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../docs/tutorials")
        .join(page);
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let blocks = blocks(&text);
    ensure!(!blocks.is_empty(), "{page} has no commands to run");

    let (http, admin) = (free_port()?, free_port()?);
    let mut script = String::from("set -eu\ntrap 'kill $(jobs -p) 2> /dev/null || true' EXIT\n");
    for block in &blocks {
        writeln!(script, "{}echo '{MARK}'", block.commands)?;
    }
    let script = script
        .replace("127.0.0.1:8080", &format!("127.0.0.1:{http}"))
        .replace("127.0.0.1:9090", &format!("127.0.0.1:{admin}"));

    let (home, programs) = (tempfile::tempdir()?, tempfile::tempdir()?);
    symlink(binary()?.canonicalize()?, programs.path().join("shaper"))?;
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let search: Vec<_> = [programs.path().to_owned()]
        .into_iter()
        .chain(std::env::split_paths(&paths))
        .collect();
    let ran = Command::new("bash")
        .args(["-c", &script])
        .current_dir(home.path())
        .env("PATH", std::env::join_paths(search)?)
        .env("HOME", home.path())
        .env("SHAPER_HTTP_LISTEN", format!("127.0.0.1:{http}"))
        .env("SHAPER_ADMIN_LISTEN", format!("127.0.0.1:{admin}"))
        .env_remove("SHAPER_LABEL")
        .stdin(Stdio::null())
        .output()
        .context("could not run bash")?;
    let printed = String::from_utf8_lossy(&ran.stdout);
    let complaints = String::from_utf8_lossy(&ran.stderr);
    let log = fs::read_to_string(home.path().join("lab/shaper.log")).unwrap_or_default();
    let context =
        || format!("\nprinted:\n{printed}\non standard error:\n{complaints}\nlog:\n{log}");

    let mut outputs = printed
        .split(&format!("{MARK}\n"))
        .collect::<Vec<_>>()
        .into_iter();
    for block in &blocks {
        let output = outputs.next().unwrap_or_default();
        let mut lines = output.lines();
        for expected in &block.output {
            ensure!(
                lines.any(|line| matches(expected, line)),
                "{page}:{}: the commands do not print {expected:?} there{}",
                block.line,
                context()
            );
        }
    }
    ensure!(ran.status.success(), "{page}: a command fails{}", context());
    Ok(())
}

/// `README.md` and every page below `docs`.
fn pages() -> Result<Vec<PathBuf>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut pages = vec![root.join("README.md")];
    let mut folders = vec![root.join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(path);
            }
        }
    }
    Ok(pages)
}

/// The contents of fences, each with its kind and line, without the indentation of the list that
/// they are in.
fn fences(text: &str) -> Vec<(String, usize, String)> {
    let mut fences = Vec::new();
    let mut open: Option<(String, usize, usize, String)> = None;
    for (at, line) in text.lines().enumerate() {
        let indent = line.len() - line.trim_start().len();
        match (&mut open, line.trim_start().strip_prefix("```")) {
            (None, Some(kind)) => open = Some((kind.to_owned(), at + 1, indent, String::new())),
            (Some(_), Some(_)) => {
                fences.extend(open.take().map(|(kind, at, _, text)| (kind, at, text)));
            }
            (Some((_, _, indent, text)), None) => {
                text.push_str(line.get(*indent..).unwrap_or_default());
                text.push('\n');
            }
            (None, None) => {}
        }
    }
    fences
}

#[test]
fn every_manifest_in_the_documentation_is_valid() -> Result<()> {
    let mut count = 0;
    for page in pages()? {
        for (kind, line, text) in fences(&fs::read_to_string(&page)?) {
            if kind != "yaml" || !text.starts_with("apiVersion: shaper.amahdha.com/") {
                continue;
            }
            count += 1;
            let mut validate = Command::new(binary()?)
                .args(["validate", "-"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()?;
            validate
                .stdin
                .take()
                .context("it is piped")?
                .write_all(text.as_bytes())?;
            let checked = validate.wait_with_output()?;
            ensure!(
                checked.status.success(),
                "{}:{line}: {}",
                page.display(),
                String::from_utf8_lossy(&checked.stdout)
            );
        }
    }
    ensure!(count > 3, "only {count} manifests found");
    Ok(())
}

/// The flags after `shaper ROLE` in a line of a shell, up to the end of that command.
fn flags(line: &str) -> Option<(&str, Vec<&str>)> {
    let mut words = line
        .split_whitespace()
        .skip_while(|word| *word != "shaper")
        .skip(1);
    let role = words
        .next()
        .filter(|word| word.starts_with(|c: char| c.is_ascii_lowercase()))?;
    let flags = words
        .take_while(|word| !["|", "&", "&&", "2>", ">"].contains(word))
        .filter(|word| word.starts_with("--") && word.len() > 2)
        .map(|word| word.split('=').next().unwrap_or(word));
    Some((role, flags.collect()))
}

#[test]
fn every_flag_in_the_documentation_exists() -> Result<()> {
    let mut helps = BTreeMap::<String, Vec<String>>::new();
    let mut count = 0;
    for page in pages()? {
        for (kind, line, text) in fences(&fs::read_to_string(&page)?) {
            if !["shell", "console", "sh"].contains(&kind.as_str()) {
                continue;
            }
            for command in text.replace("\\\n", " ").lines() {
                let Some((role, flags)) = flags(command) else {
                    continue;
                };
                if !helps.contains_key(role) {
                    let help = Command::new(binary()?).args([role, "--help"]).output()?;
                    let help = String::from_utf8_lossy(&help.stdout).into_owned();
                    let words = help.split([' ', '\n', ',']).map(str::to_owned).collect();
                    helps.insert(role.to_owned(), words);
                }
                for flag in flags {
                    count += 1;
                    ensure!(
                        helps[role].iter().any(|word| word == flag),
                        "{}:{line}: `shaper {role}` has no {flag}",
                        page.display()
                    );
                }
            }
        }
    }
    ensure!(count > 20, "only {count} flags found");
    Ok(())
}

#[test]
fn the_commands_of_the_first_machine_print_what_the_tutorial_shows() -> Result<()> {
    follow("first-machine.md")
}

#[test]
fn the_commands_of_three_machines_print_what_the_tutorial_shows() -> Result<()> {
    follow("three-machines.md")
}

#[test]
fn dots_in_an_expected_line_stand_for_any_text() {
    assert!(matches("a ... c", "a b c"));
    assert!(matches("404: no...", "404: no Assignment"));
    assert!(!matches("404: no...", "500: no Assignment"));
    assert!(!matches("ok", "ok, nearly"));
}
