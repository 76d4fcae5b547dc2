//! Many connections that do little, slowly.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::{HANG, connect};

/// What each client of a crowd does with its connection.
#[derive(Debug, Clone)]
pub enum Habit {
    /// Sends nothing.
    Idle,
    /// Sends these bytes at once, and nothing more.
    Begin(Vec<u8>),
    /// Sends these bytes, one a second.
    Dribble(&'static [u8]),
    /// Sends this request and reads nothing of the answer.
    Ask(String),
    /// Sends this request, then reads the answer in this many pieces a second, of 16 KiB each.
    Sip(String, u32),
}

/// Connections that are held until this is dropped.
#[derive(Debug)]
pub struct Crowd {
    counts: Arc<Counts>,
    tasks: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Counts {
    open: AtomicUsize,
    refused: AtomicUsize,
    closed: AtomicUsize,
    whole: AtomicUsize,
    shed: AtomicUsize,
    reset: AtomicUsize,
}

/// How one connection ended.
enum End {
    /// The server closed it.
    Closed,
    /// A complete answer arrived.
    Whole,
    /// A 503 with Retry-After arrived.
    Shed,
}

// === impl Crowd ===

impl Crowd {
    /// Opens this many connections. Returns once each is open or refused.
    pub fn gather(runtime: &Runtime, to: SocketAddr, count: usize, habit: &Habit) -> Result<Self> {
        let counts = Arc::new(Counts::default());
        let mut tasks = JoinSet::new();
        for client in 0..count {
            let (habit, counts) = (habit.clone(), Arc::clone(&counts));
            let window = matches!(habit, Habit::Ask(_) | Habit::Sip(..)).then_some(4096);
            tasks.spawn_on(
                async move {
                    let Ok(Ok(stream)) = timeout(HANG, connect(to, client, window)).await else {
                        counts.refused.fetch_add(1, Ordering::Relaxed);
                        return;
                    };
                    counts.open.fetch_add(1, Ordering::Relaxed);
                    let end = live(stream, habit).await;
                    let count = match end {
                        Ok(End::Closed) => &counts.closed,
                        Ok(End::Whole) => &counts.whole,
                        Ok(End::Shed) => &counts.shed,
                        Err(_) => &counts.reset,
                    };
                    count.fetch_add(1, Ordering::Relaxed);
                },
                runtime.handle(),
            );
        }
        let crowd = Self { counts, tasks };
        crowd.wait("all have come", |crowd| {
            crowd.counts.open.load(Ordering::Relaxed) + crowd.refused() >= count
        })?;
        Ok(crowd)
    }

    /// The number of refused connections.
    pub fn refused(&self) -> usize {
        self.counts.refused.load(Ordering::Relaxed)
    }

    /// The number that the server has closed or reset.
    pub fn closed(&self) -> usize {
        self.counts.closed.load(Ordering::Relaxed) + self.reset()
    }

    /// The number that the server has reset.
    pub fn reset(&self) -> usize {
        self.counts.reset.load(Ordering::Relaxed)
    }

    /// The number that got a complete answer other than 503.
    pub fn whole(&self) -> usize {
        self.counts.whole.load(Ordering::Relaxed)
    }

    /// The number that got a 503 with Retry-After.
    pub fn shed(&self) -> usize {
        self.counts.shed.load(Ordering::Relaxed)
    }

    /// Waits until a condition holds.
    pub fn wait(&self, what: &str, wanted: impl Fn(&Self) -> bool) -> Result<()> {
        let deadline = Instant::now() + HANG;
        while !wanted(self) {
            ensure!(
                Instant::now() < deadline,
                "still not: {what}; {:?}",
                self.counts
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Closes all connections and waits until they are closed.
    pub fn go(mut self, runtime: &Runtime) {
        runtime.block_on(self.tasks.shutdown());
    }
}

async fn live(mut stream: TcpStream, habit: Habit) -> std::io::Result<End> {
    let mut byte = [0; 1];
    match habit {
        Habit::Idle => stream.read(&mut byte).await.map(|_| End::Closed),
        Habit::Begin(bytes) => {
            // The server may close the connection before it has read everything.
            let _ = stream.write_all(&bytes).await;
            stream.read(&mut byte).await.map(|_| End::Closed)
        }
        Habit::Dribble(text) => {
            for piece in text.iter().cycle() {
                tokio::select! {
                    ended = stream.read(&mut byte) => return ended.map(|_| End::Closed),
                    () = sleep(Duration::from_secs(1)) => stream.write_all(&[*piece]).await?,
                }
            }
            Ok(End::Closed)
        }
        Habit::Ask(request) => {
            stream.write_all(request.as_bytes()).await?;
            // The first bytes of the answer tell the outcome.
            let mut head = [0; 12];
            stream.read_exact(&mut head).await?;
            if head.ends_with(b"503") {
                return Ok(End::Shed);
            }
            std::future::pending().await
        }
        Habit::Sip(request, a_second) => {
            stream.write_all(request.as_bytes()).await?;
            let (mut answer, mut piece) = (Vec::new(), vec![0; 16 * 1024]);
            loop {
                match stream.read(&mut piece).await? {
                    0 => break,
                    count => answer.extend_from_slice(&piece[..count]),
                }
                sleep(Duration::from_secs(1) / a_second).await;
            }
            let answer = crate::http::Response::parse(&answer).map_err(std::io::Error::other)?;
            Ok(if answer.status == 503 {
                End::Shed
            } else {
                End::Whole
            })
        }
    }
}
