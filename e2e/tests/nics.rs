//! A machine with several network cards finds the one that reaches the server.

use anyhow::Result;
use e2e::machine::{Builder, Firmware, Link};
use e2e::manifests::{Manifests, assignment, says_its_name};
use e2e::server::Server;
use std::time::Duration;

const SECOND_MAC: &str = "52:54:00:00:00:22";

/// The first card gets an address and the bootstrap, but can't reach the server. The Assignment
/// names the address of the second card.
fn boots_through_the_second_nic(firmware: Firmware) -> Result<()> {
    let manifests = Manifests::of(&[
        says_its_name("second"),
        assignment(
            "second",
            &format!("macAddresses: ['{SECOND_MAC}']"),
            "second",
        ),
    ])?;
    let server = Server::standalone(manifests.path()).start_ready()?;
    let folder = tempfile::tempdir()?;
    let bootfile = folder.path().join("boot.ipxe");
    // The server's address as the machine sees it and sends it in the Host header.
    let bootstrap = server.get(&server.url("/boot.ipxe"))?.body;
    std::fs::write(
        &bootfile,
        bootstrap.replace(&server.url(""), &server.url_for_user_network("")),
    )?;

    let mut machine = Builder::new(Link::Isolated { bootfile })
        .firmware(firmware)
        .another_card(
            SECOND_MAC,
            Link::User {
                bootfile: String::new(),
            },
        )
        .boot()?;
    machine.wait_for("BOOTED-second", Duration::from_secs(150))?;
    machine.wait_for_power_off(Duration::from_secs(20))
}

#[test]
fn a_bios_machine_boots_through_its_second_nic() -> Result<()> {
    boots_through_the_second_nic(Firmware::Bios)
}

#[test]
fn a_uefi_machine_boots_through_its_second_nic() -> Result<()> {
    boots_through_the_second_nic(Firmware::Uefi)
}
