//! The TFTP client: many transfers in one thread, each with a separate socket, as many machines
//! would have.

use std::net::{SocketAddr, UdpSocket as StdSocket};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tftp::packet::{Mode, Request};
use tftp::{Options, Packet};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{FILE, pattern};

const SERVER: &str = "127.0.0.1:69";
/// How long to wait for a packet before the last one is sent again.
const PATIENCE: Duration = Duration::from_millis(500);

/// What to fetch.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) clients: usize,
    pub(crate) blksize: u16,
    pub(crate) windowsize: u16,
    /// The size of the file.
    pub(crate) bytes: usize,
}

/// Whether the server has a file. Asks for its size and then aborts.
pub(crate) fn has(file: &str) -> bool {
    let ask = || {
        let socket = StdSocket::bind("127.0.0.1:0").ok()?;
        socket
            .set_read_timeout(Some(Duration::from_millis(200)))
            .ok()?;
        socket
            .send_to(
                &request(
                    file,
                    Options {
                        tsize: Some(0),
                        ..Options::default()
                    },
                ),
                SERVER,
            )
            .ok()?;
        let mut buffer = [0; 600];
        let (length, server) = socket.recv_from(&mut buffer).ok()?;
        let mut enough = Vec::new();
        Packet::Error {
            code: 8,
            text: b"enough",
        }
        .write(&mut enough);
        socket.send_to(&enough, server).ok()?;
        matches!(Packet::parse(&buffer[..length]), Ok(Packet::OptionAck(_))).then_some(())
    };
    ask().is_some()
}

/// Fetches the file with all clients at once, and compares it.
pub(crate) fn fetch(load: Load) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("can't start the runtime")?;
    let expected: Arc<[u8]> = pattern(load.bytes).into();
    runtime.block_on(async {
        let mut clients = JoinSet::new();
        for _ in 0..load.clients {
            clients.spawn(fetch_one(load, expected.clone()));
        }
        while let Some(client) = clients.join_next().await {
            client.context("a client failed")??;
        }
        Ok(())
    })
}

async fn fetch_one(load: Load, expected: Arc<[u8]>) -> anyhow::Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:0").await?;
    let windowsize = (load.windowsize > 1).then_some(load.windowsize);
    let options = Options {
        blksize: Some(load.blksize),
        tsize: Some(0),
        windowsize,
        timeout: None,
    };
    let mut last = request(FILE, options);
    socket.send_to(&last, SERVER).await?;
    let mut buffer = vec![0; 65_536];
    let mut server: Option<SocketAddr> = None;
    let (mut offset, mut block, mut unacknowledged) = (0, 0_u16, 0);
    let mut repeats = 0;
    loop {
        let received = match server {
            // Connected, as in iPXE and curl: less work for the client.
            Some(_) => timeout(PATIENCE, socket.recv(&mut buffer))
                .await
                .map(|received| received.map(|length| (length, None))),
            None => timeout(PATIENCE, socket.recv_from(&mut buffer))
                .await
                .map(|received| received.map(|(length, from)| (length, Some(from)))),
        };
        let Ok(received) = received else {
            repeats += 1;
            ensure!(repeats < 40, "the server fell silent after {offset} bytes");
            match server {
                Some(_) => socket.send(&last).await?,
                None => socket.send_to(&last, SERVER).await?,
            };
            continue;
        };
        let (length, from) = received?;
        if let Some(from) = from {
            socket.connect(from).await?;
            server = Some(from);
        }
        match Packet::parse(&buffer[..length])? {
            Packet::OptionAck(granted) if block == 0 => {
                ensure!(
                    granted.windowsize == windowsize,
                    "the server grants the window {:?}",
                    granted.windowsize
                );
                ensure!(
                    granted.blksize == Some(load.blksize),
                    "the server grants the block size {:?}",
                    granted.blksize
                );
            }
            Packet::Data {
                block: number,
                bytes,
            } if number == block.wrapping_add(1) => {
                ensure!(
                    expected.get(offset..offset + bytes.len()) == Some(bytes),
                    "other bytes than those of the file, from {offset} on"
                );
                offset += bytes.len();
                block = number;
                unacknowledged += 1;
                let is_last = bytes.len() < usize::from(load.blksize);
                if unacknowledged < load.windowsize && !is_last {
                    continue;
                }
                unacknowledged = 0;
                if is_last {
                    acknowledge(block, &mut last);
                    socket.send(&last).await?;
                    ensure!(
                        offset == expected.len(),
                        "the file ended after {offset} bytes"
                    );
                    return Ok(());
                }
            }
            Packet::Data { .. } | Packet::OptionAck(_) => continue,
            Packet::Error { code, text } => {
                bail!("the server says {code} {}", String::from_utf8_lossy(text))
            }
            other => bail!("a server must not send {other:?}"),
        }
        acknowledge(block, &mut last);
        socket.send(&last).await?;
    }
}

fn request(file: &str, options: Options) -> Vec<u8> {
    let mut packet = Vec::new();
    Packet::Read(Request {
        file: file.as_bytes(),
        mode: Mode::Octet,
        options,
    })
    .write(&mut packet);
    packet
}

fn acknowledge(block: u16, out: &mut Vec<u8>) {
    out.clear();
    Packet::Ack(block).write(out);
}
