//! Changes are served while machines boot.

use anyhow::Result;
use e2e::http;
use e2e::machine::Machine;
use e2e::manifests::{Manifests, assignment, profile, says_its_name};
use e2e::server::Server;
use std::time::Duration;

#[test]
fn a_changed_file_is_served_within_two_seconds_while_a_machine_boots() -> Result<()> {
    let manifests = Manifests::of(&[says_its_name("linux"), assignment("default", "", "linux")])?;
    manifests.write(
        "other.yaml",
        &assignment("other", "serialNumbers: [SN-2]", "other"),
    )?;
    let server = Server::standalone(manifests.path()).start_ready()?;
    let mut machine =
        Machine::on_user_network(&server.url_for_user_network("/boot.ipxe")).boot()?;
    for round in 0..10 {
        let line = format!("echo ROUND-{round}");
        manifests.write(
            "changing.yaml",
            &profile("other", &format!("#!ipxe\n{line}\n")),
        )?;
        let (_, took) = http::wait_until(
            &server.url("/ipxe?serial=SN-2"),
            Duration::from_secs(10),
            |response| response.status == 200 && response.body.contains(&line),
        )?;
        assert!(took < Duration::from_secs(2), "round {round} took {took:?}");
    }
    machine.wait_for("BOOTED-linux", Duration::from_secs(90))?;
    Ok(())
}
