//! A machine that can't boot yet says why, and boots once it can.

use anyhow::Result;
use e2e::http;
use e2e::machine::Machine;
use e2e::manifests::{Manifests, assignment, says_its_name};
use e2e::server::Server;
use std::time::Duration;

const UUID: &str = "1c9f3a55-8a3d-4f0e-9d0c-2f6f2f6d7a04";
const BOOT: Duration = Duration::from_secs(90);
/// The pauses between attempts grow to 30 seconds.
const NEXT_ATTEMPT: Duration = Duration::from_mins(1);

fn its_assignment() -> String {
    assignment("its-own", &format!("uuids: [{UUID}]"), "linux")
}

#[test]
fn a_machine_waiting_on_404_boots_once_its_assignment_appears() -> Result<()> {
    let manifests = Manifests::of(&[says_its_name("linux")])?;
    let server = Server::standalone(manifests.path()).start_ready()?;
    let mut machine = Machine::on_user_network(&server.url_for_user_network("/boot.ipxe"))
        .uuid(UUID)
        .boot()?;
    machine.wait_for(
        "The server has nothing to boot for this machine: no Assignment matches",
        BOOT,
    )?;
    machine.wait_for(&format!("uuid {UUID}"), BOOT)?;
    machine.wait_for("Next try in 4 seconds", NEXT_ATTEMPT)?;

    manifests.write("late.yaml", &its_assignment())?;
    machine.wait_for("BOOTED-linux", NEXT_ATTEMPT)?;
    machine.wait_for_power_off(Duration::from_secs(20))
}

#[test]
fn a_machine_waiting_on_503_boots_once_the_server_can_answer() -> Result<()> {
    let manifests = Manifests::new()?;
    let state = tempfile::tempdir()?;
    let server = Server::standalone(manifests.path())
        .state(state.path())
        .start_ready()?;
    // Ids must be written before they are served, and a folder in place of the file prevents that.
    let obstacle = state.path().join("config-ids.json");
    std::fs::create_dir(&obstacle)?;
    let with_config = says_its_name("linux") + "  additionalConfig:\n    motd: Hello\n";
    manifests.write("profile.yaml", &with_config)?;
    manifests.write("assignment.yaml", &its_assignment())?;
    let url = server.url(&format!("/ipxe?uuid={UUID}"));
    let (answer, _) =
        http::wait_until(&url, Duration::from_secs(10), |answer| answer.status == 503)?;
    assert!(answer.header("retry-after").is_some(), "{answer:?}");

    let mut machine = Machine::on_user_network(&server.url_for_user_network("/boot.ipxe"))
        .uuid(UUID)
        .boot()?;
    // iPXE prints one dot for each second that it waits.
    machine.wait_for("/ipxe.....", BOOT)?;
    std::fs::remove_dir(&obstacle)?;
    manifests.write("profile.yaml", &with_config.replace("Hello", "Hello again"))?;
    machine.wait_for("BOOTED-linux", NEXT_ATTEMPT)?;
    machine.wait_for_power_off(Duration::from_secs(20))
}

#[test]
fn a_machine_waiting_for_a_stopped_server_boots_once_it_returns() -> Result<()> {
    let manifests = Manifests::of(&[says_its_name("linux")])?;
    let server = Server::standalone(manifests.path()).start_ready()?;
    let address = server.http_address().to_string();
    let mut machine = Machine::on_user_network(&server.url_for_user_network("/boot.ipxe"))
        .uuid(UUID)
        .boot()?;
    machine.wait_for("The server has nothing to boot", BOOT)?;
    server.stop()?;
    machine.wait_for("it refuses or drops connections", NEXT_ATTEMPT)?;

    manifests.write("late.yaml", &its_assignment())?;
    let _server = Server::standalone(manifests.path())
        .http_listen(&address)
        .start_ready()?;
    machine.wait_for("BOOTED-linux", NEXT_ATTEMPT)?;
    machine.wait_for_power_off(Duration::from_secs(20))
}

#[test]
fn a_machine_whose_script_fails_fetches_the_fixed_one() -> Result<()> {
    let broken = e2e::manifests::profile(
        "linux",
        "#!ipxe\nkernel {{ base_url }}/no-such-kernel\nboot\n",
    );
    let manifests = Manifests::of(&[its_assignment()])?;
    manifests.write("profile.yaml", &broken)?;
    let server = Server::standalone(manifests.path()).start_ready()?;
    let mut machine = Machine::on_user_network(&server.url_for_user_network("/boot.ipxe"))
        .uuid(UUID)
        .boot()?;
    // The kernel's 404 must not be mistaken for a missing Assignment.
    machine.wait_for("The script that the server sent has failed", BOOT)?;
    assert_eq!(machine.console().count("no Assignment matches"), 0);

    manifests.write("profile.yaml", &says_its_name("linux"))?;
    machine.wait_for("BOOTED-linux", NEXT_ATTEMPT)?;
    machine.wait_for_power_off(Duration::from_secs(20))
}
