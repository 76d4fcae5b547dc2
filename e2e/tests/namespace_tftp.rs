//! From firmware to a booted script, with shaper as the only TFTP server. Needs root.

use anyhow::{Context, Result, ensure};
use e2e::assets::Ipxe;
use e2e::machine::{Builder, Firmware};
use e2e::manifests::{Manifests, assignment, says_its_name};
use e2e::network::{Network, SERVER};
use e2e::server::Server;
use e2e::tftp::Root;
use std::time::Duration;

const UUID: &str = "1c9f3a55-8a3d-4f0e-9d0c-2f6f2f6d7a05";

/// Boots a machine and returns the files that it fetched by TFTP, in order.
fn boots(
    firmware: Firmware,
    root: &Root,
    bios: &str,
    uefi: &str,
    bootfile: Option<&str>,
) -> Result<Vec<String>> {
    let mut network = Network::new()?;
    let manifests = Manifests::of(&[
        says_its_name("by-tftp"),
        assignment("its-own", &format!("uuids: [{UUID}]"), "by-tftp"),
    ])?;
    let server = Server::standalone(manifests.path())
        .http_listen("[::]:8080")
        .args(["--tftp-root".as_ref(), root.path().as_os_str()])
        .netns(network.netns())
        .start_ready()?;
    network.serve_dhcp_only(bios, uefi, bootfile)?;
    let mut machine = Builder::new(network.tap()?)
        .firmware(firmware)
        .uuid(UUID)
        .boot()?;
    machine
        .wait_for("BOOTED-by-tftp", Duration::from_mins(3))
        .with_context(|| {
            format!(
                "dnsmasq said:\n{}\nshaper said:\n{}",
                network.dnsmasq_log(),
                server.log().text()
            )
        })?;
    machine.wait_for_power_off(Duration::from_secs(20))?;
    let log = server.log().text();
    let completed = log
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let completed =
        completed.filter(|line| line["message"] == "tftp" && line["outcome"] == "completed");
    Ok(completed
        .filter_map(|line| line["file"].as_str().map(str::to_owned))
        .collect())
}

#[test]
fn a_bios_machine_gets_the_bootstrap_by_tftp_and_continues_by_http() -> Result<()> {
    let root = Root::of::<&str>(&[])?;
    let files = boots(
        Firmware::Bios,
        &root,
        "undionly.kpxe",
        "ipxe.efi",
        Some("boot.ipxe"),
    )?;
    ensure!(files == ["boot.ipxe"], "{files:?}");
    Ok(())
}

/// The ROM is an iPXE of 2019, so a script tells it from the newer one that it then loads.
#[test]
fn a_bios_machine_gets_a_newer_ipxe_by_tftp_and_then_the_bootstrap() -> Result<()> {
    let first = format!(
        "#!ipxe\necho version ${{version}}\niseq ${{version}} 1.0.0+git-20190125.36a4c85-5.1 && chain tftp://{SERVER}/undionly.kpxe ||\n\
         chain tftp://{SERVER}/autoexec.ipxe\n"
    );
    let root = Root::of(&[("first.ipxe", &first)])?;
    root.copy(&Ipxe::Trixie.files()?.undionly())?;
    let files = boots(
        Firmware::Bios,
        &root,
        "undionly.kpxe",
        "ipxe.efi",
        Some("first.ipxe"),
    )?;
    ensure!(
        files == ["first.ipxe", "undionly.kpxe", "first.ipxe", "autoexec.ipxe"],
        "{files:?}"
    );
    Ok(())
}

#[test]
fn a_uefi_machine_gets_ipxe_and_the_bootstrap_by_tftp_and_continues_by_http() -> Result<()> {
    let root = Root::of::<&str>(&[])?;
    root.copy(&Ipxe::Installed.files()?.efi())?;
    let files = boots(
        Firmware::Uefi,
        &root,
        "undionly.kpxe",
        "/ipxe.efi",
        Some("boot.ipxe"),
    )?;
    ensure!(
        files.first().is_some_and(|file| file == "ipxe.efi")
            && files.last().is_some_and(|file| file == "boot.ipxe"),
        "{files:?}"
    );
    Ok(())
}

#[test]
fn a_uefi_machine_without_a_dhcp_script_finds_autoexec_next_to_its_ipxe() -> Result<()> {
    let root = Root::of::<&str>(&[])?;
    std::fs::create_dir(root.path().join("x64"))?;
    std::fs::copy(Ipxe::Sid.files()?.efi(), root.path().join("x64/ipxe.efi"))?;
    let files = boots(Firmware::Uefi, &root, "undionly.kpxe", "x64/ipxe.efi", None)?;
    ensure!(files.iter().any(|file| file == "x64/ipxe.efi"), "{files:?}");
    ensure!(
        files
            .last()
            .is_some_and(|file| file == "x64/autoexec.ipxe" || file == "autoexec.ipxe"),
        "{files:?}"
    );
    Ok(())
}
