//! The manifests in `examples/` work unchanged.

use anyhow::{Context, Result};
use e2e::manifests::examples;
use e2e::server::Server;

const DEMO: &str = "47c6da67-7477-4970-aa03-84e48ff4f6ad";

fn quickstart() -> Result<Server> {
    Server::standalone(&examples("quickstart"))
        .label("assets", "http://192.0.2.9")
        .start_ready()
}

/// Fetches a script, which must succeed.
fn script(server: &Server, query: &str) -> Result<String> {
    let response = server.get(&server.url(&format!("/ipxe?{query}")))?;
    anyhow::ensure!(
        response.status == 200,
        "{}: {}",
        response.status,
        response.body
    );
    assert!(response.body.starts_with("#!ipxe\n"), "{}", response.body);
    Ok(response.body)
}

/// The URL that follows `key` in a script.
fn url_after<'a>(script: &'a str, key: &str) -> Result<&'a str> {
    script
        .split_whitespace()
        .skip_while(|word| !word.starts_with(key))
        .find_map(|word| {
            word.strip_prefix(key)
                .map_or(Some(word), |rest| (!rest.is_empty()).then_some(rest))
        })
        .with_context(|| format!("no {key} in {script}"))
}

#[test]
fn the_seed_examples_serve_each_config_that_they_name() -> Result<()> {
    let server = Server::standalone(&examples("seed"))
        .label("region", "us-cal")
        .start_ready()?;
    for identity in [
        format!("uuid={DEMO}"),
        "serial=c4a94672-05a1-4eda-a186-b4aa4544b146".to_owned(),
    ] {
        let script = script(&server, &format!("{identity}&buildarch=arm64"))?;
        for (key, text) in [
            ("--with-config", "YOUR CONFIG HERE\n"),
            ("--ignition-url", "YOUR IGNITION CONFIG HERE\n"),
            ("--or-cloud-init", "YOUR CLOUD INIT CONFIG HERE\n"),
        ] {
            let config = server.get(url_after(&script, key)?)?;
            assert_eq!((config.status, config.body.as_str()), (200, text));
        }
    }
    Ok(())
}

#[test]
fn the_seed_examples_boot_nothing_on_another_architecture_or_region() -> Result<()> {
    let server = Server::standalone(&examples("seed"))
        .label("region", "us-cal")
        .start_ready()?;
    assert_eq!(
        server
            .get(&server.url(&format!("/ipxe?uuid={DEMO}&buildarch=x86_64")))?
            .status,
        404
    );
    let elsewhere = Server::standalone(&examples("seed"))
        .label("region", "eu-west")
        .start_ready()?;
    assert_eq!(
        elsewhere
            .get(&elsewhere.url(&format!("/ipxe?uuid={DEMO}&buildarch=arm64")))?
            .status,
        404
    );
    Ok(())
}

#[test]
fn the_quick_start_gives_each_machine_its_own_script() -> Result<()> {
    let server = quickstart()?;
    for (query, words) in [
        (
            format!("uuid={DEMO}&buildarch=x86_64"),
            "linux-ignition for web-1",
        ),
        (
            format!("uuid={DEMO}&serial=7XK29Q2&buildarch=x86_64"),
            "linux-ignition for web-1",
        ),
        (
            "serial=7XK29Q2&mac=52:54:00:00:00:03&buildarch=x86_64".to_owned(),
            "linux-cloud-init for database",
        ),
        (
            "mac=52:54:00:00:00:03&product=PowerEdge%20R640&buildarch=i386".to_owned(),
            "rescue for workbench",
        ),
        (
            "mac=52:54:00:00:00:04&product=PowerEdge%20R640&buildarch=x86_64".to_owned(),
            "linux-ignition for rack-servers",
        ),
        (
            "mac=52:54:00:00:00:04&product=PowerEdge%20R740&buildarch=x86_64".to_owned(),
            "local-disk for default",
        ),
        (String::new(), "local-disk for default"),
    ] {
        let script = script(&server, &query)?;
        assert!(
            script.contains(&format!("echo Booting {words}")),
            "{query}: {script}"
        );
    }
    Ok(())
}

#[test]
fn the_quick_start_serves_an_ignition_and_a_cloud_init_config() -> Result<()> {
    let server = quickstart()?;
    let boot = script(&server, &format!("uuid={DEMO}&buildarch=x86_64"))?;
    assert!(
        boot.contains("kernel http://192.0.2.9/vmlinuz initrd=initrd.gz "),
        "{boot}"
    );
    let ignition: serde_json::Value =
        serde_json::from_str(&server.get(url_after(&boot, "config=")?)?.body)?;
    assert_eq!(
        ignition["storage"]["files"][0]["contents"]["source"],
        "data:,web-1"
    );
    assert_eq!(
        ignition["storage"]["files"][1]["contents"]["source"],
        format!("data:,{DEMO}")
    );

    let boot = script(&server, "serial=7XK29Q3&buildarch=x86_64")?;
    let user_data = server.get(url_after(&boot, "cloud-config-url=")?)?.body;
    assert!(
        user_data.starts_with("#cloud-config\nhostname: database\n"),
        "{user_data}"
    );
    assert!(user_data.contains("content: \"7XK29Q3\""), "{user_data}");
    Ok(())
}

#[test]
fn the_admin_port_explains_who_boots_what() -> Result<()> {
    let server = quickstart()?;
    let answer =
        server.get(&server.admin_url(&format!("/explain?uuid={DEMO}&buildarch=x86_64")))?;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let _: serde_json::Value =
        serde_json::from_str(&answer.body).context("/explain is not JSON")?;
    for name in ["web-1", "linux-ignition", "default"] {
        assert!(answer.body.contains(name), "no {name} in {}", answer.body);
    }
    Ok(())
}
