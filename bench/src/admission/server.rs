//! Measures the time that a client waits for a write: a real kube-apiserver calls a real `shaper
//! webhook`, with many Assignments in the catalog.
//!
//! The webhook receives the Assignments, and those that are written, by a feed from this process,
//! as from a controller. The API server does not store the others: its write time does not depend
//! on them, and creating them there would take much longer than the whole measurement.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use admission::Registration;
use anyhow::{Context, ensure};
use boot::Change;
use e2e::cluster::{Cluster, Proxy};
use e2e::http;
use e2e::process::Process;
use e2e::roles::{WebhookCertificates, eventually};
use feed::Publisher;
use serde_json::Value;

use super::{AIM, assignment, percentiles, profile};
use crate::catalog;
use crate::controller::{self, Certificates, Controller};
use crate::http::cpu;

/// A limit far above the duration of any step.
const LONG: Duration = Duration::from_mins(3);
const PATH: &str = "/apis/shaper.amahdha.com/v1alpha1/namespaces/machines";

/// Times writes with the webhook and without it, and prints both.
pub(super) fn run(assignments: u32, writes: u32, program: &Path) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("can't start a runtime")?;
    let certificates = Certificates::new()?;
    let listener = controller::listen()?;
    let feed = listener.local_addr()?;
    let publisher = Arc::new(Publisher::new());
    publisher.apply(catalog::all(assignments));
    publisher.set_ready();
    let controller = Controller::serve(&runtime, publisher, &certificates, listener)?;
    let webhook = Webhook::start(program, feed, &certificates)?;
    let cluster = Cluster::start()?;
    cluster.kubectl(["create", "namespace", "machines"])?;
    let proxy = cluster.admin().proxy()?;
    let [without_p50, without_p99] = create(&proxy, &controller, "without", 2_000_000, writes)?;

    let registration = Registration {
        url: Some(format!("https://{}", webhook.listen)),
        authority: Some(webhook.certificates.authority.pem()),
        ..Registration::default()
    };
    for (_, manifest) in registration.manifests() {
        cluster.admin().apply(&manifest)?;
    }
    let is_asked = || {
        let path = format!("{PATH}/profiles?dryRun=All");
        let mut wrong = profile("probe", "probe");
        wrong["spec"]["ipxe"] = "{{".into();
        Ok((proxy
            .send("POST", &path, "application/json", &wrong.to_string())?
            .status
            == 422)
            .then_some(()))
    };
    eventually(LONG, "the webhook is asked", is_asked)?;
    let (cpu_before, before) = (
        cpu(webhook.pid)?,
        [webhook.reviews("validate"), webhook.reviews("mutate")],
    );
    let [p50, p99] = create(&proxy, &controller, "with", 1_000_000, writes)?;
    let spent = cpu(webhook.pid)?.saturating_sub(cpu_before);
    let after = [webhook.reviews("validate"), webhook.reviews("mutate")];

    println!(
        "{writes} Assignments written through kubectl proxy and a real kube-apiserver, beside {assignments} in the webhook"
    );
    println!(
        "  without a webhook                       p50 {without_p50:>7} us   p99 {without_p99:>7} us"
    );
    println!("  each mutated and validated              p50 {p50:>7} us   p99 {p99:>7} us");
    let mut reviews = 0.0;
    for (hook, (before, after)) in ["validate", "mutate"]
        .into_iter()
        .zip(before.into_iter().zip(after))
    {
        let count = after.count - before.count;
        ensure!(
            count >= f64::from(writes),
            "{hook}: there were {count} reviews"
        );
        let (mean, share) = (
            (after.seconds - before.seconds) / count * 1e6,
            (after.within_aim - before.within_aim) / count,
        );
        let verdict = if share >= 0.99 {
            "reached"
        } else {
            "not reached"
        };
        println!(
            "  {hook:<8} inside of the webhook          mean {mean:>6.0} us   {:.1} % within {} us: the aim is {verdict}",
            share * 100.0,
            AIM.as_micros()
        );
        reviews += count;
    }
    println!(
        "  CPU time of the webhook                 {:.0} us for each of {reviews} reviews",
        spent.as_secs_f64() * 1e6 / reviews
    );
    drop(webhook);
    controller.end(&runtime)
}

/// Creates new machines' Assignments one after the other and returns the 50th and 99th percentile,
/// in microseconds.
fn create(
    proxy: &Proxy,
    controller: &Controller,
    prefix: &str,
    first: u32,
    writes: u32,
) -> anyhow::Result<[u128; 2]> {
    let path = format!("{PATH}/assignments");
    let mut took = Vec::new();
    for number in 0..writes {
        let mut object = assignment(first + number, "linux");
        object["metadata"]["name"] = format!("{prefix}-{number}").into();
        let text = object.to_string();
        let started = Instant::now();
        let answer = proxy.send("POST", &path, "application/json", &text)?;
        took.push(started.elapsed());
        ensure!(answer.status == 201, "{}", answer.body);
        let made: Value =
            serde_json::from_str(&answer.body).context("the API server answers no JSON")?;
        let is_labelled = !made["metadata"]["labels"]["shaper.amahdha.com/scope"].is_null();
        ensure!(
            is_labelled == (prefix == "with"),
            "the webhook was {} asked",
            if is_labelled { "also" } else { "not" }
        );
        let made: crd::Assignment =
            serde_json::from_value(made).context("the API server answers no Assignment")?;
        controller.publisher.apply(vec![Change::Assignment(
            crd::convert_assignment(&made)?.into(),
        )]);
    }
    percentiles(took)
}

/// A running `shaper webhook`, ended when dropped.
struct Webhook {
    listen: SocketAddr,
    admin: SocketAddr,
    pid: u32,
    certificates: WebhookCertificates,
    _process: Process,
}

/// The counters of one of its endpoints.
struct Reviews {
    count: f64,
    seconds: f64,
    within_aim: f64,
}

impl Webhook {
    /// Starts a webhook that follows a feed, and waits until its catalog is complete.
    fn start(
        program: &Path,
        feed: SocketAddr,
        certificates: &Certificates,
    ) -> anyhow::Result<Self> {
        let own = WebhookCertificates::new()?;
        let free = || {
            TcpListener::bind("127.0.0.1:0")
                .and_then(|listener| listener.local_addr())
                .context("can't listen on loopback")
        };
        let (listen, admin) = (free()?, free()?);
        let mut process = Process::start("shaper webhook", program.as_os_str(), None, |command| {
            command.args([
                "webhook",
                "--log",
                "warn",
                "--webhook-listen",
                &listen.to_string(),
                "--admin-listen",
                &admin.to_string(),
            ]);
            command
                .args(["--feed", &format!("https://localhost:{}", feed.port())])
                .arg("--feed-tls-dir")
                .arg(certificates.of_replicas());
            command
                .arg("--webhook-tls-dir")
                .arg(own.directory.path())
                .stdin(Stdio::null());
        })?;
        let pid = process.child().id();
        http::wait_until(&format!("http://{admin}/readyz"), LONG, |answer| {
            answer.status == 200
        })?;
        Ok(Self {
            listen,
            admin,
            pid,
            certificates: own,
            _process: process,
        })
    }

    fn reviews(&self, hook: &str) -> Reviews {
        let url = format!("http://{}/metrics", self.admin);
        // An endpoint that was never called has no series.
        let value = |part: &str, labels: &str| {
            let name = format!(
                "shaper_webhook_review_duration_seconds_{part}{{{labels}webhook=\"{hook}\"}}"
            );
            http::metric::<f64>(&url, &name).unwrap_or(0.0)
        };
        let bound = format!("le=\"{}\",", AIM.as_secs_f64());
        Reviews {
            count: value("count", ""),
            seconds: value("sum", ""),
            within_aim: value("bucket", &bound),
        }
    }
}
