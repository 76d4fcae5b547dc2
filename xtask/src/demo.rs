//! Demonstrates the whole boot path: shaper, a virtual machine, and a Linux that fetched its
//! config.

use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use e2e::assets::{Linux, Package, ensure_packages};
use e2e::files::Files;
use e2e::machine::{Console, Machine};
use e2e::manifests::examples;
use e2e::server::{Server, use_binary};

use crate::build;

/// The machine that `examples/quickstart/assignments.yaml` calls web-1.
pub(crate) const UUID: &str = "47c6da67-7477-4970-aa03-84e48ff4f6ad";
pub(crate) const QUERY: &str = "/ipxe?uuid=47c6da67-7477-4970-aa03-84e48ff4f6ad&buildarch=x86_64";

/// A limit that only a machine that hangs reaches, even if two others boot at the same time.
const BOOT: Duration = Duration::from_mins(5);

/// How to watch a machine boot
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Leave the server running afterwards, and print what to try with curl
    #[arg(long)]
    keep: bool,
}

/// Builds shaper, starts it on `examples/quickstart`, and boots a virtual machine from it.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    say("building shaper");
    build_shaper()?;

    say("looking for QEMU, a kernel and an initrd");
    ensure_packages(&[Package::Qemu, Package::IpxeRoms])?;
    let linux = Linux::find()?;
    let files = Files::serve(linux.folder())?;
    let assets = files.url_for_user_network();

    say(&format!(
        "starting: shaper standalone examples/quickstart --label assets={assets}"
    ));
    let server = Server::standalone(&examples("quickstart"))
        .label("assets", &assets)
        .start_ready()?;
    let bootfile = server.url_for_user_network("/boot.ipxe");

    say(&format!(
        "switching on a machine with the UUID {UUID}; DHCP tells it to boot {bootfile}"
    ));
    let mut machine = Machine::on_user_network(&bootfile).uuid(UUID).boot()?;
    stream(machine.console())?;
    let config = machine
        .console()
        .between(Linux::BEGIN, Linux::END)
        .with_context(|| {
            format!(
                "the machine did not print its config; the last that shaper said is:\n{}",
                server.log().text()
            )
        })?;
    ensure!(
        config.contains(UUID),
        "the config that the machine printed is not its own:\n{config}"
    );
    machine.wait_for_power_off(Duration::from_secs(30))?;

    say(&format!(
        "that was the whole way. iPXE, in the machine's network card, got its address and the URL of /boot.ipxe by DHCP. \
         That script told shaper who the machine is. By its UUID the Assignment web-1 matched and gave it the Profile \
         linux-ignition, whose script iPXE ran: it loaded a kernel and an initrd from {assets}. The Linux that then started \
         fetched the URL on its command line from shaper and printed what it got, between the two marked lines above: its own \
         Ignition config, with its own UUID in it."
    ));
    if args.keep {
        keep(&server);
    }
    Ok(())
}

/// Builds the binary that `demo` and `dev` run, unless `SHAPER_BIN` names one.
///
/// Uses xtask's profile, without optimisation: that is fast enough to watch a machine boot, and
/// halves the build time.
pub(crate) fn build_shaper() -> anyhow::Result<()> {
    if let Some(path) = std::env::var_os("SHAPER_BIN") {
        println!("SHAPER_BIN names one: {}", path.display());
        return Ok(());
    }
    build::run(&["--workspace", "--bin", "shaper"])?;
    use_binary(build::program("debug", "shaper")?);
    Ok(())
}

/// Prints the machine's console until it is off.
pub(crate) fn stream(console: &Console) -> anyhow::Result<()> {
    let deadline = Instant::now() + BOOT;
    let mut shown = 0;
    loop {
        let (lines, is_on) = console.lines_from(shown, Duration::from_secs(1));
        for line in &lines {
            println!("machine {:6.1}s | {}", line.at.as_secs_f32(), line.text);
        }
        shown += lines.len();
        if !is_on && lines.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!(
                "the machine did not finish within {} minutes; its console is above",
                BOOT.as_secs() / 60
            );
        }
    }
}

/// Leaves the server running until it is stopped.
fn keep(server: &Server) {
    say("shaper keeps running until Ctrl-C. As a machine would ask:");
    println!("\n  curl '{}'", server.url("/boot.ipxe"));
    println!("  curl '{}'", server.url(QUERY));
    println!("  curl '{}'", server.url("/ipxe?mac=52:54:00:00:00:03"));
    println!("\nand as an operator:\n");
    println!(
        "  curl '{}'",
        server.admin_url(&QUERY.replace("/ipxe", "/explain"))
    );
    println!("  curl '{}'", server.admin_url("/metrics"));
    println!("\nChange a file in examples/quickstart and ask again: the answer has changed.");
    // Ctrl-C reaches shaper as well, which then exits.
    while server.get(&server.admin_url("/healthz")).is_ok() {
        std::thread::sleep(Duration::from_secs(1));
    }
}

fn say(text: &str) {
    println!("\ndemo: {text}\n");
}
