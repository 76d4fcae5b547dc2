//! A virtual machine: its identity, its firmware, its network card and its console.

mod arguments;
mod console;

use crate::assets::{Cache, Ipxe, Package, Slot, ensure_packages};
use crate::process::{self, Process};
use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

pub use console::{Console, Line};

/// The path of the UEFI firmware.
pub const OVMF: &str = "/usr/share/ovmf/OVMF.fd";

/// The number of machines that may run at the same time on this computer, over all test processes;
/// `SHAPER_E2E_MACHINES` overrides it. Without KVM each takes a whole core while it boots.
const MACHINES: usize = 2;

/// The firmware of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Firmware {
    /// `SeaBIOS`.
    Bios,
    /// OVMF.
    Uefi,
}

/// How a machine is connected.
#[derive(Debug, Clone)]
pub enum Link {
    /// QEMU's user network: the host's loopback address is 10.0.2.2, and DHCP offers this boot
    /// file.
    User {
        /// DHCP option 67.
        bootfile: String,
    },
    /// A QEMU network with only DHCP and one boot file over TFTP. The host can't be reached.
    Isolated {
        /// The boot file.
        bootfile: PathBuf,
    },
    /// A tap in a network namespace; see [`crate::network::Network::tap`]. The firmware boots from
    /// that network.
    Tap {
        /// The network namespace.
        netns: String,
        /// The tap in it.
        tap: String,
    },
}

/// A builder of a machine. Everything but the connection has a default.
#[derive(Debug, Clone)]
pub struct Builder {
    uuid: String,
    system: Vec<(&'static str, String)>,
    asset: Option<String>,
    firmware: Firmware,
    ipxe: Ipxe,
    trusted: Option<Vec<u8>>,
    cards: Vec<Card>,
}

/// A network card.
#[derive(Debug, Clone)]
struct Card {
    mac: String,
    link: Link,
}

/// A running machine. It is powered off on drop.
#[derive(Debug)]
pub struct Machine {
    // Fields are dropped in this order: the process first, then the files that it uses.
    process: Process,
    console: Console,
    _folder: tempfile::TempDir,
    _slot: Slot,
}

// === impl Builder ===

impl Builder {
    /// A BIOS machine with the installed iPXE.
    pub fn new(link: Link) -> Self {
        Self {
            uuid: "47c6da67-7477-4970-aa03-84e48ff4f6ad".to_owned(),
            system: Vec::new(),
            asset: None,
            firmware: Firmware::Bios,
            ipxe: Ipxe::Installed,
            trusted: None,
            cards: vec![Card {
                mac: "52:54:00:12:34:56".to_owned(),
                link,
            }],
        }
    }

    /// Adds a certificate (DER) that the firmware trusts for TLS, as an operator enrols it in the
    /// UEFI setup. iPXE of 2025 and later uses it.
    pub fn trusting(mut self, certificate: &[u8]) -> Self {
        self.trusted = Some(certificate.to_owned());
        self
    }

    /// Sets the UUID of the SMBIOS system table.
    pub fn uuid(mut self, uuid: &str) -> Self {
        uuid.clone_into(&mut self.uuid);
        self
    }

    /// Sets the serial number of the SMBIOS system table.
    pub fn serial(mut self, serial: &str) -> Self {
        self.system.push(("serial", serial.to_owned()));
        self
    }

    /// Sets the manufacturer of the SMBIOS system table.
    pub fn manufacturer(mut self, manufacturer: &str) -> Self {
        self.system.push(("manufacturer", manufacturer.to_owned()));
        self
    }

    /// Sets the product of the SMBIOS system table.
    pub fn product(mut self, product: &str) -> Self {
        self.system.push(("product", product.to_owned()));
        self
    }

    /// Sets the asset tag of the SMBIOS chassis table.
    pub fn asset(mut self, asset: &str) -> Self {
        self.asset = Some(asset.to_owned());
        self
    }

    /// Sets the address of the first network card.
    pub fn mac(mut self, mac: &str) -> Self {
        mac.clone_into(&mut self.cards[0].mac);
        self
    }

    /// Adds a network card that the firmware doesn't boot from.
    pub fn another_card(mut self, mac: &str, link: Link) -> Self {
        self.cards.push(Card {
            mac: mac.to_owned(),
            link,
        });
        self
    }

    /// Chooses BIOS or UEFI.
    pub fn firmware(mut self, firmware: Firmware) -> Self {
        self.firmware = firmware;
        self
    }

    /// Chooses the iPXE generation. Ignored on a tap, where the network decides.
    pub fn ipxe(mut self, ipxe: Ipxe) -> Self {
        self.ipxe = ipxe;
        self
    }

    /// Switches the machine on once a place is free on this computer.
    pub fn boot(self) -> Result<Machine> {
        let mut packages = vec![Package::Qemu, Package::IpxeRoms];
        if self.firmware == Firmware::Uefi {
            packages.push(Package::Ovmf);
        }
        ensure_packages(&packages)?;
        let folder = tempfile::tempdir().context("could not make a temporary folder")?;
        let args = arguments::of(&self, folder.path())?;
        let qemu =
            process::find("qemu-system-x86_64").context("qemu-system-x86_64 is not in PATH")?;
        let netns = self.cards.iter().find_map(|card| match &card.link {
            Link::Tap { netns, .. } => Some(netns.as_str()),
            Link::User { .. } | Link::Isolated { .. } => None,
        });

        let machines = std::env::var("SHAPER_E2E_MACHINES")
            .ok()
            .and_then(|count| count.parse().ok())
            .unwrap_or(MACHINES);
        let slot = Cache::open()?.slot("machine", machines.max(1))?;
        let mut process = Process::start("qemu", qemu.as_os_str(), netns, |command| {
            command
                .args(args)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped());
        })?;
        let console = Console::of(process.child())?;
        Ok(Machine {
            process,
            console,
            _folder: folder,
            _slot: slot,
        })
    }
}

// === impl Machine ===

impl Machine {
    /// Builds a BIOS machine on QEMU's user network whose DHCP offers `bootfile`.
    pub fn on_user_network(bootfile: &str) -> Builder {
        Builder::new(Link::User {
            bootfile: bootfile.to_owned(),
        })
    }

    /// The machine's serial console.
    pub fn console(&self) -> &Console {
        &self.console
    }

    /// Waits until the console shows `text`. Fails with the last lines if it doesn't, or if the
    /// machine powers off first.
    pub fn wait_for(&mut self, text: &str, timeout: Duration) -> Result<Duration> {
        if let Some(at) = self.console.wait_for(text, timeout) {
            return Ok(at);
        }
        let why = match self.process.wait(Duration::from_millis(500)) {
            Ok(status) => format!("the machine ended ({status})"),
            Err(_) => format!("{} seconds went by", timeout.as_secs()),
        };
        bail!(
            "{why} without {text:?} on the console, whose end is:\n{}",
            self.console.tail(40)
        );
    }

    /// Waits until the machine has powered itself off.
    pub fn wait_for_power_off(&mut self, timeout: Duration) -> Result<()> {
        self.process
            .wait(timeout)
            .with_context(|| format!("the end of the console is:\n{}", self.console.tail(40)))?;
        Ok(())
    }

    /// Presses keys.
    pub fn press(&mut self, keys: &[u8]) -> Result<()> {
        use std::io::Write as _;
        let stdin = self
            .process
            .child()
            .stdin
            .as_mut()
            .context("the machine has no keyboard")?;
        stdin
            .write_all(keys)
            .and_then(|()| stdin.flush())
            .context("the machine takes no keys")
    }
}
