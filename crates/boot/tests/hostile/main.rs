//! Hostile templates: each is rejected with a message, or costs no more than the budget of one
//! answer.
//!
//! A stack overflow or a lack of memory ends the test process; [`TIMEOUT`] ends a hang. To print
//! the times, run `cargo test -p boot --release --test hostile -- --ignored --nocapture`.

mod random;
mod table;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use boot::template::MAX_OUTPUT_BYTES;
use boot::{ConfigName, ExtrinsicLabels, ObjectKey, Profile, Subject, TemplateErrors, render};

use table::table;

/// The stack size of a server thread.
const STACK: usize = 2 * 1024 * 1024;
/// Long enough for a debug build on a busy machine; a hang has no end.
const TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug, PartialEq, Eq)]
enum End {
    Refused(String),
    Failed(String),
    Rendered(usize),
}

fn profile(template: &str) -> Result<Profile, TemplateErrors> {
    let name: ConfigName = "config0".parse().unwrap();
    let configs = BTreeMap::from([(name, template.to_owned())]);
    let labels = (0..200)
        .map(|n| (format!("label{n}"), "x".repeat(60)))
        .collect();
    Profile::compile(
        ObjectKey::new("ns", "profile"),
        None,
        &labels,
        "#!ipxe\n",
        &configs,
    )
}

/// The largest machine: sixty labels of a kilobyte each.
fn subject() -> Arc<Subject> {
    let query: Vec<_> = (0..60)
        .map(|n| format!("label{n}={}", "%20".repeat(1024)))
        .collect();
    Arc::new(Subject::from_query(&query.join("&"), &ExtrinsicLabels::default()).unwrap())
}

/// Compiles and renders on a separate thread. Returns how long each took.
fn attempt(template: String) -> (End, Duration, Duration) {
    let (sender, receiver) = channel();
    let work = move || {
        let start = Instant::now();
        let compiled = profile(&template);
        let compiling = start.elapsed();
        let start = Instant::now();
        let end = match compiled {
            Err(error) => End::Refused(error.to_string()),
            Ok(mut profile) => {
                let name: ConfigName = "config0".parse().unwrap();
                profile.ids.insert(
                    name.clone(),
                    "47c6da67-7477-4970-aa03-84e48ff4f6ad".parse().unwrap(),
                );
                match render::config(
                    &Arc::new(profile),
                    &name,
                    &subject(),
                    None,
                    "http://boot.example",
                ) {
                    Ok(text) => End::Rendered(text.len()),
                    Err(error) => End::Failed(error.to_string()),
                }
            }
        };
        sender
            .send((end, compiling, start.elapsed()))
            .expect("the test is receiving");
    };
    let thread = std::thread::Builder::new()
        .stack_size(STACK)
        .spawn(work)
        .unwrap();
    let answer = receiver.recv_timeout(TIMEOUT);
    assert_ne!(
        answer.as_ref().err(),
        Some(&RecvTimeoutError::Timeout),
        "the template hangs"
    );
    thread.join().expect("no panic");
    answer.expect("it was sent")
}

#[test]
fn no_hostile_template_exceeds_the_budget_of_one_answer() {
    for (name, template) in table() {
        // If the thread dies, the last line of output is the culprit.
        println!("{name}");
        let (end, ..) = attempt(template);
        match end {
            End::Refused(reason) | End::Failed(reason) => {
                assert!(
                    reason.contains(' ') && reason.len() < 2000,
                    "{name}: {} bytes: {reason:.2000}",
                    reason.len()
                );
            }
            End::Rendered(bytes) => assert!(bytes <= MAX_OUTPUT_BYTES, "{name}: {bytes}"),
        }
        assert!(
            peak_memory().is_none_or(|mib| mib < 200),
            "{name}: {:?} MiB",
            peak_memory()
        );
    }
}

#[test]
#[ignore = "prints the times; run it before you change a limit"]
fn print_times() {
    let only = std::env::var("ONLY").unwrap_or_default();
    for (name, template) in table().into_iter().filter(|(name, _)| name.contains(&only)) {
        let before = peak_memory();
        let (end, compiling, rendering) = attempt(template);
        let mut end = format!("{end:?}");
        end.truncate(end.floor_char_boundary(150));
        let slow = if compiling + rendering > Duration::from_millis(50) {
            "SLOW"
        } else {
            ""
        };
        let memory = peak_memory()
            .zip(before)
            .map(|(after, before)| after - before);
        println!("{slow:4} {compiling:10.1?} {rendering:10.1?} {memory:?} {name}: {end}");
    }
}

/// Returns the peak memory of this process in MiB, if the system reports it.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? / 1024)
}
