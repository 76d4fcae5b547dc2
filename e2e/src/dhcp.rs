//! DHCP servers configured as the documentation says, and a client that asks them.

use crate::assets::{Package, ensure_packages};
use crate::network::Network;
use crate::process::{self, Process};
use anyhow::{Context, Result, bail, ensure};
use nix::sched::{CloneFlags, setns};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A running DHCP server.
#[derive(Debug)]
pub struct DhcpServer {
    process: Process,
    folder: tempfile::TempDir,
}

/// A DHCP server, by the heading of its configuration in the documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// dnsmasq.
    Dnsmasq,
    /// Kea.
    Kea,
    /// ISC dhcpd.
    Dhcpd,
}

/// A DHCP client with its own network card.
#[derive(Debug)]
pub struct DhcpClient {
    netns: String,
}

/// The client's options.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asks {
    /// Option 93, the client's architecture.
    pub arch: u16,
    /// Whether the client sends the user class `iPXE` (option 77).
    pub user_class: bool,
    /// Whether the client sends iPXE's feature list (option 175).
    pub features: bool,
}

/// An offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The offered address.
    pub address: Ipv4Addr,
    /// The TFTP server.
    pub next_server: Ipv4Addr,
    /// The boot file.
    pub file: String,
}

/// Reads a server's configuration from the documentation.
pub fn documented(kind: Kind) -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/how-to/dhcp.md");
    let text =
        fs::read_to_string(&path).with_context(|| format!("could not read {}", path.display()))?;
    let fence = format!("```{}\n", kind.name());
    let (_, rest) = text
        .split_once(&fence)
        .with_context(|| format!("{} has no text for {}", path.display(), kind.name()))?;
    Ok(rest.split("```").next().unwrap_or_default().to_owned())
}

// === impl Kind ===

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Dnsmasq => "dnsmasq",
            Self::Kea => "kea",
            Self::Dhcpd => "dhcpd",
        }
    }

    fn package(self) -> Package {
        match self {
            Self::Dnsmasq => Package::Dnsmasq,
            Self::Kea => Package::Kea,
            Self::Dhcpd => Package::IscDhcp,
        }
    }

    /// Adapts the documented configuration to this computer: only the network card and the paths of
    /// state change.
    fn configuration(self, folder: &Path) -> Result<String> {
        let text = documented(self)?.replace("eth0", "br0");
        if self != Self::Kea {
            return Ok(text);
        }
        let mut all: Value = serde_json::from_str(&text).context("the text for Kea is no JSON")?;
        all["Dhcp4"]["lease-database"] = json!({"type": "memfile", "persist": false});
        all["Dhcp4"]["loggers"] = json!([{"name": "kea-dhcp4", "severity": "INFO", "output_options": [{"output": "stdout"}]}]);
        all["Dhcp4"]["control-socket"] =
            json!({"socket-type": "unix", "socket-name": folder.join("socket")});
        Ok(all.to_string())
    }
}

// === impl DhcpServer ===

impl DhcpServer {
    /// Starts the server with the documented configuration.
    pub fn start(kind: Kind, network: &Network) -> Result<Self> {
        ensure_packages(&[kind.package()])?;
        let folder = tempfile::tempdir().context("could not make a temporary folder")?;
        let conf = folder.path().join("conf");
        fs::write(&conf, kind.configuration(folder.path())?)?;
        let leases = folder.path().join("leases");
        fs::write(&leases, "")?;
        let (program, args): (_, Vec<String>) = match kind {
            Kind::Dnsmasq => {
                let own = [
                    "--keep-in-foreground",
                    "--log-facility=-",
                    "--log-dhcp",
                    "--port=0",
                    "--user=root",
                    "--leasefile-ro",
                    "--pid-file=",
                ];
                (
                    "dnsmasq",
                    own.map(str::to_owned)
                        .into_iter()
                        .chain([format!("--conf-file={}", conf.display())])
                        .collect(),
                )
            }
            Kind::Kea => (
                "kea-dhcp4",
                vec!["-c".to_owned(), conf.display().to_string()],
            ),
            Kind::Dhcpd => {
                let pid = folder.path().join("pid").display().to_string();
                let own = [
                    "-4", "-f", "-d", "-user", "root", "-group", "root", "-pf", &pid, "-cf",
                ]
                .map(str::to_owned);
                let files = [
                    conf.display().to_string(),
                    "-lf".to_owned(),
                    leases.display().to_string(),
                    "br0".to_owned(),
                ];
                ("dhcpd", own.into_iter().chain(files).collect())
            }
        };
        let program =
            process::find(program).with_context(|| format!("{program} is not in PATH"))?;
        let log = File::create(folder.path().join("log"))?;
        let process = Process::start(
            kind.name(),
            program.as_os_str(),
            Some(network.netns()),
            |command| {
                command
                    .args(args)
                    .env("KEA_LOCKFILE_DIR", "none")
                    .env("KEA_PIDFILE_DIR", folder.path())
                    .stdin(Stdio::null())
                    .stdout(log.try_clone().expect("a file can be cloned"))
                    .stderr(log);
            },
        )?;
        Ok(Self { process, folder })
    }

    /// The server's log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

// === impl DhcpClient ===

impl DhcpClient {
    /// Connects a client to the network.
    pub fn on(network: &Network) -> Result<Self> {
        let (server, netns) = (network.netns(), format!("{}-m", network.netns()));
        process::output("ip", ["netns", "add", &netns])
            .context("could not make a network namespace")?;
        let client = Self { netns };
        let machine = client.netns.as_str();
        for args in [
            vec![
                "-n", server, "link", "add", "veth0", "type", "veth", "peer", "name", "eth0",
                "netns", machine,
            ],
            vec!["-n", server, "link", "set", "veth0", "master", "br0", "up"],
            vec!["-n", machine, "link", "set", "eth0", "up"],
        ] {
            process::output("ip", &args).with_context(|| format!("ip {}", args.join(" ")))?;
        }
        Ok(client)
    }

    /// Repeats the request until an offer arrives.
    pub fn ask(&self, asks: Asks, server: &mut DhcpServer) -> Result<Offer> {
        // A server that probes the address first answers late, and once for each request. Unique
        // transaction ids keep such an answer from being taken for the answer to the next request.
        static ASKED: AtomicU32 = AtomicU32::new(0x1234_5678);
        let id = ASKED.fetch_add(1, Ordering::Relaxed);
        let socket = self.socket()?;
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            socket
                .send_to(&discover(id, asks), (Ipv4Addr::BROADCAST, 67))
                .context("could not send")?;
            let mut buffer = [0; 1_500];
            match socket.recv(&mut buffer) {
                Ok(length) => {
                    if let Some(offer) = parse(id, &buffer[..length]) {
                        return Ok(offer);
                    }
                }
                Err(_) if server.process.ended()?.is_some() => {
                    bail!("the DHCP server ended; it said:\n{}", server.log())
                }
                Err(_) => {}
            }
            ensure!(
                Instant::now() < deadline,
                "no offer for {asks:?}; the server said:\n{}",
                server.log()
            );
        }
    }

    /// Opens a socket on the client's network card. Only the opening thread enters the namespace.
    fn socket(&self) -> Result<UdpSocket> {
        let netns = format!("/run/netns/{}", self.netns);
        let open = move || -> Result<UdpSocket> {
            setns(File::open(&netns)?, CloneFlags::CLONE_NEWNET)
                .context("could not enter the machine's namespace")?;
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None)?;
            socket.set_broadcast(true)?;
            // Without an address there is no route either.
            socket.bind_device(Some(b"eth0"))?;
            socket.bind(&std::net::SocketAddr::from((Ipv4Addr::UNSPECIFIED, 68)).into())?;
            socket.set_read_timeout(Some(Duration::from_secs(1)))?;
            Ok(socket.into())
        };
        std::thread::spawn(open)
            .join()
            .map_err(|_| anyhow::anyhow!("the thread in the namespace failed"))?
    }
}

impl Drop for DhcpClient {
    fn drop(&mut self) {
        let _ = process::output("ip", ["netns", "delete", &self.netns]);
    }
}

/// Encodes a DHCPDISCOVER as firmware or iPXE sends it, with a transaction id ("xid", RFC 2131
/// section 2).
fn discover(id: u32, asks: Asks) -> Vec<u8> {
    // BOOTREQUEST on Ethernet; the answer may be broadcast.
    let mut packet = vec![1, 1, 6, 0];
    packet.extend(id.to_be_bytes());
    packet.extend([0, 4, 0x80, 0]);
    packet.extend([0; 16]);
    packet.extend([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
    packet.resize(236, 0);
    packet.extend([99, 130, 83, 99]);
    let class = format!("PXEClient:Arch:{:05}:UNDI:003016", asks.arch);
    let mut option = |code: u8, bytes: &[u8]| {
        packet.extend([
            code,
            u8::try_from(bytes.len()).expect("options here are short"),
        ]);
        packet.extend(bytes);
    };
    option(53, &[1]);
    option(55, &[1, 3, 6, 43, 54, 60, 66, 67, 175]);
    option(57, &1_472_u16.to_be_bytes());
    option(60, class.as_bytes());
    option(93, &asks.arch.to_be_bytes());
    option(94, &[1, 3, 16]);
    if asks.user_class {
        option(77, b"iPXE");
    }
    if asks.features {
        option(175, &[19, 1, 1]);
    }
    packet.push(255);
    packet
}

/// Parses a DHCPOFFER for the transaction `id`.
fn parse(id: u32, packet: &[u8]) -> Option<Offer> {
    let address = |at: usize| Some(Ipv4Addr::from(*packet.get(at..at + 4)?.first_chunk::<4>()?));
    if packet.first() != Some(&2) || packet.get(4..8)? != id.to_be_bytes() {
        return None;
    }
    let text = |bytes: &[u8]| {
        String::from_utf8_lossy(bytes)
            .trim_end_matches('\0')
            .to_owned()
    };
    let mut file = text(packet.get(108..236)?);
    let mut options = packet.get(240..)?;
    while let [code, length, rest @ ..] = options {
        if *code == 255 {
            break;
        }
        let value = rest.get(..usize::from(*length))?;
        if *code == 67 {
            file = text(value);
        }
        options = &rest[value.len()..];
    }
    Some(Offer {
        address: address(16)?,
        next_server: address(20)?,
        file,
    })
}
