//! The DHCP servers of docs/how-to/dhcp.md, with the very text that stands there. These need root.

use anyhow::{Context, Result, ensure};
use e2e::assets::Ipxe;
use e2e::dhcp::{Asks, DhcpClient, DhcpServer, Kind};
use e2e::machine::{Builder, Firmware};
use e2e::manifests::{Manifests, assignment, says_its_name};
use e2e::network::{HTTP, Network, SERVER};
use e2e::server::Server;
use e2e::tftp::Root;
use std::time::Duration;

fn tells_firmware_and_ipxe_apart(kind: Kind) -> Result<()> {
    let network = Network::new()?;
    let mut server = DhcpServer::start(kind, &network)?;
    let client = DhcpClient::on(&network)?;
    for (arch, file) in [
        (0, "undionly.kpxe"),
        (7, "ipxe.efi"),
        (9, "ipxe.efi"),
        (11, "ipxe-arm64.efi"),
    ] {
        let firmware = Asks {
            arch,
            ..Asks::default()
        };
        let offer = client.ask(firmware, &mut server)?;
        ensure!(
            offer.file == file && offer.next_server.to_string() == SERVER,
            "option 93 is {arch}: {offer:?}"
        );
        ensure!(
            offer.address.to_string().starts_with("192.0.2."),
            "{offer:?}"
        );
        for (user_class, features) in [(true, true), (true, false), (false, true)] {
            let offer = client.ask(
                Asks {
                    arch,
                    user_class,
                    features,
                },
                &mut server,
            )?;
            ensure!(
                offer.file == format!("{HTTP}/boot.ipxe"),
                "iPXE with {user_class}, {features}: {offer:?}"
            );
        }
    }
    // Clients without a rule, such as HTTP boot (16), must not get a file that they can't run.
    let offer = client.ask(
        Asks {
            arch: 16,
            ..Asks::default()
        },
        &mut server,
    )?;
    ensure!(offer.file.is_empty(), "{offer:?}");
    Ok(())
}

#[test]
fn dnsmasq_as_documented_tells_firmware_and_ipxe_apart() -> Result<()> {
    tells_firmware_and_ipxe_apart(Kind::Dnsmasq)
}

#[test]
fn kea_as_documented_tells_firmware_and_ipxe_apart() -> Result<()> {
    tells_firmware_and_ipxe_apart(Kind::Kea)
}

#[test]
fn isc_dhcpd_as_documented_tells_firmware_and_ipxe_apart() -> Result<()> {
    tells_firmware_and_ipxe_apart(Kind::Dhcpd)
}

#[test]
fn a_uefi_machine_boots_with_kea_as_documented() -> Result<()> {
    let network = Network::new()?;
    let dhcp = DhcpServer::start(Kind::Kea, &network)?;
    let root = Root::of::<&str>(&[])?;
    root.copy(&Ipxe::Installed.files()?.efi())?;
    let manifests = Manifests::of(&[says_its_name("with-kea"), assignment("all", "", "with-kea")])?;
    let server = Server::standalone(manifests.path())
        .http_listen("[::]:8080")
        .args(["--tftp-root".as_ref(), root.path().as_os_str()])
        .netns(network.netns())
        .start_ready()?;
    let mut machine = Builder::new(network.tap()?)
        .firmware(Firmware::Uefi)
        .boot()?;
    machine
        .wait_for("BOOTED-with-kea", Duration::from_mins(3))
        .with_context(|| {
            format!(
                "Kea said:\n{}\nshaper said:\n{}",
                dhcp.log(),
                server.log().text()
            )
        })?;
    machine.wait_for_power_off(Duration::from_secs(20))
}
