//! Every iPXE generation in use, on both kinds of firmware, with the strings of real machines.

use anyhow::Result;
use e2e::assets::Ipxe;
use e2e::machine::{Firmware, Machine};
use e2e::manifests::{Manifests, assignment, says_its_name};
use e2e::server::Server;
use std::time::Duration;

/// Everything that a URL can get wrong.
const SERIAL: &str = "SN 12&3=x#y%20+z";

/// Boots a machine that is known only by free-text labels: with a space, bytes beyond ASCII, and
/// characters that iPXE since 2021 leaves raw in a URL.
fn boots(ipxe: Ipxe, firmware: Firmware) -> Result<()> {
    let manifests = Manifests::of(&[
        says_its_name("by-label"),
        assignment(
            "label",
            r#"matchLabels: {manufacturer: 'Dell, "<Inc>"', product: PowerEdge R640, asset: Lager Süd 4, buildarch: x86_64}"#,
            "by-label",
        ),
    ])?;
    let server = Server::standalone(manifests.path()).start_ready()?;
    let mut machine = Machine::on_user_network(&server.url_for_user_network("/boot.ipxe"))
        .ipxe(ipxe)
        .firmware(firmware)
        .manufacturer("Dell, \"<Inc>\"")
        .product("PowerEdge R640")
        .serial(SERIAL)
        .asset("Lager Süd 4")
        .boot()?;
    // The iPXE of 2019 sends a bare & and = for %26 and %3D, whatever the script does; newer ones
    // are exact.
    let serial = if ipxe == Ipxe::Installed {
        "SN 12"
    } else {
        SERIAL
    };
    machine.wait_for(
        &format!("BOOTED-by-label {serial}"),
        Duration::from_secs(150),
    )?;
    machine.wait_for_power_off(Duration::from_secs(20))
}

#[test]
fn the_installed_ipxe_boots_on_bios() -> Result<()> {
    boots(Ipxe::Installed, Firmware::Bios)
}

#[test]
fn the_installed_ipxe_boots_on_uefi() -> Result<()> {
    boots(Ipxe::Installed, Firmware::Uefi)
}

#[test]
fn the_ipxe_of_trixie_boots_on_bios() -> Result<()> {
    boots(Ipxe::Trixie, Firmware::Bios)
}

#[test]
fn the_ipxe_of_trixie_boots_on_uefi() -> Result<()> {
    boots(Ipxe::Trixie, Firmware::Uefi)
}

#[test]
fn the_ipxe_of_sid_boots_on_bios() -> Result<()> {
    boots(Ipxe::Sid, Firmware::Bios)
}

#[test]
fn the_ipxe_of_sid_boots_on_uefi() -> Result<()> {
    boots(Ipxe::Sid, Firmware::Uefi)
}
