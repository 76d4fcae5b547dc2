//! `cargo xtask bench http`: measures the cost of one `/ipxe`, compared with hyper and a constant
//! response.
//!
//! Each server is a separate process, and so is the client. Rounds are short and alternate between
//! servers, so that other load on this computer affects all of them; the figures are medians of
//! rounds, and a ratio is the median of the ratios within a round.

mod bare;
mod client;
mod report;
mod site;

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use e2e::process::Process;
use feed::Publisher;
use nix::time::ClockId;
use nix::unistd::Pid;
use tokio::runtime::Runtime;

use super::controller::{self, Certificates, Controller};
use super::optimised;
use super::replica::{Replica, memory};

use client::Seen;
use report::{Case, Figures, Keeping, Memory, Report};

/// How to measure HTTP
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    /// How many Assignments each shaper has
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 100_000, 1_000_000], value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    assignments: Vec<u32>,
    /// Measure each so many times
    #[arg(long, default_value_t = 36, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Requests of one round, on kept connections; half of them with a connection for three, a
    /// quarter with one for each
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    requests: u32,
    /// Requests at once
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1024))]
    connections: u32,
    /// Changes a second, where there are any
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    changes: u32,
    /// Measure this shaper, with the bench however it was built
    #[arg(long)]
    shaper: Option<PathBuf>,
    #[command(subcommand)]
    part: Option<Part>,
}

/// The other processes of a measurement.
#[derive(clap::Subcommand)]
#[command(hide = true)]
enum Part {
    Bare(bare::Args),
    Client(client::Args),
}

/// A shaper with its controller.
struct Site {
    machines: u32,
    controller: Controller,
    replica: Replica,
}

/// A server of hyper alone.
struct Bare {
    process: Process,
    address: SocketAddr,
    _body: tempfile::NamedTempFile,
}

/// A limit far above the duration of any step.
const LONG: Duration = Duration::from_mins(3);

/// Measures, and prints a table.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    match &args.part {
        Some(Part::Bare(args)) => return bare::run(args),
        Some(Part::Client(args)) => return client::run(args),
        None => {}
    }
    let program = optimised::shaper(args.shaper.as_deref())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("can't start a runtime")?;
    let certificates = Certificates::new()?;
    let sites: Vec<Site> = args
        .assignments
        .iter()
        .map(|machines| {
            Site::start(&program, *machines, &certificates, &runtime)
                .with_context(|| format!("with {machines} Assignments"))
        })
        .collect::<Result<_, _>>()?;
    let bare = Bare::start(&sites[0].answer()?)?;
    let mut report = Report::default();
    for site in &sites {
        report.memory.push(Memory {
            machines: site.machines,
            resident: memory(site.replica.pid(), "VmRSS")?,
        });
    }
    // The first round warms up caches and branch predictors, and is not counted.
    for round in 0..=args.rounds {
        for keeping in Keeping::ALL {
            let mut measured = vec![(
                Case {
                    machines: None,
                    keeping,
                    changes: false,
                },
                args.measure(&bare.place(), keeping, round)?,
            )];
            for site in &sites {
                let figures = args.measure(&site.place(), keeping, round)?;
                measured.push((
                    Case {
                        machines: Some(site.machines),
                        keeping,
                        changes: false,
                    },
                    figures,
                ));
                let figures = site.while_it_changes(args.changes, || {
                    args.measure(&site.place(), keeping, round)
                })?;
                measured.push((
                    Case {
                        machines: Some(site.machines),
                        keeping,
                        changes: true,
                    },
                    figures,
                ));
            }
            if round > 0 {
                report.add(measured);
            }
        }
    }
    for (site, memory_before) in sites.iter().zip(&mut report.memory) {
        memory_before.resident = memory_before
            .resident
            .max(memory(site.replica.pid(), "VmRSS")?);
    }
    report.print();
    sites
        .into_iter()
        .try_for_each(|site| site.controller.end(&runtime))
}

/// A server under test: the address to request, and the process whose CPU time is counted.
struct Place {
    address: SocketAddr,
    pid: u32,
    machines: u32,
}

impl Args {
    fn measure(&self, place: &Place, keeping: Keeping, round: u32) -> anyhow::Result<Figures> {
        let requests = self.requests / keeping.cost();
        let own = std::env::current_exe().context("can't find this program")?;
        let mut client = Command::new(own);
        client.args([
            "http",
            "client",
            "--address",
            &place.address.to_string(),
            "--requests",
            &requests.to_string(),
        ]);
        client.args([
            "--connections",
            &self.connections.to_string(),
            "--machines",
            &place.machines.to_string(),
        ]);
        client
            .args(["--seed", &round.to_string()])
            .args(["--each", &keeping.requests().to_string()]);
        client.args(["--from", &next_address().to_string()]);
        let before = cpu(place.pid)?;
        let ended = client
            .stderr(Stdio::inherit())
            .output()
            .context("can't run the client")?;
        let used = cpu(place.pid)?.saturating_sub(before);
        ensure!(
            ended.status.success(),
            "the client failed; its message is above"
        );
        let Seen { p50, p99, others } = Seen::parse(&String::from_utf8_lossy(&ended.stdout))?;
        ensure!(
            others <= requests / 10,
            "{others} of {requests} answers were no scripts"
        );
        Ok(Figures {
            cpu: used.as_secs_f64() * 1e6 / f64::from(requests),
            p50: p50.as_secs_f64() * 1e6,
            p99: p99.as_secs_f64() * 1e6,
        })
    }
}

/// Returns a loopback address that no client has used lately.
fn next_address() -> Ipv4Addr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let [high, low] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    Ipv4Addr::new(127, 1, high, low)
}

/// Returns the CPU time of all threads of a process, including ended ones, in nanoseconds.
pub(super) fn cpu(pid: u32) -> anyhow::Result<Duration> {
    let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(
        pid.try_into().context("a process id is small")?,
    ));
    Ok(clock
        .and_then(ClockId::now)
        .context("can't read the CPU time of the server")?
        .into())
}

// === impl Site ===

impl Site {
    fn start(
        program: &std::path::Path,
        machines: u32,
        certificates: &Certificates,
        runtime: &Runtime,
    ) -> anyhow::Result<Self> {
        let publisher = Arc::new(Publisher::new());
        publisher.apply(site::all(machines));
        publisher.set_ready();
        let listener = controller::listen()?;
        let port = listener.local_addr()?.port();
        let controller = Controller::serve(runtime, publisher, certificates, listener)?;
        let replica = Replica::start(
            program,
            port,
            certificates,
            &["--log-format", "json", "--log", "info"],
        )?;
        replica.wait_ready(LONG)?;
        Ok(Self {
            machines,
            controller,
            replica,
        })
    }

    fn place(&self) -> Place {
        Place {
            address: self.replica.http(),
            pid: self.replica.pid(),
            machines: self.machines,
        }
    }

    /// Returns the script of a machine.
    fn answer(&self) -> anyhow::Result<String> {
        let mut target = String::new();
        site::target(&mut target, 1);
        let answer = self.replica.get(&target)?;
        let (head, body) = answer
            .split_once("\r\n\r\n")
            .context("an answer has a head")?;
        ensure!(
            head.starts_with("HTTP/1.1 200 ") && body.starts_with("#!ipxe\n"),
            "shaper answers {answer}"
        );
        Ok(body.to_owned())
    }

    /// Runs a closure while this many Assignments change per second.
    fn while_it_changes<T>(
        &self,
        changes: u32,
        act: impl FnOnce() -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let started = Instant::now();
                for turn in 0_u32.. {
                    let due = Duration::from_secs(1) * turn / changes;
                    std::thread::sleep(due.saturating_sub(started.elapsed()));
                    if ended.load(Ordering::Relaxed) {
                        return;
                    }
                    // Changes each machine in turn, spread over the catalog; the next time around
                    // it gets its first Profile again.
                    let number = turn.wrapping_mul(7919) % self.machines;
                    let system = if (turn / self.machines).is_multiple_of(2) {
                        "next"
                    } else {
                        "linux"
                    };
                    self.controller
                        .publisher
                        .apply(vec![site::assignment(number, system)]);
                }
            });
            let result = act();
            ended.store(true, Ordering::Relaxed);
            result
        })
    }
}

// === impl Bare ===

impl Bare {
    fn start(body: &str) -> anyhow::Result<Self> {
        let mut file = tempfile::NamedTempFile::new().context("can't write the answer")?;
        file.write_all(body.as_bytes())
            .context("can't write the answer")?;
        let own = std::env::current_exe().context("can't find this program")?;
        let mut process = Process::start("bare server", own.as_os_str(), None, |command| {
            command
                .args(["http", "bare"])
                .arg(file.path())
                .stdout(Stdio::piped());
        })?;
        let mut said = String::new();
        BufReader::new(
            process
                .child()
                .stdout
                .take()
                .context("its output is piped")?,
        )
        .read_line(&mut said)?;
        let address = said
            .trim()
            .parse()
            .context("the bare server did not start")?;
        Ok(Self {
            process,
            address,
            _body: file,
        })
    }

    fn place(&self) -> Place {
        Place {
            address: self.address,
            pid: self.process.id(),
            machines: 1000,
        }
    }
}
