//! The Debian packages that a boot or a build needs.

use crate::process;
use anyhow::{Result, bail};
use std::path::Path;

/// A package, detected by one of its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Package {
    /// QEMU.
    Qemu,
    /// iPXE as the option ROM of QEMU's network cards.
    IpxeRoms,
    /// iPXE as files for a boot server.
    Ipxe,
    /// UEFI firmware.
    Ovmf,
    /// A DHCP and TFTP server.
    Dnsmasq,
    /// Network namespaces, bridges and taps.
    Iproute,
    /// A TFTP server to compare with.
    TftpdHpa,
    /// A TFTP client.
    TftpHpa,
    /// A TFTP client.
    Atftp,
    /// curl, which speaks TFTP too.
    Curl,
    /// A DHCP server.
    Kea,
    /// A DHCP server.
    IscDhcp,
    /// A C++ compiler, for libFuzzer.
    Cxx,
}

/// Makes sure that the packages are installed: installs missing ones as root, otherwise fails with
/// the command to run.
pub fn ensure(packages: &[Package]) -> Result<()> {
    let missing: Vec<&str> = packages
        .iter()
        .filter(|package| !package.is_there())
        .map(|package| package.name())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let line = format!(
        "apt-get install --yes --no-install-recommends {}",
        missing.join(" ")
    );
    if process::find("apt-get").is_none() {
        bail!(
            "missing: {}. Install what your distribution calls these Debian packages",
            missing.join(", ")
        );
    }
    if !process::is_root() {
        bail!("Debian packages are missing. Run this, then try again:\n\n    sudo {line}\n");
    }
    // Two test programs may miss the same package at the same time.
    let _lock = super::Cache::open()?.slot("apt-get", 1)?;
    eprintln!("e2e: installing {}", missing.join(" "));
    let install = || {
        let mut words = line.split(' ');
        let program = words.next().unwrap_or_default();
        process::output(
            "env",
            ["DEBIAN_FRONTEND=noninteractive", program]
                .into_iter()
                .chain(words),
        )
    };
    if install().is_err() {
        // A fresh image has no package lists, or old ones.
        process::output("apt-get", ["update", "-qq"])?;
        install()?;
    }
    match packages.iter().find(|package| !package.is_there()) {
        Some(package) => bail!(
            "{} is installed, but has none of its known files",
            package.name()
        ),
        None => Ok(()),
    }
}

// === impl Package ===

impl Package {
    /// All packages.
    pub const ALL: [Self; 13] = [
        Self::Qemu,
        Self::IpxeRoms,
        Self::Ipxe,
        Self::Ovmf,
        Self::Dnsmasq,
        Self::Iproute,
        Self::TftpdHpa,
        Self::TftpHpa,
        Self::Atftp,
        Self::Curl,
        Self::Kea,
        Self::IscDhcp,
        Self::Cxx,
    ];

    /// The name in Debian.
    pub fn name(self) -> &'static str {
        match self {
            Self::Qemu => "qemu-system-x86",
            Self::IpxeRoms => "ipxe-qemu",
            Self::Ipxe => "ipxe",
            Self::Ovmf => "ovmf",
            Self::Dnsmasq => "dnsmasq-base",
            Self::Iproute => "iproute2",
            Self::TftpdHpa => "tftpd-hpa",
            Self::TftpHpa => "tftp-hpa",
            Self::Atftp => "atftp",
            Self::Curl => "curl",
            Self::Kea => "kea-dhcp4-server",
            Self::IscDhcp => "isc-dhcp-server",
            Self::Cxx => "g++",
        }
    }

    fn is_there(self) -> bool {
        let any = |files: &[&str]| files.iter().any(|file| Path::new(file).exists());
        match self {
            Self::Qemu => process::find("qemu-system-x86_64").is_some(),
            Self::IpxeRoms => any(&[
                "/usr/lib/ipxe/qemu/pxe-virtio.rom",
                "/usr/share/qemu/pxe-virtio.rom",
            ]),
            Self::Ipxe => any(&["/usr/lib/ipxe/undionly.kpxe"]),
            Self::Ovmf => any(&[crate::machine::OVMF]),
            Self::Dnsmasq => process::find("dnsmasq").is_some(),
            Self::Iproute => process::find("ip").is_some(),
            Self::TftpdHpa => process::find("in.tftpd").is_some(),
            Self::TftpHpa => process::find("tftp").is_some(),
            Self::Atftp => process::find("atftp").is_some(),
            Self::Curl => process::find("curl").is_some(),
            Self::Kea => process::find("kea-dhcp4").is_some(),
            Self::IscDhcp => process::find("dhcpd").is_some(),
            Self::Cxx => process::find("c++").is_some(),
        }
    }
}
