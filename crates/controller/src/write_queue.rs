//! The order in which status is written.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use boot::ObjectRef;
use rand::Rng;
use tokio::time::Instant;

/// How old a problem that depends on other objects must be before it is reported. `kubectl apply`
/// of a directory applies its files in some order, so such a problem may be over in a moment.
const SETTLE_TIME: Duration = Duration::from_secs(3);
/// The pause after the first failure of an object. It doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// How often the pause doubles: to about two minutes.
const MAX_DOUBLINGS: u32 = 8;
/// At least one in this many writes is a retry, if one is due.
const RETRY_INTERVAL: u32 = 8;

/// The objects whose status may have to be written, in the order of writing.
///
/// Objects that have not failed go before those that have, Profiles before Assignments, since
/// machines wait for the ids of their configs, Machines last, and namespaces take turns. An object whose write
/// failed waits by itself, longer each time.
#[derive(Default)]
pub(crate) struct WriteQueue {
    fresh: ByKind,
    retries: ByKind,
    waiting: HashSet<ObjectRef>,
    /// Objects that were put back, by the time of the next attempt.
    later: BTreeMap<Instant, Vec<ObjectRef>>,
    failures: HashMap<ObjectRef, Failures>,
    in_flight: BTreeSet<ObjectRef>,
    /// Objects that changed again while they were in flight.
    changed_in_flight: BTreeSet<ObjectRef>,
    /// Objects with a problem that may be over in a moment, with the time at which to report it.
    settling: HashMap<ObjectRef, Instant>,
    /// New writes since the last retry.
    fresh_in_a_row: u32,
}

/// The failures of one object's writes since its last success.
#[derive(Default)]
struct Failures {
    count: u32,
    /// Whether it waits for its next attempt.
    is_pausing: bool,
}

#[derive(Default)]
struct ByKind {
    profiles: Turns,
    assignments: Turns,
    machines: Turns,
}

/// A queue in which namespaces take turns.
#[derive(Default)]
struct Turns {
    by_namespace: HashMap<Arc<str>, VecDeque<ObjectRef>>,
    /// The namespaces that have objects here, the next first.
    order: VecDeque<Arc<str>>,
}

// === impl WriteQueue ===

impl WriteQueue {
    pub(crate) fn push(&mut self, name: ObjectRef) {
        if self.in_flight.contains(&name) {
            self.changed_in_flight.insert(name);
            return;
        }
        let failures = self.failures.get(&name);
        // After one failure the change may be what the next attempt needs: a write fails if the
        // object has changed. After more it waits, however often the object changes.
        if failures.is_some_and(|failures| failures.is_pausing && failures.count > 1) {
            return;
        }
        if self.waiting.insert(name.clone()) {
            let queue = match failures {
                None => &mut self.fresh,
                Some(_) => &mut self.retries,
            };
            queue.push(name);
        }
    }

    /// Returns the next object to check. It is in flight until [`done`](Self::done) is called.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<ObjectRef> {
        while let Some(entry) = self.later.first_entry().filter(|entry| *entry.key() <= now) {
            for name in entry.remove() {
                if let Some(failures) = self.failures.get_mut(&name) {
                    failures.is_pausing = false;
                }
                self.push(name);
            }
        }
        let retry_first = self.fresh_in_a_row + 1 >= RETRY_INTERVAL;
        let retry = retry_first.then(|| self.retries.pop()).flatten();
        let name = match retry.or_else(|| {
            self.fresh_in_a_row = self.fresh_in_a_row.saturating_add(1);
            self.fresh.pop()
        }) {
            Some(name) => name,
            None => self.retries.pop()?,
        };
        if self.failures.contains_key(&name) {
            self.fresh_in_a_row = 0;
        }
        self.waiting.remove(&name);
        self.in_flight.insert(name.clone());
        Some(name)
    }

    pub(crate) fn done(&mut self, name: &ObjectRef) {
        self.in_flight.remove(name);
        self.failures.remove(name);
        self.settling.remove(name);
        if self.changed_in_flight.remove(name) {
            self.push(name.clone());
        }
    }

    /// Returns whether the object's problem has lasted long enough to be reported. If not, the
    /// object is put back for a moment. Once true, it stays true until [`done`](Self::done) is
    /// called.
    pub(crate) fn may_write_now(&mut self, name: &ObjectRef, is_bad: bool, now: Instant) -> bool {
        if !is_bad {
            self.settling.remove(name);
            return true;
        }
        let due = *self
            .settling
            .entry(name.clone())
            .or_insert(now + SETTLE_TIME);
        if now >= due {
            return true;
        }
        self.put_back(name, due);
        false
    }

    /// Puts an object back for a later attempt, with exponential backoff.
    pub(crate) fn failed(&mut self, name: &ObjectRef, now: Instant) {
        self.in_flight.remove(name);
        self.changed_in_flight.remove(name);
        let failures = self.failures.entry(name.clone()).or_default();
        let pause = FIRST_PAUSE * 2_u32.pow(failures.count.min(MAX_DOUBLINGS));
        failures.count += 1;
        failures.is_pausing = true;
        self.later
            .entry(now + pause.mul_f64(rand::rng().random_range(0.75..1.25)))
            .or_default()
            .push(name.clone());
    }

    /// Leaves an object that was written alone until then, however often it changes.
    pub(crate) fn rest(&mut self, name: &ObjectRef, until: Instant) {
        let resting = Failures {
            count: 2,
            is_pausing: true,
        };
        self.settling.remove(name);
        self.failures.insert(name.clone(), resting);
        self.put_back(name, until);
    }

    /// Puts an object back whose write failed for a reason that is not its own.
    pub(crate) fn put_back(&mut self, name: &ObjectRef, due: Instant) {
        self.in_flight.remove(name);
        self.changed_in_flight.remove(name);
        self.later.entry(due).or_default().push(name.clone());
    }

    /// Returns when the next object that was put back is due.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.later.keys().next().copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len() + self.later.values().map(Vec::len).sum::<usize>()
    }

    /// Forgets everything except what is in flight.
    pub(crate) fn clear(&mut self) {
        let in_flight = std::mem::take(&mut self.in_flight);
        *self = Self {
            in_flight,
            ..Self::default()
        };
    }
}

// === impl ByKind ===

impl ByKind {
    fn push(&mut self, name: ObjectRef) {
        match name {
            ObjectRef::Profile(_) => self.profiles.push(name),
            ObjectRef::Assignment(_) => self.assignments.push(name),
            ObjectRef::Machine(_) => self.machines.push(name),
        }
    }

    fn pop(&mut self) -> Option<ObjectRef> {
        let mut kinds = [
            &mut self.profiles,
            &mut self.assignments,
            &mut self.machines,
        ];
        kinds.iter_mut().find_map(|turns| turns.pop())
    }
}

// === impl Turns ===

impl Turns {
    fn push(&mut self, name: ObjectRef) {
        let namespace = name.key().namespace.clone();
        let queue = self.by_namespace.entry(namespace.clone()).or_default();
        if queue.is_empty() {
            self.order.push_back(namespace);
        }
        queue.push_back(name);
    }

    fn pop(&mut self) -> Option<ObjectRef> {
        let namespace = self.order.pop_front()?;
        let queue = self.by_namespace.get_mut(&namespace)?;
        let name = queue.pop_front();
        if queue.is_empty() {
            self.by_namespace.remove(&namespace);
        } else {
            self.order.push_back(namespace);
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use boot::ObjectKey;

    use super::*;

    fn profile(namespace: &str, name: &str) -> ObjectRef {
        ObjectRef::Profile(ObjectKey::new(namespace, name))
    }

    fn assignment(namespace: &str, name: &str) -> ObjectRef {
        ObjectRef::Assignment(ObjectKey::new(namespace, name))
    }

    fn pop_all(queue: &mut WriteQueue, now: Instant) -> Vec<String> {
        std::iter::from_fn(|| queue.pop(now))
            .map(|name| name.to_string())
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn namespaces_take_turns_and_profiles_go_first() {
        let mut queue = WriteQueue::default();
        for name in ["1", "2", "3"] {
            queue.push(profile("many", name));
        }
        queue.push(assignment("few", "1"));
        queue.push(profile("few", "1"));
        assert_eq!(
            pop_all(&mut queue, Instant::now()),
            [
                "Profile many/1",
                "Profile few/1",
                "Profile many/2",
                "Profile many/3",
                "Assignment few/1"
            ]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn objects_that_failed_go_after_others_and_are_not_forgotten() {
        let mut queue = WriteQueue::default();
        let frozen = profile("frozen", "p");
        queue.push(frozen.clone());
        let now = Instant::now();
        assert_eq!(queue.pop(now), Some(frozen.clone()));
        queue.failed(&frozen, now);
        let now = now + Duration::from_secs(1);
        for number in 0..20 {
            queue.push(assignment("n", &number.to_string()));
        }
        let order = pop_all(&mut queue, now);
        let place = order.iter().position(|name| name == "Profile frozen/p");
        assert!(
            place.is_some_and(|place| (1..20).contains(&place)),
            "{order:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_object_that_keeps_failing_waits_longer_however_often_it_changes() {
        let mut queue = WriteQueue::default();
        let name = profile("n", "p");
        let (start, mut now) = (Instant::now(), Instant::now());
        let mut attempts = 0;
        while now < start + Duration::from_mins(10) {
            // It changes every second.
            queue.push(name.clone());
            if let Some(next) = queue.pop(now) {
                attempts += 1;
                queue.failed(&next, now);
            }
            now += Duration::from_secs(1);
        }
        assert!((8..=16).contains(&attempts), "{attempts} in ten minutes");
        queue.push(name.clone());
        assert_eq!(
            queue.pop(now + Duration::from_mins(3)),
            Some(name.clone()),
            "it is tried again"
        );
        queue.done(&name);
        queue.push(name.clone());
        assert_eq!(queue.pop(now), Some(name), "a success ends the pause");
    }

    #[tokio::test(start_paused = true)]
    async fn an_object_that_changed_during_its_first_failed_write_is_tried_at_once() {
        let mut queue = WriteQueue::default();
        let (name, now) = (profile("n", "p"), Instant::now());
        queue.push(name.clone());
        assert_eq!(queue.pop(now), Some(name.clone()));
        queue.failed(&name, now);
        queue.push(name.clone());
        assert_eq!(queue.pop(now), Some(name));
    }
}
