use std::time::Duration;

use jiff::Timestamp;
use kube::Config;
use serde_json::json;

use super::*;
use crate::object::{Object, Parsed, WatchedResource};

/// Returns a state in which `profiles` Profiles wait for their ids.
fn state(profiles: usize, writes_per_second: u32) -> State {
    let mut state = empty(writes_per_second);
    let put = |number| put::<crd::Profile>(&format!("p{number}"), 1, &spec_of_profile());
    state.apply((0..profiles).map(put).collect(), NO_LISTING);
    state
}

fn empty(writes_per_second: u32) -> State {
    let publisher = Arc::new(Publisher::new());
    let mut state = State::new(
        Vec::new(),
        publisher,
        RateLimiter::new(writes_per_second),
        Metrics::default(),
        Arc::default(),
    );
    state.has_started = true;
    state
}

fn spec_of_profile() -> serde_json::Value {
    json!({ "ipxe": "#!ipxe\nchain {{ config }}\n", "additionalConfig": { "config": "x" } })
}

fn put<K: WatchedResource>(name: &str, version: u32, spec: &serde_json::Value) -> IndexEvent {
    let object = json!({
        "apiVersion": crd::API_VERSION, "kind": K::kind(&()),
        "metadata": { "name": name, "namespace": "n", "resourceVersion": version.to_string(), "generation": 1, "labels": { "os": "x" } },
        "spec": spec,
    });
    let read = serde_json::from_value::<Parsed<K>>(object).expect("it has metadata");
    IndexEvent::Put(Object::read(read).expect("it has a name"))
}

/// An Assignment and a Profile that it selects.
fn pair() -> [IndexEvent; 2] {
    let wanted = json!({ "profileSelectors": { "os": "x" }, "subjectSelectors": { "serialNumbers": ["a"] } });
    [
        put::<crd::Assignment>("a", 1, &wanted),
        put::<crd::Profile>("p", 2, &json!({ "ipxe": "#!ipxe\n" })),
    ]
}

fn client() -> Client {
    Client::try_from(Config::new("http://127.0.0.1:1".parse().expect("a URL"))).expect("a client")
}

fn leadership() -> Leadership {
    Leadership::new(Instant::now() + Duration::from_hours(1))
}

#[tokio::test(start_paused = true)]
async fn a_rate_limited_object_is_queued_again_in_the_next_leadership() {
    let client = client();
    let mut state = state(3, 1);
    let mut writes = JoinSet::new();
    state.set_leadership(Some(leadership()));
    state.start_writes(&mut writes, &client);
    let waiting = state
        .next
        .clone()
        .expect("one write waits for the rate limiter");
    state.set_leadership(None);
    assert!(state.next.is_none());
    state.set_leadership(Some(leadership()));
    let queued: Vec<_> = std::iter::from_fn(|| state.queue.pop(Instant::now())).collect();
    assert!(
        queued.contains(&waiting),
        "{waiting} is not among {queued:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn settled_problems_are_written_at_the_rate_limit() {
    let mut state = empty(1);
    let none = json!({ "profileSelectors": { "os": "none" } });
    let mut writes = JoinSet::new();
    state.set_leadership(Some(leadership()));
    let put = |number| put::<crd::Assignment>(&format!("a{number}"), 1, &none);
    state.apply((0..4).map(put).collect(), NO_LISTING);
    // Three seconds to settle, and one for each object that waits for the rate limiter.
    for _ in 0..3 + 3 {
        state.start_writes(&mut writes, &client());
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    state.start_writes(&mut writes, &client());
    assert_eq!(writes.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_recurring_problem_settles_each_time() {
    let mut state = empty(1000);
    let mut writes = JoinSet::new();
    state.apply(pair().into(), NO_LISTING);
    let names: Vec<_> = state.index.names().cloned().collect();
    for name in names {
        let write = state
            .index
            .pending_patch(&name, Timestamp::now())
            .expect("a status is pending");
        state.index.written(&write, "3");
    }
    state.set_leadership(Some(leadership()));
    for _ in 0..2 {
        let [_, profile] = pair();
        state.apply(
            vec![IndexEvent::Deleted(profile.name().clone())],
            NO_LISTING,
        );
        state.start_writes(&mut writes, &client());
        assert_eq!(
            writes.len(),
            0,
            "a problem is not reported before it has settled"
        );
        let back = json!({ "ipxe": "#!ipxe\n" });
        state.apply(vec![put::<crd::Profile>("p", 4, &back)], NO_LISTING);
        state.start_writes(&mut writes, &client());
        // The Profile that was created again has no status.
        writes = JoinSet::new();
        tokio::time::advance(Duration::from_mins(1)).await;
        state.start_writes(&mut writes, &client());
        writes = JoinSet::new();
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_without_leadership_is_retried() {
    let mut state = state(1, 10);
    state.set_leadership(Some(leadership()));
    let name = state
        .queue
        .pop(Instant::now())
        .expect("a Profile without ids is queued");
    let write = state
        .index
        .pending_patch(&name, Timestamp::now())
        .expect("ids are pending");
    state.written(&write, Written::NotLeader);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(state.queue.pop(Instant::now()), Some(name));
}
