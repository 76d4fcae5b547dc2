//! A TFTP client (RFC 1350, 2347 to 2349, 7440), and one that sends arbitrary datagrams.

use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

/// Options by name, as in packets.
pub type Options = BTreeMap<String, String>;

/// A transfer to perform.
#[derive(Debug, Clone)]
pub struct Client {
    server: SocketAddr,
    options: Options,
    patience: Duration,
}

/// The result of a transfer.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// The file's content.
    pub bytes: Vec<u8>,
    /// The options that the server granted.
    pub options: Options,
    /// The address that the answers came from.
    pub from: SocketAddr,
}

/// A running transfer.
struct Transfer {
    socket: UdpSocket,
    patience: Duration,
    from: Option<SocketAddr>,
    last: Vec<u8>,
    to: SocketAddr,
}

/// Sends one datagram from a new socket and returns the first answer within a short time.
pub fn ask(server: SocketAddr, datagram: &[u8]) -> Result<Option<Vec<u8>>> {
    let socket = socket_for(server)?;
    socket.set_read_timeout(Some(Duration::from_millis(300)))?;
    socket.send_to(datagram, server).context("could not send")?;
    let mut buffer = vec![0; 65_536];
    match socket.recv_from(&mut buffer) {
        Ok((length, _)) => Ok(Some(buffer[..length].to_vec())),
        Err(error)
            if matches!(
                error.kind(),
                std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

fn socket_for(server: SocketAddr) -> Result<UdpSocket> {
    let any: IpAddr = if server.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    UdpSocket::bind((any, 0)).context("no free UDP port")
}

/// Encodes a read request.
pub(crate) fn request(file: &str, options: &Options) -> Vec<u8> {
    let mut packet = format!("\0\x01{file}\0octet\0").into_bytes();
    for (name, value) in options {
        packet.extend(format!("{name}\0{value}\0").bytes());
    }
    packet
}

// === impl Client ===

impl Client {
    /// Describes a transfer from this server without options.
    pub fn of(server: SocketAddr) -> Self {
        Self {
            server,
            options: Options::new(),
            patience: Duration::from_millis(400),
        }
    }

    /// Requests an option.
    pub fn option(mut self, name: &str, value: impl ToString) -> Self {
        self.options.insert(name.to_owned(), value.to_string());
        self
    }

    /// Fetches a file.
    pub fn fetch(&self, file: &str) -> Result<Fetched> {
        self.fetch_slowly(file, |_| ())
    }

    /// Fetches a file and calls `before` before each acknowledgement.
    pub fn fetch_slowly(&self, file: &str, mut before: impl FnMut(usize)) -> Result<Fetched> {
        let socket = socket_for(self.server)?;
        let mut transfer = Transfer {
            socket,
            patience: self.patience,
            from: None,
            last: request(file, &self.options),
            to: self.server,
        };
        transfer.send_last()?;
        let (mut bytes, mut granted) = (Vec::new(), Options::new());
        let (mut blksize, mut windowsize) = (512, 1);
        let (mut block, mut pending) = (0_u16, 0);
        loop {
            let packet = transfer.receive()?;
            match packet.get(..4).context("a packet without a head")? {
                [0, 6, ..] if bytes.is_empty() && block == 0 => {
                    granted = parse_options(&packet[2..])?;
                    let number = |name: &str| {
                        granted
                            .get(name)
                            .map(|value| value.parse::<usize>())
                            .transpose()
                    };
                    blksize = number("blksize")?.unwrap_or(512);
                    windowsize = number("windowsize")?.unwrap_or(1);
                    transfer.acknowledge(0)?;
                }
                &[0, 3, high, low] => {
                    let number = u16::from_be_bytes([high, low]);
                    if number != block.wrapping_add(1) {
                        // Acknowledge a duplicate, or what follows a lost packet, again, once in a
                        // window.
                        if pending > 0 || windowsize == 1 {
                            pending = 0;
                            transfer.acknowledge(block)?;
                        }
                        continue;
                    }
                    let data = &packet[4..];
                    ensure!(
                        data.len() <= blksize,
                        "a block of {} bytes, where {blksize} were agreed on",
                        data.len()
                    );
                    bytes.extend(data);
                    block = number;
                    pending += 1;
                    let is_last = data.len() < blksize;
                    if pending == windowsize || is_last {
                        pending = 0;
                        before(bytes.len());
                        transfer.acknowledge(block)?;
                    }
                    if is_last {
                        return Ok(Fetched {
                            bytes,
                            options: granted,
                            from: transfer.from.unwrap_or(self.server),
                        });
                    }
                }
                &[0, 5, _, code] => bail!(
                    "error {code}: {}",
                    String::from_utf8_lossy(&packet[4..]).trim_end_matches('\0')
                ),
                [0, 6, ..] => {}
                other => bail!("a server must not send {other:?}"),
            }
        }
    }
}

// === impl Transfer ===

impl Transfer {
    fn send_last(&self) -> Result<()> {
        self.socket
            .send_to(&self.last, self.from.unwrap_or(self.to))
            .context("could not send")?;
        Ok(())
    }

    fn acknowledge(&mut self, block: u16) -> Result<()> {
        let [high, low] = block.to_be_bytes();
        self.last = vec![0, 4, high, low];
        self.send_last()
    }

    /// Returns the server's next packet; without one, repeats the last packet sent.
    fn receive(&mut self) -> Result<Vec<u8>> {
        let mut buffer = vec![0; 65_536];
        self.socket.set_read_timeout(Some(self.patience))?;
        for _ in 0..40 {
            match self.socket.recv_from(&mut buffer) {
                Ok((length, from)) => {
                    ensure!(
                        from.ip() == self.to.ip(),
                        "asked {}, and the answer came from {from}",
                        self.to
                    );
                    ensure!(
                        from == *self.from.get_or_insert(from),
                        "an answer from another port"
                    );
                    buffer.truncate(length);
                    return Ok(buffer);
                }
                Err(error)
                    if matches!(
                        error.kind(),
                        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                    ) =>
                {
                    self.send_last()?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        bail!("the server fell silent")
    }
}

fn parse_options(bytes: &[u8]) -> Result<Options> {
    let text = std::str::from_utf8(bytes)?
        .strip_suffix('\0')
        .context("options without an end")?;
    let fields: Vec<_> = text.split('\0').collect();
    ensure!(
        fields.len() % 2 == 0,
        "an option without a value in {fields:?}"
    );
    Ok(fields
        .chunks(2)
        .map(|pair| (pair[0].to_owned(), pair[1].to_owned()))
        .collect())
}
