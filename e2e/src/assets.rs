//! What a boot needs besides shaper: QEMU, firmware, iPXE in three generations, a kernel and an
//! initrd.
//!
//! Programs come from the distribution's packages. As root they are installed; otherwise the error
//! names them. Everything else is fetched once from the package mirror that this machine is
//! configured for, into a cache outside the checkout, `${XDG_CACHE_HOME:-~/.cache}/shaper`.
//! Deleting that folder is always safe.

mod archive;
mod cache;
pub(crate) mod go;
mod initrd;
mod linux;
mod packages;

use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

pub(crate) use cache::fingerprint;
pub use cache::{Cache, Slot};
pub use packages::{Package, ensure as ensure_packages};

/// A kernel and an initrd that fetch the URL given as `config=URL` on the kernel's command line.
///
/// The initrd configures the first network card by DHCP, prints what it fetched between
/// [`Linux::BEGIN`] and [`Linux::END`], and powers the machine off.
#[derive(Debug, Clone)]
pub struct Linux {
    folder: PathBuf,
}

/// A generation of iPXE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ipxe {
    /// The version that this machine's packages contain: 1.0.0 of 2019-01 on Debian 12.
    Installed,
    /// 1.21.1+git20250501, of Debian 13.
    Trixie,
    /// 2.0.0, of Debian's unstable distribution.
    Sid,
}

/// The files of one iPXE generation.
#[derive(Debug, Clone)]
pub struct IpxeFiles {
    folder: PathBuf,
}

// === impl Linux ===

impl Linux {
    /// Printed on its own line before the config.
    pub const BEGIN: &str = "=== config begins";
    /// Printed on its own line after the config.
    pub const END: &str = "=== config ends";
    /// Printed instead when no config could be fetched.
    pub const FAILED: &str = "=== config could not be fetched";

    /// Finds the files in the cache or makes them, which takes about a minute.
    pub fn find() -> Result<Self> {
        let name = format!("linux-{}", initrd::version());
        let folder = Cache::open()?
            .entry(&name, "a Linux kernel and an initrd", linux::build)
            .context("could not prepare a Linux to boot")?;
        Ok(Self { folder })
    }

    /// The folder that holds `vmlinuz` and `initrd.gz`, for an HTTP or TFTP server.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

// === impl Ipxe ===

impl Ipxe {
    /// Every generation, oldest first.
    pub const ALL: [Self; 3] = [Self::Installed, Self::Trixie, Self::Sid];

    /// Finds the files of this generation in the cache, or fetches them.
    pub fn files(self) -> Result<IpxeFiles> {
        let suite = match self {
            Self::Installed => {
                ensure_packages(&[Package::Ipxe])?;
                return Ok(IpxeFiles {
                    folder: PathBuf::from("/usr/lib/ipxe"),
                });
            }
            Self::Trixie => "trixie",
            Self::Sid => "sid",
        };
        let folder = Cache::open()?
            .entry(
                &format!("ipxe-{suite}-1"),
                &format!("the iPXE of Debian {suite}"),
                |folder| archive::Archive::of_suite(suite)?.unpack(&["ipxe"], folder),
            )
            .with_context(|| format!("could not fetch the iPXE of Debian {suite}"))?;
        Ok(IpxeFiles {
            folder: folder.join("usr/lib/ipxe"),
        })
    }
}

// === impl IpxeFiles ===

impl IpxeFiles {
    /// The program for BIOS machines whose own network boot loads it over TFTP.
    pub fn undionly(&self) -> PathBuf {
        self.folder.join("undionly.kpxe")
    }

    /// The program for BIOS machines that QEMU starts like a kernel.
    pub fn lkrn(&self) -> PathBuf {
        self.folder.join("ipxe.lkrn")
    }

    /// The program for UEFI machines.
    pub fn efi(&self) -> PathBuf {
        self.folder.join("ipxe.efi")
    }
}
