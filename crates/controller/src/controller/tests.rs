use std::time::Duration;

use kube::Config;
use serde_json::json;

use super::*;
use crate::object::{Guarded, Object};

/// A state in which so many Profiles wait for their ids, and so few writes a second are made.
fn state(profiles: usize, writes_per_second: u32) -> State {
    let publisher = Arc::new(Publisher::new());
    let mut state = State::new(Vec::new(), publisher, Pace::new(writes_per_second), Metrics::default(), Arc::default());
    state.has_started = true;
    let steps = (0..profiles).map(|number| {
        let object = json!({
            "apiVersion": crd::API_VERSION, "kind": "Profile",
            "metadata": { "name": format!("p{number}"), "namespace": "n", "resourceVersion": "1", "generation": 1 },
            "spec": { "ipxe": "#!ipxe\nchain {{ config }}\n", "additionalConfig": { "config": "x" } },
        });
        let read = serde_json::from_value::<Guarded<crd::Profile>>(object).expect("it is a Profile");
        Step::Put(Object::read(read).expect("it has a name"))
    });
    state.apply(steps.collect(), NO_LISTING);
    state
}

fn tenure() -> Tenure {
    Tenure::new(Instant::now() + Duration::from_hours(1))
}

#[tokio::test(start_paused = true)]
async fn an_object_that_waited_for_its_turn_when_the_lease_was_lost_is_looked_at_in_the_next_tenure() {
    let client = Client::try_from(Config::new("http://127.0.0.1:1".parse().expect("a URL"))).expect("a client");
    let mut state = state(3, 1);
    let mut writes = JoinSet::new();
    state.now_holds(Some(tenure()));
    state.start_writes(&mut writes, &client, "me");
    let waiting = state.next.clone().expect("the pace lets one through, and the next waits");
    state.now_holds(None);
    assert!(state.next.is_none());
    state.now_holds(Some(tenure()));
    let queued: Vec<_> = std::iter::from_fn(|| state.queue.pop(Instant::now())).collect();
    assert!(queued.contains(&waiting), "{waiting} is not among {queued:?}");
}
