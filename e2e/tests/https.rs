//! A real iPXE that trusts a private authority boots over HTTPS.

use anyhow::Result;
use e2e::assets::Ipxe;
use e2e::certificates::{Authority, Directory, Leaf};
use e2e::machine::{Builder, Firmware, Machine};
use e2e::manifests::{Manifests, assignment, says_its_name};
use e2e::server::Server;
use std::time::Duration;

/// A server whose certificate is of a private authority.
struct Site {
    authority: Authority,
    server: Server,
    _files: (Manifests, Directory),
}

impl Site {
    fn start() -> Result<Self> {
        let manifests = Manifests::of(&[says_its_name("secure"), assignment("all", "", "secure")])?;
        let authority = Authority::rsa("a private authority")?;
        let leaf = authority.issue(&Leaf::server("boot.lab").address([10, 0, 2, 2]).rsa())?;
        let certificates = Directory::of(&leaf, &authority)?;
        let server = Server::standalone(manifests.path())
            .args(["--https-listen", "127.0.0.1:0"])
            .args(["--https-tls-dir".as_ref(), certificates.path().as_os_str()])
            .start_ready()?;
        Ok(Self {
            authority,
            server,
            _files: (manifests, certificates),
        })
    }

    /// A machine whose DHCP server offers the bootstrap by HTTPS.
    fn machine(&self) -> Result<Builder> {
        let url = format!(
            "https://10.0.2.2:{}/boot.ipxe",
            self.server.https_address()?.port()
        );
        Ok(Machine::on_user_network(&url)
            .ipxe(Ipxe::Sid)
            .firmware(Firmware::Uefi)
            .serial("SN-TLS"))
    }
}

/// iPXE 2.0.0 for UEFI, as Debian builds it, takes its trust anchors from the firmware. QEMU's
/// firmware gets them by `-fw_cfg`, real firmware in its setup. Builds for BIOS, and older ones,
/// need the authority built in.
#[test]
fn a_stock_ipxe_boots_over_https_if_the_firmware_trusts_the_authority() -> Result<()> {
    let site = Site::start()?;
    let mut machine = site.machine()?.trusting(site.authority.der()).boot()?;
    machine.wait_for("BOOTED-secure SN-TLS", Duration::from_secs(150))?;
    machine.wait_for_power_off(Duration::from_secs(20))
}

#[test]
fn a_stock_ipxe_without_the_authority_does_not_boot_over_https() -> Result<()> {
    let site = Site::start()?;
    let mut machine = site.machine()?.boot()?;
    machine
        .wait_for("Permission denied", Duration::from_secs(150))
        .map(drop)
}
