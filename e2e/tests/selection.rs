//! The right script for every way of identifying a machine.

use anyhow::Result;
use e2e::machine::{Builder, Machine};
use e2e::manifests::{Manifests, assignment, says_its_name};
use e2e::server::Server;
use std::time::Duration;

const UUID: &str = "1c9f3a55-8a3d-4f0e-9d0c-2f6f2f6d7a01";
const OTHER_UUID: &str = "1c9f3a55-8a3d-4f0e-9d0c-2f6f2f6d7a02";

/// Boots one machine from a folder that has Assignments for others too, and expects this Profile.
fn boots(profile: &str, machine: impl FnOnce(Builder) -> Builder) -> Result<()> {
    let manifests = Manifests::of(&[
        says_its_name("by-uuid"),
        says_its_name("by-serial"),
        says_its_name("by-mac"),
        says_its_name("by-label"),
        says_its_name("by-default"),
        assignment("uuid", &format!("uuids: [{UUID}]"), "by-uuid"),
        assignment("serial", "serialNumbers: [SN-1]", "by-serial"),
        assignment("mac", "macAddresses: ['52-54-00-AB-CD-EF']", "by-mac"),
        assignment(
            "label",
            "matchLabels: {product: Some Model, region: us-cal}",
            "by-label",
        ),
        assignment("default", "", "by-default"),
    ])?;
    let server = Server::standalone(manifests.path())
        .label("region", "us-cal")
        .start_ready()?;
    let builder =
        Machine::on_user_network(&server.url_for_user_network("/boot.ipxe")).uuid(OTHER_UUID);
    let mut machine = machine(builder).boot()?;
    machine.wait_for(&format!("BOOTED-{profile}"), Duration::from_secs(90))?;
    machine.wait_for_power_off(Duration::from_secs(20))
}

#[test]
fn a_uuid_precedes_serial_and_mac() -> Result<()> {
    boots("by-uuid", |machine| {
        machine.uuid(UUID).serial("SN-1").mac("52:54:00:ab:cd:ef")
    })
}

#[test]
fn a_serial_number_precedes_a_mac() -> Result<()> {
    boots("by-serial", |machine| {
        machine.serial("SN-1").mac("52:54:00:ab:cd:ef")
    })
}

#[test]
fn a_mac_selects_an_assignment() -> Result<()> {
    boots("by-mac", |machine| machine.mac("52:54:00:ab:cd:ef"))
}

#[test]
fn product_and_operator_labels_select_an_assignment() -> Result<()> {
    boots("by-label", |machine| machine.product("Some Model"))
}

#[test]
fn an_unnamed_machine_boots_the_default() -> Result<()> {
    boots("by-default", |machine| machine.product("Another Model"))
}
