//! A TCP proxy with faults on demand.

use anyhow::{Context, Result};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

/// How often each direction checks the fault.
const LOOK: Duration = Duration::from_millis(20);

/// A fault of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Fault {
    /// No fault.
    None,
    /// Connections are accepted and nothing arrives in either direction.
    BlackHole,
    /// Nothing that the client sends arrives.
    NothingThere,
    /// Nothing that the server sends arrives.
    NothingBack,
    /// Existing and new connections are closed.
    Cut,
}

/// A running proxy. It stops on drop. A connection that has lost bytes does not recover: after the
/// fault, only new connections work.
#[derive(Debug)]
pub struct Wire {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    server: SocketAddr,
    fault: AtomicU8,
    stopping: AtomicBool,
}

// === impl Wire ===

impl Wire {
    /// Starts a proxy without faults in front of this server.
    pub fn to(server: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free TCP port")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            server,
            fault: AtomicU8::new(Fault::None as u8),
            stopping: AtomicBool::new(false),
        });
        let serving = shared.clone();
        std::thread::spawn(move || {
            while !serving.stopping.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((client, _)) => serving.carry(client),
                    Err(_) => std::thread::sleep(LOOK),
                }
            }
        });
        Ok(Self { address, shared })
    }

    /// The address that clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets the fault from now on.
    pub fn set(&self, fault: Fault) {
        self.shared.fault.store(fault as u8, Ordering::Relaxed);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
    }
}

// === impl Shared ===

impl Shared {
    fn has(&self, fault: Fault) -> bool {
        self.fault.load(Ordering::Relaxed) == fault as u8
    }

    fn carry(self: &Arc<Self>, client: TcpStream) {
        // Whichever fails, the client sees a closed connection.
        if self.has(Fault::Cut) {
            return;
        }
        let Ok(server) = TcpStream::connect(self.server) else {
            return;
        };
        let ways = || -> std::io::Result<_> {
            client.set_nonblocking(false)?;
            Ok([
                (
                    client.try_clone()?,
                    server.try_clone()?,
                    Fault::NothingThere,
                ),
                (server, client, Fault::NothingBack),
            ])
        };
        for (from, to, fault) in ways().into_iter().flatten() {
            let shared = self.clone();
            std::thread::spawn(move || {
                // A broken connection is closed in both directions.
                let _ = shared.pump(&from, &to, fault);
                [from, to]
                    .iter()
                    .for_each(|end| drop(end.shutdown(Shutdown::Both)));
            });
        }
    }

    /// Copies one direction of a connection until it is to be closed.
    fn pump(&self, mut from: &TcpStream, mut to: &TcpStream, fault: Fault) -> std::io::Result<()> {
        from.set_read_timeout(Some(LOOK))?;
        to.set_nodelay(true)?;
        let mut buffer = vec![0; 64 * 1024];
        let mut has_lost = false;
        while !self.stopping.load(Ordering::Relaxed) && !self.has(Fault::Cut) {
            let read = match from.read(&mut buffer) {
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    continue;
                }
                read => read?,
            };
            has_lost |= self.has(Fault::BlackHole) || self.has(fault);
            match (read, has_lost) {
                // The end of the stream is lost as well: the other side waits for ever.
                (0, true) => std::thread::sleep(LOOK),
                (0, false) => return Ok(()),
                (_, true) => {}
                (_, false) => to.write_all(&buffer[..read])?,
            }
        }
        Ok(())
    }
}
