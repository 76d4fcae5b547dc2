//! Simulates machines that request their scripts: one process with a fixed number of connections
//! and requests.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use nix::sys::socket::{setsockopt, sockopt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::site;

/// Asks for scripts and says how long that took
#[derive(clap::Args)]
pub(crate) struct Args {
    #[arg(long)]
    pub(super) address: SocketAddr,
    #[arg(long)]
    pub(super) requests: u32,
    #[arg(long)]
    pub(super) connections: u32,
    /// A connection is for so many questions
    #[arg(long)]
    pub(super) each: u32,
    /// How many machines have an Assignment; one question of twenty is of one that has none
    #[arg(long)]
    pub(super) machines: u32,
    #[arg(long)]
    pub(super) seed: u32,
    /// The address of its own from which it asks: where thousands of connections have just ended,
    /// the system takes longer and longer to find one port more
    #[arg(long, default_value = "127.0.0.1")]
    pub(super) from: Ipv4Addr,
}

/// The client's report.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) p50: Duration,
    pub(super) p99: Duration,
    /// Responses other than 200.
    pub(super) others: u32,
}

/// A limit far above the duration of any round.
const LIMIT: Duration = Duration::from_mins(2);
/// One machine in this many is unknown.
const UNKNOWN: u32 = 20;

/// A connection and its remaining requests.
struct Machine<'a> {
    args: &'a Args,
    /// The stream, and for how many requests it may still be used.
    stream: Option<(TcpStream, u32)>,
    asked: String,
    answer: Vec<u8>,
    took: Vec<u32>,
    others: u32,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("can't start a runtime")?;
    let asking = async {
        let machines = (0..args.connections).map(|place| Machine::new(args).ask_all(place));
        futures_util::future::try_join_all(machines).await
    };
    let ended = runtime.block_on(async { tokio::time::timeout(LIMIT, asking).await });
    let machines = ended
        .with_context(|| format!("the server did not answer all within {} s", LIMIT.as_secs()))??;
    let mut took: Vec<u32> = machines
        .iter()
        .flat_map(|machine| machine.took.iter().copied())
        .collect();
    took.sort_unstable();
    let percentile = |percent: usize| took[(took.len() - 1) * percent / 100];
    let others: u32 = machines.iter().map(|machine| machine.others).sum();
    println!("{} {} {others}", percentile(50), percentile(99));
    Ok(())
}

// === impl Seen ===

impl Seen {
    /// Parses what a client printed.
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        let numbers: Vec<u32> = text
            .split_whitespace()
            .map(str::parse)
            .collect::<Result<_, _>>()
            .context("the client says numbers")?;
        let [p50, p99, others] = numbers[..] else {
            anyhow::bail!("the client says three numbers, not {text:?}")
        };
        let time =
            |tens_of_nanoseconds: u32| Duration::from_nanos(u64::from(tens_of_nanoseconds) * 10);
        Ok(Self {
            p50: time(p50),
            p99: time(p99),
            others,
        })
    }
}

// === impl Machine ===

impl<'a> Machine<'a> {
    fn new(args: &'a Args) -> Self {
        let took = Vec::with_capacity((args.requests / args.connections) as usize + 1);
        Self {
            args,
            stream: None,
            asked: String::new(),
            answer: vec![0; 16 * 1024],
            took,
            others: 0,
        }
    }

    async fn ask_all(mut self, place: u32) -> anyhow::Result<Self> {
        for turn in (place..self.args.requests).step_by(self.args.connections as usize) {
            // Spread over all machines in an order that caches can't predict.
            let random = (turn ^ self.args.seed.rotate_left(16))
                .wrapping_mul(0x9e37_79b1)
                .rotate_left(15)
                .wrapping_mul(0x85eb_ca77);
            let machine = random % self.args.machines;
            self.ask(if turn % UNKNOWN == 0 {
                u32::MAX - machine
            } else {
                machine
            })
            .await?;
        }
        Ok(self)
    }

    async fn ask(&mut self, machine: u32) -> anyhow::Result<()> {
        self.asked.clear();
        self.asked.push_str("GET ");
        site::target(&mut self.asked, machine);
        let host = self.args.address;
        let head = format!(
            " HTTP/1.1\r\nConnection: keep-alive\r\nUser-Agent: iPXE/1.21.1+ (g1234)\r\nHost: {host}\r\n\r\n"
        );
        self.asked.push_str(&head);
        let started = Instant::now();
        let (mut stream, left) = match self.stream.take() {
            Some(kept) => kept,
            None => (connect(self.args.from, host).await?, self.args.each),
        };
        stream
            .write_all(self.asked.as_bytes())
            .await
            .context("can't send")?;
        let mut read = 0;
        let end = loop {
            let more = stream
                .read(&mut self.answer[read..])
                .await
                .context("can't receive")?;
            ensure!(
                more > 0,
                "the server closed, or its answer is longer than expected"
            );
            read += more;
            if let Some(end) = length(&self.answer[..read])? {
                break end;
            }
        };
        while read < end {
            let more = stream
                .read(&mut self.answer[read..])
                .await
                .context("can't receive")?;
            ensure!(
                more > 0,
                "the server closed, or its answer is longer than expected"
            );
            read += more;
        }
        self.took
            .push(u32::try_from(started.elapsed().as_nanos() / 10).unwrap_or(u32::MAX));
        self.others += u32::from(!self.answer.starts_with(b"HTTP/1.1 200 "));
        self.stream = (left > 1).then_some((stream, left - 1));
        Ok(())
    }
}

async fn connect(from: Ipv4Addr, to: SocketAddr) -> anyhow::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    // Defers the choice of a port until the destination is known.
    setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
    socket.bind((from, 0).into())?;
    let stream = socket.connect(to).await.context("can't connect")?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Returns the length of the whole response, once its head is complete.
fn length(answer: &[u8]) -> anyhow::Result<Option<usize>> {
    let Some(head) = answer.windows(4).position(|end| end == b"\r\n\r\n") else {
        return Ok(None);
    };
    let text = std::str::from_utf8(&answer[..head]).context("a head is ASCII")?;
    let length = text
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .context("an answer says its length")?;
    Ok(Some(
        head + 4 + length.parse::<usize>().context("a length is a number")?,
    ))
}
