//! `cargo xtask bench feed`: measures a catalog's way from a controller to its replicas, over
//! mutual TLS on loopback.
//!
//! The controller is the publisher of this process, without Kubernetes; the replicas are real ones.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use feed::Publisher;
use tokio::runtime::Runtime;

use super::controller::{self, Certificates, Controller};
use super::replica::{Replica, memory};
use super::{catalog, optimised};

/// How to measure the feed
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many Assignments there are
    #[arg(long, default_value_t = 100_000)]
    assignments: u32,
    /// How many replicas follow
    #[arg(long, default_value_t = 3)]
    replicas: usize,
    /// How many changes are timed, one after the other
    #[arg(long, default_value_t = 500)]
    changes: u32,
}

/// The targets: time until all replicas are ready, time until a change is served, and memory
/// besides that of objects.
const READY: Duration = Duration::from_secs(10);
const SERVED: Duration = Duration::from_secs(1);
const BASE: u64 = 64 << 20;
const KIB: u64 = 1024;

/// A limit far above the duration of any step.
const LONG: Duration = Duration::from_mins(3);

/// Measures with optimised programs on both ends.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let program = optimised::shaper(None)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("can't start a runtime")?;
    measure(args, &program, &runtime)
}

fn measure(args: &Args, program: &Path, runtime: &Runtime) -> anyhow::Result<()> {
    let certificates = Certificates::new()?;
    let listener = controller::listen()?;
    let port = listener.local_addr()?.port();

    let before = memory(std::process::id(), "VmRSS")?;
    let publisher = Arc::new(Publisher::new());
    let started = Instant::now();
    publisher.apply(catalog::all(args.assignments));
    let indexed = started.elapsed();
    publisher.set_ready();
    let controller = Controller::serve(runtime, publisher, &certificates, listener.try_clone()?)?;
    println!(
        "{} Assignments are indexed in {} ms; starting {} replicas",
        args.assignments,
        indexed.as_millis(),
        args.replicas
    );

    let started = Instant::now();
    let replicas: Vec<_> = (0..args.replicas)
        .map(|_| Replica::start(program, port, &certificates, &["--log", "warn"]))
        .collect::<Result<_, _>>()?;
    let mut ready = Vec::new();
    for replica in &replicas {
        replica.wait_ready(LONG)?;
        ready.push(started.elapsed());
    }
    let own = memory(std::process::id(), "VmRSS")?.saturating_sub(before);
    let objects = u64::from(args.assignments);
    let per_object = |bytes: u64| {
        format!(
            "{:.0} MiB, {} bytes an object",
            bytes as f64 / 1_048_576.0,
            bytes / objects.max(1)
        )
    };
    let row = |what: &str, value: String, aim: String| {
        println!("{}", format!("{what:<44} {value:<56} {aim}").trim_end());
    };
    println!();
    let ready = longest(&ready);
    row(
        "process started to all replicas ready",
        format!("{} ms", ready.as_millis()),
        aim("at most 10 s", ready <= READY),
    );
    let received = replicas[0].metric("shaper_feed_received_bytes_total")?;
    row(
        "read from the feed by each",
        per_object(received),
        aim("at most 1 KiB an object", received <= objects * KIB),
    );
    let memory_aim = |bytes: u64| {
        aim(
            "at most 64 MiB and 1 KiB an object",
            bytes <= BASE + objects * KIB,
        )
    };
    row(
        "controller's memory for it",
        per_object(own),
        memory_aim(own),
    );
    let resident = largest(&replicas, "VmRSS")?;
    row(
        "replica's resident memory",
        per_object(resident),
        memory_aim(resident),
    );
    row(
        "replica's peak on the way",
        per_object(largest(&replicas, "VmHWM")?),
        String::new(),
    );

    let mut took = change(&controller.publisher, &replicas, args)?;
    took.sort_unstable();
    let percentile = |percent: usize| took[(took.len() - 1) * percent / 100];
    let (median, slow, worst) = (percentile(50), percentile(99), percentile(100));
    let served = format!(
        "p50 {median:.1?}, p99 {slow:.1?}, max {worst:.1?} of {}",
        took.len()
    );
    row(
        "change to served by all replicas",
        served,
        aim("p99 under 1 s", slow < SERVED),
    );
    let steady = largest(&replicas, "VmRSS")?;

    for replica in &replicas {
        replica.forget_peak()?;
    }
    controller.end(runtime)?;
    let publisher = Arc::new(Publisher::new());
    publisher.apply(catalog::all(args.assignments));
    publisher.apply(vec![catalog::marker("after")]);
    publisher.set_ready();
    let started = Instant::now();
    let controller = Controller::serve(runtime, publisher, &certificates, listener)?;
    for replica in &replicas {
        replica.wait_answer(&asked(0), &script("after"), LONG)?;
    }
    row(
        "another controller to all replicas on it",
        format!("{} ms", started.elapsed().as_millis()),
        String::new(),
    );
    let peak = largest(&replicas, "VmHWM")?;
    row(
        "replica's peak on the way",
        per_object(peak),
        aim("at most twice the memory of before", peak <= steady * 2),
    );
    controller.end(runtime)
}

/// Formats a target and whether it was reached.
fn aim(text: &str, is_reached: bool) -> String {
    format!(
        "aim: {text}: {}",
        if is_reached { "reached" } else { "NOT reached" }
    )
}

/// Returns the largest value of a kernel field among the replicas.
fn largest(replicas: &[Replica], field: &str) -> anyhow::Result<u64> {
    let all = replicas
        .iter()
        .map(|replica| memory(replica.pid(), field))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(all.into_iter().max().unwrap_or_default())
}

/// Makes one change after the other and returns how long each took until all replicas served it.
fn change(
    publisher: &Publisher,
    replicas: &[Replica],
    args: &Args,
) -> anyhow::Result<Vec<Duration>> {
    let mut all = Vec::new();
    for turn in 0..args.changes {
        // Spread over the catalog; each change is to another machine's Assignment.
        let number = turn.wrapping_mul(7919) % args.assignments.max(1);
        let served = std::thread::scope(|scope| {
            let started = Instant::now();
            let waiting: Vec<_> = replicas
                .iter()
                .map(|replica| {
                    scope.spawn(move || {
                        replica.wait_answer(&asked(number), &script("changed"), LONG)?;
                        anyhow::Ok(started.elapsed())
                    })
                })
                .collect();
            publisher.apply(vec![catalog::changed(number)]);
            let served = waiting
                .into_iter()
                .map(|waiting| waiting.join().expect("it does not panic"));
            served.collect::<anyhow::Result<Vec<_>>>()
        })?;
        all.push(longest(&served));
        publisher.apply(vec![catalog::assignment(number)]);
        for replica in replicas {
            replica.wait_answer(&asked(number), &script("linux"), LONG)?;
        }
    }
    Ok(all)
}

/// Returns the path that a machine requests.
fn asked(number: u32) -> String {
    format!("/ipxe?uuid={}", catalog::uuid(number))
}

/// Returns the beginning of a Profile's script.
fn script(profile: &str) -> String {
    format!("#!ipxe\necho {profile}\n")
}

fn longest(all: &[Duration]) -> Duration {
    all.iter().copied().max().unwrap_or_default()
}
