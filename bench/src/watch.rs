//! `cargo xtask bench controller`: measures a real `shaper controller` that follows many objects of
//! an API server.
//!
//! The API server is the in-memory one, in this process. The controller is a separate process that
//! does not hold the Lease, so it only follows, as every replica of it does.

use std::fs;
use std::net::TcpListener;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use e2e::http;
use e2e::process::Process;
use fake_apiserver::{FakeApiServer, Fault, Verb, When};
use serde_json::{Value, json};

use super::controller::Certificates;
use super::replica::memory;
use super::{catalog, optimised};

/// How to measure the controller
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many Assignments there are
    #[arg(long, default_value_t = 100_000)]
    assignments: u32,
}

/// A limit far above the duration of any step.
const LONG: Duration = Duration::from_mins(5);
/// How often the other holder renews the Lease.
const RENEWAL: Duration = Duration::from_secs(2);

/// Measures an optimised program.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let program = optimised::shaper(None)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("can't start a runtime")?;
    let server = Arc::new(
        runtime
            .block_on(FakeApiServer::start())
            .context("can't listen on loopback")?,
    );
    server.set_bookmark_interval(Duration::from_secs(10));
    server.put(lease());
    let renewed = server.clone();
    runtime.spawn(async move {
        loop {
            tokio::time::sleep(RENEWAL).await;
            renewed.put(lease());
        }
    });
    server.put(profile());
    (0..args.assignments).for_each(|number| drop(server.put(assignment(number))));
    println!("{} Assignments are there", args.assignments);

    let certificates = Certificates::new()?;
    let kubeconfig = tempfile::NamedTempFile::new().context("can't make a temporary file")?;
    fs::write(kubeconfig.path(), server.kubeconfig()).context("can't write a kubeconfig")?;
    let admin = TcpListener::bind("127.0.0.1:0")
        .context("can't listen on loopback")?
        .local_addr()?;
    let started = Instant::now();
    let mut process = Process::start("shaper controller", program.as_os_str(), None, |command| {
        command.args([
            "controller",
            "--feed-listen",
            "127.0.0.1:0",
            "--log",
            "warn",
            "--lease-namespace",
            "shaper-system",
        ]);
        command
            .args(["--admin-listen", &admin.to_string(), "--kubeconfig"])
            .arg(kubeconfig.path());
        command
            .arg("--feed-tls-dir")
            .arg(certificates.of_controllers())
            .stdin(Stdio::null());
    })?;
    let pid = process.child().id();
    wait(&format!("http://{admin}/readyz"), |response| {
        response.status == 200
    })?;
    let ready = started.elapsed();
    let objects = u64::from(args.assignments).max(1);
    let row = |what: &str, value: String| println!("{what:<44} {value}");
    let per_object = |bytes: u64| {
        format!(
            "{:.0} MiB, {} bytes an object",
            bytes as f64 / 1_048_576.0,
            bytes / objects
        )
    };
    row(
        "process started to ready",
        format!("{} ms", ready.as_millis()),
    );
    // Memory used only at startup is released after a moment.
    std::thread::sleep(Duration::from_secs(3));
    let steady = memory(pid, "VmRSS")?;
    row("resident memory", per_object(steady));
    row("peak on the way", per_object(memory(pid, "VmHWM")?));

    fs::write(format!("/proc/{pid}/clear_refs"), "5").context("can't reset the peak of memory")?;
    let gone = server.inject(When::watches().of("assignments").times(1), Fault::Gone);
    // An object that was created after the listing shows that the watch works.
    server.put(assignment(args.assignments));
    let is_listed = |response: &http::Response| {
        let value = |name: &str| {
            response
                .body
                .lines()
                .find(|line| line.contains(name) && !line.starts_with('#'))
                .map(str::to_owned)
        };
        let listings = response
            .body
            .lines()
            .filter(|line| line.contains("listings_total") && !line.starts_with('#'));
        let listings: u64 = listings
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
            .sum();
        listings >= 3
            && value("Assignment")
                .is_some_and(|line| line.ends_with(&format!(" {}", args.assignments + 1)))
    };
    wait(&format!("http://{admin}/metrics"), is_listed)?;
    drop(gone);
    let peak = memory(pid, "VmHWM")?;
    row(
        "peak while it lists again (410)",
        format!(
            "{}, {:.2} of steady",
            per_object(peak),
            peak as f64 / steady as f64
        ),
    );
    let writes = server
        .calls()
        .iter()
        .filter(|call| matches!(call.verb, Verb::Patch) && call.plural != "leases")
        .count();
    row("writes without the Lease", writes.to_string());
    Ok(())
}

fn wait(url: &str, is_so: impl Fn(&http::Response) -> bool) -> anyhow::Result<()> {
    let deadline = Instant::now() + LONG;
    while !http::get(url).is_ok_and(|response| is_so(&response)) {
        if Instant::now() > deadline {
            bail!("{url} does not say what it should");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn lease() -> Value {
    let now = jiff::Timestamp::now().to_string();
    let spec = json!({ "holderIdentity": "another", "leaseDurationSeconds": 3600, "acquireTime": now, "renewTime": now });
    json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": { "name": "shaper-controller", "namespace": "shaper-system" }, "spec": spec,
    })
}

fn profile() -> Value {
    let script = "#!ipxe\nkernel http://files.lab/vmlinuz uuid={{ subject.uuid }}\nboot\n";
    object(
        "Profile",
        "linux",
        &json!({ "os": "linux" }),
        &json!({ "ipxe": script }),
    )
}

/// Returns an Assignment as an inventory writes it: one machine with all of its identities.
fn assignment(number: u32) -> Value {
    let octets: Vec<_> = [0x52, 0x54]
        .into_iter()
        .chain(number.to_be_bytes())
        .map(|octet: u8| format!("{octet:02x}"))
        .collect();
    let subjects = json!({
        "uuids": [catalog::uuid(number)], "serialNumbers": [format!("SN{number:010}")], "macAddresses": [octets.join(":")],
    });
    let labels = json!({ "app.kubernetes.io/managed-by": "inventory", "shaper.amahdha.com/scope": "machine" });
    let name = format!("rack-{:04}-machine-{number:06}", number / 40);
    object(
        "Assignment",
        &name,
        &labels,
        &json!({ "subjectSelectors": subjects, "profileSelectors": { "os": "linux" } }),
    )
}

fn object(kind: &str, name: &str, labels: &Value, spec: &Value) -> Value {
    let metadata = json!({ "name": name, "namespace": "machines", "labels": labels });
    json!({ "apiVersion": "shaper.amahdha.com/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec })
}
