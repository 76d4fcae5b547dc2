use tokio::task::JoinHandle;

use super::*;

const LONG: Duration = Duration::from_mins(1);

pub(super) fn connections(limit: usize, when_full: WhenFull) -> Connections {
    Connections::new("test", limits(limit, when_full), Counter::default())
}

fn limits(connections: usize, when_full: WhenFull) -> Limits {
    Limits {
        connections,
        when_full,
        proof: Stage::HeadRead,
        grace: LONG,
        input_bytes: 64 * 1024,
        answer_bytes: 1000,
        drain: Duration::ZERO,
    }
}

pub(super) fn peer(last: u8) -> SocketAddr {
    ([192, 0, 2, last], 4000).into()
}

/// Peers of another prefix than [`peer`].
pub(super) fn stranger(last: u8) -> SocketAddr {
    ([198, 51, 100, last], 4000).into()
}

#[test]
fn an_address_that_holds_all_places_gets_no_more_until_one_is_dropped() {
    let table = connections(2, WhenFull::Refuse);
    let first = table.admit(peer(1)).unwrap();
    let _second = table.admit(peer(1)).unwrap();
    assert!(table.admit(peer(1)).is_err());
    drop(first);
    assert!(table.admit(peer(1)).is_ok());
    assert_eq!(table.len(), 1);
}

#[test]
fn silent_connections_of_one_address_give_way_to_others() {
    let table = connections(3, WhenFull::Refuse);
    // The same address on a socket for both families.
    let mapped = "[::ffff:192.0.2.1]:5000".parse().unwrap();
    let silent: Vec<_> = [peer(1), mapped, peer(1)]
        .map(|peer| table.admit(peer).unwrap())
        .into();
    let neighbour = table.admit(peer(2)).unwrap();
    assert_eq!(neighbour.displaced, Some(peer(1)), "the oldest");
    let other = table.admit(stranger(3)).unwrap();
    assert_eq!(other.displaced.map(|peer| peer.port()), Some(5000));
    assert!(silent[0].connection.entry().is_closed());
    assert!(!silent[2].connection.entry().is_closed());
    // A closed connection gives back its place once.
    drop(silent);
    assert_eq!(table.len(), 2);
}

/// Starts a task for each place that ends by itself once it must hurry.
fn hurrying<const N: usize>(places: &[Place; N]) -> [JoinHandle<&'static str>; N] {
    places.each_ref().map(|place| {
        let connection = place.connection.clone();
        connection.can_hurry();
        let task = tokio::spawn(async move {
            connection.must_hurry().await;
            "answered"
        });
        place.connection.set_task(task.abort_handle());
        task
    })
}

#[tokio::test]
async fn a_connection_without_a_request_is_told_to_hurry_when_it_gives_way() {
    let table = connections(2, WhenFull::Shed(10));
    let silent = [peer(1), peer(1)].map(|peer| table.admit(peer).unwrap());
    let [oldest, _] = hurrying(&silent);
    let newcomer = table.admit(stranger(1)).unwrap();
    assert!(newcomer.displaced.is_some() && !newcomer.connection.is_shed());
    assert_eq!(oldest.await.unwrap(), "answered");
}

#[tokio::test]
async fn a_connection_with_a_request_is_aborted_when_it_gives_way() {
    let table = connections(2, WhenFull::Shed(10));
    let idle = [peer(1), peer(1)].map(|peer| table.admit(peer).unwrap());
    let tasks = hurrying(&idle);
    for place in &idle {
        place.connection.reached(Stage::HeadRead);
    }
    let newcomer = table.admit(stranger(1)).unwrap();
    assert!(newcomer.displaced.is_some() && !newcomer.connection.is_shed());
    let [first, second] = tasks;
    let aborted = tokio::select! {
        ended = first => ended,
        ended = second => ended,
    };
    assert!(aborted.unwrap_err().is_cancelled());
}

#[test]
fn a_busy_connection_is_not_closed_for_one_of_the_same_size() {
    let table = connections(2, WhenFull::Refuse);
    let idle = table.admit(peer(1)).unwrap();
    let busy = table.admit(stranger(1)).unwrap();
    for place in [&idle, &busy] {
        place.connection.reached(Stage::HeadRead);
    }
    let answering = busy.connection.busy();
    assert!(table.admit(peer(1)).is_err(), "idle, but not for long");
    std::thread::sleep(Duration::from_millis(5100));
    assert_eq!(
        table.admit(peer(1)).unwrap().displaced,
        Some(peer(1)),
        "idle"
    );
    assert!(!busy.connection.entry().is_closed());
    drop(answering);
}

#[test]
fn a_client_that_takes_nothing_of_its_answer_gives_way() {
    let table = connections(1, WhenFull::Refuse);
    let reading = table.admit(peer(1)).unwrap();
    reading.connection.reached(Stage::HeadRead);
    reading.connection.window_is_full();
    assert!(table.admit(peer(1)).is_err());
    std::thread::sleep(Duration::from_millis(5100));
    reading.connection.took(10);
    assert!(table.admit(peer(1)).is_err(), "it took something just now");
    std::thread::sleep(Duration::from_millis(5100));
    assert!(table.admit(peer(1)).is_ok());
}

#[tokio::test]
async fn a_server_that_sheds_waits_until_another_was_answered() {
    let table = connections(1, WhenFull::Shed(1));
    let served = table.admit_or_wait(peer(1)).await.unwrap();
    let shed = table.admit_or_wait(peer(1)).await.unwrap();
    assert!(!served.connection.is_shed() && shed.connection.is_shed());
    let waiting = tokio::spawn({
        let table = table.clone();
        async move { table.admit_or_wait(peer(1)).await }
    });
    tokio::task::yield_now().await;
    drop(shed);
    assert!(waiting.await.unwrap().is_some());
}

/// A table that serves one connection and sheds two, all of one address. The last two are silent.
fn full_of_silent_connections() -> (Connections, [Place; 3]) {
    let table = connections(1, WhenFull::Shed(2));
    let places = [peer(1), peer(1), peer(1)].map(|peer| table.admit(peer).unwrap());
    places[0].connection.reached(Stage::HeadRead);
    (table, places)
}

#[tokio::test]
async fn a_newcomer_does_not_wait_for_silent_connections_that_are_shed() {
    let (table, [served, silent @ ..]) = full_of_silent_connections();
    let _busy = served.connection.busy();
    assert!(matches!(table.admit(peer(1)), Err(Full::Wait)));
    // Also one of the same address gets its turn.
    let next = table.admit_or_wait(peer(1)).await.unwrap();
    assert!(next.connection.is_shed());
    silent[0].connection.must_hurry().await;
}

#[tokio::test]
async fn shed_connections_of_one_address_hurry_for_another() {
    let (table, [served, silent @ ..]) = full_of_silent_connections();
    let _busy = served.connection.busy();
    let next = table.admit_or_wait(stranger(1)).await.unwrap();
    assert!(next.connection.is_shed());
    silent[0].connection.must_hurry().await;
}

#[test]
fn clients_that_read_nothing_lose_their_answers_to_those_of_others() {
    let table = connections(100, WhenFull::Refuse);
    let mut held = Vec::new();
    for _ in 0..10 {
        let place = table.admit(stranger(1)).unwrap();
        place.connection.reached(Stage::HeadRead);
        place.connection.window_is_full();
        let reserved = place.connection.reserve(100).unwrap();
        held.push((place, reserved));
    }
    let same = table.admit(stranger(1)).unwrap();
    assert!(same.connection.reserve(100).is_err(), "all may be reading");
    let machine = table.admit(peer(1)).unwrap();
    let reserved = machine.connection.reserve(100).unwrap();
    let is_closed = |(place, _): &&(Place, Reserved)| place.connection.entry().is_closed();
    assert_eq!(held.iter().filter(is_closed).count(), 1);
    // The closed connection's answer is dropped by its task.
    held.retain(|one| !is_closed(&one));
    drop(reserved);
    std::thread::sleep(Duration::from_millis(5100));
    let _first = same.connection.reserve(100).unwrap();
    let _second = same.connection.reserve(100).unwrap();
    assert_eq!(held.iter().filter(is_closed).count(), 1);
}

#[test]
fn stages_only_rise() {
    let connection = Connection::uncounted(peer(1));
    assert_eq!(connection.stage(), Stage::Accepted);
    connection.reached(Stage::HeadRead);
    connection.reached(Stage::Handshaken);
    assert_eq!(connection.stage(), Stage::HeadRead);
}
