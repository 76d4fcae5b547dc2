//! The mass-deletion guard: a listing that lacks most of what was there is more likely a fault than a wish.
//!
//! A fresh etcd, a role that may no longer list, the wrong cluster: all of them answer with a whole and valid list of nothing. So whoever
//! replaces what it knows by a new listing asks the guard first. While the guard holds, what the listing lacks stays as it was; what the
//! listing adds or changes is taken. It lets go when
//!
//! - an operator [confirms](Guard::confirm),
//! - a later listing has the objects again, or
//! - [`Limits::looks`] listings in a row, over at least [`Limits::after`], lack exactly the same.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::ObjectRef;

/// What counts as losing most, and what it takes to believe it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// It is held when more than so many of a hundred objects of one kind are lost, and
    pub percent: u8,
    /// more than so many.
    pub objects: usize,
    /// So many listings that lack the same are believed,
    pub looks: u32,
    /// when they were taken over so long a time. Zero: only an operator is.
    pub after: Duration,
}

/// Watches the listings of one source. See the [module](self).
#[derive(Debug)]
pub struct Guard {
    limits: Limits,
    hold: Option<Hold>,
}

/// A loss that is not believed yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// The objects that are kept, although the last listing lacks them.
    pub lost: BTreeSet<ObjectRef>,
    /// How many objects of the same kinds were known when it began.
    pub known: usize,
    /// When it began.
    pub since: Instant,
    /// How many listings in a row lacked exactly these.
    pub looks: u32,
}

/// How many objects of each kind are served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Assignments.
    pub assignments: usize,
    /// Profiles.
    pub profiles: usize,
}

/// What to do with the objects that a listing lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// They are gone: here they are, to be deleted.
    Believe(BTreeSet<ObjectRef>),
    /// Keep them, and say so.
    Hold,
}

// === impl Limits ===

impl Default for Limits {
    fn default() -> Self {
        Self {
            percent: 30,
            objects: 50,
            looks: 3,
            after: Duration::from_hours(1),
        }
    }
}

impl Limits {
    /// Whether so many of so many of one kind are too many to be believed at once.
    pub fn exceeded(&self, known: usize, lost: usize) -> bool {
        lost > self.objects && lost as u128 * 100 > known as u128 * u128::from(self.percent)
    }
}

// === impl Guard ===

impl Guard {
    /// A guard that holds nothing yet.
    pub fn new(limits: Limits) -> Self {
        Self { limits, hold: None }
    }

    /// Judges a whole listing: how many objects are served, those of a former hold included, and which of them the listing lacks.
    pub fn judge(&mut self, known: Known, lost: BTreeSet<ObjectRef>, now: Instant) -> Verdict {
        let assignments = lost
            .iter()
            .filter(|name| matches!(name, ObjectRef::Assignment(_)))
            .count();
        let profiles = lost.len() - assignments;
        if !self.limits.exceeded(known.assignments, assignments)
            && !self.limits.exceeded(known.profiles, profiles)
        {
            self.hold = None;
            return Verdict::Believe(lost);
        }
        let hold = match self.hold.take() {
            Some(hold) if hold.lost == lost => Hold {
                looks: hold.looks + 1,
                ..hold
            },
            _ => Hold {
                lost,
                known: known.assignments + known.profiles,
                since: now,
                looks: 1,
            },
        };
        let is_long = !self.limits.after.is_zero()
            && now.saturating_duration_since(hold.since) >= self.limits.after;
        if is_long && hold.looks >= self.limits.looks {
            return Verdict::Believe(hold.lost);
        }
        self.hold = Some(hold);
        Verdict::Hold
    }

    /// An operator says that the objects are gone indeed. They are handed out, to be deleted.
    pub fn confirm(&mut self) -> BTreeSet<ObjectRef> {
        self.hold.take().map(|hold| hold.lost).unwrap_or_default()
    }

    /// An object that is held exists again, or is known to be gone for another reason: it is no longer this guard's business.
    pub fn release(&mut self, name: &ObjectRef) {
        let Some(hold) = &mut self.hold else { return };
        hold.lost.remove(name);
        if hold.lost.is_empty() {
            self.hold = None;
        }
    }

    /// What is held.
    pub fn holding(&self) -> Option<&Hold> {
        self.hold.as_ref()
    }

    /// How long to wait for the next look, so that [`Limits::looks`] of them fall into [`Limits::after`].
    pub fn relist_interval(&self) -> Option<Duration> {
        let between = self.limits.looks.saturating_sub(1).max(1);
        (!self.limits.after.is_zero()).then(|| self.limits.after / between)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ObjectKey;

    const HOUR: Duration = Duration::from_hours(1);

    fn assignments(count: usize) -> BTreeSet<ObjectRef> {
        (0..count)
            .map(|n| ObjectRef::Assignment(ObjectKey::new("ns", n.to_string())))
            .collect()
    }

    fn known(assignments: usize) -> Known {
        Known {
            assignments,
            profiles: 0,
        }
    }

    #[test]
    fn the_guard_holds_only_above_both_limits() {
        for (served, lost, is_held) in [
            (100, 100, true),
            (50, 50, false),
            (51, 51, true),
            (1000, 300, false),
            (1000, 301, true),
            (0, 0, false),
        ] {
            let mut guard = Guard::new(Limits::default());
            let expected = if is_held {
                Verdict::Hold
            } else {
                Verdict::Believe(assignments(lost))
            };
            assert_eq!(
                guard.judge(known(served), assignments(lost), Instant::now()),
                expected,
                "{lost} of {served}"
            );
            assert_eq!(guard.holding().is_some(), is_held);
        }
    }

    #[test]
    fn profiles_and_assignments_are_judged_separately() {
        let mut guard = Guard::new(Limits::default());
        let profiles = (0..60)
            .map(|n| ObjectRef::Profile(ObjectKey::new("ns", n.to_string())))
            .collect();
        let known = Known {
            assignments: 100_000,
            profiles: 60,
        };
        assert_eq!(guard.judge(known, profiles, Instant::now()), Verdict::Hold);
    }

    #[test]
    fn a_confirmed_loss_is_returned_once() {
        let mut guard = Guard::new(Limits::default());
        guard.judge(known(100), assignments(100), Instant::now());
        assert_eq!(guard.confirm().len(), 100);
        assert!(guard.confirm().is_empty() && guard.holding().is_none());
    }

    #[test]
    fn a_loss_is_believed_only_after_enough_listings_over_enough_time() {
        let start = Instant::now();
        let mut guard = Guard::new(Limits::default());
        let mut look = |after, lost| guard.judge(known(100), assignments(lost), start + after);
        for at in 0..10 {
            assert_eq!(look(HOUR * at / 20, 100), Verdict::Hold, "too fast");
        }
        assert_eq!(look(HOUR, 100), Verdict::Believe(assignments(100)));

        let mut guard = Guard::new(Limits::default());
        let mut look = |after, lost| guard.judge(known(100), assignments(lost), start + after);
        assert_eq!(look(Duration::ZERO, 100), Verdict::Hold);
        assert_eq!(look(HOUR, 100), Verdict::Hold, "two looks");
        assert_eq!(
            look(HOUR * 2, 99),
            Verdict::Hold,
            "another loss starts anew"
        );
        assert_eq!(look(HOUR * 2, 99), Verdict::Hold);
        assert_eq!(look(HOUR * 3, 99), Verdict::Believe(assignments(99)));
    }

    #[test]
    fn with_a_period_of_zero_only_confirmation_ends_a_hold() {
        let start = Instant::now();
        let mut guard = Guard::new(Limits {
            after: Duration::ZERO,
            ..Limits::default()
        });
        for hours in 0..100 {
            assert_eq!(
                guard.judge(known(100), assignments(100), start + HOUR * hours),
                Verdict::Hold
            );
        }
    }

    #[test]
    fn objects_that_return_end_the_hold() {
        let mut guard = Guard::new(Limits::default());
        guard.judge(known(100), assignments(100), Instant::now());
        assert_eq!(
            guard.judge(known(100), assignments(10), Instant::now()),
            Verdict::Believe(assignments(10))
        );
        assert!(guard.holding().is_none());
        guard.judge(known(100), assignments(60), Instant::now());
        for name in assignments(60) {
            guard.release(&name);
        }
        assert!(guard.holding().is_none());
    }
}
