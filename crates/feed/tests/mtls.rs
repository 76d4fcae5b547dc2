//! Publisher and replica over sockets with certificates.

#[path = "../../tls/tests/certificates/authority.rs"]
mod authority;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use authority::{Age, Authority, Secret};
use boot::{Assignment, Catalog, Change, ObjectKey, SharedCatalog, SubjectSelectors};
use feed::{GuardLimits, Publisher, PublisherLimits, PublisherMetrics, Replica, ReplicaMetrics};
use net::Listener;
use prometheus_client::registry::Registry;
use tls::{Metrics, PeerName, Reloader};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// An upper bound, reached only if something hangs.
const TIMEOUT: Duration = Duration::from_mins(1);

struct Controller {
    publisher: Arc<Publisher>,
    tls: tempfile::TempDir,
    address: SocketAddr,
    registry: Registry,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

struct Follower {
    replica: Arc<Replica>,
    shared: Arc<SharedCatalog>,
    tls: tempfile::TempDir,
    registry: Registry,
    stop: CancellationToken,
}

/// A follower's files, the controller that it connects to, and the accepted peer names; the
/// expected reason in the controller's metrics, and part of the follower's expected warning.
type Case<'c> = (
    &'c Secret,
    &'c Controller,
    Option<&'c [&'c str]>,
    &'c str,
    &'c str,
);

fn directory(secret: &Secret) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    secret.project(directory.path());
    directory
}

fn names(names: &[&str]) -> Vec<PeerName> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

fn encode(registry: &Registry) -> String {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
    text
}

fn controller(secret: &Secret, allowed: &[&str], objects: usize) -> Controller {
    let tls = directory(secret);
    let mut registry = Registry::default();
    let reloader = Reloader::mutual(
        "feed",
        tls.path(),
        names(allowed),
        Metrics::register(&mut registry),
    );
    let publisher = Arc::new(Publisher::new());
    publisher.apply((0..objects).map(|n| machine(&format!("m{n}"), 0)).collect());
    publisher.set_ready();
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr();
    let stop = CancellationToken::new();
    tokio::spawn(reloader.clone().follow(stop.clone()));
    let metrics = PublisherMetrics::register(&mut registry);
    let serve = feed::serve(
        listener,
        publisher.clone(),
        reloader,
        metrics,
        PublisherLimits::default(),
        stop.clone(),
    );
    let serving = tokio::spawn(async move { serve.await.unwrap() });
    Controller {
        publisher,
        tls,
        address,
        registry,
        stop,
        serving,
    }
}

/// Connects to `localhost`; `allowed` are the accepted peer names.
fn follower(secret: &Secret, controllers: &[&Controller], allowed: Option<&[&str]>) -> Follower {
    let tls = directory(secret);
    let mut registry = Registry::default();
    let sources = controllers.iter().map(|controller| {
        format!("https://127.0.0.1:{}", controller.address.port())
            .parse()
            .unwrap()
    });
    let shared = Arc::new(SharedCatalog::new(Catalog::new()));
    let metrics = ReplicaMetrics::register(&mut registry);
    let replica = Arc::new(
        Replica::new(
            sources.collect(),
            GuardLimits::default(),
            None,
            shared.clone(),
            metrics,
        )
        .unwrap(),
    );
    let allowed = allowed.map(names);
    let peers = allowed.clone().unwrap_or_else(|| replica.hosts());
    let reloader = Reloader::mutual("feed", tls.path(), peers, Metrics::register(&mut registry));
    let stop = CancellationToken::new();
    tokio::spawn(reloader.clone().follow(stop.clone()));
    let (running, token) = (replica.clone(), stop.clone());
    tokio::spawn(async move { running.run(reloader, allowed, token).await });
    Follower {
        replica,
        shared,
        tls,
        registry,
        stop,
    }
}

impl Follower {
    async fn loaded(&self) -> bool {
        timeout(TIMEOUT, self.replica.loaded()).await.is_ok()
    }

    async fn wait_until(&self, predicate: impl Fn(&Catalog) -> bool) {
        let wait = async {
            while !predicate(&self.shared.load()) {
                sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(TIMEOUT, wait)
            .await
            .unwrap_or_else(|_| panic!("it did not come: {:?}", self.replica.remarks()));
    }

    /// Waits for a warning that contains `words`.
    async fn wait_for_warning(&self, words: &str) {
        let wait = async {
            while !self
                .replica
                .warnings()
                .iter()
                .any(|warning| warning.contains(words))
            {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(TIMEOUT, wait)
            .await
            .unwrap_or_else(|_| panic!("not {words}, but {:?}", self.replica.remarks()));
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn machine(name: &str, priority: i32) -> Change {
    Change::Assignment(Arc::new(Assignment {
        key: ObjectKey::new("ns", name),
        created: None,
        labels: boot::Labels::default(),
        subjects: SubjectSelectors::default(),
        profiles: boot::Labels::default(),
        priority,
        variables: boot::Variables::default(),
    }))
}

fn priority(catalog: &Catalog, name: &str) -> Option<i32> {
    catalog
        .assignment(&ObjectKey::new("ns", name))
        .map(|assignment| assignment.priority)
}

#[tokio::test]
async fn a_replica_receives_changes_and_keeps_its_catalog_when_the_controller_stops() {
    let authority = Authority::new("ca");
    let controller = controller(&authority.issue("shaper-controller"), &["shaper-api"], 5000);
    let follower = follower(
        &authority.issue("shaper-api"),
        &[&controller],
        Some(&["shaper-controller"]),
    );
    assert!(follower.loaded().await);
    assert_eq!(follower.shared.load().assignment_count(), 5000);
    controller.publisher.apply(vec![machine("m7", 9)]);
    follower
        .wait_until(|catalog| priority(catalog, "m7") == Some(9))
        .await;
    follower.replica.refresh_metrics();
    let metrics = encode(&follower.registry);
    assert!(
        metrics.contains("feed_connected{partition=\"\"} 1\n"),
        "{metrics}"
    );
    assert!(
        metrics.contains("feed_revision{partition=\"\"} 2\n"),
        "{metrics}"
    );
    controller.stop.cancel();
    timeout(TIMEOUT, controller.serving)
        .await
        .expect("it ends although it has a follower")
        .unwrap();
    follower.wait_for_warning("disconnected for").await;
    assert_eq!(follower.shared.load().assignment_count(), 5000);
    assert!(encode(&follower.registry).contains("feed_connected{partition=\"\"} 0\n"));
}

#[tokio::test]
async fn another_controller_takes_over() {
    let authority = Authority::new("ca");
    let first = controller(&authority.issue("shaper-controller"), &["shaper-api"], 10);
    let second = controller(&authority.issue("shaper-controller"), &["shaper-api"], 10);
    let follower = follower(
        &authority.issue("shaper-api"),
        &[&first, &second],
        Some(&["shaper-controller"]),
    );
    assert!(follower.loaded().await);
    first.stop.cancel();
    second.publisher.apply(vec![machine("later", 0)]);
    follower
        .wait_until(|catalog| catalog.assignment_count() == 11)
        .await;
}

#[tokio::test]
async fn a_peer_with_the_wrong_name_or_authority_gets_nothing_and_a_reason() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let strict = controller(&ours.issue("shaper-controller"), &["shaper-webhook"], 1);
    let controller = controller(&ours.issue("shaper-controller"), &["shaper-api"], 1);
    let api = ours.issue("shaper-api");
    let cases: [Case<'_>; 5] = [
        (&api, &strict, Some(&["shaper-controller"]), "peer_name", ""),
        (
            &theirs.issue("shaper-api").trusting(&[&ours]),
            &controller,
            Some(&["shaper-controller"]),
            "peer_unknown_authority",
            "",
        ),
        (
            &api,
            &controller,
            Some(&["other"]),
            "",
            "not valid for name",
        ),
        (&api, &controller, None, "", "not valid for name"),
        (
            &ours.issue_aged("shaper-api", Age::Expired),
            &controller,
            Some(&["shaper-controller"]),
            "",
            "tls.crt expired",
        ),
    ];
    for (secret, controller, allowed, at_the_controller, at_the_replica) in cases {
        let follower = follower(secret, &[controller], allowed);
        follower.wait_for_warning(at_the_replica).await;
        if !at_the_controller.is_empty() {
            let counted = format!(
                "tls_handshake_errors_total{{tls=\"feed\",reason=\"{at_the_controller}\"}}"
            );
            let wait = async {
                while !encode(&controller.registry).contains(&counted) {
                    sleep(Duration::from_millis(5)).await;
                }
            };
            timeout(TIMEOUT, wait)
                .await
                .unwrap_or_else(|_| panic!("no {counted}: {}", encode(&controller.registry)));
        }
        assert_eq!(follower.shared.load().assignment_count(), 0);
    }
}

#[tokio::test]
async fn the_host_of_the_url_is_trusted_by_default() {
    let authority = Authority::new("ca");
    let controller = controller(&authority.issue("127.0.0.1"), &["shaper-api"], 1);
    assert!(
        follower(&authority.issue("shaper-api"), &[&controller], None)
            .loaded()
            .await
    );
}

/// Rotates leaf certificates and the authority step by step while changes flow: no change is lost
/// and no peer is refused.
#[tokio::test]
async fn a_certificate_rotation_loses_no_change_and_a_removed_authority_ends_its_streams() {
    let (old, new) = (Authority::new("ca"), Authority::new("ca"));
    let controller = controller(&old.issue("shaper-controller"), &["shaper-api"], 100);
    let follower = follower(
        &old.issue("shaper-api"),
        &[&controller],
        Some(&["shaper-controller"]),
    );
    assert!(follower.loaded().await);
    let mut priority_value = 0;
    let mut change = async |follower: &Follower| {
        for _ in 0..20 {
            priority_value += 1;
            controller
                .publisher
                .apply(vec![machine("m1", priority_value)]);
            follower
                .wait_until(|catalog| priority(catalog, "m1") == Some(priority_value))
                .await;
        }
    };
    let both = [&old, &new];
    let steps = [
        (
            Some(old.issue("shaper-controller").trusting(&both)),
            Some(old.issue("shaper-api").trusting(&both)),
        ),
        (Some(new.issue("shaper-controller").trusting(&both)), None),
        (None, Some(new.issue("shaper-api").trusting(&both))),
        (
            Some(new.issue("shaper-controller")),
            Some(new.issue("shaper-api")),
        ),
    ];
    for (at_the_controller, at_the_replica) in steps {
        for (secret, directory, registry) in [
            (at_the_controller, &controller.tls, &controller.registry),
            (at_the_replica, &follower.tls, &follower.registry),
        ] {
            let Some(secret) = secret else { continue };
            let before = reloads(registry);
            secret.project(directory.path());
            let wait = async {
                while reloads(registry) == before {
                    change(&follower).await;
                }
            };
            timeout(TIMEOUT, wait)
                .await
                .expect("the new files are taken");
            change(&follower).await;
        }
    }
    let metrics = encode(&controller.registry) + &encode(&follower.registry);
    assert!(
        !metrics.contains("tls_handshake_errors_total{"),
        "{metrics}"
    );
    // The stream that began with the old leaf ended when that leaf was no longer trusted, and
    // another began with the new one.
    assert!(metrics.contains("streams_ended_total{"), "{metrics}");
}

fn reloads(registry: &Registry) -> String {
    encode(registry)
        .lines()
        .filter(|line| line.starts_with("tls_reloads_total{"))
        .collect()
}
