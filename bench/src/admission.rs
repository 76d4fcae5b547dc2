//! `cargo xtask bench admission`: measures one review with many Assignments in the catalog, from
//! request bytes to response bytes, and through a real API server that calls a real webhook.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use admission::{Request, mutate, validate};
use anyhow::Context;
use boot::Catalog;
use nix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

use super::{catalog, optimised};

mod server;

/// How to measure admission
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many Assignments there are
    #[arg(long, default_value_t = 100_000)]
    assignments: u32,
    /// How many reviews of each sort are timed
    #[arg(long, default_value_t = 1000)]
    reviews: u32,
    /// Leave out the API server, whose programs are built the first time
    #[arg(long)]
    no_server: bool,
    /// Measure this shaper, with the bench however it was built
    #[arg(long)]
    shaper: Option<PathBuf>,
}

/// The target for the 99th percentile of a review.
const AIM: Duration = Duration::from_millis(10);

/// The deadline of a review: half of the three seconds that an API server waits.
const TIME: Duration = Duration::from_millis(1500);

/// Builds a review of one kind for a machine.
type Make = fn(u32) -> Value;

/// Measures with an optimised program.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let program = optimised::shaper(args.shaper.as_deref())?;
    let mut all = Catalog::with_selector_index();
    let started = Instant::now();
    for change in catalog::all(args.assignments) {
        all.apply(change);
    }
    println!(
        "{} Assignments are indexed in {} ms, with who selects which Profile",
        args.assignments,
        started.elapsed().as_millis()
    );
    println!("{:<52} {:^21}   {:^21}", "", "CPU time", "time");
    println!(
        "{:<52} {:>10} {:>10}   {:>10} {:>10}  first words of the last answer",
        "validating", "p50", "p99", "p50", "p99"
    );
    let sorts: [(&str, Make); 9] = [
        ("a new machine's Assignment", |n| {
            review("CREATE", &assignment(n + 1_000_000, "linux"), &Value::Null)
        }),
        ("the same, of a machine that another names", |n| {
            review("CREATE", &renamed(&assignment(n, "linux")), &Value::Null)
        }),
        ("the same, with a mistyped selector", |n| {
            review("CREATE", &assignment(n + 1_000_000, "linus"), &Value::Null)
        }),
        ("an Assignment that leads to another Profile", |n| {
            review("UPDATE", &assignment(n, "changed"), &assignment(n, "linux"))
        }),
        ("an Assignment that goes", |n| {
            review("DELETE", &Value::Null, &assignment(n, "linux"))
        }),
        ("a new Profile with a config", |n| {
            review("CREATE", &profile(&format!("new-{n}"), "new"), &Value::Null)
        }),
        ("a Profile of all machines that gets another label", |_| {
            review(
                "UPDATE",
                &profile("linux", "other"),
                &profile("linux", "linux"),
            )
        }),
        ("a Profile of all machines that goes", |_| {
            review("DELETE", &Value::Null, &profile("linux", "linux"))
        }),
        ("a default that goes before all machines", |_| {
            review("CREATE", &default(), &Value::Null)
        }),
    ];
    for (what, make) in sorts {
        measure(what, args, make, |bytes| {
            let context = admission::Context {
                catalog: Some(&all),
                partition: "",
                age: None,
                deadline: Some(Instant::now() + TIME),
            };
            let answer = validate(&Request::read(bytes)?, &context).answer;
            let said = answer.warnings().first().cloned().or_else(|| {
                answer
                    .causes()
                    .next()
                    .map(|(_, message)| message.to_owned())
            });
            drop(answer.to_json());
            Ok(said.unwrap_or_default())
        })?;
    }
    println!("mutating");
    measure("a new machine's Assignment", args, sorts[0].1, |bytes| {
        let answer = mutate(&Request::read(bytes)?);
        drop(answer.to_json());
        Ok(format!("{} operations", answer.operations().len()))
    })?;
    println!("the aim: a p99 of less than {} us", AIM.as_micros());
    if args.no_server {
        return Ok(());
    }
    server::run(args.assignments, args.reviews, &program)
}

/// Times one kind of review. Wall time includes other processes; CPU time is the review's.
fn measure(
    what: &str,
    args: &Args,
    make: Make,
    ask: impl Fn(&[u8]) -> anyhow::Result<String>,
) -> anyhow::Result<()> {
    let (mut spent, mut took, mut said) = (Vec::new(), Vec::new(), String::new());
    for turn in 0..args.reviews {
        // Spread over the catalog.
        let bytes = make(turn.wrapping_mul(7919) % args.assignments.max(1))
            .to_string()
            .into_bytes();
        let (before, started) = (cpu()?, Instant::now());
        said = ask(&bytes)?;
        took.push(started.elapsed());
        spent.push(cpu()?.saturating_sub(before));
    }
    let [p50, p99] = percentiles(took)?;
    let [cpu_p50, cpu_p99] = percentiles(spent)?;
    let said: String = said.chars().take(90).collect();
    println!("  {what:<50} {cpu_p50:>7} us {cpu_p99:>7} us   {p50:>7} us {p99:>7} us  {said}");
    Ok(())
}

/// Returns the CPU time of this thread.
fn cpu() -> anyhow::Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .context("there is no clock of this thread")?
        .into())
}

/// Returns the 50th and the 99th percentile, in microseconds.
fn percentiles(mut all: Vec<Duration>) -> anyhow::Result<[u128; 2]> {
    all.sort_unstable();
    let last = all
        .len()
        .checked_sub(1)
        .context("nothing was measured; give --reviews")?;
    Ok([50, 99].map(|percent| all[last * percent / 100].as_micros()))
}

/// Returns the Assignment of one machine, as in `catalog`.
fn assignment(number: u32, os: &str) -> Value {
    let octets: Vec<_> = [0x52, 0x54]
        .into_iter()
        .chain(number.to_be_bytes())
        .map(|octet: u8| format!("{octet:02x}"))
        .collect();
    let subjects = json!({
        "uuids": [catalog::uuid(number)], "serialNumbers": [format!("SN{number:010}")], "macAddresses": [octets.join(":")],
    });
    let name = format!("rack-{:04}-machine-{number:06}", number / 40);
    object(
        "Assignment",
        &name,
        &json!({}),
        &json!({ "subjectSelectors": subjects, "profileSelectors": { "os": os } }),
    )
}

fn renamed(assignment: &Value) -> Value {
    let mut other = assignment.clone();
    other["metadata"]["name"] = json!("another");
    other
}

fn profile(name: &str, os: &str) -> Value {
    let script = "#!ipxe\nkernel http://files.lab/vmlinuz initrd=initrd.gz ignition.config.url={{ ignition }} serial={{ encoded.serial }}\n\
                  initrd http://files.lab/initrd.gz\nboot\n";
    let ignition = "{\"ignition\": {\"version\": \"3.4.0\"}, \"host\": \"{{ subject.hostname | default('none') }}\"}";
    object(
        "Profile",
        name,
        &json!({ "os": os }),
        &json!({ "ipxe": script, "additionalConfig": { "ignition": ignition } }),
    )
}

fn default() -> Value {
    object(
        "Assignment",
        "everyone",
        &json!({}),
        &json!({ "profileSelectors": { "os": "changed" }, "priority": 5 }),
    )
}

fn object(kind: &str, name: &str, labels: &Value, spec: &Value) -> Value {
    let metadata = json!({ "name": name, "namespace": "machines", "labels": labels, "creationTimestamp": "2026-01-01T00:00:00Z" });
    json!({ "apiVersion": "shaper.amahdha.com/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec })
}

fn review(operation: &str, object: &Value, old: &Value) -> Value {
    let shown = if object.is_null() { old } else { object };
    let kind =
        json!({ "group": "shaper.amahdha.com", "version": "v1alpha1", "kind": shown["kind"] });
    json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "7c1f", "kind": kind, "operation": operation, "namespace": "machines", "name": shown["metadata"]["name"],
        "userInfo": { "username": "bench" }, "object": object, "oldObject": old,
    } })
}
