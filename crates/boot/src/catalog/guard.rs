//! The mass-deletion guard. A listing that lacks most of the known objects is more likely a fault
//! than intended.
//!
//! A fresh etcd, a role that may no longer list and the wrong cluster all return a complete and
//! valid list of nothing. So a caller that replaces its state by a new listing asks the guard
//! first. While the guard holds, objects that the listing lacks are kept; objects that it adds or
//! changes are applied. A hold ends when
//!
//! - an operator [confirms](Guard::confirm) the deletion,
//! - a later listing contains the objects again, or
//! - [`Limits::listings`] consecutive listings, over at least [`Limits::period`], lack exactly the
//!   same objects.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::ObjectRef;

/// What counts as a mass deletion, and when it is believed without confirmation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A loss is a mass deletion if it exceeds this percentage of the objects of one kind
    /// and also [`Limits::objects`].
    pub percent: u8,
    /// The number of lost objects of one kind up to which a loss is always believed.
    pub objects: usize,
    /// The number of consecutive listings that must lack the same objects to be believed.
    pub listings: u32,
    /// The time that these listings must span. Zero: only an operator is believed.
    pub period: Duration,
}

/// The guard of one source of listings. See the [module](self).
#[derive(Debug)]
pub struct Guard {
    limits: Limits,
    hold: Option<Hold>,
}

/// A loss that is not believed yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// The objects that are kept although the last listing lacks them.
    pub lost: BTreeSet<ObjectRef>,
    /// Number of objects of all kinds that were known when the hold began.
    pub known: usize,
    /// When the hold began.
    pub since: Instant,
    /// Number of consecutive listings that lacked exactly these objects.
    pub listings: u32,
}

/// The number of objects that are served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ObjectCounts {
    /// Number of Assignments.
    pub assignments: usize,
    /// Number of Profiles.
    pub profiles: usize,
    /// Number of Machines.
    pub machines: usize,
}

/// What to do with the objects that a listing lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Delete these objects.
    Delete(BTreeSet<ObjectRef>),
    /// Keep them, and report the hold.
    Hold,
}

// === impl Limits ===

impl Default for Limits {
    fn default() -> Self {
        Self {
            percent: 30,
            objects: 50,
            listings: 3,
            period: Duration::from_hours(1),
        }
    }
}

impl Limits {
    /// Returns whether losing this number of one kind's objects is a mass deletion.
    pub fn exceeded(&self, known: usize, lost: usize) -> bool {
        lost > self.objects && lost as u128 * 100 > known as u128 * u128::from(self.percent)
    }
}

// === impl ObjectCounts ===

impl ObjectCounts {
    /// Counts objects by kind.
    pub fn of<'n>(names: impl IntoIterator<Item = &'n ObjectRef>) -> Self {
        let mut counts = Self::default();
        for name in names {
            match name {
                ObjectRef::Assignment(_) => counts.assignments += 1,
                ObjectRef::Profile(_) => counts.profiles += 1,
                ObjectRef::Machine(_) => counts.machines += 1,
            }
        }
        counts
    }

    /// Iterates over the numbers of each kind.
    pub fn kinds(self) -> impl Iterator<Item = usize> {
        [self.assignments, self.profiles, self.machines].into_iter()
    }
}

// === impl Guard ===

impl Guard {
    /// Creates a guard that holds nothing.
    pub fn new(limits: Limits) -> Self {
        Self { limits, hold: None }
    }

    /// Returns what counts as a mass deletion.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Judges a complete listing. `known` counts the objects that are served, including those of a
    /// previous hold; `lost` names those that the listing lacks.
    pub fn judge(
        &mut self,
        known: ObjectCounts,
        lost: BTreeSet<ObjectRef>,
        now: Instant,
    ) -> Verdict {
        let lost_counts = ObjectCounts::of(&lost);
        let is_exceeded = known
            .kinds()
            .zip(lost_counts.kinds())
            .any(|(known, lost)| self.limits.exceeded(known, lost));
        if !is_exceeded {
            self.hold = None;
            return Verdict::Delete(lost);
        }
        let hold = match self.hold.take() {
            Some(hold) if hold.lost == lost => Hold {
                listings: hold.listings + 1,
                ..hold
            },
            _ => Hold {
                lost,
                known: known.kinds().sum(),
                since: now,
                listings: 1,
            },
        };
        let is_long = !self.limits.period.is_zero()
            && now.saturating_duration_since(hold.since) >= self.limits.period;
        if is_long && hold.listings >= self.limits.listings {
            return Verdict::Delete(hold.lost);
        }
        self.hold = Some(hold);
        Verdict::Hold
    }

    /// Holds objects whose deletion is not believed for another reason than a listing. `known` is the
    /// number of objects before it.
    pub fn hold(&mut self, lost: BTreeSet<ObjectRef>, known: usize, now: Instant) {
        let hold = self.hold.get_or_insert_with(|| Hold {
            lost: BTreeSet::new(),
            known,
            since: now,
            listings: 1,
        });
        hold.lost.extend(lost);
    }

    /// Ends the hold because an operator confirmed the deletion. Returns the objects to delete.
    pub fn confirm(&mut self) -> BTreeSet<ObjectRef> {
        self.hold.take().map(|hold| hold.lost).unwrap_or_default()
    }

    /// Removes an object from the hold, because it exists again or was deleted in another way.
    pub fn release(&mut self, name: &ObjectRef) {
        let Some(hold) = &mut self.hold else { return };
        hold.lost.remove(name);
        if hold.lost.is_empty() {
            self.hold = None;
        }
    }

    /// Returns the current hold.
    pub fn holding(&self) -> Option<&Hold> {
        self.hold.as_ref()
    }

    /// Returns the interval of listings during a hold, chosen so that [`Limits::listings`] of them
    /// fit into [`Limits::period`].
    pub fn relist_interval(&self) -> Option<Duration> {
        let between = self.limits.listings.saturating_sub(1).max(1);
        (!self.limits.period.is_zero()).then(|| self.limits.period / between)
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

    fn known(assignments: usize) -> ObjectCounts {
        ObjectCounts {
            assignments,
            ..ObjectCounts::default()
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
                Verdict::Delete(assignments(lost))
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
        let known = ObjectCounts {
            assignments: 100_000,
            profiles: 60,
            machines: 0,
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
        let mut judge = |after, lost| guard.judge(known(100), assignments(lost), start + after);
        for at in 0..10 {
            assert_eq!(judge(HOUR * at / 20, 100), Verdict::Hold, "too fast");
        }
        assert_eq!(judge(HOUR, 100), Verdict::Delete(assignments(100)));

        let mut guard = Guard::new(Limits::default());
        let mut judge = |after, lost| guard.judge(known(100), assignments(lost), start + after);
        assert_eq!(judge(Duration::ZERO, 100), Verdict::Hold);
        assert_eq!(judge(HOUR, 100), Verdict::Hold, "two listings");
        assert_eq!(
            judge(HOUR * 2, 99),
            Verdict::Hold,
            "another loss starts over"
        );
        assert_eq!(judge(HOUR * 2, 99), Verdict::Hold);
        assert_eq!(judge(HOUR * 3, 99), Verdict::Delete(assignments(99)));
    }

    #[test]
    fn with_a_period_of_zero_only_confirmation_ends_a_hold() {
        let start = Instant::now();
        let mut guard = Guard::new(Limits {
            period: Duration::ZERO,
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
            Verdict::Delete(assignments(10))
        );
        assert!(guard.holding().is_none());
        guard.judge(known(100), assignments(60), Instant::now());
        for name in assignments(60) {
            guard.release(&name);
        }
        assert!(guard.holding().is_none());
    }
}
