//! Faulty controllers, and messages of newer versions.

use prost::Message as _;

use super::*;
use crate::proto::follow_response::Message;
use crate::proto::{self, Commit, Heartbeat, Hello, Inventory, Part, Position};

/// A controller that sends scripted messages, one list per call, and then stays silent.
struct Script(Mutex<std::collections::VecDeque<Vec<Message>>>);

impl Script {
    fn new(calls: impl IntoIterator<Item = Vec<Message>>) -> Self {
        Self(Mutex::new(calls.into_iter().collect()))
    }
}

impl Dial for Script {
    type Candidate = String;
    type Messages = Messages;

    async fn candidates(&self) -> Result<Vec<String>, String> {
        Ok(vec!["scripted".to_owned()])
    }

    async fn dial(&self, _: &String, _: FollowRequest) -> Result<Messages, Ended> {
        let Some(messages) = lock(&self.0).pop_front() else {
            return Err(Ended::Unreachable("the script is over".to_owned()));
        };
        let messages = messages.into_iter().map(|message| {
            Ok(FollowResponse {
                message: Some(message),
            })
        });
        Ok(Box::pin(
            tokio_stream::iter(messages).chain(tokio_stream::pending()),
        ))
    }
}

fn hello() -> Message {
    Message::Hello(Hello {
        protocol: 1,
        software: "test".to_owned(),
        heartbeat_millis: 1000,
        heard_millis_ago: 0,
    })
}

fn position(revision: u64) -> Position {
    Position { epoch: 7, revision }
}

fn wire_assignment(name: &str) -> proto::Assignment {
    let Change::Assignment(assignment) = assignment(name, 2) else {
        unreachable!()
    };
    crate::wire::encode_assignment(&assignment)
}

fn wire_profile(name: &str) -> proto::Profile {
    let Change::Profile(profile) = profile(name, 2) else {
        unreachable!()
    };
    crate::wire::encode_profile(&profile)
}

/// The inventory of a controller that has these objects.
fn inventory(names: &[ObjectRef]) -> Inventory {
    let mut inventory = crate::inventory::Inventory::default();
    names.iter().for_each(|name| inventory.accepted.add(name));
    inventory.into()
}

fn named(assignments: &[&str], profiles: &[&str]) -> Vec<ObjectRef> {
    let assignments = assignments
        .iter()
        .map(|name| ObjectRef::Assignment(ObjectKey::new("ns", *name)));
    assignments
        .chain(
            profiles
                .iter()
                .map(|name| ObjectRef::Profile(ObjectKey::new("ns", *name))),
        )
        .collect()
}

fn commit(revision: u64, names: &[ObjectRef]) -> Commit {
    Commit {
        position: Some(position(revision)),
        inventory: Some(inventory(names)),
        heard_millis_ago: 0,
    }
}

fn snapshot(
    assignments: Vec<proto::Assignment>,
    profiles: Vec<proto::Profile>,
    commit: impl Into<Option<Commit>>,
) -> Message {
    Message::Part(Part {
        snapshot: true,
        assignments,
        profiles,
        commit: commit.into(),
        ..Part::default()
    })
}

fn valid_snapshot() -> Message {
    snapshot(
        vec![wire_assignment("a")],
        vec![wire_profile("p")],
        commit(1, &named(&["a"], &["p"])),
    )
}

async fn follow(calls: impl IntoIterator<Item = Vec<Message>>) -> Follower {
    let follower = Follower::new(&merged_catalog(), "", Limits::default());
    let (link, stop, dial) = (
        follower.link.clone(),
        follower.stop.clone(),
        Script::new(calls),
    );
    tokio::spawn(async move { Box::pin(link.run(dial, stop)).await });
    settle().await;
    follower
}

#[tokio::test(start_paused = true)]
async fn both_ends_reject_another_major_version_with_an_explanation() {
    let newer = Message::Hello(Hello {
        protocol: 2,
        heartbeat_millis: 1000,
        ..Hello::default()
    });
    let follower = follow([vec![newer, valid_snapshot()], vec![hello()]]).await;
    assert_eq!(
        names(&follower.catalog()),
        "",
        "what it then says is not read"
    );
    let service = lock(&ControllerSet::of(&publisher(machines(1))).services)[0]
        .clone()
        .unwrap();
    let status = service
        .open(
            &peer(1),
            FollowRequest {
                protocol: 2,
                ..FollowRequest::default()
            },
        )
        .unwrap_err();
    assert_eq!(status.code(), tonic::Code::FailedPrecondition);
    assert!(
        status
            .message()
            .contains("version 1 of the feed and the follower version 2"),
        "{status}"
    );
    let ended = Ended::Protocol(2).to_string();
    assert!(
        ended.contains("speaks version 2 of the feed and this replica version 1"),
        "{ended}"
    );
}

#[tokio::test(start_paused = true)]
async fn fields_of_a_newer_minor_version_are_ignored() {
    let Message::Part(part) = valid_snapshot() else {
        unreachable!()
    };
    let mut bytes = part.encode_to_vec();
    // Field 1000, a string, in the part; and a message of an unknown kind.
    prost::encoding::string::encode(1000, &"from the future".to_owned(), &mut bytes);
    let part = Part::decode(&bytes[..]).unwrap();
    let mut unknown = Vec::new();
    prost::encoding::string::encode(1001, &"from the future".to_owned(), &mut unknown);
    assert_eq!(FollowResponse::decode(&unknown[..]).unwrap().message, None);
    let follower = follow([vec![hello(), Message::Part(part)]]).await;
    assert_eq!(names(&follower.catalog()), "a p");
}

#[tokio::test(start_paused = true)]
async fn fields_missing_from_an_older_minor_version_are_defaults() {
    let bare = proto::Assignment {
        key: Some(proto::ObjectKey {
            namespace: "ns".into(),
            name: "bare".into(),
        }),
        ..Default::default()
    };
    let follower = follow([vec![
        hello(),
        snapshot(vec![bare], vec![], commit(1, &named(&["bare"], &[]))),
    ]])
    .await;
    let bare = follower
        .catalog()
        .assignment(&ObjectKey::new("ns", "bare"))
        .unwrap()
        .clone();
    assert!(
        bare.subjects == SubjectSelectors::default()
            && bare.priority == 0
            && bare.created.is_none()
    );
}

/// What the publisher of commit 4c5cd52 sent, before the protocol had rejected objects: each
/// message preceded by its length.
const RECORDED: &[u8] = include_bytes!("recorded/before-rejected.bin");

#[tokio::test(start_paused = true)]
async fn a_recorded_stream_of_the_previous_version_is_followed_and_served() {
    let mut rest = RECORDED;
    let mut messages = Vec::new();
    while !rest.is_empty() {
        messages.push(
            FollowResponse::decode_length_delimited(&mut rest)
                .unwrap()
                .message
                .unwrap(),
        );
    }
    let gets = |follower: &Follower, query: &str| {
        let subject = boot::Subject::from_query(query, &boot::ExtrinsicLabels::default()).unwrap();
        let catalog = follower.catalog();
        let selection = catalog.select(&subject).map_err(|error| error.to_string());
        selection.map(|selection| {
            selection
                .profile
                .templates
                .script_source()
                .lines()
                .nth(1)
                .unwrap_or_default()
                .to_owned()
        })
    };
    let machine =
        "uuid=47c6da67-7477-4970-aa03-84e48ff4f6ad&rack=r2&asset=7&product=R640&buildarch=x86_64";
    let stranger = "uuid=47c6da67-7477-4970-aa03-84e48ff4f6ad&rack=r3&asset=7";
    // A hello and a snapshot, then a delta, then a heartbeat.
    let at_first = follow([messages[..2].to_vec()]).await;
    assert_eq!(names(&at_first.catalog()), "default web linux other");
    assert_eq!(
        gets(&at_first, machine).unwrap(),
        "echo first {{ ignition }}"
    );
    assert_eq!(gets(&at_first, stranger).unwrap(), "echo other");
    let follower = follow([messages]).await;
    assert_eq!(names(&follower.catalog()), "web linux other");
    assert_eq!(
        gets(&follower, machine).unwrap(),
        "echo second {{ ignition }}"
    );
    assert!(gets(&follower, stranger).is_err(), "the default is gone");
    let catalog = follower.catalog();
    let web = catalog.assignment(&ObjectKey::new("racks", "web")).unwrap();
    assert_eq!(
        (web.priority, web.created.unwrap().as_second()),
        (-7, 1_700_000_001)
    );
    assert_eq!(
        (
            web.subjects.serials.len(),
            web.subjects.macs.len(),
            web.subjects.labels.len()
        ),
        (1, 1, 4)
    );
    let ids = &catalog
        .profile(&ObjectKey::new("racks", "linux"))
        .unwrap()
        .ids;
    assert_eq!(
        ids.values().next().unwrap().to_string(),
        "0d6e7f2c-5b0a-4c7e-9b52-6a0f7a1d3c11"
    );
}

#[tokio::test(start_paused = true)]
async fn an_undecodable_assignment_rejects_the_batch_but_service_continues() {
    let mut strange = wire_assignment("b");
    strange.labels_required[0].operator = 99;
    for broken in [
        strange,
        proto::Assignment {
            uuids: vec![vec![1; 15]],
            ..wire_assignment("b")
        },
        proto::Assignment {
            mac_addresses: vec![vec![1; 7]],
            ..wire_assignment("b")
        },
        proto::Assignment {
            key: None,
            ..wire_assignment("b")
        },
        proto::Assignment {
            created: Some(proto::Timestamp {
                seconds: i64::MAX,
                nanos: 0,
            }),
            ..wire_assignment("b")
        },
    ] {
        let batch = Part {
            assignments: vec![wire_assignment("c"), broken],
            commit: Some(commit(2, &named(&["a", "b", "c"], &["p"]))),
            ..Part::default()
        };
        let follower = follow([vec![hello(), valid_snapshot(), Message::Part(batch)]]).await;
        assert_eq!(names(&follower.catalog()), "a p", "all as it was");
        assert_eq!(
            lock(follower.link.state()).position(),
            None,
            "and everything is requested again"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_incompatible_profile_keeps_its_previous_version_and_is_reported() {
    let broken = |name| proto::Profile {
        ipxe: "{% of_the_future %}".to_owned(),
        ..wire_profile(name)
    };
    let all = named(&["a", "b"], &["p", "q"]);
    let batch = Part {
        assignments: vec![wire_assignment("b")],
        profiles: vec![broken("p"), broken("q")],
        commit: Some(commit(2, &all)),
        ..Part::default()
    };
    let fixed = Part {
        profiles: vec![wire_profile("q")],
        commit: Some(commit(3, &all)),
        ..Part::default()
    };
    let follower = follow([vec![
        hello(),
        valid_snapshot(),
        Message::Part(batch.clone()),
    ]])
    .await;
    assert_eq!(names(&follower.catalog()), "a b p", "q was never there");
    assert_eq!(
        lock(follower.link.state())
            .incompatible()
            .keys()
            .cloned()
            .collect::<Vec<_>>(),
        named(&[], &["p", "q"])
    );
    let follower = follow([vec![
        hello(),
        valid_snapshot(),
        Message::Part(batch),
        Message::Part(fixed),
    ]])
    .await;
    assert_eq!(names(&follower.catalog()), "a b p q");
    assert_eq!(lock(follower.link.state()).incompatible().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_does_not_match_its_inventory_is_rejected() {
    let delta = |names: &[ObjectRef]| {
        Message::Part(Part {
            assignments: vec![wire_assignment("b")],
            commit: Some(commit(2, names)),
            ..Part::default()
        })
    };
    for (broken, why) in [
        (
            snapshot(
                vec![wire_assignment("b")],
                vec![],
                commit(2, &named(&["b", "c"], &[])),
            ),
            "one is missing",
        ),
        (
            delta(&named(&["a", "b", "c"], &["p"])),
            "one was missed before",
        ),
        (delta(&named(&["b"], &["p"])), "a deletion was missed"),
        (
            Message::Heartbeat(Heartbeat {
                position: Some(position(2)),
                heard_millis_ago: 0,
            }),
            "a change was missed",
        ),
        (hello(), "a second greeting"),
    ] {
        let follower = follow([vec![hello(), valid_snapshot(), broken]]).await;
        assert_eq!(names(&follower.catalog()), "a p", "{why}");
        assert_eq!(lock(follower.link.state()).position(), None, "{why}");
    }
    let parts = [
        Part {
            snapshot: true,
            ..Part::default()
        },
        Part {
            snapshot: false,
            commit: Some(commit(2, &[])),
            ..Part::default()
        },
    ];
    let follower = follow([[
        vec![hello(), valid_snapshot()],
        parts.map(Message::Part).to_vec(),
    ]
    .concat()])
    .await;
    assert_eq!(names(&follower.catalog()), "a p");
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_without_a_commit_is_not_applied() {
    let half = snapshot(vec![wire_assignment("b")], vec![], None);
    let follower = follow([
        vec![hello(), half.clone()],
        vec![hello(), valid_snapshot(), half],
        vec![],
    ])
    .await;
    assert_eq!(names(&follower.catalog()), "a p");
}

#[tokio::test(start_paused = true)]
async fn a_replica_reconnects_after_three_missed_heartbeats() {
    let other = snapshot(
        vec![wire_assignment("b")],
        vec![],
        commit(1, &named(&["b"], &[])),
    );
    let started = tokio::time::Instant::now();
    let follower = Follower::new(&merged_catalog(), "", Limits::default());
    let (link, stop) = (follower.link.clone(), follower.stop.clone());
    let dial = Script::new([
        vec![hello(), valid_snapshot()],
        vec![hello(), other],
        vec![],
    ]);
    tokio::spawn(async move { Box::pin(link.run(dial, stop)).await });
    let wait = async {
        while names(&follower.catalog()) != "b" {
            sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(5), wait)
        .await
        .expect("the next is asked");
    let took = started.elapsed();
    assert!(
        took >= Duration::from_secs(3) && took < Duration::from_secs(5),
        "{took:?} of the clock that stands still"
    );
}

#[tokio::test(start_paused = true)]
async fn a_stalled_follower_is_dropped_and_buffers_little() {
    let controller = publisher(machines(20_000));
    let service = lock(&ControllerSet::of(&controller).services)[0]
        .clone()
        .unwrap();
    let request = FollowRequest {
        protocol: 1,
        ..FollowRequest::default()
    };
    let mut messages = service.open(&peer(1), request).unwrap();
    settle().await;
    let mut taken = 0;
    while let Some(message) = messages.next().await {
        taken += message.unwrap().encoded_len();
    }
    assert!(taken < 200_000, "{taken} bytes waited for it, and no more");
}

/// A service for at most this many followers.
fn service_for(followers: usize) -> Service {
    let limits = PublisherLimits {
        followers,
        ..PublisherLimits::default()
    };
    Service::new(
        publisher(machines(1)),
        PublisherMetrics::register(&mut Registry::default()),
        limits,
        CancellationToken::new(),
    )
}

#[tokio::test(start_paused = true)]
async fn a_follower_over_the_limit_is_refused_until_another_leaves() {
    let service = service_for(2);
    let open = || {
        service.open(
            &peer(1),
            FollowRequest {
                protocol: 1,
                ..FollowRequest::default()
            },
        )
    };
    let (first, second) = (open().unwrap(), open().unwrap());
    assert_eq!(open().unwrap_err().code(), tonic::Code::ResourceExhausted);
    drop(first);
    settle().await;
    assert!(open().is_ok());
    drop(second);
}

#[tokio::test(start_paused = true)]
async fn one_certificate_does_not_keep_all_places_from_another() {
    let service = service_for(4);
    let open = |peer: &PeerInfo| {
        let request = FollowRequest {
            protocol: 1,
            ..FollowRequest::default()
        };
        service.open(peer, request)
    };
    let mut held: Vec<_> = (0..4).map(|_| open(&peer(1)).unwrap()).collect();
    for stream in &mut held {
        // The hello and the first batch.
        stream.next().await.unwrap().unwrap();
        stream.next().await.unwrap().unwrap();
    }
    sleep(Duration::from_millis(100)).await;
    let mut other = open(&peer(2)).unwrap();
    other.next().await.unwrap().unwrap();
    sleep(Duration::from_millis(100)).await;
    let mut ended = 0;
    for stream in &mut held {
        let to_the_end =
            async { while stream.next().await.is_some_and(|message| message.is_ok()) {} };
        let timed = tokio::time::timeout(Duration::from_secs(10), to_the_end).await;
        ended += usize::from(timed.is_ok());
    }
    assert_eq!(ended, 1);
}

#[tokio::test(start_paused = true)]
async fn a_controller_that_is_not_ready_answers_unavailable() {
    let controller = Arc::new(Publisher::new());
    let service = lock(&ControllerSet::of(&controller).services)[0]
        .clone()
        .unwrap();
    let open = || {
        service.open(
            &peer(1),
            FollowRequest {
                protocol: 1,
                ..FollowRequest::default()
            },
        )
    };
    assert_eq!(open().unwrap_err().code(), tonic::Code::Unavailable);
    controller.set_ready();
    assert!(open().is_ok());
}
