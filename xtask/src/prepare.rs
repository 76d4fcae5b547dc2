//! Builds and fetches what the tests need besides shaper, before a test waits for it.

use e2e::assets::{Ipxe, Linux, Package, ensure_packages};
use e2e::cert_manager::CertManager;
use e2e::cluster::Programs;
use e2e::kstatus::Kstatus;

/// Prepares everything; what is already in the cache takes no time.
pub(crate) fn run() -> anyhow::Result<()> {
    Programs::find()?;
    CertManager::find()?;
    Kstatus::find()?;
    ensure_packages(&[
        Package::Qemu,
        Package::IpxeRoms,
        Package::Ovmf,
        Package::Dnsmasq,
        Package::Iproute,
    ])?;
    Linux::find()?;
    for ipxe in Ipxe::ALL {
        ipxe.files()?;
    }
    Ok(())
}
