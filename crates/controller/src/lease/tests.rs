use std::collections::BTreeSet;

use super::*;

/// An in-memory store. Each candidate reaches it over a separate connection that can be cut.
#[derive(Clone)]
struct Wire {
    server: Arc<Mutex<Server>>,
    cut: Arc<Mutex<Cut>>,
}

#[derive(Default)]
struct Server {
    lease: Option<Lease>,
    version: u64,
    holders: BTreeSet<String>,
}

#[derive(Clone, Copy, PartialEq)]
enum Cut {
    Whole,
    /// Requests fail.
    Refused,
    /// Requests arrive, and their answers are lost.
    Silent,
    /// Requests arrive after a delay.
    Late(Duration),
}

impl Wire {
    fn to(server: &Arc<Mutex<Server>>) -> Self {
        Self {
            server: server.clone(),
            cut: Arc::new(Mutex::new(Cut::Whole)),
        }
    }

    fn set(&self, cut: Cut) {
        *self.cut.lock().unwrap() = cut;
    }

    async fn ask<T>(
        &self,
        act: impl FnOnce(&mut Server) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let cut = *self.cut.lock().unwrap();
        let refused = || {
            StoreError::Kube(kube::Error::Service(
                std::io::Error::other("refused").into(),
            ))
        };
        match cut {
            Cut::Whole => sleep(Duration::from_millis(5)).await,
            Cut::Refused => return Err(refused()),
            Cut::Late(late) => sleep(late).await,
            Cut::Silent => {
                let _ = act(&mut self.server.lock().unwrap());
                std::future::pending::<()>().await;
                return Err(refused());
            }
        }
        act(&mut self.server.lock().unwrap())
    }
}

impl Server {
    fn write(&mut self, lease: &Lease) {
        self.version += 1;
        let mut lease = lease.clone();
        lease.metadata.resource_version = Some(self.version.to_string());
        let holder = lease
            .spec
            .as_ref()
            .and_then(|spec| spec.holder_identity.clone());
        self.holders.extend(holder);
        self.lease = Some(lease);
    }
}

impl Leases for Wire {
    async fn get(&self, _: &str) -> Result<Option<Lease>, StoreError> {
        self.ask(|server| Ok(server.lease.clone())).await
    }

    async fn create(&self, lease: &Lease) -> Result<(), StoreError> {
        self.ask(|server| {
            if server.lease.is_some() {
                return Err(StoreError::Conflict);
            }
            server.write(lease);
            Ok(())
        })
        .await
    }

    async fn replace(&self, lease: &Lease) -> Result<(), StoreError> {
        self.ask(|server| {
            let current = server
                .lease
                .as_ref()
                .and_then(|lease| lease.metadata.resource_version.clone());
            if current != lease.metadata.resource_version {
                return Err(StoreError::Conflict);
            }
            server.write(lease);
            Ok(())
        })
        .await
    }
}

struct Running {
    wire: Wire,
    leadership: watch::Receiver<Option<Leadership>>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    fn start(server: &Arc<Mutex<Server>>, identity: &str) -> Self {
        let wire = Wire::to(server);
        let (sender, leadership) = watch::channel(None);
        let stop = CancellationToken::new();
        let candidate = Candidate::new(wire.clone(), "shaper", identity, LeaseTiming::default());
        let task = tokio::spawn(candidate.run(sender, stop.clone()));
        Self {
            wire,
            leadership,
            stop,
            task,
        }
    }

    fn may_write(&self) -> bool {
        self.leadership
            .borrow()
            .as_ref()
            .is_some_and(Leadership::is_valid)
    }
}

fn three() -> (Arc<Mutex<Server>>, Vec<Running>) {
    let server = Arc::<Mutex<Server>>::default();
    let running = ["a", "b", "c"]
        .map(|identity| Running::start(&server, identity))
        .into();
    (server, running)
}

/// Advances time and checks at each step that at most one candidate may write. Returns the one that
/// may write at the end.
async fn watch_for(seconds: u64, all: &[Running]) -> Option<usize> {
    for _ in 0..seconds * 20 {
        sleep(Duration::from_millis(50)).await;
        assert!(
            all.iter().filter(|one| one.may_write()).count() <= 1,
            "two candidates may write at once"
        );
    }
    all.iter().position(Running::may_write)
}

#[tokio::test(start_paused = true)]
async fn one_of_three_candidates_keeps_the_lease() {
    let (server, all) = three();
    let first = watch_for(5, &all)
        .await
        .expect("a candidate holds the Lease");
    assert_eq!(watch_for(120, &all).await, Some(first));
    let lease = server.lock().unwrap().lease.clone().unwrap().spec.unwrap();
    assert_eq!(
        (lease.lease_transitions, lease.lease_duration_seconds),
        (Some(1), Some(15))
    );
    assert_eq!(server.lock().unwrap().holders.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stopping_holder_releases_the_lease() {
    let (_, all) = three();
    let first = watch_for(5, &all).await.unwrap();
    all[first].stop.cancel();
    let second = watch_for(4, &all)
        .await
        .expect("another candidate acquires the Lease soon");
    assert_ne!(first, second);
    assert!(all[first].task.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_disconnected_holder_stops_before_another_starts() {
    for cut in [
        Cut::Refused,
        Cut::Silent,
        Cut::Late(Duration::from_secs(9)),
        Cut::Late(Duration::from_mins(1)),
    ] {
        let (_, all) = three();
        let first = watch_for(5, &all).await.unwrap();
        all[first].wire.set(cut);
        let second = watch_for(60, &all)
            .await
            .expect("another candidate acquires the Lease");
        assert!(
            second != first || matches!(cut, Cut::Late(_)),
            "a holder that was cut off does not keep the Lease"
        );
        all[first].wire.set(Cut::Whole);
        assert!(watch_for(60, &all).await.is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn no_candidate_writes_until_the_store_is_reachable_again() {
    let (_, all) = three();
    watch_for(5, &all).await.unwrap();
    all.iter().for_each(|one| one.wire.set(Cut::Refused));
    assert_eq!(watch_for(30, &all).await, None);
    all.iter().for_each(|one| one.wire.set(Cut::Whole));
    assert!(watch_for(30, &all).await.is_some());
}

/// A stopped process runs no code; when it continues, only its clock has moved.
#[tokio::test(start_paused = true)]
async fn leadership_ends_while_the_process_is_paused() {
    let leadership = Leadership::new(Instant::now() + Duration::from_secs(10));
    assert!(leadership.is_valid());
    tokio::time::advance(Duration::from_secs(11)).await;
    assert!(!leadership.is_valid());
}

#[tokio::test(start_paused = true)]
async fn random_network_faults_never_allow_two_writers() {
    for _ in 0..30 {
        let (_, all) = three();
        for _ in 0..40 {
            let one = rand::rng().random_range(0..3);
            let late = Duration::from_millis(rand::rng().random_range(0..20_000));
            all[one].wire.set(
                [Cut::Whole, Cut::Refused, Cut::Silent, Cut::Late(late)]
                    [rand::rng().random_range(0..4)],
            );
            watch_for(rand::rng().random_range(1..12), &all).await;
        }
        all.iter().for_each(|one| one.wire.set(Cut::Whole));
        assert!(watch_for(60, &all).await.is_some());
    }
}
