//! A whole boot network: firmware, DHCP, TFTP, iPXE, shaper, and finally Linux. Needs root.

use anyhow::Result;
use e2e::assets::{Ipxe, Linux};
use e2e::machine::{Builder, Firmware};
use e2e::manifests::{Manifests, assignment, profile};
use e2e::network::{HTTP, Network, SERVER};
use e2e::server::Server;
use std::time::Duration;

const UUID: &str = "1c9f3a55-8a3d-4f0e-9d0c-2f6f2f6d7a05";

/// A Profile whose Linux is loaded by TFTP and prints a config with its UUID.
fn manifests() -> Result<Manifests> {
    let script = format!(
        "#!ipxe\nkernel tftp://{SERVER}/vmlinuz initrd=initrd.gz console=ttyS0 config={{{{ greeting }}}}\n\
         initrd tftp://{SERVER}/initrd.gz\nboot\n"
    );
    let linux = profile("linux", &script)
        + "  additionalConfig:\n    greeting: |\n      This is {{ subject.uuid }}.\n";
    Manifests::of(&[
        linux,
        assignment("its-own", &format!("uuids: [{UUID}]"), "linux"),
    ])
}

/// Boots Linux on a network where `ipxe` is offered `bootfile`, and checks what it printed.
fn boots_linux(firmware: Firmware, ipxe: Ipxe, bootfile: Option<&str>) -> Result<()> {
    let linux = Linux::find()?;
    let mut network = Network::new()?;
    let manifests = manifests()?;
    let server = Server::standalone(manifests.path())
        .http_listen(&format!("{SERVER}:8080"))
        .netns(network.netns())
        .start_ready()?;
    for file in ["vmlinuz", "initrd.gz"] {
        network.offer(&linux.folder().join(file))?;
    }
    let files = ipxe.files()?;
    network.offer(&files.undionly())?;
    network.offer(&files.efi())?;
    network.offer_text(
        "autoexec.ipxe",
        &server
            .get(&format!("{HTTP}/some/folder/autoexec.ipxe"))?
            .body,
    )?;
    network.serve_dhcp("undionly.kpxe", "ipxe.efi", bootfile)?;

    let mut machine = Builder::new(network.tap()?)
        .firmware(firmware)
        .uuid(UUID)
        .boot()?;
    machine
        .wait_for(Linux::END, Duration::from_mins(4))
        .map_err(|error| error.context(format!("dnsmasq said:\n{}", network.dnsmasq_log())))?;
    let config = machine
        .console()
        .between(Linux::BEGIN, Linux::END)
        .unwrap_or_default();
    assert_eq!(config.trim(), format!("This is {UUID}."));
    machine.wait_for_power_off(Duration::from_secs(30))
}

#[test]
fn a_bios_machine_boots_over_dhcp_in_a_namespace() -> Result<()> {
    boots_linux(
        Firmware::Bios,
        Ipxe::Installed,
        Some(&format!("{HTTP}/boot.ipxe")),
    )
}

#[test]
fn a_uefi_machine_boots_over_dhcp_and_tftp_in_a_namespace() -> Result<()> {
    boots_linux(
        Firmware::Uefi,
        Ipxe::Installed,
        Some(&format!("{HTTP}/boot.ipxe")),
    )
}

#[test]
fn a_uefi_machine_boots_from_autoexec_when_dhcp_offers_no_script() -> Result<()> {
    boots_linux(Firmware::Uefi, Ipxe::Sid, None)
}
