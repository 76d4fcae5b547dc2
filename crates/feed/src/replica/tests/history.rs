//! A replica converges to the controller's state after any sequence of events, and readers never
//! see part of a change.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    /// Applies changes atomically: names, variants, and whether they are deletions.
    Apply(Vec<(u8, u8, bool)>),
    /// Cuts the connection.
    Cut,
    /// Delays each message, in milliseconds.
    Slow(u16),
    /// Lets time pass, in milliseconds.
    Wait(u16),
    /// Replaces the controller's process by one with the same objects.
    Restart,
    /// Replaces it by one that never knew an accepted version of the rejected objects.
    Forget,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => prop::collection::vec((0..12_u8, 0..9_u8, any::<bool>()), 1..6).prop_map(Step::Apply),
        2 => Just(Step::Cut),
        2 => prop::sample::select(vec![0, 50, 3000]).prop_map(Step::Slow),
        6 => prop::sample::select(vec![0, 1, 10, 200, 5000]).prop_map(Step::Wait),
        1 => Just(Step::Restart),
        1 => Just(Step::Forget),
    ]
}

/// The creation time of each object, which advances whenever it is recreated.
#[derive(Default)]
struct CreationTimes(BTreeMap<u8, i64>);

impl CreationTimes {
    fn change(&mut self, (name, variant, deleted): (u8, u8, bool)) -> Change {
        let created_at = self.0.entry(name).or_default();
        let created = Some(jiff::Timestamp::from_second(*created_at).unwrap());
        let object = match match name % 3 {
            0 => assignment(&format!("a{name}"), variant),
            1 => profile(&format!("p{name}"), variant),
            _ => machine(&format!("m{name}"), variant),
        } {
            Change::Machine(machine) => Change::Machine(Arc::new(Machine {
                created,
                ..Machine::clone(&machine)
            })),
            Change::Assignment(assignment) => Change::Assignment(Arc::new(Assignment {
                created,
                ..Assignment::clone(&assignment)
            })),
            Change::Profile(profile) => {
                let mut profile = Profile::clone(&profile);
                profile.created = created;
                Change::Profile(Arc::new(profile))
            }
            _ => unreachable!(),
        };
        if deleted {
            *created_at += 1;
            return gone(&object);
        }
        // A third of the variants is rejected.
        if variant < 6 {
            object
        } else {
            super::rejected(&object, &format!("fault {variant}"))
        }
    }
}

/// A controller that records each of its states.
struct RecordedController {
    publisher: Arc<Publisher>,
    states: Vec<Contents>,
}

impl RecordedController {
    fn new(objects: &Contents, journal: usize) -> Self {
        let publisher = Publisher::with_journal(journal);
        let assignments = objects
            .assignments
            .values()
            .cloned()
            .map(Change::Assignment);
        let profiles = objects.profiles.values().cloned().map(Change::Profile);
        let machines = objects.machines.values().cloned().map(Change::Machine);
        publisher.apply(
            assignments
                .chain(profiles)
                .chain(machines)
                .chain(objects.rejected.values().cloned().map(Change::Rejected))
                .collect(),
        );
        publisher.set_ready();
        let states = vec![Contents::of(&publisher.catalog().load())];
        Self {
            publisher: Arc::new(publisher),
            states,
        }
    }

    fn apply(&mut self, changes: Vec<Change>) {
        self.publisher.apply(changes);
        self.states.push(self.last());
    }

    fn last(&self) -> Contents {
        Contents::of(&self.publisher.catalog().load())
    }
}

async fn run_steps(steps: Vec<Step>, journal: usize) {
    let mut controller = RecordedController::new(&Contents::default(), journal);
    let controllers = ControllerSet::of(&controller.publisher);
    let follower = Follower::of(&controllers);
    let mut states = std::mem::take(&mut controller.states);
    let mut creation_times = CreationTimes::default();
    let mut forgotten = false;
    for step in steps {
        match step {
            Step::Apply(changes) => controller.apply(
                changes
                    .into_iter()
                    .map(|change| creation_times.change(change))
                    .collect(),
            ),
            Step::Cut => controllers.cut(),
            Step::Slow(millis) => {
                *lock(&controllers.message_delay) = Duration::from_millis(millis.into());
            }
            Step::Wait(millis) => sleep(Duration::from_millis(millis.into())).await,
            Step::Restart | Step::Forget => {
                states.append(&mut controller.states);
                let mut objects = controller.last();
                if matches!(step, Step::Forget) {
                    objects.assignments.retain(|key, _| {
                        !objects
                            .rejected
                            .contains_key(&ObjectRef::Assignment(key.clone()))
                    });
                    objects.machines.retain(|key, _| {
                        !objects
                            .rejected
                            .contains_key(&ObjectRef::Machine(key.clone()))
                    });
                    objects.profiles.retain(|key, _| {
                        !objects
                            .rejected
                            .contains_key(&ObjectRef::Profile(key.clone()))
                    });
                    forgotten = true;
                }
                controller = RecordedController::new(&objects, journal);
                controllers.replace(0, Some(&controller.publisher));
                controllers.cut();
            }
        }
    }
    *lock(&controllers.message_delay) = Duration::ZERO;
    settle().await;
    states.append(&mut controller.states);
    let (mut end, expected) = (Contents::of(&follower.catalog()), controller.last());
    if forgotten {
        // An object that only the replica knows was accepted once, and the same object is now
        // rejected.
        let is_right = |rejected: Option<&Arc<Rejected>>, created| {
            rejected.is_some_and(|rejected| rejected.created() == created)
        };
        end.assignments.retain(|key, assignment| {
            let is_theirs = expected.assignments.contains_key(key);
            let rejected = expected.rejected.get(&ObjectRef::Assignment(key.clone()));
            assert!(
                is_theirs
                    || (is_right(rejected, assignment.created)
                        && was_ever_published(&states, assignment)),
                "{key}"
            );
            is_theirs
        });
        end.machines
            .retain(|key, _| expected.machines.contains_key(key));
        end.profiles.retain(|key, profile| {
            let is_theirs = expected.profiles.contains_key(key);
            assert!(
                is_theirs
                    || is_right(
                        expected.rejected.get(&ObjectRef::Profile(key.clone())),
                        profile.created
                    ),
                "{key}"
            );
            is_theirs
        });
    }
    assert_eq!(end, expected, "where it ends");
    if forgotten {
        return;
    }
    for (index, catalog) in lock(&follower.merged_catalog.history).iter().enumerate() {
        let seen = Contents::of(catalog);
        assert!(
            states.contains(&seen),
            "state {index} was never the controller's: {}",
            seen.names()
        );
    }
}

fn was_ever_published(states: &[Contents], assignment: &Arc<Assignment>) -> bool {
    states
        .iter()
        .any(|state| state.assignments.get(&assignment.key) == Some(assignment))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn a_replica_converges_and_shows_only_states_that_the_controller_published(
        steps in prop::collection::vec(step(), 1..40),
        journal in prop::sample::select(vec![0_usize, 3, 1000]),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(run_steps(steps, journal));
    }
}

/// The number of cases; `PROPTEST_CASES` overrides it.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(200)
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_reconnects_receives_a_delta() {
    let controller = publisher(machines(1000));
    let controllers = ControllerSet::of(&controller);
    let follower = Follower::of(&controllers);
    follower.loaded().await;
    controllers.cut();
    controller.apply(vec![assignment("m0007", 5), gone(&assignment("m0008", 1))]);
    let request = FollowRequest {
        protocol: 1,
        after: lock(follower.link.state()).position(),
        ..FollowRequest::default()
    };
    let mut messages = TestDial(controllers.clone())
        .dial(&"0".to_owned(), request)
        .await
        .unwrap();
    let hello = messages.next().await.unwrap().unwrap();
    assert!(matches!(
        hello.message,
        Some(crate::proto::follow_response::Message::Hello(_))
    ));
    let Some(crate::proto::follow_response::Message::Part(part)) =
        messages.next().await.unwrap().unwrap().message
    else {
        panic!("no part");
    };
    assert!(!part.snapshot && part.commit.is_some());
    assert_eq!(
        (part.assignments.len(), part.assignments_deleted.len()),
        (1, 1)
    );
    settle().await;
    assert_eq!(
        Contents::of(&follower.catalog()),
        Contents::of(&controller.catalog().load())
    );
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_is_up_to_date_receives_only_heartbeats() {
    let controller = publisher(machines(10));
    let controllers = ControllerSet::of(&controller);
    let follower = Follower::of(&controllers);
    follower.loaded().await;
    controllers.cut();
    sleep(Duration::from_secs(30)).await;
    assert_eq!(
        controllers.calls.load(Ordering::Relaxed),
        2,
        "it came back once and stayed"
    );
    assert_eq!(lock(&follower.merged_catalog.history).len(), 1);
    assert!(lock(follower.link.state()).age().unwrap() < Duration::from_secs(31));
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_in_many_parts_becomes_visible_as_a_whole() {
    let controller = publisher(machines(5000));
    let controllers = ControllerSet::of(&controller);
    *lock(&controllers.message_delay) = Duration::from_millis(100);
    let follower = Follower::of(&controllers);
    follower.loaded().await;
    let seen: Vec<_> = lock(&follower.merged_catalog.history)
        .iter()
        .map(Catalog::assignment_count)
        .collect();
    assert_eq!(seen, [5000]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_follower_receives_a_thousand_changes_of_an_object_in_few_batches() {
    let controller = publisher(machines(1));
    let controllers = ControllerSet::of(&controller);
    let follower = Follower::of(&controllers);
    follower.loaded().await;
    *lock(&controllers.message_delay) = Duration::from_secs(1);
    for turn in 0..1000_u32 {
        controller.apply(vec![assignment("m0000", u8::try_from(turn % 200).unwrap())]);
        sleep(Duration::from_millis(1)).await;
    }
    settle().await;
    assert_eq!(
        Contents::of(&follower.catalog()),
        Contents::of(&controller.catalog().load())
    );
    let states = lock(&follower.merged_catalog.history).len();
    assert!(states < 20, "{states} states of a thousand");
}
