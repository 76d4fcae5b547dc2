//! Turns on the processors, for work that takes long and that strangers can ask for.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use places::Source;
use tokio::sync::oneshot;

/// A limited number of turns. A clone shares them.
///
/// A task that finds none waits, and the network prefixes that wait take turns: however many requests
/// one sends, the first of another waits for one of them. Within a prefix, addresses take turns.
#[derive(Clone, Debug)]
pub struct Turns(Arc<Mutex<State>>);

/// A turn, which ends when this is dropped.
#[derive(Debug)]
pub struct Turn(Turns);

#[derive(Debug)]
struct State {
    free: usize,
    waiting: Queue<u128, Queue<u128, Requests>>,
}

/// The requests of one address, the oldest first.
type Requests = VecDeque<oneshot::Sender<Turn>>;

/// Queues that take turns.
#[derive(Debug)]
struct Queue<K, Q> {
    queues: HashMap<K, Q>,
    /// The keys of all queues, the next first.
    order: VecDeque<K>,
}

// === impl Turns ===

impl Turns {
    /// This many turns at the same time.
    pub fn new(count: usize) -> Self {
        Self(Arc::new(Mutex::new(State {
            free: count.max(1),
            waiting: Queue::default(),
        })))
    }

    /// As many turns as there are processors, for work that is done elsewhere than in the task.
    pub fn for_each_processor() -> Self {
        Self::new(std::thread::available_parallelism().map_or(2, std::num::NonZero::get))
    }

    /// Waits for a turn. If this is dropped before, the place in the queue is lost.
    ///
    /// Tasks that could go on at the same time are put into the queue before one of them gets a
    /// turn: the runtime would let them go on in the order in which their data arrived.
    pub async fn take(&self, source: Source) -> Turn {
        let (sender, turn) = oneshot::channel();
        self.state()
            .waiting
            .of(source.prefix())
            .of(source.address())
            .push_back(sender);
        tokio::task::yield_now().await;
        self.pass_on();
        turn.await
            .expect("a turn that ends passes on to one that waits")
    }

    /// Gives the turns that are free to those that wait.
    fn pass_on(&self) {
        loop {
            let next = {
                let mut state = self.state();
                if state.free == 0 {
                    return;
                }
                let Some(next) = state.waiting.next() else {
                    return;
                };
                if next.is_closed() {
                    continue;
                }
                state.free -= 1;
                next
            };
            // If its task has ended in this moment, the turn ends here, and is free again.
            drop(next.send(Turn(self.clone())));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Turn ===

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.state().free += 1;
        self.0.pass_on();
    }
}

// === impl Queue ===

impl<K, Q> Default for Queue<K, Q> {
    fn default() -> Self {
        Self {
            queues: HashMap::new(),
            order: VecDeque::new(),
        }
    }
}

impl<K: Copy + Eq + std::hash::Hash, Q: Default> Queue<K, Q> {
    /// Returns the queue of a key.
    fn of(&mut self, key: K) -> &mut Q {
        let order = &mut self.order;
        self.queues.entry(key).or_insert_with(|| {
            order.push_back(key);
            Q::default()
        })
    }

    /// Takes from the next queue, and puts it at the end unless `take` empties it.
    fn take<T>(&mut self, take: impl FnOnce(&mut Q) -> (Option<T>, bool)) -> Option<T> {
        let key = self.order.pop_front()?;
        let (taken, is_empty) = self.queues.get_mut(&key).map(take)?;
        if is_empty {
            self.queues.remove(&key);
        } else {
            self.order.push_back(key);
        }
        taken
    }
}

impl Queue<u128, Queue<u128, Requests>> {
    fn next(&mut self) -> Option<oneshot::Sender<Turn>> {
        self.take(|addresses| {
            let next = addresses.take(|requests| (requests.pop_front(), requests.is_empty()));
            (next, addresses.order.is_empty())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::Duration;

    use tokio::sync::mpsc;
    use tokio::time::timeout;

    use super::*;

    fn source(text: &str) -> Source {
        Source::from(text.parse::<IpAddr>().expect("an address"))
    }

    /// Lets tasks wait for a turn that is taken, and returns the order in which they get it.
    async fn order(waiting: &[&'static str]) -> Vec<&'static str> {
        let turns = Turns::new(1);
        let first = turns.take(source("203.0.113.1")).await;
        let (done, mut all) = mpsc::unbounded_channel();
        for address in waiting.iter().copied() {
            let (turns, done) = (turns.clone(), done.clone());
            tokio::spawn(async move {
                let _turn = turns.take(source(address)).await;
                done.send(address).expect("the test listens");
            });
            tokio::task::yield_now().await;
        }
        drop((first, done));
        let mut order = Vec::new();
        while let Some(address) = all.recv().await {
            order.push(address);
        }
        assert_eq!(turns.state().free, 1);
        assert!(turns.state().waiting.queues.is_empty());
        order
    }

    #[tokio::test]
    async fn prefixes_take_turns_and_addresses_within_them() {
        let [a, b, c] = ["192.0.2.1", "192.0.2.2", "198.51.100.1"];
        assert_eq!(order(&[a, a, a, a, c]).await, [a, c, a, a, a]);
        assert_eq!(order(&[a, a, a, b, c, c]).await, [a, c, b, c, a, a]);
    }

    #[tokio::test]
    async fn who_stops_waiting_keeps_no_turn() {
        let turns = Turns::new(1);
        let first = turns.take(source("192.0.2.1")).await;
        for _ in 0..3 {
            let waiting = turns.take(source("192.0.2.1"));
            assert!(timeout(Duration::from_millis(1), waiting).await.is_err());
        }
        drop(first);
        let second = turns.take(source("192.0.2.1"));
        assert!(timeout(Duration::from_secs(1), second).await.is_ok());
        assert_eq!(turns.state().free, 1);
    }
}
