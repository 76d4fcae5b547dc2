//! Publisher and replica connected without a network, with paused time that advances only while all
//! tasks wait.

mod copies;
mod cross_partition_conflicts;
mod faults;
mod guarding;
mod history;
mod rejected;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use boot::catalog::guard::Limits;
use boot::{
    Assignment, Catalog, Change, LabelSelector, Machine, ObjectKey, ObjectRef, Operator, Partial,
    Profile, Rejected, Requirement, SharedCatalog, SubjectSelectors, Variables,
};
use prometheus_client::registry::Registry;
use tokio::time::sleep;
use tokio_stream::{Stream, StreamExt};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::connection::PeerInfo;
use crate::proto::{FollowRequest, FollowResponse};
use crate::publisher::Service;
use crate::{Publisher, PublisherLimits, PublisherMetrics};

use super::ReplicaMetrics;
use super::link::{Dial, Ended, Link};
use super::merged_catalog::{MergedCatalog, PartitionState, lock};

type Messages = std::pin::Pin<Box<dyn Stream<Item = Result<FollowResponse, Status>> + Send>>;

/// Controllers that may be down, with connections that may be cut or slow.
#[derive(Default)]
struct ControllerSet {
    services: Mutex<Vec<Option<Arc<Service>>>>,
    cut: Mutex<CancellationToken>,
    /// How long each message takes.
    message_delay: Mutex<Duration>,
    calls: AtomicUsize,
}

struct TestDial(Arc<ControllerSet>);

impl ControllerSet {
    fn of(publisher: &Arc<Publisher>) -> Arc<Self> {
        let controllers = Arc::new(Self::default());
        controllers.replace(0, Some(publisher));
        controllers
    }

    /// Replaces the controller at an index, or removes it.
    fn replace(&self, index: usize, publisher: Option<&Arc<Publisher>>) {
        let metrics = PublisherMetrics::register(&mut Registry::default());
        let service = |publisher: &Arc<Publisher>| {
            Arc::new(Service::new(
                publisher.clone(),
                metrics.clone(),
                PublisherLimits::default(),
                CancellationToken::new(),
            ))
        };
        let mut services = lock(&self.services);
        if services.len() <= index {
            services.resize(index + 1, None);
        }
        services[index] = publisher.map(service);
    }

    /// Cuts all connections.
    fn cut(&self) {
        std::mem::take(&mut *lock(&self.cut)).cancel();
    }
}

impl Dial for TestDial {
    type Candidate = String;
    type Messages = Messages;

    async fn candidates(&self) -> Result<Vec<String>, String> {
        Ok((0..lock(&self.0.services).len())
            .map(|index| index.to_string())
            .collect())
    }

    async fn dial(&self, candidate: &String, request: FollowRequest) -> Result<Messages, Ended> {
        self.0.calls.fetch_add(1, Ordering::Relaxed);
        let index: usize = candidate.parse().unwrap();
        let service = lock(&self.0.services)[index]
            .clone()
            .ok_or_else(|| Ended::Unreachable("it is away".to_owned()))?;
        let mut messages = service.open(&peer(1), request).map_err(Ended::Refused)?;
        let (controllers, cut) = (self.0.clone(), lock(&self.0.cut).clone());
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        tokio::spawn(async move {
            let relay = async {
                while let Some(message) = messages.next().await {
                    let message_delay = *lock(&controllers.message_delay);
                    if !message_delay.is_zero() {
                        sleep(message_delay).await;
                    }
                    if sender.send(message).await.is_err() {
                        return;
                    }
                }
            };
            let _ = cut.run_until_cancelled(relay).await;
        });
        Ok(Box::pin(tokio_stream::wrappers::ReceiverStream::new(
            receiver,
        )))
    }
}

/// A partition's link and the catalog that it fills.
struct Follower {
    link: Arc<Link>,
    merged_catalog: Arc<MergedCatalog>,
    stop: CancellationToken,
}

impl Follower {
    fn new(merged_catalog: &Arc<MergedCatalog>, partition: &str, guard: Limits) -> Self {
        let metrics = ReplicaMetrics::register(&mut Registry::default()).partition(partition);
        let link = Arc::new(Link::new(
            merged_catalog.clone(),
            PartitionState::new(partition, guard),
            metrics,
        ));
        Self {
            link,
            merged_catalog: merged_catalog.clone(),
            stop: CancellationToken::new(),
        }
    }

    fn start(self, controllers: &Arc<ControllerSet>) -> Self {
        let (link, dial, stop) = (
            self.link.clone(),
            TestDial(controllers.clone()),
            self.stop.clone(),
        );
        tokio::spawn(async move { Box::pin(link.run(dial, stop)).await });
        self
    }

    fn of(controllers: &Arc<ControllerSet>) -> Self {
        Self::new(&merged_catalog(), "", Limits::default()).start(controllers)
    }

    fn catalog(&self) -> Catalog {
        Catalog::clone(&self.merged_catalog.shared().load())
    }

    async fn loaded(&self) {
        self.link.loaded().await;
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn merged_catalog() -> Arc<MergedCatalog> {
    Arc::new(MergedCatalog::new(
        Arc::new(SharedCatalog::new(Catalog::new())),
        2,
    ))
}

fn publisher(changes: Vec<Change>) -> Arc<Publisher> {
    let publisher = Publisher::new();
    publisher.apply(changes);
    publisher.set_ready();
    Arc::new(publisher)
}

/// A peer with a certificate and an address that depend on a number.
fn peer(number: u8) -> PeerInfo {
    PeerInfo::new(([192, 0, 2, number], 4000).into(), &[number])
}

/// Waits long enough for everything that will happen.
async fn settle() {
    sleep(Duration::from_mins(2)).await;
}

/// All objects of a catalog, in comparable form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Contents {
    assignments: BTreeMap<ObjectKey, Arc<Assignment>>,
    profiles: BTreeMap<ObjectKey, Arc<Profile>>,
    machines: BTreeMap<ObjectKey, Arc<Machine>>,
    rejected: BTreeMap<ObjectRef, Arc<Rejected>>,
}

impl Contents {
    fn of(catalog: &Catalog) -> Self {
        Self {
            assignments: catalog
                .assignments()
                .map(|assignment| (assignment.key.clone(), assignment.clone()))
                .collect(),
            profiles: catalog
                .profiles()
                .map(|profile| (profile.key.clone(), profile.clone()))
                .collect(),
            machines: catalog
                .machines()
                .map(|machine| (machine.key.clone(), machine.clone()))
                .collect(),
            rejected: catalog
                .all_rejected()
                .map(|rejected| (rejected.name(), rejected.clone()))
                .collect(),
        }
    }

    fn names(&self) -> String {
        let names = self
            .assignments
            .keys()
            .chain(self.profiles.keys())
            .chain(self.machines.keys())
            .map(|key| key.name.to_string());
        names.collect::<Vec<_>>().join(" ")
    }
}

fn names(catalog: &Catalog) -> String {
    Contents::of(catalog).names()
}

/// An Assignment whose fields depend on `variant`.
fn assignment(name: &str, variant: u8) -> Change {
    let requirement = Requirement {
        key: "rack".into(),
        operator: match variant % 4 {
            0 => Operator::In(boot::Sorted::from([
                "a".into(),
                format!("r{variant}").into(),
            ])),
            1 => Operator::NotIn(boot::Sorted::from([format!("r{variant}").into()])),
            2 => Operator::Exists,
            _ => Operator::DoesNotExist,
        },
    };
    let subjects = SubjectSelectors {
        uuids: (0..variant % 3)
            .map(|n| uuid::Uuid::from_u128(u128::from(variant) << 8 | u128::from(n)))
            .collect(),
        serials: (0..variant % 2).map(|n| format!("S{n}").into()).collect(),
        macs: (0..variant % 3)
            .map(|n| boot::Mac::from_octets(&[2, 0, 0, 0, variant, n]).unwrap())
            .collect(),
        labels: LabelSelector::new(&BTreeMap::new(), [requirement]),
    };
    Change::Assignment(Arc::new(Assignment {
        key: ObjectKey::new("ns", name),
        created: variant
            .is_multiple_of(2)
            .then(|| jiff::Timestamp::new(i64::from(variant) * 1000, 5).unwrap()),
        labels: [("variant".to_owned(), variant.to_string())]
            .into_iter()
            .collect(),
        subjects,
        profiles: [("tier".to_owned(), "gold".to_owned())]
            .into_iter()
            .collect(),
        priority: i32::from(variant) - 3,
        variables: variables(variant),
    }))
}

/// Variables of each JSON type; none for some variants.
fn variables(variant: u8) -> Variables {
    let json = match variant % 3 {
        0 => serde_json::json!({}),
        1 => serde_json::json!({ "text": format!("v{variant}"), "list": [variant, null, true] }),
        _ => serde_json::json!({ "map": { "a": { "b": 1.5 } }, "big": u64::MAX }),
    };
    Variables::from_json(serde_json::from_value(json).unwrap()).unwrap()
}

/// A Machine whose fields depend on `variant`.
fn machine(name: &str, variant: u8) -> Change {
    let is_even = variant.is_multiple_of(2);
    Change::Machine(Arc::new(Machine {
        key: ObjectKey::new("", name),
        created: is_even.then(|| jiff::Timestamp::new(i64::from(variant), 0).unwrap()),
        labels: [("rack".to_owned(), format!("r{variant}"))]
            .into_iter()
            .collect(),
        uuid: is_even.then(|| uuid::Uuid::from_u128(u128::from(variant) + 1)),
        serial: (!is_even).then(|| format!("S{variant}").into()),
        macs: (0..variant % 3)
            .map(|n| boot::Mac::from_octets(&[2, 0, 0, 1, variant, n]).unwrap())
            .collect(),
        variables: variables(variant),
    }))
}

fn profile(name: &str, variant: u8) -> Change {
    let configs: BTreeMap<_, _> = (0..variant % 3)
        .map(|n| {
            (
                format!("config{n}").parse().unwrap(),
                format!("text {variant} of {{{{ subject.uuid }}}}"),
            )
        })
        .collect();
    let labels = BTreeMap::from([
        ("assignment/ipxe-buildarch".to_owned(), "aarch64".to_owned()),
        ("v".to_owned(), variant.to_string()),
    ]);
    let created = (variant % 2 == 1).then(|| jiff::Timestamp::new(i64::from(variant), 0).unwrap());
    let formats = [boot::ConfigFormat::ALL[variant as usize % 5]];
    let formats = configs.keys().cloned().zip(formats).collect();
    let script = format!("#!ipxe\necho {variant}\n");
    let templates = boot::Templates::compile_with_formats(&script, &configs, &formats).unwrap();
    let key = ObjectKey::new("ns", name);
    let profile = Profile::with_templates(key, created, &labels, Arc::new(templates));
    let ids = configs
        .into_keys()
        .map(|name| (name, uuid::Uuid::from_u128(u128::from(variant) + 1)))
        .collect();
    let schema = serde_json::json!({ "required": [format!("v{variant}")] });
    let schema = boot::VariablesSchema::compile(&schema).unwrap();
    let schema = (variant % 4 == 3).then(|| Arc::new(schema));
    let profile = profile.with_variables(variables(variant), schema);
    Change::Profile(Arc::new(profile.with_ids(ids)))
}

/// The rejected form of an object: its readable part and a fault.
fn rejected(change: &Change, fault: &str) -> Change {
    let partial = match change {
        Change::Assignment(assignment) => Partial::Assignment(assignment.clone()),
        Change::Machine(machine) => Partial::Machine(machine.clone()),
        Change::Profile(profile) => {
            let labels = profile
                .labels
                .iter()
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect();
            Partial::Profile(Arc::new(
                Profile::partial(profile.key.clone(), profile.created, &labels)
                    .with_ids(profile.ids.clone()),
            ))
        }
        _ => unreachable!("only of objects"),
    };
    Change::Rejected(Arc::new(Rejected {
        partial,
        fault: fault.into(),
    }))
}

fn gone(change: &Change) -> Change {
    change.name().deletion()
}

fn machines(count: usize) -> Vec<Change> {
    (0..count)
        .map(|n| assignment(&format!("m{n:04}"), 1))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_replica_receives_every_field_of_every_object() {
    let changes: Vec<_> = (0..24)
        .flat_map(|variant| {
            [
                assignment(&format!("a{variant}"), variant),
                profile(&format!("p{variant}"), variant),
                machine(&format!("m{variant}"), variant),
            ]
        })
        .collect();
    let publisher = publisher(changes);
    let follower = Follower::of(&ControllerSet::of(&publisher));
    follower.loaded().await;
    assert_eq!(
        Contents::of(&follower.catalog()),
        Contents::of(&publisher.catalog().load())
    );
    assert_eq!(
        follower.catalog().assignment_count() + follower.catalog().profile_count(),
        48
    );
}

#[tokio::test(start_paused = true)]
async fn two_partitions_are_merged_and_updated_independently() {
    let (west, east) = (
        publisher(vec![assignment("m", 1), profile("p", 0)]),
        publisher(vec![assignment("m", 2), profile("p", 3)]),
    );
    let merged_catalog = merged_catalog();
    let (western, eastern) = (ControllerSet::of(&west), ControllerSet::of(&east));
    let followers = [("west", &western), ("east", &eastern)].map(|(name, controllers)| {
        Follower::new(&merged_catalog, name, Limits::default()).start(controllers)
    });
    for follower in &followers {
        follower.loaded().await;
    }
    let shown = |merged_catalog: &MergedCatalog| {
        let catalog = merged_catalog.shared().load();
        let mut keys: Vec<_> = catalog.names().map(|name| name.key().to_string()).collect();
        keys.sort();
        keys.join(" ")
    };
    assert_eq!(
        shown(&merged_catalog),
        "east:ns/m east:ns/p west:ns/m west:ns/p"
    );
    // One controller goes down and the other changes; then the first returns as another process
    // with fewer objects.
    western.replace(0, None);
    western.cut();
    east.apply(vec![gone(&profile("p", 3))]);
    settle().await;
    assert_eq!(shown(&merged_catalog), "east:ns/m west:ns/m west:ns/p");
    western.replace(0, Some(&publisher_of_one()));
    settle().await;
    assert_eq!(shown(&merged_catalog), "east:ns/m west:ns/other");
}

fn publisher_of_one() -> Arc<Publisher> {
    publisher(vec![assignment("other", 0)])
}

#[tokio::test(start_paused = true)]
async fn unchanged_objects_keep_their_allocation_across_a_controller_restart() {
    let objects = || vec![assignment("a", 1), assignment("b", 2), profile("p", 2)];
    let controllers = ControllerSet::of(&publisher(objects()));
    let follower = Follower::of(&controllers);
    follower.loaded().await;
    let before = Contents::of(&follower.catalog());
    let replies = lock(&follower.merged_catalog.history).len();
    controllers.replace(0, Some(&publisher(objects())));
    controllers.cut();
    settle().await;
    assert_eq!(
        lock(&follower.merged_catalog.history).len(),
        replies,
        "nothing changed, so nothing was published"
    );
    controllers.replace(
        0,
        Some(&publisher([objects(), vec![assignment("b", 3)]].concat())),
    );
    controllers.cut();
    settle().await;
    let after = Contents::of(&follower.catalog());
    let same = |name: &str| {
        let key = ObjectKey::new("ns", name);
        Arc::ptr_eq(&before.assignments[&key], &after.assignments[&key])
    };
    assert!(same("a") && !same("b"));
    let key = ObjectKey::new("ns", "p");
    assert!(
        Arc::ptr_eq(&before.profiles[&key], &after.profiles[&key]),
        "nor was a template compiled again"
    );
}

#[tokio::test(start_paused = true)]
async fn a_profile_with_unchanged_templates_is_not_compiled_again() {
    let publisher = publisher(vec![profile("p", 1)]);
    let controllers = ControllerSet::of(&publisher);
    let follower = Follower::of(&controllers);
    follower.loaded().await;
    let key = ObjectKey::new("ns", "p");
    let before = follower.catalog().profile(&key).unwrap().clone();
    publisher.apply(vec![Change::Profile(Arc::new(before.with_ids(
        BTreeMap::from([("config0".parse().unwrap(), uuid::Uuid::new_v4())]),
    )))]);
    settle().await;
    let after = follower.catalog().profile(&key).unwrap().clone();
    assert_ne!(before.ids, after.ids);
    assert!(Arc::ptr_eq(&before.templates, &after.templates));
}

#[tokio::test(start_paused = true)]
async fn a_replica_follows_any_ready_controller() {
    let first = Arc::new(Publisher::new());
    let second = publisher(machines(3));
    let controllers = ControllerSet::of(&first);
    controllers.replace(1, None);
    controllers.replace(2, Some(&second));
    let follower = Follower::of(&controllers);
    follower.loaded().await;
    assert_eq!(names(&follower.catalog()), "m0000 m0001 m0002");
    // The followed controller goes down; another has become ready.
    first.apply(machines(4));
    first.set_ready();
    controllers.replace(2, None);
    controllers.cut();
    settle().await;
    assert_eq!(names(&follower.catalog()), "m0000 m0001 m0002 m0003");
}

#[tokio::test(start_paused = true)]
async fn a_stale_controller_is_followed_only_as_a_last_resort() {
    let stale = publisher(vec![assignment("old", 1)]);
    sleep(Duration::from_hours(1)).await;
    let fresh = publisher(vec![assignment("new", 1)]);
    let controllers = ControllerSet::of(&stale);
    controllers.replace(1, Some(&fresh));
    for _ in 0..5 {
        let follower = Follower::of(&controllers);
        follower.loaded().await;
        assert_eq!(names(&follower.catalog()), "new");
    }
    controllers.replace(1, None);
    let follower = Follower::of(&controllers);
    follower.loaded().await;
    assert_eq!(names(&follower.catalog()), "old");
    assert!(
        lock(follower.link.state()).age().unwrap() >= Duration::from_hours(1),
        "and its age is no secret"
    );
}
