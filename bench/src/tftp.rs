//! `cargo xtask bench tftp`: measures the cost of a GiB by TFTP, on the loopback address of a
//! network namespace.
//!
//! Measures once with a curl process for each machine: on loopback the sender pays for waking the
//! receiver, and hundreds of processes share the processors with the server. Measures again with
//! one process that has a socket for each transfer and is awake anyway: what remains is the cost of
//! the server and of the kernel's packet path. curl does not support windowsize.

mod client;
mod cpu;
mod peers;

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use e2e::assets::{Package, ensure_packages};
use e2e::process;

use super::optimised;
use client::Load;
use peers::Peer;

/// The file that all servers offer.
pub(crate) const FILE: &str = "bench.img";

/// How to measure TFTP
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Measure each so many times, and print the median
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// With these clients only
    #[arg(long)]
    only: Option<Clients>,
    /// Set by the command itself, in its namespace
    #[arg(long, hide = true)]
    inside: bool,
}

/// Who fetches.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Clients {
    /// A process for each transfer
    Curl,
    /// One process for all transfers
    One,
}

/// A load, equal for all servers.
#[derive(Clone, Copy)]
struct Case {
    clients: usize,
    by: Clients,
    windowsize: u16,
    /// Per client.
    mebibytes: usize,
}

const CASES: [Case; 8] = [
    Case {
        clients: 1,
        by: Clients::Curl,
        windowsize: 1,
        mebibytes: 64,
    },
    Case {
        clients: 32,
        by: Clients::Curl,
        windowsize: 1,
        mebibytes: 16,
    },
    Case {
        clients: 200,
        by: Clients::Curl,
        windowsize: 1,
        mebibytes: 3,
    },
    Case {
        clients: 1,
        by: Clients::One,
        windowsize: 1,
        mebibytes: 64,
    },
    Case {
        clients: 32,
        by: Clients::One,
        windowsize: 1,
        mebibytes: 16,
    },
    Case {
        clients: 200,
        by: Clients::One,
        windowsize: 1,
        mebibytes: 3,
    },
    Case {
        clients: 1,
        by: Clients::One,
        windowsize: 16,
        mebibytes: 256,
    },
    Case {
        clients: 32,
        by: Clients::One,
        windowsize: 16,
        mebibytes: 32,
    },
];

/// The result of one measurement.
#[derive(Clone, Copy)]
struct Measured {
    seconds_per_gibibyte: f64,
    mebibytes_per_second: f64,
}

/// Measures all servers in turns, so that other load on this computer affects all of them.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    if !args.inside {
        return enter_namespace(args);
    }
    println!("| clients | window | server | CPU s/GiB | MiB/s |\n|---|---|---|---|---|");
    let mut verdicts = String::new();
    for case in CASES
        .iter()
        .filter(|case| args.only.is_none_or(|only| only == case.by))
    {
        let medians = measure_all(*case, args.rounds.max(1))?;
        verdict(&mut verdicts, *case, &medians);
    }
    println!("\n{verdicts}");
    Ok(())
}

/// Restarts itself in a namespace where nothing else listens on port 69.
fn enter_namespace(args: &Args) -> anyhow::Result<()> {
    ensure!(
        process::is_root(),
        "this needs root: a network namespace, and port 69 in it"
    );
    ensure_packages(&[
        Package::Iproute,
        Package::Dnsmasq,
        Package::TftpdHpa,
        Package::Curl,
    ])?;
    optimised::shaper(None)?;
    let own = std::env::current_exe().context("can't find this program")?;
    let mut command = Command::new("unshare");
    command
        .args([
            "--net",
            "--",
            "sh",
            "-c",
            "ip link set lo up && exec \"$0\" \"$@\"",
        ])
        .arg(own);
    command.args(["tftp", "--inside", "--rounds", &args.rounds.to_string()]);
    if let Some(only) = args.only {
        command.args(["--only", only.name()]);
    }
    let status = command.status().context("can't run unshare")?;
    ensure!(status.success(), "the measurement ended with {status}");
    Ok(())
}

/// Measures one load with each server, and prints the medians.
fn measure_all(case: Case, rounds: usize) -> anyhow::Result<Vec<(Peer, Measured)>> {
    let folder = tempfile::tempdir().context("can't make a temporary folder")?;
    let file = folder.path().join(FILE);
    std::fs::write(&file, pattern(case.mebibytes << 20))
        .context("can't write the file to be fetched")?;
    // tftpd-hpa and dnsmasq require the file to be world-readable.
    process::output(
        "chmod",
        ["-R", "a+rX", &folder.path().display().to_string()],
    )?;
    let mut all: Vec<Vec<Measured>> = Peer::ALL.map(|_| Vec::new()).into();
    for _ in 0..rounds {
        for (peer, measured) in Peer::ALL.iter().zip(&mut all) {
            if case.windowsize == 1 || peer.has_windowsize() {
                measured.push(measure(*peer, case, folder.path())?);
            }
        }
    }
    let mut medians = Vec::new();
    for (peer, measured) in Peer::ALL.iter().zip(&all) {
        let row = format!(
            "{} {} | {} | {}",
            case.clients,
            case.by.words(),
            case.windowsize,
            peer.name()
        );
        let Some(median) = median(measured) else {
            println!("| {row} | has no windowsize | |");
            continue;
        };
        println!(
            "| {row} | {:.2} | {:.0} |",
            median.seconds_per_gibibyte, median.mebibytes_per_second
        );
        medians.push((*peer, median));
    }
    Ok(medians)
}

fn measure(peer: Peer, case: Case, folder: &Path) -> anyhow::Result<Measured> {
    let group = cpu::Group::new()?;
    let _server = peer.start(folder, &group)?;
    let bytes = case.clients * (case.mebibytes << 20);
    let before = group.usage()?;
    let started = Instant::now();
    match case.by {
        Clients::Curl => fetch_with_curl(case.clients)?,
        Clients::One => {
            let load = Load {
                clients: case.clients,
                blksize: 1432,
                windowsize: case.windowsize,
                bytes: case.mebibytes << 20,
            };
            client::fetch(load).with_context(|| format!("from {}", peer.name()))?;
        }
    }
    let took = started.elapsed();
    // A server that forks ends its children a moment later.
    std::thread::sleep(Duration::from_millis(200));
    let used = group
        .usage()?
        .checked_sub(before)
        .context("the CPU clock runs backwards")?;
    let mebibytes = bytes as f64 / f64::from(1 << 20);
    Ok(Measured {
        seconds_per_gibibyte: used.as_secs_f64() / (mebibytes / 1024.0),
        mebibytes_per_second: mebibytes / took.as_secs_f64(),
    })
}

fn fetch_with_curl(clients: usize) -> anyhow::Result<()> {
    let url = format!("tftp://127.0.0.1/{FILE}");
    let start = |_| {
        Command::new("curl")
            .args(["-sS", "--tftp-blksize", "1432", "-o", "/dev/null", &url])
            .spawn()
    };
    let running: Result<Vec<_>, _> = (0..clients).map(start).collect();
    for mut curl in running.context("can't run curl")? {
        let status = curl.wait().context("can't wait for curl")?;
        ensure!(status.success(), "curl ended with {status}");
    }
    Ok(())
}

/// Returns bytes in which each block differs.
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    (0..length.div_ceil(8) as u64)
        .flat_map(|number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes())
        .take(length)
        .collect()
}

fn median(measured: &[Measured]) -> Option<Measured> {
    let middle = |value: fn(&Measured) -> f64| {
        let mut values: Vec<_> = measured.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    };
    Some(Measured {
        seconds_per_gibibyte: middle(|measured| measured.seconds_per_gibibyte)?,
        mebibytes_per_second: middle(|measured| measured.mebibytes_per_second)?,
    })
}

fn verdict(out: &mut String, case: Case, medians: &[(Peer, Measured)]) {
    let ours = medians.iter().find(|(peer, _)| *peer == Peer::Shaper);
    let others = || {
        medians
            .iter()
            .filter(|(peer, _)| *peer != Peer::Shaper)
            .map(|(_, measured)| measured)
    };
    let cheapest = others()
        .map(|measured| measured.seconds_per_gibibyte)
        .min_by(f64::total_cmp);
    let fastest = others()
        .map(|measured| measured.mebibytes_per_second)
        .max_by(f64::total_cmp);
    if let (Some((_, ours)), Some(cheapest), Some(fastest)) = (ours, cheapest, fastest) {
        let (cpu, speed) = (
            ours.seconds_per_gibibyte / cheapest,
            ours.mebibytes_per_second / fastest,
        );
        let _ = writeln!(
            out,
            "{} {}: {cpu:.2} of the CPU of the cheaper one (aim: at most {:.1}), {speed:.2} of the throughput of the faster one (aim: at least 1)",
            case.clients,
            case.by.words(),
            case.aim()
        );
    }
}

// === impl Clients ===

impl Clients {
    /// Returns the name on the command line.
    fn name(self) -> &'static str {
        match self {
            Self::Curl => "curl",
            Self::One => "one",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Curl => "curl",
            Self::One => "in one process",
        }
    }
}

// === impl Case ===

impl Case {
    /// Returns the target: the largest allowed ratio to the CPU time of the cheaper of the peers.
    fn aim(&self) -> f64 {
        if self.clients == 1 { 1.0 } else { 0.7 }
    }
}
