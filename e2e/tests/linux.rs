//! From power-on to a Linux that has its own config, on the quick start's manifests.

use anyhow::Result;
use e2e::assets::Linux;
use e2e::files::Files;
use e2e::machine::{Builder, Firmware, Machine};
use e2e::manifests::examples;
use e2e::server::Server;
use std::time::Duration;

const DEMO: &str = "47c6da67-7477-4970-aa03-84e48ff4f6ad";

/// Boots a machine and returns the config that its Linux printed, once it has powered off.
fn config_of(machine: impl FnOnce(Builder) -> Builder) -> Result<String> {
    let linux = Linux::find()?;
    let files = Files::serve(linux.folder())?;
    let server = Server::standalone(&examples("quickstart"))
        .label("assets", &files.url_for_user_network())
        .start_ready()?;
    let builder = Machine::on_user_network(&server.url_for_user_network("/boot.ipxe"));
    let mut machine = machine(builder).boot()?;
    machine.wait_for(Linux::END, Duration::from_mins(3))?;
    machine.wait_for_power_off(Duration::from_secs(30))?;
    assert_eq!(files.requests(), ["/vmlinuz", "/initrd.gz"]);
    Ok(machine
        .console()
        .between(Linux::BEGIN, Linux::END)
        .unwrap_or_default())
}

#[test]
fn a_bios_machine_boots_linux_that_fetches_its_own_config() -> Result<()> {
    let config = config_of(|machine| machine.uuid(DEMO))?;
    let ignition: serde_json::Value = serde_json::from_str(&config)?;
    assert_eq!(
        ignition["storage"]["files"][0]["contents"]["source"],
        "data:,web-1"
    );
    assert_eq!(
        ignition["storage"]["files"][1]["contents"]["source"],
        format!("data:,{DEMO}")
    );
    Ok(())
}

#[test]
fn a_uefi_machine_boots_linux_that_fetches_its_own_config() -> Result<()> {
    let config = config_of(|machine| {
        machine
            .firmware(Firmware::Uefi)
            .uuid("1c9f3a55-8a3d-4f0e-9d0c-2f6f2f6d7a03")
            .serial("7XK29Q3")
    })?;
    assert!(
        config.starts_with("#cloud-config\nhostname: database\n"),
        "{config}"
    );
    assert!(config.contains("content: \"7XK29Q3\""), "{config}");
    Ok(())
}
