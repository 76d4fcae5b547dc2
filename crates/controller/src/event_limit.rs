//! Limits how many events are recorded.
//!
//! The limits are those of client-go's correlator (`tools/record/events_cache.go`): a repeated event
//! is counted in the series of the first one, and an object has a budget of events.

use std::collections::HashMap;
use std::time::Duration;

use boot::ObjectRef;
use tokio::time::Instant;
use uuid::NonNilUuid;

/// How long the same reason for the same object is not told again.
const INTERVAL: Duration = Duration::from_mins(5);
/// How many events an object has in a burst.
const BURST: u32 = 25;
/// How long it takes to earn one more.
const REFILL: Duration = Duration::from_mins(5);
/// How long after its last occurrence an event begins a new series.
const SERIES_END: Duration = Duration::from_mins(30);
/// With more objects than this, those whose last event is longest ago are forgotten.
const MAX_OBJECTS: usize = 16_384;

/// Decides about each event whether to record it.
#[derive(Debug, Default)]
pub(crate) struct EventLimit {
    objects: HashMap<ObjectRef, Recorded>,
}

/// What becomes of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// It is recorded under this name.
    Create(String),
    /// The event of this name has occurred so many times. It exists.
    Repeat(String, u32),
    /// It is counted and not recorded now.
    Skip,
}

/// The events of one object.
#[derive(Debug)]
struct Recorded {
    uid: Option<NonNilUuid>,
    /// Events left, and since when they are earned.
    budget: u32,
    earned: Instant,
    last: Instant,
    by_reason: HashMap<String, Series>,
}

/// The events of one object that have the same reason.
#[derive(Debug)]
struct Series {
    /// The name of the event.
    name: String,
    /// The note of the event.
    note: String,
    count: u32,
    /// When it was last recorded, and when it last occurred.
    recorded: Instant,
    last: Instant,
}

// === impl EventLimit ===

impl EventLimit {
    /// Decides about an event that occurs now. `name` is its name if it is the first.
    pub(crate) fn admit(
        &mut self,
        object: &ObjectRef,
        uid: Option<NonNilUuid>,
        (reason, note): (&str, &str),
        name: String,
        now: Instant,
    ) -> Decision {
        if self.objects.len() >= MAX_OBJECTS && !self.objects.contains_key(object) {
            self.forget_oldest();
        }
        let recorded = self
            .objects
            .entry(object.clone())
            .or_insert_with(|| Recorded::new(uid, now));
        recorded.last = now;
        recorded.earn(now);
        if recorded.uid != uid {
            // The events are about another object of this name, with which it shares the budget.
            recorded.uid = uid;
            recorded.by_reason.clear();
        }
        if let Some(series) = recorded.by_reason.get_mut(reason) {
            let is_over = now.duration_since(series.last) > SERIES_END;
            series.count = series.count.saturating_add(1);
            series.last = now;
            if now.duration_since(series.recorded) < INTERVAL || recorded.budget == 0 {
                return Decision::Skip;
            }
            recorded.budget -= 1;
            series.recorded = now;
            if series.note == note && !is_over {
                return Decision::Repeat(series.name.clone(), series.count);
            }
        } else if recorded.budget == 0 {
            return Decision::Skip;
        } else {
            recorded.budget -= 1;
        }
        let series = Series {
            name: name.clone(),
            note: note.to_owned(),
            count: 1,
            recorded: now,
            last: now,
        };
        recorded.by_reason.insert(reason.to_owned(), series);
        Decision::Create(name)
    }

    /// Forgets the half of the objects whose last event is longest ago.
    fn forget_oldest(&mut self) {
        let mut times: Vec<_> = self.objects.values().map(|it| it.last).collect();
        times.sort_unstable();
        if let Some(median) = times.get(times.len() / 2).copied() {
            self.objects.retain(|_, recorded| recorded.last > median);
        }
    }
}

// === impl Recorded ===

impl Recorded {
    fn new(uid: Option<NonNilUuid>, now: Instant) -> Self {
        Self {
            uid,
            budget: BURST,
            earned: now,
            last: now,
            by_reason: HashMap::new(),
        }
    }

    fn earn(&mut self, now: Instant) {
        let waited = now.duration_since(self.earned);
        let more = u32::try_from(waited.as_secs() / REFILL.as_secs()).unwrap_or(BURST);
        if more > 0 {
            self.budget = self.budget.saturating_add(more).min(BURST);
            self.earned = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use boot::ObjectKey;

    use super::*;

    fn object(name: &str) -> ObjectRef {
        ObjectRef::Assignment(ObjectKey::new("n", name))
    }

    struct Clock {
        limit: EventLimit,
        now: Instant,
        events: u32,
    }

    impl Clock {
        fn start() -> Self {
            Self {
                limit: EventLimit::default(),
                now: Instant::now(),
                events: 0,
            }
        }

        fn after(&mut self, seconds: u64, reason: &str, note: &str) -> Decision {
            self.now += Duration::from_secs(seconds);
            self.events += 1;
            let name = format!("e{}", self.events);
            self.limit
                .admit(&object("a"), None, (reason, note), name, self.now)
        }
    }

    #[test]
    fn the_same_reason_is_told_once_in_five_minutes_and_counted() {
        let mut clock = Clock::start();
        assert_eq!(
            clock.after(0, "NoProfile", "x"),
            Decision::Create("e1".into())
        );
        assert_eq!(clock.after(0, "Other", "x"), Decision::Create("e2".into()));
        for _ in 0..10 {
            assert_eq!(clock.after(20, "NoProfile", "x"), Decision::Skip);
        }
        assert_eq!(
            clock.after(100, "NoProfile", "x"),
            Decision::Repeat("e1".into(), 12)
        );
        assert_eq!(clock.after(1, "NoProfile", "y"), Decision::Skip);
        assert_eq!(
            clock.after(300, "NoProfile", "y"),
            Decision::Create("e15".into()),
            "another note is another event"
        );
        assert_eq!(
            clock.after(3600, "NoProfile", "y"),
            Decision::Create("e16".into()),
            "the API server may have removed the event by now"
        );
    }

    #[test]
    fn an_object_has_a_budget_of_events() {
        let mut clock = Clock::start();
        let told = |clock: &mut Clock, reason: u32| {
            clock.after(0, &reason.to_string(), "") != Decision::Skip
        };
        let burst = (0..100).filter(|reason| told(&mut clock, *reason)).count();
        assert_eq!(burst, 25);
        clock.now += Duration::from_mins(10);
        let later = (100..200)
            .filter(|reason| told(&mut clock, *reason))
            .count();
        assert_eq!(later, 2);
        let other = clock
            .limit
            .admit(&object("b"), None, ("NoProfile", ""), "e".into(), clock.now);
        assert_ne!(other, Decision::Skip);
    }

    #[test]
    fn memory_is_bounded() {
        let mut limit = EventLimit::default();
        let mut now = Instant::now();
        for number in 0..3 * MAX_OBJECTS {
            now += Duration::from_millis(1);
            limit.admit(
                &object(&number.to_string()),
                None,
                ("r", ""),
                "e".into(),
                now,
            );
            assert!(limit.objects.len() <= MAX_OBJECTS);
        }
    }
}
